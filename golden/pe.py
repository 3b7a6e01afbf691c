"""Processing element, register by register: the aligned accumulator as `hw/pe.py` builds it.

One `PE` object models a whole grid: every register is an array of the grid's shape.
"""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from golden.row_edge import SPECIAL_INF, SPECIAL_NAN, SPECIAL_NEGATIVE
from shiftforge.config import Config

TOKEN_VALID, TOKEN_HOLD, TOKEN_LAST = 1, 2, 4
"""Bits of a token: a product (not a bubble), not its block's last, its dot product's last. A bubble is `TOKEN_HOLD` alone."""
TALLY_NEGATIVE, TALLY_READ, TALLY_LAST = 1, 2, 4
"""Bits of a tally: a product of a negative weight was accumulated, a block has ended, it was its dot product's last."""
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
    """All registers of the PEs, named as in the gateware.

    ``direct`` and ``raised`` are of 2-bit weights, ``addend`` and ``select`` of wider ones; those that end in ``_2`` and ``shift``
    are the second shift stage of 4-bit weights. Where the gateware has none, they mean nothing.
    """

    x_out: Int64
    special_out: UInt8
    token_out: UInt8
    w_out: UInt8
    direct: Int64
    raised: Int64
    addend: Int64
    negate: UInt8
    select: UInt8
    copy_1: UInt8
    copy_2: UInt8
    now: UInt8
    shift: UInt8
    addend_2: Int64
    negate_2: UInt8
    select_2: UInt8
    now_2: UInt8
    token_2: UInt8
    masked_2: UInt8
    acc: UInt64
    flags: UInt8
    added: UInt8
    negated: UInt8
    tally: UInt8
    capture_reading: UInt64
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
        Registers after the last edge. After a reset with idle inputs all are zero but `raised`, which is all ones as long as it
        is not in use, what is held, and a copy that starts as 1.
    """

    def __init__(self, config: Config, shape: tuple[int, ...] = ()) -> None:
        self._config = config
        self._mask = np.uint64((1 << config.block_bits) - 1)
        kinds = {"Int64": np.int64, "UInt64": np.uint64, "UInt8": np.uint8}
        wide = {
            "x_out": "Int64",
            "direct": "Int64",
            "raised": "Int64",
            "addend": "Int64",
            "addend_2": "Int64",
            "acc": "UInt64",
            "capture_reading": "UInt64",
        }
        idle: dict[str, npt.NDArray] = {
            f.name: np.zeros(shape, kinds[wide.get(f.name, "UInt8")]) for f in fields(PEState)
        }
        idle["raised"] = np.full(shape, -1, np.int64)
        idle["copy_2"] = np.ones(shape, np.uint8)
        self.state = PEState(**idle)

    def step(self, given: PEInput) -> PEState:
        """The registers after the next rising edge."""
        old, config = self.state, self._config
        bits = config.weights.bits
        sign = (given.w >> np.uint8(bits - 1)) & np.uint8(1)
        exponent = (given.w & np.uint8(config.weights.max_exponent)).astype(np.int64)
        addend = (given.x << (exponent & 1)) ^ -sign.astype(np.int64)

        # The product whose upper exponent bit the adder shifts by.
        mask_bit = np.uint8(config.weights.mask_bit)
        masked = (old.w_out & mask_bit != 0).astype(np.uint8)
        value, negate, select, token, now = old.addend, old.negate, old.select, old.token_out, old.now
        if bits == 4:
            value, negate, select = old.addend_2, old.negate_2, old.select_2
            token, now, masked = old.token_2, old.now_2, old.masked_2
        valid = token & TOKEN_VALID != 0
        enable = valid & (masked == 0)
        if bits == 2:
            # One register is x and the other all ones, but for the lowest bit of `direct`, which is 0 when it is not in use.
            summand = (old.direct & ((old.raised << 1) | 1)) ^ -negate.astype(np.int64)
        else:
            summand = _shifted(value, negate, select, 1 << (bits - 2))
        total = (old.acc + summand.astype(np.uint64)) & self._mask

        held = old.added & TOKEN_HOLD != 0
        ended = (old.added & TOKEN_VALID != 0) & ~held
        negate_next, select_next = sign, (exponent >> (bits - 2)).astype(np.uint8)
        copied = {2: negate_next, 3: select_next, 4: old.select}[bits]
        self.state = PEState(
            x_out=given.x,
            special_out=given.special,
            token_out=given.token,
            w_out=given.w,
            direct=np.where(exponent, -2, given.x),
            raised=np.where(exponent, given.x, -1),
            addend=addend,
            negate=negate_next,
            select=select_next,
            copy_1=copied,
            copy_2=copied,
            now=np.where(given.w & mask_bit, 0, _marks(given.special, sign)).astype(np.uint8),
            shift=((exponent >> 1) & 1).astype(np.uint8),
            addend_2=_shifted(old.addend, old.negate, old.shift, 2),
            negate_2=old.negate,
            select_2=old.select,
            now_2=old.now,
            token_2=old.token_out,
            masked_2=(old.w_out & mask_bit != 0).astype(np.uint8),
            acc=np.where(enable, total, old.acc),
            flags=(np.where(held, old.flags, 0) | np.where(valid, now, 0)).astype(np.uint8),
            added=token,
            negated=(enable & (negate != 0)).astype(np.uint8),
            tally=(old.negated * TALLY_NEGATIVE | np.where(ended, TALLY_READ, 0) | old.added & TOKEN_LAST).astype(
                np.uint8
            ),
            capture_reading=np.where(held, np.uint64(0), old.acc),
            capture_flags=np.where(held, np.uint8(0), old.flags),
        )
        return self.state


def _shifted(value: Int64, fill: UInt8, shift: UInt8, distance: int) -> Int64:
    """One's complement: shifted left by `distance` where `shift` is 1, filled with the sign of the weight."""
    low = fill.astype(np.int64) * ((1 << distance) - 1)
    return np.where(shift, (value << distance) | low, value)


def _marks(special: UInt8, sign: UInt8) -> UInt8:
    """The flags that one product alone gives."""
    infinite = special & SPECIAL_INF != 0
    negative = (special & SPECIAL_NEGATIVE != 0) != (sign != 0)
    nan = np.where(special & SPECIAL_NAN, FLAG_NAN, 0)
    return (
        nan | np.where(infinite & ~negative, FLAG_POS_INF, 0) | np.where(infinite & negative, FLAG_NEG_INF, 0)
    ).astype(np.uint8)
