"""The column reader of the baselines: the reading before subtracted, and the sums of two tiles kept."""

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Shape, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from bench.baselines.element import Element
from hw.delay import register
from shiftforge.config import Config


@dataclass(frozen=True)
class Widened(Config):
    """A configuration whose sums have the width of a baseline's: what its column and its lane would be built from."""

    sum_bits: int = 0

    @property
    def accumulator_bits(self) -> int:
        return self.sum_bits


class ReadingColumn(wiring.Component):
    """As `hw.column.Column`, for any width: the same ports, the same two tiles, the same cycles.

    Parameters
    ----------
    element : Element
    rows : int
    exact : bool
        False: a capture is the sum itself, and nothing is subtracted.

    Members
    -------
    capture : In
    set, row : In
    read : Out(sum and flags)
    tile : Out(1)
    """

    def __init__(self, element: Element, rows: int, *, exact: bool = True):
        self.rows, self.exact, self.sum_bits = rows, exact, element.sum_bits
        capture = element.signature.members["capture"].shape
        self.flag_bits = Shape.cast(capture).width - 1 - element.sum_bits
        super().__init__(
            {
                "capture": In(capture),
                "set": In(1),
                "row": In(range(max(rows, 2))),
                "read": Out(element.sum_bits + self.flag_bits),
                "tile": Out(1),
            }
        )

    @property
    def module_name(self) -> str:
        return f"bench_column_{self.rows}x{self.sum_bits}_f{self.flag_bits}"

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows = self.rows
        row, bank, primed, write, last = Signal(range(max(rows, 2))), Signal(), Signal(), Signal(), Signal()
        address, value = Signal(range(max(2 * rows, 2))), Signal(self.sum_bits + self.flag_bits)
        at_last = row == rows - 1
        reading = self.capture.sum
        if self.exact:
            m.submodules.previous = previous = memory.Memory(shape=self.sum_bits, depth=max(rows, 2), init=[])
            old, keep = previous.read_port(domain="comb"), previous.write_port()
            m.d.comb += [old.addr.eq(row), keep.addr.eq(row), keep.data.eq(reading), keep.en.eq(self.capture.valid)]
            reading = (reading - Mux(primed, old.data, 0))[: self.sum_bits]
        flags = self.capture.as_value()[1 : 1 + self.flag_bits]
        m.d.sync += [
            write.eq(self.capture.valid),
            last.eq(self.capture.valid & at_last),
            address.eq(Mux(bank, rows, 0) + row),
            value.eq(Cat(flags, reading)),
        ]
        with m.If(self.capture.valid):
            m.d.sync += row.eq(Mux(at_last, 0, row + 1))
            with m.If(at_last):
                m.d.sync += [bank.eq(~bank), primed.eq(1)]
        m.submodules.buffer = buffer = memory.Memory(shape=len(value), depth=2 * rows, init=[])
        store, fetch = buffer.write_port(), buffer.read_port(domain="comb")
        m.d.comb += [
            store.addr.eq(address),
            store.data.eq(value),
            store.en.eq(write),
            fetch.addr.eq(register(m, Mux(self.set, rows, 0) + self.row, "read_address")),
        ]
        m.d.sync += [self.read.eq(fetch.data), self.tile.eq(last)]
        return m
