"""The device as everything above it sees it: whole packets in, whole packets out, and the cycles in which they moved.

The golden emulator (golden), the simulated Verilog (sim) and a cable (sw_driver) are transports behind one protocol.
Needs NumPy, so the gateware does not import this module.

Handshake rules, the same for every simulated transport and for the cycle model
------------------------------------------------------------------------------
Cycle 0 is the first clock cycle after the reset is released; the count goes on over transfers and register accesses.

* The source, with a beat left, asserts ``tvalid`` in cycle t iff it asserted it in t - 1 without being accepted, or
  ``input_valid[t % len(input_valid)]``. So an offered beat stays until it is accepted (AMBA AXI4-Stream, 2.2.1).
* The sink asserts ``tready`` in cycle t iff ``output_ready[t % len(output_ready)]``, whatever ``tvalid`` is.
* A beat moves in the cycle in which both are high. A transfer ends with the cycle in which the last input beat is
  accepted or the last expected packet's ``tlast`` comes, whichever is later. Between transfers neither ``tvalid`` nor
  ``tready`` is asserted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from shiftforge.errors import InputError

Pattern: TypeAlias = NDArray[np.bool_] | None
"""In which cycles one side is willing: None is always, else a 1-D bool array that repeats, indexed by absolute cycle."""

ProgressCallback: TypeAlias = Callable[[int, int], None]
"""Called as ``progress(done, total)``: input beats accepted plus packets received, and what that sum ends at."""


def check_pattern(pattern: Pattern, name: str) -> None:
    """Refuse what is no pattern.

    Raises
    ------
    InputError
        For another shape or element type, and for a pattern that is never true (the transfer could not end).
    """
    if pattern is None:
        return
    if not isinstance(pattern, np.ndarray) or pattern.dtype != np.bool_ or pattern.ndim != 1:
        kind = f"{pattern.dtype} {pattern.shape}" if isinstance(pattern, np.ndarray) else type(pattern).__name__
        raise InputError(f"{name} must be None or a one-dimensional array of bool, not {kind}")
    if not pattern.any():
        raise InputError(f"{name} must be true in at least one of its cycles, not in none of {len(pattern)}")


def random_pattern(rng: np.random.Generator, length: int, density: float) -> NDArray[np.bool_]:
    """A pattern of ``length`` cycles, each true with probability ``density``, and at least one of them true."""
    if length < 1:
        raise InputError(f"a pattern's length must be at least 1, not {length!r}")
    if not 0.0 <= density <= 1.0:
        raise InputError(f"a pattern's density must be within 0..1, not {density!r}")
    pattern = rng.random(length) < density
    pattern[rng.integers(length)] = True
    return pattern


def wait_table(pattern: Pattern) -> NDArray[np.int64]:
    """Cycles from each phase of the pattern to its next true cycle, 0 where it is true itself: shape (len(pattern),).

    ``t + wait_table(p)[t % len(p)]`` is the first cycle from t on in which the pattern is true.
    """
    if pattern is None:
        return np.zeros(1, dtype=np.int64)
    check_pattern(pattern, "the pattern")
    length = len(pattern)
    at = np.flatnonzero(pattern)
    following = np.append(at, at[0] + length)  # the period after the last true cycle wraps to the first one
    phases = np.arange(length)
    return following[np.searchsorted(following, phases)] - phases


@dataclass(frozen=True, eq=False)
class TransferResult:
    """What one transfer brought.

    Parameters
    ----------
    packets : list of bytes
        The packets that ended during this transfer, in order and without null bytes: at least as many as were expected.
        A packet that began but did not end is kept for the next transfer.
    cycles : int
        Clock cycles that the transfer took; 0 for a transport that has no clock.
    input_beats, output_beats : NDArray[np.int64]
        Cycle of every accepted input beat and of every output beat of this transfer; empty where not recorded.
    """

    packets: list[bytes]
    cycles: int
    input_beats: NDArray[np.int64]
    output_beats: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.cycles < 0:
            raise InputError(f"cycles must be 0 or more, not {self.cycles!r}")
        for name in ("input_beats", "output_beats"):
            beats: NDArray[np.int64] = getattr(self, name)
            if beats.dtype != np.int64 or beats.ndim != 1:
                raise InputError(f"{name} must be a one-dimensional int64 array, not {beats.dtype} {beats.shape}")


@runtime_checkable
class Transport(Protocol):
    """A device that takes and gives packets.

    Members
    -------
    name : str
        For messages: ``"golden"``, ``"rtl"``, ...
    """

    name: str

    def hardware_hash(self) -> int | None:
        """The configuration hash that the device reports, or None where the transport cannot ask."""
        ...

    def transfer(
        self, packets: Sequence[bytes], expected_packets: int, *, progress: ProgressCallback | None = None
    ) -> TransferResult:
        """Send the packets and return when all are accepted and ``expected_packets`` packets have come back.

        Each packet is a whole number of beats; ``tlast`` goes with its last beat.

        Raises
        ------
        InputError
            When a packet is empty or not a whole number of beats.
        DeviceError
            When nothing moved for the transport's time-out; the message says which side waits, and for what.
        """
        ...
