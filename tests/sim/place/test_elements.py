"""Arrays as blocks in a grid: nextpnr takes them, and they are what they were.

The packed cells that replace an array's own are compared with them by SAT, with yosys' models of both.
"""

import json
import re
from collections.abc import Callable, Iterable

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from bench.baselines.catalogue import BASELINES
from bench.baselines.shell import shell_of, write
from bench.rows import baseline_row, configuration
from hw.feed import Feed
from hw.instance import Unit
from hw.verilog import with_parts
from shiftforge.config import Config
from shiftforge.errors import InputError, ToolError
from shiftforge.tools import run
from sim.place.anneal import RectangleFullError, place
from sim.place.elements import BARRED, Elements, registers_apart
from sim.place.fabric import SLOTS
from sim.place.netlist import Bit, Cell, Netlist
from sim.place.read_out import GUEST
from sim.route import NETLIST, Flow, fmax_of, route
from sim.synth import synthesize


class Fed(wiring.Component):
    """An array with its edges and, as a machine has it, its feed."""

    module_name = "fed"

    def __init__(self, config: Config) -> None:
        self.shell, self.feed = shell_of(config), Feed(config)
        members = {f"feed_{name}": member for name, member in self.feed.signature.members.items() if "code" not in name}
        members |= {name: member for name, member in self.shell.signature.members.items() if "code_" not in name}
        super().__init__(members)

    @property
    def units(self) -> tuple[Unit, ...]:
        return (*with_parts(*self.feed.units), *self.shell.units[:-1], self)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.shell, m.submodules.feed = self.shell, self.feed
        for name, member in self.signature.members.items():
            unit = self.feed if name.startswith("feed_") else self.shell
            inner, outer = getattr(unit, name.removeprefix("feed_")), getattr(self, name)
            m.d.comb += inner.eq(outer) if member.flow == wiring.In else outer.eq(inner)
        for r in range(self.shell.config.rows):
            m.d.comb += getattr(self.shell, f"code_{r}").eq(getattr(self.feed, f"code_{r}"))
        return m


ARRAYS: dict[str, Callable[[], Iterable[Unit]]] = {
    "carry chains": lambda: shell_of(configuration("int8", 2, "aligned", rows=2, cols=3, max_k=8)).units,
    "memories": lambda: shell_of(configuration("fp8_e4m3", 2, "banked", rows=2, cols=2, max_k=8)).units,
    "apart": lambda: ARRAYS["memories"](),
    "multipliers": lambda: baseline_row(BASELINES["int8 x int4 tree"], rows=2, cols=2, max_k=8).array.units(True),
    "read-out": lambda: shell_of(configuration("int8", 2, "aligned", rows=6, cols=2, max_k=8)).units,
    "row feeds": lambda: Fed(configuration("int8", 2, "aligned", rows=2, cols=2, max_k=8)).units,
}
# What nextpnr makes of a memory's write port and of a carry cell's halves (Lattice FPGA-TN-02200: the slice in RAM and in ripple
# mode; yosys' own model of the latter leaves FCO undriven). Of a memory's bit any function will do: each of its pins is compared.
MODELS = """
module TRELLIS_RAMW(input A0, B0, C0, D0, A1, B1, C1, D1, output WADO0, WADO1, WADO2, WADO3, WDO0, WDO1, WDO2, WDO3);
  assign {WADO3, WADO2, WADO1, WADO0} = {A0, C0, B0, D0};
  assign {WDO3, WDO2, WDO1, WDO0} = {B1, D1, A1, C1};
endmodule
module carry #(parameter [15:0] INITVAL = 0, parameter INJECT = "NO") (input A, B, C, D, FCI, output F, FCO);
  wire four = INITVAL[{D, C, B, A}], two = INJECT != "YES" && INITVAL[{2'b00, B, A}];
  assign F = four ^ (INJECT != "YES" && FCI);
  assign FCO = four ? FCI : two;
endmodule
module memory(input clk, write, d, input [3:0] to, at, output q);
  reg was;
  always @(posedge clk) was <= write ^ d ^ ^to;
  assign q = was ^ ^at;
endmodule
"""
# What a pin reads that is left open.
OPEN: dict[str, dict[str, list[Bit]]] = {
    "TRELLIS_COMB": {"A": ["1"], "B": ["1"], "C": ["1"], "D": ["1"], "FCI": ["0"]},
    "TRELLIS_FF": {"LSR": ["0"], "CE": ["1"]},
}


