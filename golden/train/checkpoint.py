"""The checkpoint of a run: one file, whole or the old one, that goes on to the same result.

It holds tensors, numbers, strings and lists alone, and is read with torch's restricted reader: a file of someone else runs no code.
"""

import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch

from golden.train.metrics import TrainingState
from shiftforge.errors import InputError
from shiftforge.files import read_bytes, write_atomically

VERSION = 1


class Checkpoint:
    """Where a run keeps what it has done.

    Parameters
    ----------
    path : Path or str
        The file.
    run : mapping
        What makes two runs the same: a file of another run is refused.
    """

    def __init__(self, path: Path | str, run: Mapping[str, str | int | float | None]) -> None:
        self.path, self.run = Path(path), dict(run)

    def write(self, state: TrainingState) -> None:
        """Put ``state`` in place of what the file held; ``InputError`` where it cannot (a full disk), the old file whole."""
        data = io.BytesIO()
        torch.save({"version": VERSION, "run": self.run, "state": state}, data)
        try:
            write_atomically(self.path, data.getvalue())
        except InputError as error:
            kept = " and is as it was" if self.path.exists() else ""
            raise InputError(f"the checkpoint {str(self.path)!r} must be writable{kept}: {error}") from None

    def read(self) -> TrainingState:
        """What the file holds; ``InputError`` when it is none of this run."""
        contents = read_bytes(self.path, "checkpoint")
        try:
            # torch still reads a format of its own that is no archive; what this class writes is one.
            held = torch.load(io.BytesIO(contents), weights_only=True) if contents.startswith(b"PK") else None
        except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError):
            held = None
        if not isinstance(held, dict) or held.get("version") != VERSION or not isinstance(held.get("run"), dict):
            raise InputError(
                f"{self.path} must be a whole checkpoint of this version, and is not; delete it to start anew"
            )
        for key, value in self.run.items():
            if held["run"].get(key) != value:
                raise InputError(
                    f"{self.path} must be a checkpoint of a run with {key} {value!r}, not {held['run'].get(key)!r}; "
                    "give the arguments of that run, or delete the file to start anew"
                )
        return held["state"]

    def remove(self) -> None:
        """Delete the file, when there is one."""
        self.path.unlink(missing_ok=True)


def digest(*parts: bytes) -> str:
    """A short name of data."""
    found = hashlib.sha256()
    for part in parts:
        found.update(hashlib.sha256(part).digest())
    return found.hexdigest()[:16]
