"""Claims about the ring of banked accumulators: no tile begins in words that are not read yet, none is read before it has ended."""

from dataclasses import replace

from amaranth.hdl import Mux, Signal

from hw.drain_slots import DrainSlots
from shiftforge import timing
from shiftforge.banks import ADDRESS_BITS, WORDS, Banks
from sim.proofs.banked import banked_config
from sim.proofs.miter import Mutant, Proof, Script
from sim.proofs.streams import Machine
from sim.proofs.words import always

_POSITION_BITS = 6
"""Of a place along the unrolled ring, modulo four times around: no two that are compared are further apart than two tiles."""


def drain_slots_script(name: str, weight_bits: int, rows: int, *, to_the_end: bool) -> Script:
    """`DrainSlots`: which cycles are drain slots, of which words, and when a tile may begin; tiles of any length, a reset at any
    time.

    The specification unrolls the ring: tile t has the words from ``t * stride`` on, and drain slots walk over all of them in
    turn. It is promised that a tile begins when it may, that its last product comes in it, and that no product is issued in a
    drain slot. `to_the_end` looks at more cycles, so that mutants are refuted which show with a tile's last word.
    """
    config = banked_config(name, weight_bits, rows=rows)
    banks, spacing = Banks.of(config), timing.drain_spacing(config)
    count, stride, settle = banks.count, banks.stride, timing.BANK_SETTLE
    machine = Machine(DrainSlots(config))
    m, unit = machine.m, machine.unit
    assert isinstance(unit, DrainSlots)
    begins = Signal(name="in_begins")
    machine.ports.append(begins)

    def past(value: Signal, label: str) -> Signal:
        """`value` as it counts once the words' read, add and write have passed; a product or slot of this cycle is one later."""
        for i in range(settle - 1):
            stage = Signal(value.shape(), name=f"spec_{label}_{i}")
            m.d.sync += stage.eq(value)
            value = stage
        return value

    # Where the next word to be read is, and where the next tile's, or the tile's under way.
    read, base = (Signal(_POSITION_BITS, name=f"spec_{of}") for of in ("read", "base"))
    bank, tiles = Signal(range(count), name="spec_bank"), Signal(2, name="spec_tiles")  # ended and not read to the end
    under_way, parity = Signal(name="spec_under_way"), Signal(name="spec_parity")
    wiped = Signal(range(WORDS + 1), name="spec_wiped")
    since = Signal(range(spacing + 1), init=spacing, name="spec_since")  # the last drain slot, or longer ago
    read_settled, base_settled = past(read, "read"), past(base, "base")

    wiping = wiped != WORDS
    slot, ended = Signal(), Signal()
    ahead = (base_settled - read)[:_POSITION_BITS]
    unread = (base - read_settled)[:_POSITION_BITS]
    m.d.comb += [
        slot.eq(~wiping & unit.may & (ahead != 0) & (since == spacing) & ~((bank == 0) & unit.full)),
        ended.eq(unit.tile_end),
    ]
    with m.If(wiping):
        m.d.sync += wiped.eq(wiped + 1)
    with m.If(slot):
        m.d.sync += [bank.eq(Mux(bank == count - 1, 0, bank + 1)), since.eq(1)]
        m.d.sync += [
            read.eq(read + Mux(bank == count - 1, stride - count + 1, 1)),
            parity.eq(parity ^ (bank == count - 1)),
        ]
    with m.Elif(since != spacing):
        m.d.sync += since.eq(since + 1)
    with m.If(ended):
        m.d.sync += base.eq(base + stride)
    m.d.sync += tiles.eq(tiles + ended - (slot & (bank == count - 1)))
    may_begin = ~wiping & (unread + count <= WORDS)
    product = under_way | begins
    m.d.sync += under_way.eq(product & ~ended)

    machine.claim(unit.slot == (wiping | slot))
    machine.claim(unit.wipe == wiping)
    machine.claim(unit.first == (slot & (bank == 0)))
    machine.claim(unit.address == Mux(wiping, wiped, read)[:ADDRESS_BITS])
    machine.claim(unit.parity == parity)
    machine.claim(unit.blocked == ~may_begin)
    # What it is for: a product's word is no word of another tile that is not read, in this cycle or any of its tile's.
    machine.claim(unread + count <= WORDS, when=product)

    # So that the induction starts from no state that cannot be.
    last_slot, last_end = (Signal(name=f"spec_last_{of}") for of in ("slot", "end"))
    m.d.sync += [last_slot.eq(slot), last_end.eq(ended)]
    machine.claim((base - read)[:_POSITION_BITS] == (tiles * stride - bank)[:_POSITION_BITS])
    machine.claim((tiles <= 2) & (bank < count) & ((tiles != 0) | (bank == 0)) & (wiped <= WORDS) & (since != 0))
    machine.claim(~wiping | ((tiles == 0) & ~under_way & ~last_slot & ~last_end & (since == spacing)))
    machine.claim((base - base_settled)[:_POSITION_BITS] == Mux(last_end, stride, 0))
    step = Mux(last_slot, Mux(bank == 0, stride - count + 1, 1), 0)
    machine.claim((read - read_settled)[:_POSITION_BITS] == step)
    machine.claim(~last_slot | (since == 1))
    machine.claim(~last_end | (tiles != 0))
    machine.claim(~last_end | ~under_way)
    machine.claim(machine.peek("bank", len(bank)) == bank)
    machine.claim(machine.peek("unread", (WORDS).bit_length()) == tiles * count - bank + last_slot)
    machine.claim(machine.peek("readable", 2) == tiles - last_end)
    machine.claim(machine.peek("gap", (spacing - 1).bit_length()) == spacing - since)
    machine.claim(machine.peek("due", 1) == ((tiles != last_end) & (since == spacing)))
    machine.claim(machine.peek("first_bank", 1) == (bank == 0))
    machine.claim(~(under_way & (tiles == 2)))

    always(machine, (~begins | (may_begin & ~under_way)) & (~ended | product) & (~(begins | ended) | ~(wiping | slot)))
    # The wipe, a tile, and its drain slots to the end; or the wipe, two tiles, and some.
    return replace(machine.script(), steps=WORDS + 2 + count * spacing if to_the_end else WORDS + 12)


