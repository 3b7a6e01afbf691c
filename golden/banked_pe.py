"""Processing element with banked accumulators, register by register, as `hw/banked_pe.py` builds it.

One `BankedPE` object models a whole grid: every register is an array of the grid's shape. Words are wider than 64 bits in some
configurations, so they are Python integers in object arrays.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from golden.banked_edge import SLOT_ADDRESS_SHIFT, SLOT_CLEAR, SLOT_DRAIN, SLOT_FORWARD, SLOT_WRITE
from shiftforge.banks import SETS, Banks
from shiftforge.config import Config

Ints = npt.NDArray[np.object_]
"""Python integers."""


@dataclass(frozen=True, eq=False)
class BankedPEState:
    """All registers of the PEs, named and packed as in the gateware, and the memory's words along the last axis.

    ``clear``, ``forward`` and ``weight_bank`` exist where the weight selects a bank. ``held``, ``carried``, ``capture`` and the
    words have the flags in their lowest bits (``capture`` below them the valid bit).
    """

    x_out: Ints
    slot_out: Ints
    w_out: Ints
    negate_1: Ints
    clear: Ints
    forward: Ints
    weight_bank: Ints
    held: Ints
    carried: Ints
    direct: Ints
    raised: Ints
    negate: Ints
    now: Ints
    write_2: Ints
    address_2: Ints
    capture: Ints
    memory: Ints


def integers(values: npt.ArrayLike) -> Ints:
    """The same values as Python integers in an object array."""
    return np.asarray(np.asarray(values).astype(object), dtype=object)


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
        Registers and memory after the last edge; all zero at first.
    """

    def __init__(self, config: Config, shape: tuple[int, ...] = ()) -> None:
        self._code = config.weights
        self._banks = Banks.of(config)
        self._flag_bits = config.activation.flag_bits
        zero = np.zeros(shape, object)
        names = list(BankedPEState.__dataclass_fields__)
        memory = np.zeros((*shape, SETS * self._banks.count), object)
        self.state = BankedPEState(**{name: memory if name == "memory" else zero for name in names})

    def step(self, x: npt.ArrayLike, slot: npt.ArrayLike, w: npt.ArrayLike) -> BankedPEState:
        """The registers after the next rising edge; inputs as the ports hold them."""
        old, banks, code = self.state, self._banks, self._code
        given_x, given_slot, given_w = integers(x), integers(slot), integers(w)
        new = {"x_out": given_x, "slot_out": given_slot, "w_out": given_w}

        # ---- inputs
        present = ~_any(given_w & code.mask_bit)
        new["negate_1"] = np.where(
            present, ((given_x >> banks.significand_bits) ^ (given_w >> code.exponent_bits)) & 1, 0
        )
        part_mask = (1 << banks.w_bank_bits) - 1
        new["clear"] = new["forward"] = new["weight_bank"] = np.zeros_like(given_x)
        address = integers(old.slot_out >> SLOT_ADDRESS_SHIFT)
        clear, forward = _any(old.slot_out & SLOT_CLEAR), _any(old.slot_out & SLOT_FORWARD)
        if banks.w_bank_bits:
            part = (given_w >> banks.w_shift_bits) & part_mask
            other = _any((old.w_out >> banks.w_shift_bits ^ part) & part_mask)
            asked, cleared = _any(given_slot & SLOT_FORWARD), _any(given_slot & SLOT_CLEAR)
            new["clear"] = np.where(cleared & ~(asked & other), 1, 0)
            new["forward"] = np.where(asked & ~other, 1, 0)
            new["weight_bank"] = np.where(~cleared | asked, part, (given_slot >> SLOT_ADDRESS_SHIFT) & part_mask)
            address = integers((address & ~part_mask) | old.weight_bank)
            clear, forward = _any(old.clear), _any(old.forward)

        # ---- read, addend
        read = np.take_along_axis(old.memory, address[..., None].astype(np.int64), axis=-1)[..., 0]
        total = self._total()
        present = ~_any(old.w_out & code.mask_bit)
        lift_bits = banks.w_shift_bits - 1
        magnitude = banks.significand_bits + (1 << lift_bits) - 1
        significand = old.x_out & ((1 << banks.significand_bits) - 1)
        shifted = significand << (old.w_out & ((1 << lift_bits) - 1))
        addend = shifted ^ (old.negate_1 * ((2 << magnitude) - 1))  # the bit above is the sign
        raises = _any(old.w_out & (1 << lift_bits))
        nan = (old.x_out >> (banks.significand_bits + 1)) & 1
        infinite = (old.x_out >> (banks.significand_bits + 2)) & 1
        now = nan | (infinite & ~old.negate_1) << 1 | (infinite & old.negate_1) << 2
        new |= {
            "held": np.where(clear, 0, read),
            "carried": np.where(forward, total, 0),
            "direct": np.where(present & ~raises, addend, 0),
            "raised": np.where(present & raises, addend, 0),
            "negate": old.negate_1,
            "now": np.where(present, now, 0),
            "write_2": old.slot_out & SLOT_WRITE,
            "address_2": address,
            "capture": np.where(_any(old.slot_out & SLOT_DRAIN), read << 1 | 1, 0),
        }

        # ---- write
        memory = old.memory.copy()
        index = old.address_2[..., None].astype(np.int64)
        kept = np.take_along_axis(memory, index, axis=-1)[..., 0]
        np.put_along_axis(memory, index, integers(np.where(_any(old.write_2), total, kept))[..., None], axis=-1)
        self.state = BankedPEState(**{name: integers(value) for name, value in new.items()}, memory=memory)
        return self.state

    def _total(self) -> Ints:
        """What the adder and the flags' ORs make of the registers: the word that is written."""
        old, banks, flag_bits = self.state, self._banks, self._flag_bits
        lift = 1 << (banks.w_shift_bits - 1)
        magnitude = banks.significand_bits + lift - 1
        word_mask, low = (1 << banks.word_bits) - 1, (1 << magnitude) - 1

        def sign(register: Ints, place: int, width: int) -> Ints:
            return (register >> magnitude) * (((1 << width) - 1) << place)

        upper_places = banks.word_bits - magnitude - lift
        lower = (old.direct & low) | sign(old.direct, magnitude, lift)
        lower = lower | old.negate * (((1 << upper_places) - 1) << (magnitude + lift))
        upper = ((old.raised & low) << lift) | sign(old.raised, 0, lift)
        accumulated = old.held | old.carried
        word = ((accumulated >> flag_bits) + (lower | upper) + old.negate) & word_mask
        flags = (accumulated & ((1 << flag_bits) - 1)) | old.now
        return integers(word << flag_bits | flags)
