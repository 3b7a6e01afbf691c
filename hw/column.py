"""Column reader: from the readings of free-running accumulators to finished sums, kept in a drain buffer of two tiles."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.delay import chain, delayed, register
from hw.pe import TALLY, capture_layout, sum_fields
from shiftforge.config import Config


def sum_layout(config: Config) -> data.StructLayout:
    """A finished dot product: exact sum (two's complement) and non-finite flags."""
    return data.StructLayout(sum_fields(config))


class BlockSum(wiring.Component):
    """The exact sum of a block's products from two readings of its PE. Fully pipelined, `LATENCY` cycles.

    ::

        sum = (reading - previous) modulo 2**block_bits, signed, + negatives

    Parameters
    ----------
    config : Config

    Members
    -------
    reading, previous : In(block_bits)
        This reading of the accumulator, and the one before.
    negatives : In
        Products of negative weights in the block, each of which the PE has added as one's complement; a cycle after the readings.
    sum : Out(signed(block_bits + 1))
    """

    LATENCY = 2

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "reading": In(config.block_bits),
                "previous": In(config.block_bits),
                "negatives": In(range(config.rows + 1)),
                "sum": Out(signed(config.block_bits + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        change = register(m, (self.reading - self.previous)[: self.config.block_bits].as_signed(), "change")
        total = (change + self.negatives)[: self.config.block_bits + 1]
        m.d.comb += self.sum.eq(register(m, total.as_signed(), "total"))
        return m


class Column(wiring.Component):
    """Takes a column's captures, finds each `BlockSum`, adds up the blocks of a tile, and keeps the sums of two tiles, so that one
    drains while the next is written. The first block after reset has no reading before it.

    `timing.COLUMN` cycles from the capture of a tile's last block to its sum in the buffer. A block's captures come row by row in
    consecutive cycles, row 0's with the `tally` that says so; hence not the same row's in two cycles, unless there is but one.

    ::

        capture --[reg]-----+
                            - --[reg]--> + negatives --[reg]--> + --+--> buffer (a tile's last block)
        reading before --[reg]                                  |   |
                                       [reg, or 0]--> kept -----+   |
                                            +---- kept <------------+

    Members
    -------
    capture : In(capture_layout)
    tally : In(TALLY)
        What row 0 has accumulated in every cycle since its block before.
    set, row : In
        Buffer address to read: a register of its own holds it, and `read` what is there two cycles later.
    read : Out(sum_layout)
    tile : Out(1)
        For one cycle when a tile's last row is in the buffer.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "capture": In(capture_layout(config)),
                "tally": In(TALLY),
                "set": In(1),
                "row": In(range(max(config.rows, 2))),
                "read": Out(sum_layout(config)),
                "tile": Out(1),
            }
        )

    @property
    def module_name(self) -> str:
        c = self.config
        return f"sf_column_{c.rows}x{c.accumulator_bits}_f{c.activation.flag_bits}_block{c.block_bits}"

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        rows = config.rows
        m.submodules.block_sum = block_sum = BlockSum(config)

        # A block's captures, row by row; which is the first of its tile, and which the last.
        row = Signal(range(max(rows, 2)))
        bank = Signal()
        primed = Signal()
        begun = Signal()  # this tile's blocks before
        ending = Signal()
        valid, at_last, ends = Signal(), Signal(), Signal()
        m.d.comb += [
            valid.eq(self.tally.read | (row != 0)),
            at_last.eq(row == rows - 1),
            ends.eq(Mux(row == 0, self.tally.last, ending)),
        ]
        with m.If(valid):
            m.d.sync += [row.eq(Mux(at_last, 0, row + 1)), ending.eq(ends)]
            with m.If(at_last):
                m.d.sync += [bank.eq(bank ^ ends), primed.eq(1), begun.eq(~ends)]

        # The readings of the block before; the block's products to be corrected, counted until its last, then held for its rows.
        m.submodules.readings = readings = memory.Memory(shape=config.block_bits, depth=max(rows, 2), init=[])
        before, keep = readings.read_port(domain="comb"), readings.write_port()
        m.d.comb += [before.addr.eq(row), keep.addr.eq(row), keep.data.eq(self.capture.reading), keep.en.eq(valid)]
        previous = Signal(config.block_bits, reset_less=True)
        m.d.sync += previous.eq(before.data)
        with m.If(~primed):
            m.d.sync += previous.eq(0)
        counting = Signal(range(rows + 1))
        lacking = Signal(range(rows + 1), reset_less=True)
        following = counting + self.tally.negative
        m.d.sync += counting.eq(Mux(self.tally.read, 0, following))
        with m.If(self.tally.read):
            m.d.sync += lacking.eq(following)
        m.d.comb += [
            block_sum.reading.eq(register(m, self.capture.reading, "reading")),
            block_sum.previous.eq(previous),
            block_sum.negatives.eq(register(m, lacking, "lacking_late")),
        ]

        # The blocks before it in the tile, row by row.
        place = Cat(begun, bank, row)
        place_2 = delayed(m, place, BlockSum.LATENCY, "place")
        begun_2, bank_2, row_2 = place_2[0], place_2[1], place_2[2:]
        marks = chain(m, Cat(valid, valid & ends, valid & ends & at_last), BlockSum.LATENCY + 1, "marks")
        total = data.View(sum_layout(config), Signal(sum_layout(config).size, name="total"))
        kept = self._kept(m, total, marks[0], begun_2, row_2)
        m.d.comb += total.sum.eq(kept.sum.as_signed() + block_sum.sum)
        if config.activation.flag_bits:
            flags = delayed(m, self.capture.flags, BlockSum.LATENCY + 1, "flags")
            m.d.comb += total.flags.eq(kept.flags.as_value() | flags)

        # The tile's sums.
        m.submodules.buffer = buffer = memory.Memory(shape=len(total.as_value()), depth=2 * rows, init=[])
        store, fetch = buffer.write_port(), buffer.read_port(domain="comb")
        address = Signal(range(max(2 * rows, 2)))
        m.d.comb += address.eq(Mux(bank_2, rows, 0) + row_2)
        m.d.comb += [
            store.addr.eq(register(m, address, "store_address")),
            store.data.eq(total),
            store.en.eq(marks[1]),
            fetch.addr.eq(register(m, Mux(self.set, rows, 0) + self.row, "read_address")),
        ]
        m.d.sync += [self.read.eq(fetch.data), self.tile.eq(marks[2])]
        return m

    def _kept(self, m: Module, total: data.View, valid: Value, begun: Value, row: Value) -> data.View:
        """Where `valid` is, what `total` was a block before, zero for a tile's first; `begun` and `row` are a cycle earlier."""
        rows, layout = self.config.rows, sum_layout(self.config)
        kept = data.View(layout, Signal(layout.size, name="kept", reset_less=True))
        if rows == 1:  # a block may follow in the next cycle: a memory would be too slow
            before = Signal(layout.size, reset_less=True)
            with m.If(valid):
                m.d.sync += before.eq(total)
            with m.If(register(m, begun, "begun_late")):
                m.d.comb += kept.eq(before)
            return kept
        m.submodules.sums = sums = memory.Memory(shape=layout.size, depth=rows, init=[])
        before, keep = sums.read_port(domain="comb"), sums.write_port()
        m.d.comb += [
            before.addr.eq(row),
            keep.addr.eq(register(m, row, "row_late")),
            keep.data.eq(total),
            keep.en.eq(valid),
        ]
        m.d.sync += kept.eq(before.data)
        with m.If(~begun):
            m.d.sync += kept.eq(0)
        return kept
