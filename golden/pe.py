"""Processing element, register by register: the aligned accumulator as `hw/pe.py` builds it.

One `PE` object models a whole grid: every register is an array of the grid's shape.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from golden.row_edge import SPECIAL_INF, SPECIAL_NAN, SPECIAL_NEGATIVE
from shiftforge.config import Config

TOKEN_VALID, TOKEN_FIRST, TOKEN_LAST = 1, 2, 4
"""Bits of a token: a product (not a bubble), the first of its dot product, the last of it."""
FLAG_NAN, FLAG_POS_INF, FLAG_NEG_INF = 1, 2, 4
"""Bits of a sum's sticky non-finite flags."""

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]
UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PEInput:
    """What PEs sample at one rising edge: arrays of one shape.

    Parameters
    ----------
    x : int64
        Activation in fixed point.
    special, token, w : uint8
        Marks (``golden.row_edge``), token bits, weight element.
    """

    x: Int64
    special: UInt8
    token: UInt8
    w: UInt8


@dataclass(frozen=True, eq=False)
class PEState:
    """All registers of the PEs, named as in the gateware; ``acc`` and ``capture_sum`` modulo ``2**accumulator_bits``."""

    x_out: Int64
    special_out: UInt8
    token_out: UInt8
    w_out: UInt8
    addend: Int64
    negate: UInt8
    now: UInt8
    acc: UInt64
    flags: UInt8
    last_2: Bool
    capture_valid: Bool
    capture_sum: UInt64
    capture_flags: UInt8


class PE:
    """A grid of processing elements of one configuration, one rising edge at a time.

    Parameters
    ----------
    config : Config
    shape : tuple of int
        Shape of the grid; ``()`` is one PE.

    Members
    -------
    state : PEState
        Registers after the last edge; all zero at reset.
    """

    def __init__(self, config: Config, shape: tuple[int, ...] = ()) -> None:
        self._code = config.weights
        self._mask = np.uint64((1 << config.accumulator_bits) - 1)
        i64, u64 = np.zeros(shape, np.int64), np.zeros(shape, np.uint64)
        u8, false = np.zeros(shape, np.uint8), np.zeros(shape, np.bool_)
        self.state = PEState(i64, u8, u8, u8, i64, u8, u8, u64, u8, false, false, u64, u8)

    def step(self, given: PEInput) -> PEState:
        """The registers after the next rising edge."""
        old = self.state
        sign = (given.w >> np.uint8(self._code.exponent_bits)) & np.uint8(1)
        exponent = (given.w & np.uint8(self._code.max_exponent)).astype(np.int64)
        present = given.w & self._code.mask_bit == 0
        infinite = given.special & SPECIAL_INF != 0
        negative = (given.special & SPECIAL_NEGATIVE != 0) != (sign != 0)
        now = (
            np.where(given.special & SPECIAL_NAN, FLAG_NAN, 0)
            | np.where(infinite & ~negative, FLAG_POS_INF, 0)
            | np.where(infinite & negative, FLAG_NEG_INF, 0)
        )
        valid = old.token_out & TOKEN_VALID != 0
        enable = valid & (old.w_out & self._code.mask_bit == 0)
        restart = old.token_out & TOKEN_FIRST != 0
        total = (old.acc + old.addend.astype(np.uint64) + old.negate.astype(np.uint64)) & self._mask
        self.state = PEState(
            x_out=given.x,
            special_out=given.special,
            token_out=given.token,
            w_out=given.w,
            addend=(given.x << exponent) ^ -sign.astype(np.int64),
            negate=sign,
            now=np.where(present, now, 0).astype(np.uint8),
            acc=np.where(enable, total, old.acc),
            flags=np.where(valid, np.where(restart, 0, old.flags) | old.now, old.flags).astype(np.uint8),
            last_2=valid & (old.token_out & TOKEN_LAST != 0),
            capture_valid=old.last_2,
            capture_sum=np.where(old.last_2, old.acc, np.uint64(0)),
            capture_flags=np.where(old.last_2, old.flags, 0).astype(np.uint8),
        )
        return self.state
