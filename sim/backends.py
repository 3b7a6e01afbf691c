"""One place that makes a device from what the user asks for: ``--backend``, ``--rtl-dir``, ``--stalls``."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from golden.emulator import EmulatorTransport
from shiftforge.config import Config
from shiftforge.errors import InputError, NotBuiltError
from shiftforge.manifest import require_manifest_hash
from shiftforge.progress import SILENT, Progress
from shiftforge.transport import Pattern, ProgressCallback, TransferResult, Transport, random_pattern
from sim.design import cached_design
from sim.rtl import RtlTransport, verilog_files

BACKENDS = ("golden", "rtl")
_PLANNED = ("netlist", "serial")

STALL_DENSITY = 0.6
"""Share of the cycles in which each side is willing, with ``--stalls``."""
_STALL_PERIODS = 997, 1009  # primes, so that the two patterns meet in every way


def check_backend(backend: str, rtl_dir: Path | None = None, stalls: int | None = None) -> None:
    """Refuse a backend that does not exist, is not built, or does not take these options (before anything slow is done)."""
    if backend.partition(":")[0] in _PLANNED:
        raise NotBuiltError(f"backend must be one of {', '.join(BACKENDS)} in this version, not {backend!r}")
    if backend not in BACKENDS:
        raise InputError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    if backend != "rtl" and rtl_dir is not None:
        raise InputError(f"--rtl-dir must be given with the backend rtl, not with {backend!r}")
    if stalls is not None and stalls < 0:
        raise InputError(f"--stalls must be a seed of 0 or more, not {stalls!r}")


def stall_patterns(seed: int | None) -> tuple[Pattern, Pattern]:
    """Patterns of the input's valid and the output's ready: always (None), or at random from a seed."""
    if seed is None:
        return None, None
    rng = np.random.default_rng(seed)
    first, second = (random_pattern(rng, period, STALL_DENSITY) for period in _STALL_PERIODS)
    return first, second


class FromCycleZero:
    """Simulated Verilog whose first transfer begins in cycle 0: its configuration hash is read once, then it is reset.

    Reading a register takes clock cycles; without them in between, prediction and simulation run cycle by cycle side by side.
    """

    def __init__(self, transport: RtlTransport) -> None:
        self.name = transport.name
        self._transport = transport
        self._hash = transport.hardware_hash()
        transport.reset()

    def hardware_hash(self) -> int:
        return self._hash

    def transfer(
        self, packets: Sequence[bytes], expected_packets: int, *, progress: ProgressCallback | None = None
    ) -> TransferResult:
        return self._transport.transfer(packets, expected_packets, progress=progress)


def open_golden(config: Config, stalls: int | None = None) -> EmulatorTransport:
    """The golden emulator, whose cycles are predicted under the pauses of that seed."""
    input_valid, output_ready = stall_patterns(stalls)
    return EmulatorTransport(config, input_valid=input_valid, output_ready=output_ready)


@contextmanager
def open_transport(
    backend: str,
    config: Config,
    *,
    rtl_dir: Path | None = None,
    stalls: int | None = None,
    progress: Progress = SILENT,
    waves: tuple[Path, int, int] | None = None,
) -> Iterator[Transport]:
    """A device of one configuration, closed at the end of the block.

    Parameters
    ----------
    backend : str
        ``golden`` (the emulator) or ``rtl`` (the Verilog, compiled).
    rtl_dir : Path or None
        For ``rtl``: what lies in this folder is simulated. None: Verilog is generated into the cache, unless it lies there.
    stalls : int or None
        Seed of random pauses on both streams; the golden backend predicts the cycles under the same pauses.
    waves : tuple of (Path, int, int) or None
        For ``rtl``: as of `sim.rtl.RtlTransport`.

    Raises
    ------
    InputError
        As `check_backend`; for a folder without Verilog, or whose manifest names another configuration.
    NotBuiltError
        When the backend, or the configuration's gateware, is not built.
    ToolError
        When a tool is missing or failed.
    """
    check_backend(backend, rtl_dir, stalls)
    if backend == "golden":
        yield open_golden(config, stalls)
        return
    if rtl_dir is None:
        rtl_dir = cached_design(config, progress)
    else:
        verilog_files(rtl_dir)
        require_manifest_hash(rtl_dir, config)
    input_valid, output_ready = stall_patterns(stalls)
    with progress.step("simulation of the Verilog, from the cache or built"):
        transport = RtlTransport(
            rtl_dir, stream_bits=config.stream_bits, input_valid=input_valid, output_ready=output_ready, waves=waves
        )
    with transport:
        yield FromCycleZero(transport)