@pytest.fixture(scope="module", params=list(ARRAYS))
def arranged(request, tmp_path_factory):
    """A synthesized array, placed by its elements; the folder with all files, and the report."""
    folder = tmp_path_factory.mktemp(request.param.replace(" ", "_"))
    (folder / "verilog").mkdir()
    sources = write(ARRAYS[request.param](), "ecp5", folder / "verilog")
    synthesize(sources, sources[-1].stem, dsp=False, place=False, work_dir=folder)
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "apart":
            patch.setattr("sim.place.elements.place", too_small_with_registers_in_memories)
            patch.setattr("sim.place.fabric.ASIDE", 0)
        report = route(folder, flow=Flow("25k", "elements"), pins=False, seed=1, frequency_mhz=300)
    return folder, report


def too_small_with_registers_in_memories(cells, feeds, width, height, seed):
    """As `place`, where every block is so small that an element's memories may bar no registers' sites."""
    if registers_apart(cells) != cells:
        raise RectangleFullError("too small")
    return place(cells, feeds, width, height, seed)


def test_registers_of_memories_may_lie_elsewhere(arranged):
    """Those that nextpnr packs with a memory's bit have a wire to it, and one at least lies in another tile."""
    folder, _ = arranged
    if folder.name.startswith("apart"):
        cells = Netlist.read(folder / "elements.1.json").cells
        bits = {
            cell.bits["F"][0]: cell.attributes["BEL"].rpartition("/")[0]
            for cell in cells.values()
            if cell.parameters.get("MODE", "").strip() == "DPRAM" and cell.bits.get("F")
        }
        registers = [cell for cell in cells.values() if cell.kind == "TRELLIS_FF"]
        assert bits
        assert not any(cell.net("DI") in bits for cell in registers)
        barred = {cell.attributes["BEL"] for name, cell in cells.items() if name.startswith(BARRED)}
        lookups = {bel for bel in (cell.attributes.get("BEL", "") for cell in cells.values()) if ".K" in bel}
        assert barred < lookups
        assert len(lookups) == SLOTS * len({bel.partition("/SLICE")[0] for bel in lookups}), (
            "no place in a block is left"
        )
        tiles = [
            (cell.attributes["BEL"].rpartition("/")[0], bits[cell.bits["M"][0]])
            for cell in registers
            if cell.net("M") in bits
        ]
        assert any(tile != memory for tile, memory in tiles)


