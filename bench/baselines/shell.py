# amaranth: UnusedElaboratable=no
"""The array with what stands around it, as one module to measure: edges, token and weight skew, processing elements, read-out."""

from collections.abc import Iterable
from pathlib import Path

from amaranth.hdl import Fragment, Module, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bench.baselines.catalogue import Baseline
from hw.accumulator import row_edge_of
from hw.array import Array
from hw.instance import Ports, Unit
from hw.verilog import technology_module, write_unit
from shiftforge.config import Config

ARRAY = "bench_array"


class Shell(wiring.Component):
    """A row edge per row, a weight edge per column where there is one, one token that walks down the rows, and the array.

    Every output of the columns is a port, and every input is one, so that nothing can be optimised away as unused: what leaves the
    array at its right and lower borders is the only logic without a reader.

    Parameters
    ----------
    config : Config
    array : Array
    row_edge : Unit
    weight_edge : Unit or None

    Members
    -------
    code_r (one per row), token, w : In
    column_c : Out, one per column
    """

    def __init__(self, config: Config, array: Array, row_edge: Unit, weight_edge: Unit | None = None):
        self.config, self.array, self.row_edge, self.weight_edge = config, array, row_edge, weight_edge
        ports, edge = array.pe.signature.members, row_edge.signature.members
        moving = [name for name in ports if name != "w" and f"{name}_out" in ports]
        self._from_edge = [name for name in moving if name in edge and edge[name].flow == Out]
        self._to_edge = [name for name, member in edge.items() if member.flow == In and name != "code"]
        self._to_array = [name for name in moving if name not in self._from_edge]
        walking = {name: edge[name] for name in self._to_edge} | {name: ports[name] for name in self._to_array}
        self._walking = list(walking)
        self._code_bits = (
            Shape.cast(array.signature.members["w"].shape).width // config.cols
            if weight_edge is None
            else Shape.cast(weight_edge.signature.members["code"].shape).width
        )
        members: dict[str, wiring.Member] = {"w": In(config.cols * self._code_bits)}
        members |= {f"code_{r}": In(edge["code"].shape) for r in range(config.rows)}
        members |= {name: In(Shape.cast(member.shape)) for name, member in walking.items()}
        self._outputs = [name for name, member in array.signature.members.items() if member.flow == Out]
        members |= {name: Out(Shape.cast(array.signature.members[name].shape)) for name in self._outputs}
        super().__init__(members)

    @property
    def module_name(self) -> str:
        return ARRAY

    @property
    def units(self) -> tuple[Unit, ...]:
        """What is instantiated, each to be written once, and the shell itself at the end."""
        edges = (self.row_edge,) if self.weight_edge is None else (self.row_edge, self.weight_edge)
        return (self.array.pe, *edges, *getattr(self.array.pe, "units", ()), self)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.array = array = self.array
        walking = {name: getattr(self, name) for name in self._walking}
        for r in range(self.config.rows):
            edge = Ports(self.row_edge, f"edge_{r}")
            m.submodules[f"edge_{r}"] = edge.instance
            m.d.comb += edge["code"].eq(getattr(self, f"code_{r}"))
            m.d.comb += [getattr(array, f"{name}_{r}").eq(edge[name]) for name in self._from_edge]
            for name, value in walking.items():
                if name in self._to_edge:
                    m.d.comb += edge[name].eq(value)
                if name in self._to_array:
                    m.d.comb += getattr(array, f"{name}_{r}").eq(value)
                later = Signal(len(value), name=f"{name}_{r}_later")
                m.d.sync += later.eq(value)
                walking[name] = later
        if self.weight_edge is None:
            m.d.comb += array.w.eq(self.w)
        else:
            width = len(array.w) // self.config.cols
            for c in range(self.config.cols):
                edge = Ports(self.weight_edge, f"weight_edge_{c}")
                m.submodules[f"weight_edge_{c}"] = edge.instance
                m.d.comb += edge["code"].eq(self.w.word_select(c, self._code_bits))
                m.d.comb += array.w.word_select(c, width).eq(edge["w"])
        m.d.comb += [getattr(self, name).eq(getattr(array, name)) for name in self._outputs]
        return m


def shell_of(config: Config) -> Shell:
    """The shell of the configuration's own array."""
    return Shell(config, Array(config), row_edge_of(config))


def shell_of_baseline(baseline: Baseline, config: Config, *, cells: bool) -> Shell:
    """The shell around a baseline's element; `cells` as of `Element`."""
    element = baseline.make(config, cells)
    weight_edge = None if baseline.weight_edge is None else baseline.weight_edge(config)
    return Shell(config, Array(config, element), baseline.row_edge(config), weight_edge)


def write(units: Iterable[Unit], target: str, folder: Path) -> list[Path]:
    """One file per unit, in the cells of `target` where the unit is a technology module (see `hw.verilog.TARGETS`)."""
    files = []
    for name, unit in {unit.module_name: unit for unit in units}.items():
        cells = technology_module(name, target)
        if cells is not None:
            Fragment.get(unit, None)  # Amaranth warns of components that are made and never elaborated
        files.append(write_unit(cells or unit, name, folder))
    return files
