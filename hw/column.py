"""Column reader: from the readings of free-running accumulators to finished sums, kept in a drain buffer of two tiles."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.delay import chain, delayed, register
from hw.pe import TALLY, capture_layout, sum_fields
from shiftforge import timing
from shiftforge.config import Config


def sum_layout(config: Config) -> data.StructLayout:
    """A finished dot product: exact sum (two's complement) and non-finite flags."""
    return data.StructLayout(sum_fields(config))


class Assemble(wiring.Component):
    """The exact sum of a dot product from what its PE has captured. Fully pipelined, `LATENCY` cycles.

    ::

        sum = (low - previous) + (carries << low_bits) - (products << (product_bits - 1))   modulo 2**accumulator_bits
        carries = (table_0[count_0] + table_1[count_1]) mod modulus + early

    Parameters
    ----------
    config : Config

    Members
    -------
    low, previous : In(low_bits)
        This reading of the adder's accumulator, and the one before.
    products : In
        Number of products, `max_k` at most.
    early, summand_0, summand_1 : In
        Carry of the first product; table entries (`Counter.table`) of the counters. One cycle after the others.
    sum : Out(accumulator_bits)
    """

    LATENCY = 4

    def __init__(self, config: Config):
        self.config = config
        counter = range(config.carries.modulus)
        super().__init__(
            {
                "low": In(config.low_bits),
                "previous": In(config.low_bits),
                "products": In(range(config.max_k + 1)),
                "early": In(1),
                "summand_0": In(counter),
                "summand_1": In(counter),
                "sum": Out(config.accumulator_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        modulus, offset = config.carries.modulus, config.product_bits - 1

        # Cycle 1: by how much the low bits have changed.
        change = register(m, (self.low - self.previous).as_signed(), "change")
        products = register(m, self.products, "products_1")
        # Cycle 2: less the offset of every product; the counters' summands added up.
        high = register(m, (change >> offset) - products, "high")
        rest = register(m, change[:offset], "rest")
        counted = register(m, self.summand_0 + self.summand_1, "counted")
        early = register(m, self.early, "early_1")
        # Cycle 3: the same less the modulus.
        less = register(m, (counted - modulus).as_signed(), "less")
        counted, early = register(m, counted, "counted_2"), register(m, early, "early_2")
        high, rest = register(m, high, "high_2"), register(m, rest, "rest_2")
        # Cycle 4: carries, in their place; an offset has product_bits - 1 bits, a carry low_bits.
        carries = Mux(less[-1], counted, less[: len(counted)]) + early
        place = Cat(Const(0, config.low_bits - offset), carries)
        width = config.accumulator_bits - offset
        m.d.comb += self.sum.eq(register(m, Cat(rest, (high + place)[:width]), "total"))
        return m


class Column(wiring.Component):
    """Takes a column's captures, `Assemble`s each sum, and keeps the sums of two tiles, so that one drains while the next is
    written. The first tile after reset has no reading before it.

    `timing.COLUMN` cycles from the low bits of a capture to its sum in the buffer. A tile's captures come row by row in
    consecutive cycles, row 0's with the `tally` that is its last.

    Members
    -------
    capture : In(capture_layout)
    tally : In(TALLY)
        What row 0 has accumulated in every cycle since its tile before.
    set, row : In
        Buffer address to read, combinational in the buffer; `read` holds it one cycle later.
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
        counters = "_".join(str(bits) for bits in c.carries.lengths)
        return f"sf_column_{c.rows}x{c.accumulator_bits}_f{c.activation.flag_bits}_p{c.product_bits}_count{counters}"

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        rows = config.rows
        m.submodules.assemble = assemble = Assemble(config)

        # A tile's captures, row by row; the readings of the tile before.
        row, bank, primed = Signal(range(max(rows, 2))), Signal(), Signal()
        valid, at_last = Signal(), Signal()
        m.d.comb += [valid.eq(self.tally.last | (row != 0)), at_last.eq(row == rows - 1)]
        with m.If(valid):
            m.d.sync += row.eq(Mux(at_last, 0, row + 1))
            with m.If(at_last):
                m.d.sync += [bank.eq(~bank), primed.eq(1)]
        m.submodules.readings = readings = memory.Memory(shape=config.low_bits, depth=max(rows, 2), init=[])
        before, keep = readings.read_port(domain="comb"), readings.write_port()
        m.d.comb += [before.addr.eq(row), keep.addr.eq(row), keep.data.eq(self.capture.low), keep.en.eq(valid)]
        previous = Signal(config.low_bits, reset_less=True)
        m.d.sync += previous.eq(before.data)
        with m.If(~primed):
            m.d.sync += previous.eq(0)

        # The counters come later than the low bits; a table's register is the cycle in which `previous` is read.
        wait = timing.COUNTS - 1
        # Products of the tile: counted until its last, then held for as long as its rows come.
        tally = TALLY(chain(m, self.tally, wait, "tally_later"))
        counting, products = Signal(range(config.max_k + 1)), Signal(range(config.max_k + 1), reset_less=True)
        following = counting + tally.product
        m.d.sync += counting.eq(Mux(tally.last, 0, following))
        with m.If(tally.last):
            m.d.sync += products.eq(following)
        m.d.comb += [
            assemble.low.eq(delayed(m, register(m, self.capture.low, "low"), wait, "low_wait")),
            assemble.previous.eq(delayed(m, previous, wait, "previous_wait")),
            assemble.products.eq(products),
            assemble.early.eq(register(m, self.capture.early, "early")),
        ]
        for i, bits in enumerate(config.carries.lengths):
            table = memory.Memory(shape=range(config.carries.modulus), depth=1 << bits, init=config.carries.table(i))
            m.submodules[f"table_{i}"] = table
            entry = table.read_port()
            m.d.comb += [entry.addr.eq(self.capture[f"count_{i}"]), getattr(assemble, f"summand_{i}").eq(entry.data)]

        # Where the sum goes, as late as the sum.
        marks = chain(m, Cat(valid, valid & at_last), timing.COLUMN - 1, "marks")
        address = Signal(range(max(2 * rows, 2)))
        m.d.comb += address.eq(Mux(bank, rows, 0) + row)
        beside = Cat(self.capture.flags, address) if config.activation.flag_bits else address
        late = delayed(m, beside, timing.COLUMN - 1, "beside")
        flag_bits = config.activation.flag_bits
        m.submodules.buffer = buffer = memory.Memory(shape=sum_layout(config).size, depth=2 * rows, init=[])
        store, fetch = buffer.write_port(), buffer.read_port(domain="comb")
        m.d.comb += [
            store.addr.eq(late[flag_bits:]),
            store.data.eq(Cat(late[:flag_bits], assemble.sum)),
            store.en.eq(marks[0]),
            fetch.addr.eq(Mux(self.set, rows, 0) + self.row),
        ]
        m.d.sync += [self.read.eq(fetch.data), self.tile.eq(marks[1])]
        return m