def test_all_cells_keep_their_places(arranged):
    folder, report = arranged
    netlist = Netlist.read(folder / "elements.1.json")
    fixed = {name: cell.attributes["BEL"] for name, cell in netlist.cells.items() if "BEL" in cell.attributes}
    assert len(set(fixed.values())) == len(fixed)
    barred = {name for name in fixed if name.startswith(BARRED)}
    fixed = {name: bel for name, bel in fixed.items() if name not in barred}
    assert bool(barred) == folder.name.startswith("apart")
    lookups = sum(cell.kind == "TRELLIS_COMB" for cell in netlist.cells.values()) - len(barred)
    assert report["utilization"]["TRELLIS_COMB"]["used"] >= lookups
    assert report["utilization"]["TRELLIS_COMB"]["used"] < lookups + len(netlist.cells) - len(fixed) - len(barred) + 1
    elements, edges = Elements.of(netlist), Elements.edges(netlist)
    assert elements.cells | edges.cells == set(fixed), "all of them and nothing else"
    assert any(name.startswith(GUEST) for names in elements.names.values() for name in names), "the read-out's too"
    read_out = {name for name, cell in netlist.cells.items() if cell.kind == "TRELLIS_FF" and "column_" in name}
    assert read_out <= set(fixed), "every bit of it"
    fed = {full for full in fixed if "row_" in full}
    assert bool(fed) == (folder.name.startswith("row"))
    rows = 6 if folder.name.startswith("read") else 2
    for r in range(rows):
        columns = {int(fixed[full].split("/")[0][1:]) for full in edges.names[r, 0].values()}
        assert max(columns) < min(int(fixed[full].split("/")[0][1:]) for full in elements.names[r, 0].values())
    assert edges.rows == rows
    by_place = {}
    for at, names in elements.names.items():
        by_place[at] = {
            name: tuple(int(part[1:]) for part in fixed[full].split("/")[:2]) for name, full in names.items()
        }
    steps = {
        (x - by_place[0, 0][name][0], y - by_place[0, 0][name][1])
        for name, (x, y) in by_place[0, 1].items()
        if name in by_place[0, 0]
    }
    assert len(steps) == 1, "one element is the other, moved"
    assert (fmax_of(report) or 0) > 100


def test_the_packed_array_is_the_array(arranged):
    folder, _ = arranged
    check(folder, folder / "elements.1.json")


@pytest.mark.parametrize("kind", ["TRELLIS_FF", "TRELLIS_COMB"])
def test_a_wrong_wire_is_found(arranged, kind):
    """Two registers of an element that have changed their inputs; a carry cell or LUT with another table."""
    folder, _ = arranged
    netlist = Netlist.read(folder / "elements.1.json")
    cells = [cell for name, cell in netlist.cells.items() if "pe_1_0." in name and cell.kind == kind]
    if kind == "TRELLIS_FF":
        one, other = [cell for cell in cells if "M" in cell.bits and "LSR" not in cell.bits][:2]
        one.bits["M"], other.bits["M"] = other.bits["M"], one.bits["M"]
    else:
        wide = next(cell for cell in cells if {*"ABC", "F"} <= set(cell.bits))
        flipped = wide.parameters["INITVAL"].translate(str.maketrans("01", "10"))
        wide.parameters = {**wide.parameters, "INITVAL": flipped}
    netlist.write(folder / "wrong.json")
    with pytest.raises(ToolError, match=r"Found \d+ unproven"):
        check(folder, folder / "wrong.json")


def check(folder, packed):
    """Every net of the array has the same function of registers, memories and inputs in both; `ToolError` when one has not."""
    gold, gate = Netlist.read(folder / NETLIST), Netlist.read(packed)
    shared = {bit for bits in gold.nets.values() for bit in bits if isinstance(bit, int)}
    shared |= {
        bit for cell in gold.cells.values() for bits in cell.bits.values() for bit in bits if isinstance(bit, int)
    }
    modules = {}
    for side, netlist in (("gold", gold), ("gate", gate)):
        cells = dict(part for name, cell in netlist.cells.items() for part in bare(name, cell))
        if side == "gate":  # so that no pins are compared by name, only nets and memories
            cells = {name if cell.kind == "memory" else f"gate_{name}": cell for name, cell in cells.items()}
        Netlist(cells, {f"net_{bit}": [bit] for bit in sorted(shared)}, netlist.ports).write(folder / f"{side}.json")
        modules[side] = json.loads((folder / f"{side}.json").read_text())["modules"]["top"]
        modules[side]["attributes"] = {}
    (folder / "both.json").write_text(json.dumps({"creator": "test", "modules": modules}))
    (folder / "models.v").write_text(MODELS)
    script = """
read_verilog -sv +/ecp5/common_sim.vh +/ecp5/ccu2c_sim.vh
read_verilog models.v
read_json both.json
hierarchy -check
proc
flatten gold
flatten gate
equiv_make gold gate equiv
hierarchy -top equiv
equiv_simple
equiv_induct
equiv_status -assert
"""
    (folder / "check.ys").write_text(script)
    run("yosys", ["-s", "check.ys"], cwd=folder, log=folder / "check.log", timeout_s=600)
    found = re.search(r"Of those cells (\d+) are proven", (folder / "check.log").read_text())
    assert found is not None
    assert int(found[1]) > 0.9 * len(shared), "all nets but the constant ones"


