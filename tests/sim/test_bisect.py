"""`compare --bisect` on Verilog that was broken on purpose: layer, tile, element and cycle are named, and the waves show it."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from shiftforge import cli
from sim.design import cached_design
from sw_driver.compiler.pipeline import compile_graph
from tests.sw_driver.networks import config_of, network

CONFIG = config_of(rows=3, cols=5, activation="int8", output="int16")


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """p.sfp, x.npy (7 examples), and rtl: a copy of what `generate` writes, in the working folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(4)
    compile_graph(network(rng, [7, 11, 4], size=0.02), CONFIG, name="small").save("p.sfp")
    np.save("x.npy", rng.integers(-128, 128, (7, 7)))
    shutil.copytree(cached_design(CONFIG), "rtl")
    return tmp_path


def change(pattern: str, replacement: str) -> None:
    path = Path("rtl/shiftforge_top.v")
    changed, count = re.subn(pattern, replacement, path.read_text(), count=1, flags=re.DOTALL)
    assert count == 1
    path.write_text(changed)


def compare(capsys, *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    line = ["compare", "p.sfp", "--input", "x.npy", "--rtl-dir", "rtl", "--bisect", "w.vcd", *words]
    code = cli.main(line)
    said = capsys.readouterr()
    return code, said.out, said.err


def value(waves: str, scope: str, name: str, cycle: int) -> int:
    """A signal's value in a cycle, before its rising edge."""
    declared = re.search(rf"\$var wire +\d+ (\S+) {re.escape(name)} ", waves[waves.index(f"module {scope}") :])
    assert declared is not None
    found, now = -1, 0
    for line in waves[waves.index("$enddefinitions") :].splitlines():
        if line.startswith("#"):
            now = int(line[1:])
        elif now <= 1000 * cycle and line.lstrip("b01") in (declared[1], f" {declared[1]}"):
            found = int(line.removesuffix(declared[1]).strip("b "), 2)
    return found


def times(text: str) -> list[int]:
    return [int(line[1:]) for line in text.splitlines() if line.startswith("#")]


def test_a_broken_element_is_named_and_drawn(work, capsys) -> None:
    """The sign of what element (2, 3) adds is turned: its neighbours are right."""
    change(r"(\\?pe_2_3 \(.*?\.w\()(\w+)\)", r"\1{!\2[2], \2[1:0]})")
    code, out, _ = compare(capsys, "--json", "--stalls", "3")
    assert code == 1
    told = json.loads(out)
    (layer,) = told["layers"]
    first = layer["first"]
    assert (layer["layer"], layer["first_beat"]) == ("fc0", None)
    place = first["place"]
    assert (place["tile"], place["element"]) == ([0, 0], [2, 3])
    assert first["index"] == [2, 3]
    assert place["packet"].startswith("layer fc0")
    window = told["waves"]
    assert window["file"] == "w.vcd"
    assert window["first_cycle"] < place["summed"] < first["cycle"] < window["end_cycle"]
    waves = Path("w.vcd").read_text()
    assert "pe_2_3" in waves
    assert times(waves)[0] == 1000 * window["first_cycle"]
    assert times(waves)[-1] == 1000 * window["end_cycle"] - 500
    # In the cycle before, the buffer is written: row 2 of the first set.
    written = [value(waves, "column_3", name, place["summed"] - 1) for name in ("marks_3", "store_address")]
    assert written == [0b111, 2]


@pytest.mark.slow
def test_a_counter_that_is_wrong_is_no_result(work, capsys) -> None:
    change(r"(= status_busy_cycles) \+", r"\1 -")
    code, out, error = compare(capsys)
    assert code == 1
    assert "no result and no beat differs, only what the status reply tells" in out
    assert "must end with busy_cycles" in error
    assert Path("w.vcd").exists()


def test_equal_machines_draw_nothing(work, capsys) -> None:
    code, out, _ = compare(capsys, "--json")
    assert code == 0
    assert json.loads(out)["waves"] is None
    assert not Path("w.vcd").exists()


def test_waves_that_cannot_be_written_are_refused_first(work, capsys) -> None:
    code = cli.main(["compare", "p.sfp", "--input", "x.npy", "--bisect", "none/w.vcd"])
    assert code == 2
    assert "output file must be writable, not 'none/w.vcd' (no such folder)" in capsys.readouterr().err
