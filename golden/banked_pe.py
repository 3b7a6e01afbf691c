"""Processing element with banked accumulators, register by register, as `hw/banked_pe.py` builds it.

One `BankedPE` object models a whole grid: every register is an array of the grid's shape. Words are wider than 64 bits in some
configurations, so they are Python integers in object arrays.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from golden.banked_edge import (
    SLOT_APART,
    SLOT_CLEAR,
    SLOT_FULL,
    SLOT_HOLD,
    SLOT_IDLE,
    SLOT_NEAR_SHIFT,
    SLOT_TURN,
    SLOT_WRITE,
    slot_address_shift,
)
from shiftforge.banks import WORDS, Banks
from shiftforge.config import Config

Ints = npt.NDArray[np.object_]
"""Python integers."""


@dataclass(frozen=True, eq=False)
class BankedPEState:
    """All registers of the PEs, named and packed as in the gateware, and the memories' words along the last axis.

    ``clear`` and ``apart`` exist where the weight adds to the bank; ``lower_2`` and ``upper_2`` where products reach into the upper
    half by more than a bit, else ``down``, with ``change`` where by one; ``inf`` where the format has infinities.
    ``capture`` is its three registers as the port holds them: flags, lower half, upper half.
    """

    x_out: Ints
    slot_out: Ints
    w_out: Ints
    negate_1: Ints
    negate: Ints
    address: Ints
    address_2: Ints
    address_3: Ints
    clear: Ints
    apart: Ints
    clear_2: Ints
    apart_2: Ints
    hold_2: Ints
    write_2: Ints
    write_3: Ints
    held_low: Ints
    held_high: Ints
    carried_low: Ints
    carried_high: Ints
    direct: Ints
    raised: Ints
    lower_2: Ints
    upper_2: Ints
    top: Ints
    down: Ints
    change: Ints
    nan: Ints
    inf: Ints
    seen: Ints
    kept: Ints
    tally: Ints
    capture: Ints
    memory_low: Ints
    memory_high: Ints


def integers(values: npt.ArrayLike) -> Ints:
    """The same values as Python integers in an object array."""
    return np.asarray(np.asarray(values).astype(object), dtype=object)


def _bit(values: Ints, mask: int) -> Ints:
    """1 where a bit of the mask is set."""
    return integers(np.where(_any(values & mask), 1, 0))


def _any(values: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Where any bit is set."""
    return np.asarray(np.asarray(values) != 0, np.bool_)


