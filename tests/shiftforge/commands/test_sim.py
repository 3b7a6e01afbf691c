"""`sim`: which benches run, what their outcome means for the exit code, and what stays on disk."""

import json
from pathlib import Path

import pytest

from shiftforge.errors import CheckFailed
from sim import units


def test_a_bench_runs(work, shiftforge):
    code, out, _ = shiftforge("sim", "row_edge", "--waves", "w", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["ok"]
    assert [unit["unit"] for unit in told["units"]] == ["row_edge"]
    assert Path("w/units.txt").read_text() == "row_edge: ok\n"
    assert any(path.suffix in (".vcd", ".fst") for path in Path("w/row_edge").iterdir())


@pytest.fixture
def fake(monkeypatch):
    """Replaces the run of every bench; `pe` finds a difference."""
    ran = []

    def run_unit(unit: units.Unit, folder: Path, **options: object) -> Path:
        ran.append(unit.name)
        if unit.name == "pe":
            raise CheckFailed("acc must be 0x1 in cycle 3, not 0x0")
        return folder

    monkeypatch.setattr(units, "run_unit", run_unit)
    return ran


def test_all_run_also_after_a_difference(fake, work, shiftforge, capsys):
    from shiftforge import cli

    assert cli.main(["sim", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert fake == list(units.UNITS)
    assert not told["ok"]
    assert {unit["unit"]: unit["found"] for unit in told["units"] if not unit["ok"]} == {
        "pe": "acc must be 0x1 in cycle 3, not 0x0"
    }


def test_named_ones_run_once(fake, work, shiftforge):
    assert shiftforge("sim", "array", "row_edge", "array")[0] == 0
    assert fake == ["array", "row_edge"]


def test_unknown_units_are_refused(fake, work, shiftforge):
    code, _, message = shiftforge("sim", "pee")
    assert code == 2
    assert message.startswith("unit must be one of row_edge, ")
    assert shiftforge("sim", "--seed", "-1") == (2, "", "--seed must be 0 or more, not -1")
    assert fake == []
