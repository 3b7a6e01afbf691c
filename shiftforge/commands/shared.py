"""What several commands share: backend options, input files, early checks of outputs, progress of transfers. Light to import."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from shiftforge.commands.frame import Parser
from shiftforge.errors import InputError
from shiftforge.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from shiftforge.registers import Flag
    from shiftforge.transport import ProgressCallback


def add_backend(parser: Parser, *, required: bool) -> None:
    """Add ``--backend`` (`required`), ``--rtl-dir`` and ``--stalls``."""
    if required:
        parser.add_argument("--backend", required=True, help="golden (the model) or rtl (the Verilog, simulated)")
    parser.add_argument("--rtl-dir", type=Path, metavar="DIR", help="simulate the Verilog that lies in this folder")
    parser.add_argument("--stalls", type=int, metavar="SEED", help="random pauses on both streams of the rtl")


def check_output(path: str) -> None:
    """Refuse an output file that could not be written, before the work that fills it."""
    target = Path(path)
    folder = target.parent
    if target.is_dir():
        raise InputError(f"output file must be writable, not {path!r} (is a folder)")
    if not folder.is_dir():
        raise InputError(f"output file must be writable, not {path!r} (no such folder)")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"output file must be writable, not {path!r} (permission denied)")


def load_values(path: str, what: str) -> "tuple[np.ndarray, np.ndarray | None]":
    """The values in a `.npy` file; or `x`, and the labels `y`, of a `.npz` archive as `train` writes it."""
    from shiftforge.arrays import load_npy, load_npz

    if Path(path).suffix == ".npz":
        archive = load_npz(path, ("x", "y"), what)
        return archive["x"], archive["y"]
    return load_npy(path, what), None


def flag_names(flags: "Flag") -> list[str]:
    """NV, OF, NX as far as they are set."""
    from shiftforge.registers import Flag

    return [flag.name or "" for flag in Flag if flag in flags]


class _Bar:
    """One progress bar per transfer: opened by the first report, closed by the last."""

    def __init__(self, progress: Progress, text: str) -> None:
        self._progress = progress
        self._text = text
        self._done = 0
        self._manager = None

    def __call__(self, done: int, total: int) -> None:
        if self._manager is None:
            self._manager = self._progress.bar(self._text, total)
            self._advance = self._manager.__enter__()
            self._done = 0
        self._advance(done - self._done)
        self._done = done
        if done >= total:
            self.close()

    def close(self) -> None:
        if self._manager is not None:
            manager, self._manager = self._manager, None
            manager.__exit__(None, None, None)


@contextmanager
def transfer_progress(progress: Progress, text: str) -> "Iterator[ProgressCallback]":
    """A callback for `Transport.transfer` that shows the share done and the time left."""
    bar = _Bar(progress, text)
    try:
        yield bar
    finally:
        bar.close()


def add_overflow(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--overflow``."""
    parser.add_argument("--overflow", choices=("inf", "saturate"), help=f"results beyond the format ({default})")
