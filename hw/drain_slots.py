"""Drain slots: cycles that the engine gives up to read the banked accumulators out, one bank in each."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.delay import chain
from shiftforge import timing
from shiftforge.banks import Banks
from shiftforge.config import Config


class DrainSlots(wiring.Component):
    """When the banks of a finished tile are read, and whether the next tile may begin.

    Tiles use the two sets of banks in turn. A drain slot passes down the rows as a product does and in each PE reads one bank and
    clears it; ``Banks.count`` of them, lowest bank first, read a tile. The first one waits for a drain buffer. They stand at least
    ``timing.drain_spacing(config)`` cycles apart, begin ``timing.BANK_SETTLE`` cycles after the tile's last product, and the
    products of the next tile but one come as many cycles after the last of them. After a reset all banks are cleared first, by
    slots whose readings nobody takes.

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
        This cycle is a drain slot, of `bank` in `set`.
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
                "set": Out(1),
                "bank": Out(range(self.banks.count)),
                "blocked": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spacing = timing.drain_spacing(self.config)
        # How many tiles have issued their last product and may be read, or are not read yet: never more than the two sets.
        readable, unread = Signal(2), Signal(2)
        gap = Signal(range(max(spacing, 2)))
        first_bank, last_bank = Signal(), Signal()
        tile_drained = Signal()
        m.d.comb += [
            first_bank.eq(self.bank == 0),
            last_bank.eq(self.bank == self.banks.count - 1),
            self.slot.eq(self.wipe | (self.may & (readable != 0) & (gap == 0) & ~(first_bank & self.full))),
            self.first.eq(self.slot & first_bank & ~self.wipe),
            tile_drained.eq(self.slot & last_bank & ~self.wipe),
            self.blocked.eq(self.wipe | (unread == 2)),
        ]
        with m.If(self.slot):
            m.d.sync += self.bank.eq(Mux(last_bank, 0, self.bank + 1))
            with m.If(last_bank):
                m.d.sync += [self.set.eq(~self.set), self.wipe.eq(self.wipe & ~self.set)]
            m.d.sync += gap.eq(spacing - 1)
        with m.Elif(gap != 0):
            m.d.sync += gap.eq(gap - 1)

        def settled(event: Signal) -> Value:
            """The event as it counts once the banks' read, add and write have passed."""
            return chain(m, event, timing.BANK_SETTLE - 1, event.name)

        m.d.sync += [
            readable.eq(readable + settled(self.tile_end) - tile_drained),
            unread.eq(unread + self.tile_end - settled(tile_drained)),
        ]
        return m