_SLOTS = "hw/drain_slots.py"
_MUTANTS = (
    Mutant(_SLOTS, "(gap <= 1) & ~reading", "~reading"),
    Mutant(_SLOTS, "(gap <= 1) & ~reading", "(gap <= 1)"),
    Mutant(_SLOTS, "(gap <= 1)", "(gap == 0)"),
    Mutant(_SLOTS, "gap.eq(spacing - 1)", "gap.eq(spacing)"),
    Mutant(_SLOTS, "~(first_bank & self.full)", "~self.full"),
    Mutant(_SLOTS, "wiping | Mux(self.tile_end", "Mux(self.tile_end"),
    Mutant(_SLOTS, "self.address != WORDS - 1", "self.address != WORDS - 2"),
    Mutant(_SLOTS, "settled(self.tile_end) - (reading", "self.tile_end - (reading"),
    Mutant(_SLOTS, "word_read = Signal.like(readable), settled(reading)", "word_read = Signal.like(readable), reading"),
    Mutant(_SLOTS, "unread > most + 1, ", "unread > most, "),
    Mutant(_SLOTS, "Mux(self.tile_end, after_end, ", "Mux(0, after_end, "),
)
_FIRST = Mutant(_SLOTS, "first_bank.eq(last_bank)", "first_bank.eq(0)")
_PARITY = Mutant(_SLOTS, "self.parity.eq(~self.parity)", "self.parity.eq(self.parity)")
_AWAITED = Mutant(_SLOTS, "most = banks.count - banks.awaited", "most = banks.count")
_STEP = Mutant(_SLOTS, "banks.stride - banks.count + 1", "1")


def drain_slots_proofs() -> list[Proof]:
    """Eight banks, nine, and five, whose tiles lie apart; one row, whose spacing is the column's, and more."""
    found: list[Proof] = []
    for name, bits, rows, more in (
        ("fp16", 3, 1, (_FIRST, _PARITY)),
        ("fp16", 4, 2, (_AWAITED,)),
        ("fp8_e4m3", 4, 5, (_STEP, _FIRST, _PARITY)),
    ):
        found.append(
            Proof(
                f"drain slots {name} w{bits}, {rows} row{'s' * (rows > 1)}",
                lambda n=name, b=bits, r=rows, end=_PARITY in more: drain_slots_script(n, b, r, to_the_end=end),
                (*_MUTANTS, *more),
                fast=_AWAITED in more,
            )
        )
    return found
