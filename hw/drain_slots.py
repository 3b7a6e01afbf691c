"""Drain slots: cycles that the engine gives up to read the banked accumulators out, one bank in each."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.delay import chain
from shiftforge import timing
from shiftforge.banks import ADDRESS_BITS, WORDS, Banks
from shiftforge.config import Config


class DrainSlots(wiring.Component):
    """When the banks of a finished tile are read, and whether the next tile may begin.

    The words of tiles form a ring (`Banks`), which drain slots follow: each passes down the rows as a product does and in each PE
    reads one word and clears it. The first of a tile waits for a drain buffer. They stand at least ``timing.drain_spacing(config)``
    cycles apart and begin ``timing.BANK_SETTLE`` cycles after the tile's last product. A tile begins as many cycles after the last
    drain slot of the tile two before it, and of those `Banks.awaited` words that it shares with the one before. After a reset all
    words are cleared first, by slots whose readings nobody takes.

    Parameters
    ----------
    config : Config

    Members
    -------
    may : In(1)
        No block is under way: the cycle may be given up.
    tile_end : In(1)
        A tile's last product is issued in this cycle.
    full : In(1)
        Both drain buffers are taken.
    slot : Out(1)
        This cycle is a drain slot, of the word at `address`, which is one of a tile of `parity`.
    first : Out(1)
        It is a tile's first: it takes a drain buffer.
    wipe : Out(1)
        It clears and nothing else.
    blocked : Out(1)
        No tile may begin in this cycle (never while one is under way).
    """

    def __init__(self, config: Config):
        self.config = config
        self.banks = Banks.of(config)
        super().__init__(
            {
                "may": In(1),
                "tile_end": In(1),
                "full": In(1),
                "slot": Out(1),
                "first": Out(1),
                "wipe": Out(1, init=1),
                "parity": Out(1),
                "address": Out(ADDRESS_BITS),
                "blocked": Out(1, init=1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        banks, spacing = self.banks, timing.drain_spacing(self.config)
        # How many tiles have issued their last product and may be read, and how many words of such are not read yet.
        readable = Signal(2)
        unread = Signal(range(WORDS + 1))
        gap = Signal(range(spacing))
        bank = Signal(range(banks.count))
        # What is issued in a cycle waits for these, so they are registers, found one cycle ahead.
        due = Signal()
        first_bank = Signal(init=1)
        last_bank, reading, wiping = Signal(), Signal(), Signal()
        m.d.comb += [
            last_bank.eq(bank == banks.count - 1),
            reading.eq(self.may & due & ~(first_bank & self.full)),
            self.slot.eq(self.wipe | reading),
            self.first.eq(reading & first_bank),
            wiping.eq(self.wipe & (self.address != WORDS - 1)),
        ]
        m.d.sync += self.wipe.eq(wiping)
        with m.If(self.wipe):
            m.d.sync += self.address.eq(self.address + 1)
        with m.If(reading):
            m.d.sync += [bank.eq(bank + 1), self.address.eq(self.address + 1), gap.eq(spacing - 1)]
            m.d.sync += first_bank.eq(last_bank)
            with m.If(last_bank):
                step = banks.stride - banks.count + 1
                m.d.sync += [bank.eq(0), self.address.eq(self.address + step), self.parity.eq(~self.parity)]
        with m.Elif(gap != 0):
            m.d.sync += gap.eq(gap - 1)

        def settled(event: Signal) -> Value:
            """The event as it counts once the words' read, add and write have passed."""
            return chain(m, event, timing.BANK_SETTLE - 1, event.name)

        left, word_read = Signal.like(readable), settled(reading)
        most = banks.count - banks.awaited  # words that need not be read before a tile begins
        # `tile_end` is the last to be known: all comparisons are with registers, and it chooses.
        after_end = Mux(word_read, unread > most - banks.count + 1, unread > most - banks.count)
        m.d.comb += left.eq(readable + settled(self.tile_end) - (reading & last_bank))
        m.d.sync += [
            readable.eq(left),
            due.eq((left != 0) & (gap <= 1) & ~reading),
            unread.eq(unread + Mux(self.tile_end, banks.count, 0) - word_read),
            self.blocked.eq(wiping | Mux(self.tile_end, after_end, Mux(word_read, unread > most + 1, unread > most))),
        ]
        return m
