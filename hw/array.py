"""The systolic array: rows x cols processing elements, the weight skew and the read-out of the columns."""

from collections.abc import Callable, Sequence

from amaranth.hdl import Cat, Module, Shape, ShapeLike, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.accumulator import element_of
from hw.delay import later, register
from hw.instance import Named, Ports, Unit
from shiftforge import timing
from shiftforge.config import Config, ceil_div


def _column_shape(config: Config, capture: ShapeLike) -> ShapeLike | data.Layout:
    """What a column hands to its reader: the capture of its rows, or of each of the parts that are read side by side."""
    ends = timing.read_out_ends(config)
    return capture if ends == 1 else data.ArrayLayout(capture, ends)


class Array(wiring.Component):
    """Output-stationary array. Activations move right, weights down; PE (r, c) works r + c cycles after PE (0, 0).

    Row r's inputs must come r cycles after row 0's (the row feed does that); a weight word comes whole, with row 0's activation,
    and is skewed here. PEs of a column finish on successive cycles, so a column's read-out is a registered OR tree without any
    select (two of them where the column reader does the last OR, `timing.read_out_ends`): column c delivers row r's capture
    `timing.pe(config) + timing.read_out(config) + r + c` cycles after row 0's token entered.

    Parameters
    ----------
    config : Config
    pe : Unit, optional
        The processing element; default the one of `config.accumulator`. Any unit with these ports will do: `w` and `w_out` (down),
        pairs `<name>` and `<name>_out` (to the right), each a register apart, and `capture`, zero unless something is handed over.
        One whose `w` is not the weight element itself makes it of that, once per column (`wires`).
    resets : sequence of str, optional
        The domain that resets the PEs of each row, where they need one. All else is reset by what comes in: see `timing.reset`.

    Members
    -------
    <name>_r : In, one of each per row r
        What moves right in the PE, in its shape (``x_r``, ``token_r``, ..).
    w : In
        Weight elements of all columns, column 0 in the lowest bits.
    column_c : Out(the shape of `capture`, an array of it where there are several ends), one per column c
    tally_c : Out
        The `tally` of each column's first row, as late as its capture (for PEs that have one).

    Attributes
    ----------
    pe : Unit
        Instantiated here, emitted once by `hw.verilog`.
    moving : list of str
        Names of what moves right.
    """

    def __init__(self, config: Config, pe: Unit | None = None, resets: Sequence[str] | None = None):
        self.config = config
        self._resets = resets or ["sync"] * config.rows
        self.pe: Unit = element_of(config) if pe is None else pe
        ports = self.pe.signature.members
        self.moving = [name for name in ports if name != "w" and f"{name}_out" in ports]
        wires = getattr(self.pe, "wires", None)
        self._wires: Callable[[Value, Named], Value] = wires or (lambda element, ports: element)
        self._code_bits = config.weights.element_bits if wires else Shape.cast(ports["w"].shape).width
        members: dict[str, wiring.Member] = {"w": In(config.cols * self._code_bits)}
        for r in range(config.rows):
            members |= {f"{name}_{r}": In(ports[name].shape) for name in self.moving}
        members |= {f"column_{c}": Out(_column_shape(config, ports["capture"].shape)) for c in range(config.cols)}
        self._tally = ports["tally"].shape if "tally" in ports else None
        if self._tally is not None:
            members |= {f"tally_{c}": Out(self._tally) for c in range(config.cols)}
        super().__init__(members)

    @property
    def units(self) -> tuple[Unit, ...]:
        """What the processing element instantiates by name."""
        return getattr(self.pe, "units", ())

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows, cols, bits = self.config.rows, self.config.cols, self._code_bits
        grid = [[Ports(self.pe, f"pe_{r}_{c}", self._resets[r]) for c in range(cols)] for r in range(rows)]
        for r, line in enumerate(grid):
            for c, ports in enumerate(line):
                m.submodules[f"pe_{r}_{c}"] = ports.instance
                for name in self.moving:
                    source = getattr(self, f"{name}_{r}") if c == 0 else grid[r][c - 1][f"{name}_out"]
                    m.d.comb += ports[name].eq(source)
                if r > 0:
                    m.d.comb += ports["w"].eq(grid[r - 1][c]["w_out"])

        for c in range(cols):
            first = grid[0][c]
            m.d.comb += first["w"].eq(self._wires(later(m, self.w.word_select(c, bits), c, f"w_skew_{c}"), first))

        for c in range(cols):
            captures = [Value.cast(grid[r][c]["capture"]) for r in range(rows)]
            part = ceil_div(rows, timing.read_out_ends(self.config))
            ends = [self._merged(m, captures[r : r + part], f"column_{c}_or_{r}") for r in range(0, rows, part)]
            m.d.comb += Value.cast(getattr(self, f"column_{c}")).eq(Cat(ends))  # of a single row the second end is zero
            if self._tally is not None:
                tally = later(m, grid[0][c]["tally"], timing.read_out(self.config), f"tally_{c}_later")
                m.d.comb += getattr(self, f"tally_{c}").eq(tally)
        return m

    def _merged(self, m: Module, level: list[Value], name: str) -> Value:
        """The OR of captures, in registered steps of four."""
        for depth in range(timing.read_out(self.config)):
            merged: list[Value] = []
            for i in range(0, len(level), 4):
                total = level[i]
                for other in level[i + 1 : i + 4]:
                    total = total | other
                merged.append(register(m, total, f"{name}_{depth}_{i}"))
            level = merged
        return level[0]