class BankedPE:
    """A grid of processing elements of one configuration, one rising edge at a time.

    Parameters
    ----------
    config : Config
    shape : tuple of int
        Shape of the grid; ``()`` is one PE.

    Members
    -------
    state : BankedPEState
        Registers and memories after the last edge; all zero at first but for `SLOT_IDLE` and what follows from it.
    """

    def __init__(self, config: Config, shape: tuple[int, ...] = ()) -> None:
        self._code = config.weights
        self._banks = Banks.of(config)
        self._flag_bits = config.activation.flag_bits
        zero = np.zeros(shape, object)
        state: dict[str, Ints] = dict.fromkeys(BankedPEState.__dataclass_fields__, zero)
        state |= {"slot_out": zero + SLOT_IDLE, "hold_2": zero + 1}
        if self._banks.w_bank_bits:
            state |= {"apart": zero + 1, "apart_2": zero + 1}
        words = np.zeros((*shape, WORDS), object)
        self.state = BankedPEState(**state | {"memory_low": words, "memory_high": words})

    def step(self, x: npt.ArrayLike, slot: npt.ArrayLike, w: npt.ArrayLike) -> BankedPEState:
        """The registers after the next rising edge; inputs as the ports hold them, `w` as `wires` makes it."""
        old, banks, code = self.state, self._banks, self._code
        given_x, given_slot, given_w = integers(x), integers(slot), integers(w)
        new = {"x_out": given_x, "slot_out": given_slot, "w_out": given_w}

        # ---- inputs
        present = ~_any(given_w & code.mask_bit)
        new["negate_1"] = np.where(
            present, ((given_x >> banks.significand_bits) ^ (given_w >> code.exponent_bits)) & 1, 0
        )
        given_address = given_slot >> slot_address_shift(banks)
        new["clear"] = new["apart"] = np.zeros_like(given_x)
        clear, apart = _bit(old.slot_out, SLOT_CLEAR), _bit(old.slot_out, SLOT_APART)
        if banks.w_bank_bits:
            up, before = (_any(value & (1 << banks.w_shift_bits)) for value in (given_w, old.w_out))
            near = given_slot >> SLOT_NEAR_SHIFT & 3
            forward = ((near == 3) & (up == before)) | ((near == 1) & ~up & before) | ((near == 2) & up & ~before)
            new["clear"] = np.where(_any(given_slot & SLOT_CLEAR) | forward, 1, 0)
            new["apart"] = np.where(forward, 0, 1)
            # One is added; whether the lowest two bits carry, the slot tells.
            full = _any(given_slot & SLOT_FULL)
            carries = np.where(full, 7 | (given_address & 4) << 1, 1 | (given_address & 1) << 1)
            given_address = given_address ^ np.where(up, carries, 0)
            clear, apart = old.clear, old.apart
        new["address"] = given_address
        address = old.address
        hold = _bit(old.slot_out, SLOT_HOLD)
        new |= {"address_2": address, "address_3": old.address_2, "clear_2": clear, "apart_2": apart, "hold_2": hold}
        new |= {"write_2": _bit(old.slot_out, SLOT_WRITE), "write_3": old.write_2, "tally": 1 - hold}

        # ---- addend
        present = ~_any(old.w_out & code.mask_bit)
        lift_bits = banks.w_shift_bits - 1
        magnitude = banks.significand_bits + (1 << lift_bits) - 1
        significand = old.x_out & ((1 << banks.significand_bits) - 1)
        shifted = significand << (old.w_out & ((1 << lift_bits) - 1))
        addend = shifted ^ (old.negate_1 * ((2 << magnitude) - 1))  # the bit above is the sign
        raises = _any(old.w_out & (1 << lift_bits))
        new |= {
            "direct": np.where(present & ~raises, addend, 0),
            "raised": np.where(present & raises, addend, 0),
            "negate": old.negate_1,
        }

        # ---- the two halves
        lower, upper = self._addends()
        low_bits, low_mask = banks.low_bits, (1 << banks.low_bits) - 1
        total = (old.held_low | old.carried_low) + ((lower | upper) & low_mask) + old.negate
        high_mask = (1 << (banks.word_bits - low_bits)) - 1
        zero = np.zeros_like(given_x)
        # The lower half's top bit is the carry, and with `upper_counts` the sum of it and of the addend's next bit.
        carry, bit = total >> low_bits, (lower | upper) >> low_bits & 1
        new |= dict.fromkeys(("down", "change", "lower_2", "upper_2"), zero)
        if banks.upper_counts:
            new |= {"top": carry ^ (bit if banks.reach else old.negate), "down": old.negate}
            new["change"] = (bit & carry ^ old.negate) if banks.reach else zero
            change = old.change if banks.reach else old.top
            addend = old.top * banks.reach + (np.where(_any(old.down), -change, change) << banks.reach)
        else:
            new |= {"top": carry, "lower_2": lower >> low_bits, "upper_2": upper >> low_bits}
            addend = (old.lower_2 | old.upper_2) + old.top
        slot_1, slot_2 = (address, clear, apart, hold), (old.address_2, old.clear_2, old.apart_2, old.hold_2)
        written_1, written_2 = (old.address_2, old.write_2), (old.address_3, old.write_3)
        low_given = self._half(new, "low", slot_1, written_1, integers(total & low_mask))
        total = (old.held_high | old.carried_high) + addend
        high_given = self._half(new, "high", slot_2, written_2, integers(total & high_mask))

        # ---- marks
        nan, inf = ((old.x_out >> (banks.significand_bits + place)) & 1 for place in (1, 2))
        new |= {"nan": np.where(present, nan, 0), "inf": np.where(present, inf, 0)}
        marks = old.seen | old.nan
        if self._flag_bits == 3:
            marks = marks | (old.inf & (1 - old.negate)) << 1 | (old.inf & old.negate) << 2
        turn = _any(old.slot_out & SLOT_TURN)
        new |= {"seen": np.where(turn, 0, marks), "kept": np.where(turn, marks, old.kept)}
        flags = np.where(_any(hold), 0, old.kept)
        new["capture"] = flags | (low_given | high_given << low_bits) << self._flag_bits

        self.state = BankedPEState(**{name: integers(value) for name, value in new.items()})
        return self.state

    def wires(self, element: npt.ArrayLike, slot: npt.ArrayLike) -> Ints:
        """The port `w` of weight elements that meet these slots (`hw.banked_pe.BankedPE.wires`)."""
        banks, code = self._banks, self._code
        element = integers(element)
        plain = (element >> (banks.w_shift_bits - 1) & 1) ^ 1
        if code.mask:
            plain = plain | element >> code.bits
        if banks.w_bank_bits:
            idle = _any(integers(slot) & SLOT_CLEAR)
            element = np.where(idle, element & ~(1 << banks.w_shift_bits), element)
        return integers(element | plain << code.element_bits)

    def _half(
        self,
        new: dict[str, Ints],
        name: str,
        slot: tuple[Ints, Ints, Ints, Ints],
        written: tuple[Ints, Ints],
        total: Ints,
    ) -> Ints:
        """The registers and memory of that half of the words; returns what it hands over."""
        address, clear, apart, hold = slot
        memory: Ints = getattr(self.state, f"memory_{name}")
        read = np.take_along_axis(memory, address[..., None].astype(np.int64), axis=-1)[..., 0]
        new[f"held_{name}"] = integers(np.where(_any(clear), 0, read))
        new[f"carried_{name}"] = integers(np.where(_any(apart), 0, total))
        memory = memory.copy()
        index = written[0][..., None].astype(np.int64)
        kept = np.take_along_axis(memory, index, axis=-1)[..., 0]
        np.put_along_axis(memory, index, integers(np.where(_any(written[1]), total, kept))[..., None], axis=-1)
        new[f"memory_{name}"] = memory
        return integers(np.where(_any(hold), 0, read))

    def _addends(self) -> tuple[Ints, Ints]:
        """The addend over the whole width of a word, as it is and raised; one of them is zero but for the sign's fill."""
        old, banks = self.state, self._banks
        lift = 1 << (banks.w_shift_bits - 1)
        magnitude = banks.significand_bits + lift - 1
        low = (1 << magnitude) - 1

        def sign(register: Ints, place: int, width: int) -> Ints:
            return (register >> magnitude) * (((1 << width) - 1) << place)

        upper_places = banks.word_bits - magnitude - lift
        lower = (old.direct & low) | sign(old.direct, magnitude, lift)
        lower = lower | old.negate * (((1 << upper_places) - 1) << (magnitude + lift))
        upper = ((old.raised & low) << lift) | sign(old.raised, 0, lift)
        return integers(lower), integers(upper)