def bare(name, cell):
    """A cell as yosys' models take it: no pin open, one input of a register, and one memory for each bit."""
    bits = {port: nets for port, nets in cell.bits.items() if nets}
    if cell.kind == "TRELLIS_FF" and "M" in bits:  # the model knows one input
        bits["DI"] = bits.pop("M")
    mode = cell.parameters.get("MODE")
    if mode == "RAMW_BLOCK":
        return
    if cell.kind == "TRELLIS_DPR16X4":
        for k in range(4):
            pins = {"clk": bits["WCK"], "write": bits["WRE"], "to": bits["WAD"], "d": [bits["DI"][k]]}
            yield (
                f"{name}$DPRAM_COMB{k}",
                Cell("memory", {**pins, "at": bits["RAD"], "q": [bits["DO"][k]]}, frozenset({"q"})),
            )
    elif mode == "DPRAM":
        to = [bits[f"WAD{k}"][0] for k in range(4)]
        at = [bits[port][0] for port in "DBCA"]
        pins = {"clk": bits["WCK"], "write": bits["WRE"], "to": to, "d": bits["WD"], "at": at, "q": bits["F"]}
        yield name, Cell("memory", pins, frozenset({"q"}))
    else:
        bits = OPEN.get(cell.kind, {}) | bits
        kind, parameters = cell.kind, {key: value for key, value in cell.parameters.items() if key != "SD"}
        if mode == "CCU2":
            table, inject = cell.parameters["INITVAL"], cell.parameters["CCU2_INJECT1"]
            kind, parameters = "carry", {"INITVAL": table, "INJECT": inject}
        elif kind == "TRELLIS_COMB":
            kind, parameters = "LUT4", {"INIT": cell.parameters["INITVAL"]}
            bits = {"Z" if port == "F" else port: nets for port, nets in bits.items() if port != "FCI"}
        outputs = frozenset({"Z"}) if kind == "LUT4" else cell.outputs
        yield name, Cell(kind, bits, outputs, parameters)


def test_a_design_without_elements_is_refused(tmp_path):
    (tmp_path / "w.v").write_text("module w(input clk, input a, output reg y); always @(posedge clk) y <= a; endmodule")
    with pytest.raises(
        InputError, match=r"^the placer 'elements' needs cells below pe_<row>_<column>, and the design has none$"
    ):
        synthesize([tmp_path / "w.v"], "w", flow=Flow("25k", "elements"), work_dir=tmp_path)


def test_an_array_that_does_not_fit_is_refused(arranged):
    folder, _ = arranged
    netlist = Netlist.read(folder / NETLIST)
    one = dict(netlist.cells)
    for name, cell in one.items():
        if "pe_1_1." in name:
            netlist.cells[name.replace("pe_1_1.", "pe_199_199.")] = cell
    netlist.write(folder / "huge" / NETLIST) if (folder / "huge").is_dir() else None
    (folder / "huge").mkdir(exist_ok=True)
    netlist.write(folder / "huge" / NETLIST)
    with pytest.raises(
        ToolError, match=r"^an array of 200x200 elements of \d+ tiles each must fit the 25k, and does not$"
    ):
        route(folder / "huge", flow=Flow("25k", "elements"), pins=False, seed=1, frequency_mhz=300)
