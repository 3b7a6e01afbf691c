"""The bench of areas: what it refuses, what it keeps, what it prints; and once with the real tools."""

import json

import pytest
from amaranth.hdl import Shape
from amaranth.lib.wiring import Out

from bench import area, measure
from bench.baselines.catalogue import BASELINES
from bench.baselines.shell import Shell, write
from bench.measure import Cost, Measure, require_whole
from bench.rows import OWN, Part, all_rows, configuration, own_row
from shiftforge.errors import CheckFailed

PE = Cost(lut4=30, carry=5, ram=0, ff=40, bram=0, dsp=0)


def test_rows_and_their_arrays(tmp_path):
    rows, refused = all_rows(rows=2, cols=3, max_k=64)
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    assert {row.kind for row in rows} == {"shiftforge", "baseline"}
    assert len(rows) + len(refused) == len(OWN) + len(BASELINES)
    for row in rows:
        if row.name not in ("fp16 x 3-bit banked", "fp16 x fp16 exact"):
            continue
        units = row.array.units(True)
        text = write(units, "ecp5", tmp_path)[-1].read_text()
        assert text.count(f"  {units[0].module_name} ") == 6, "every element is there"
        # A loose end would be optimised away, and its logic with it.
        shell = units[-1]
        assert isinstance(shell, Shell)
        outputs = {name: member for name, member in shell.array.signature.members.items() if member.flow == Out}
        tallies = {f"tally_{c}" for c in range(3)} if row.kind == "shiftforge" else set()
        assert set(outputs) == {f"column_{c}" for c in range(3)} | tallies
        for name, member in outputs.items():
            assert len(getattr(shell, name)) == Shape.cast(member.shape).width


def test_an_array_that_lost_logic_is_refused():
    require_whole(Cost(600, 90, 0, 360, 0, 0), PE, 4, 4, "x")
    with pytest.raises(CheckFailed, match=r"^x: an array of 4x4 must hold 360 flip-flops or more, not 359; logic"):
        require_whole(Cost(600, 90, 0, 359, 0, 0), PE, 4, 4, "x")
    with pytest.raises(CheckFailed, match=r"must hold 0 multipliers, not 3$"):
        require_whole(Cost(600, 90, 0, 999, 0, 3), PE, 4, 4, "x")


def test_results_are_kept_by_what_they_were_computed_from(tmp_path, monkeypatch):
    asked = []

    def synthesize(sources, top, *, dsp, place, work_dir, **_):
        asked.append((top, dsp))
        from sim.synth import SynthResult

        return SynthResult(top, "85k", (("CCU2C", 3), ("LUT4", 10), ("TRELLIS_DPR16X4", 1), ("TRELLIS_FF", 7)), 5)

    monkeypatch.setattr(measure, "synthesize", synthesize)
    monkeypatch.setattr(measure, "route", lambda *a, **k: {"fmax": {"clk": {"achieved": 100.0 + k["seed"]}}})
    kept = Measure(tmp_path)

    def part(rows: int) -> Part:
        return own_row(configuration("int8", 2, "aligned", rows=rows, cols=1, max_k=64)).pe

    first = kept.ecp5(part(1), dsp=False, label="a")
    assert first[0] == Cost(lut4=10 + 6 + 6, carry=3, ram=1, ff=7, bram=0, dsp=0)
    assert kept.ecp5(part(1), dsp=False, label="b") == first
    assert len(asked) == 1
    kept.ecp5(part(1), dsp=True, label="a")
    kept.ecp5(part(2), dsp=False, label="a")
    assert len(asked) == 3
    assert kept.fmax(first[1], 2, label="a") == 102.0
    monkeypatch.setattr(measure, "route", None)
    assert kept.fmax(first[1], 2, label="a") == 102.0


def test_table_and_json(tmp_path, capsys, monkeypatch):
    costs = {"array": Cost(1280, 300, 64, 3200, 0, 0), "pe": PE, "column": Cost(64, 0, 0, 32, 0, 0)}

    def ecp5(self, part, *, dsp, label):
        return costs.get(label.split(", ")[1], Cost(800, 0, 0, 0, 0, 0)), tmp_path

    monkeypatch.setattr(Measure, "ecp5", ecp5)

    clocks = {
        "heap": {1: 190.0, 2: 250.0, 3: 200.0},
        "static": {1: 300.0, 2: 150.0, 3: 160.0},
        "elements": {1: 170.0, 2: 170.0, 3: 170.0},
    }

    def fmax(self, folder, seed, *, label, flow):
        """The worse placer has the single highest clock: medians are compared."""
        return clocks[flow.placer][seed]

    monkeypatch.setattr(Measure, "fmax", fmax)
    monkeypatch.setattr(Measure, "xilinx7", lambda self, part, *, dsp, label: {"lut6": 640, "lut_ram": 0})
    monkeypatch.setattr(Measure, "gates", lambda self, part, *, liberty, label: {"gates": 77, "depth": 9})
    arguments = ["--only", "^int8 x 2-bit aligned$|fp32$", "--seeds", "3", "--cache", str(tmp_path)]
    picture = tmp_path / "a.svg"
    assert area.main([*arguments, "--plot", str(picture), "--out", str(tmp_path / "a.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    own = lines[1].split()
    assert own[:4] == ["int8", "x", "2-bit", "aligned"]
    # LUT4, FF, carry, RAM, DSP, MHz, area * delay, column (8 of them), lane, PE, LUT6, gates, depth
    assert own[4:-1] == ["20.0", "50.0", "4.7", "1.0", "0", "200.0", "100", "8.0", "12.5", "30", "10.0", "77", "9"]
    assert lines[2].split()[-6] == "-", "a sum that is rounded at each step needs no lane"
    report = json.loads((tmp_path / "a.json").read_text())
    assert [row["ecp5"]["fmax_by_seed"] for row in report["rows"]] == [{"1": 190.0, "2": 250.0, "3": 200.0}] * 2
    assert report["rows"][0]["ecp5"]["placer"] == "heap"
    assert report["rows"][0]["ecp5"]["fmax_by_placer"] == {"heap": 200.0, "static": 160.0, "elements": 170.0}
    assert report["rows"][0]["ecp5"]["area_delay"] == 20 * 1000 / 200
    assert picture.read_text().count("<circle") == 2
    assert area.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == report


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "8"], "--size must be ROWSxCOLS, not '8'"),
        (["--targets", "gowin"], "--targets must be some of ecp5, xilinx7, gates, not 'gowin'"),
        (["--only", "nothing"], r"--only must match a row's name (--list prints them), not 'nothing'"),
        (["--seeds", "-1"], "--seeds must be 0 or more, not -1"),
    ],
)
def test_refusals(arguments, message, capsys):
    assert area.main(arguments) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"bench.area: error: {message}"


@pytest.mark.slow
@pytest.mark.parametrize("only", ["int8 x 3-bit aligned", "int8 x int8 DSP"])
def test_the_real_tools(only, tmp_path, capsys):
    arguments = ["--only", only, "--size", "2x2", "--max-k", "16", "--seeds", "1", "--cache", str(tmp_path), "--json"]
    assert area.main(arguments) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    ecp5 = row["ecp5"]
    assert 20 < ecp5["lut4_per_mac"] < 100
    assert 50 < ecp5["fmax_mhz"] < 500
    assert ecp5["parts"]["array"]["dsp"] == (4 if "DSP" in only else 0)
    assert row["xilinx7"]["array"]["dsp"] == (4 if "DSP" in only else 0)
    assert row["gates"]["pe"]["depth"] > 3
