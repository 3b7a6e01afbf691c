"""Column reader: from free-running accumulators to finished sums, kept in a drain buffer of two tiles."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.pe import capture_layout, sum_fields
from shiftforge.config import Config


def sum_layout(config: Config) -> data.StructLayout:
    """A finished dot product: exact sum (two's complement) and non-finite flags."""
    return data.StructLayout(sum_fields(config))


class Column(wiring.Component):
    """Subtracts from each reading the same PE's reading of the tile before (modulo 2**accumulator_bits, hence exactly), and keeps
    the sums of two tiles, so that one drains while the next is written. The first tile after reset has nothing to subtract.

    `timing.COLUMN` cycles from a capture to its sum in the buffer. Rows come in order, `rows` per tile.

    Members
    -------
    capture : In(capture_layout)
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
                "set": In(1),
                "row": In(range(max(config.rows, 2))),
                "read": Out(sum_layout(config)),
                "tile": Out(1),
            }
        )

    @property
    def module_name(self) -> str:
        c = self.config
        return f"sf_column_{c.rows}x{c.accumulator_bits}_f{c.activation.flag_bits}"

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        rows, bits = config.rows, config.accumulator_bits

        m.submodules.previous = previous = memory.Memory(shape=bits, depth=max(rows, 2), init=[])
        old = previous.read_port(domain="comb")
        keep = previous.write_port()
        row, bank, primed = Signal(range(max(rows, 2))), Signal(), Signal()
        m.d.comb += [
            old.addr.eq(row),
            keep.addr.eq(row),
            keep.data.eq(self.capture.sum),
            keep.en.eq(self.capture.valid),
        ]

        write = Signal()
        address = Signal(range(max(2 * rows, 2)))
        value = Signal(sum_layout(config))
        last = Signal()
        at_last = row == rows - 1
        m.d.sync += [
            write.eq(self.capture.valid),
            last.eq(self.capture.valid & at_last),
            address.eq(Mux(bank, rows, 0) + row),
            value.sum.eq(self.capture.sum - Mux(primed, old.data, 0)),
        ]
        if config.activation.flag_bits:
            m.d.sync += value.flags.eq(self.capture.flags)
        with m.If(self.capture.valid):
            m.d.sync += row.eq(Mux(at_last, 0, row + 1))
            with m.If(at_last):
                m.d.sync += [bank.eq(~bank), primed.eq(1)]

        m.submodules.buffer = buffer = memory.Memory(shape=sum_layout(config).size, depth=2 * rows, init=[])
        store, fetch = buffer.write_port(), buffer.read_port(domain="comb")
        m.d.comb += [
            store.addr.eq(address),
            store.data.eq(value.as_value()),
            store.en.eq(write),
            fetch.addr.eq(Mux(self.set, rows, 0) + self.row),
        ]
        m.d.sync += [self.read.eq(fetch.data), self.tile.eq(last)]
        return m
