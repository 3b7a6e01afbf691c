"""What is simulated is what is delivered: an operator changed by hand in the written Verilog is found by `compare --rtl-dir`."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from shiftforge import cli
from shiftforge.config import Config, from_dict
from sim.design import cached_design
from sw_driver.compiler.pipeline import compile_graph
from tests.sw_driver.networks import network


@dataclass(frozen=True)
class Change:
    """One operator, changed where `pattern` matches first in the file that begins with `file`."""

    name: str
    file: str
    pattern: str
    replacement: str

    def __str__(self) -> str:
        return self.name

    def apply(self, folder: Path) -> str:
        (path,) = folder.glob(f"{self.file}*.v")
        text = path.read_text()
        changed, count = re.subn(self.pattern, self.replacement, text, count=1)
        assert count == 1, f"{self.pattern} must be found in {path.name}"
        path.write_text(changed)
        return path.name


CHANGES = (
    Change("adder: adds becomes subtracts", "sf_add_signed", r"(= a) \+", r"\1 -"),
    Change("adder: and of both choices becomes or", "sf_add_signed", r"(= c) &", r"\1 |"),
    Change("adder: sign xor becomes or", "sf_add_signed", r"\^ negative", r"| negative"),
    Change("PE: what is negated becomes or", "sf_pe", r"(= token_out\[0\]) & negate", r"\1 | negate"),
    Change("PE: a bubble's end becomes one", "sf_pe", r"(= added\[0\]) &", r"\1 |"),
    Change("column: subtracts becomes adds", "sf_column", r"(= [\w\\$ .]+(?:\[\d+:\d+\])?) - ", r"\1 + "),
    Change("lane: exponent minus leading zeros becomes plus", "sf_lane", r"(exponent = \$signed\(top_exponent\)) -", r"\1 +"),
    Change("lane: magnitude xor becomes and", "sf_lane", r"(\{ sum\[\d+\], sum \}) \^", r"\1 &"),
    Change("decoder: next address becomes the one before", "shiftforge_top", r"(= write_address) \+", r"\1 -"),
    Change("decoder: words left count up", "shiftforge_top", r"(= words_left) -", r"\1 +"),
    Change("engine: weights read backwards", "shiftforge_top", r"(= weight_address) \+", r"\1 -"),
    Change("engine: pixels left count up", "shiftforge_top", r"(= pixels_left) -", r"\1 +"),
    Change("status: busy cycles count down", "shiftforge_top", r"(= status_busy_cycles) \+", r"\1 -"),
)  # fmt: skip


@pytest.fixture(scope="module")
def config() -> Config:
    array = {"rows": 2, "cols": 2, "activation": "int8", "output": "int16", "weight_bits": 2, "max_k": 16}
    return from_dict({"array": array})


@pytest.fixture
def work(config, tmp_path, monkeypatch) -> Path:
    """p.sfp, x.npy, and rtl: a copy of what `generate` writes, in the working folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    compile_graph(network(rng, [6, 5, 3], bits=2, size=4.0), config, name="small").save("p.sfp")
    np.save("x.npy", rng.integers(-128, 128, (7, 6)))
    shutil.copytree(cached_design(config), "rtl")
    return tmp_path


def compare(capsys, *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main(["compare", "p.sfp", "--input", "x.npy", "--rtl-dir", "rtl", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_what_was_written_is_equal(work, capsys):
    code, out, _ = compare(capsys, "--json")
    assert code == 0
    assert json.loads(out)["changed_files"] == []


def test_a_changed_operator_is_found_and_named(work, capsys):
    name = CHANGES[0].apply(Path("rtl"))
    code, out, error = compare(capsys, "--json")
    assert code == 1
    told = json.loads(out)
    assert told["changed_files"] == [name]
    (layer,) = told["layers"]
    assert (layer["layer"], layer["equal"]) == ("fc0", False)
    assert layer["first"]["golden"] != layer["first"]["rtl"]
    assert isinstance(layer["first"]["cycle"], int)
    assert f"changed since `generate` wrote it: {name}" in error
    code, out, error = compare(capsys)
    assert code == 1
    assert "differ" in out
    row, channel = layer["first"]["index"]
    assert f"layer 'fc0' must have the golden model's bits, and at [{row}, {channel}] the RTL gives" in error


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES[1:], ids=str)
def test_every_changed_operator_is_found(change, work, capsys):
    change.apply(Path("rtl"))
    code, out, error = compare(capsys)
    assert code == 1, out + error


@pytest.mark.slow
def test_gemm_gives_other_bits_too(work, capsys, config):
    CHANGES[0].apply(Path("rtl"))
    # JSON's scalars are TOML's.
    lines = [f"{key} = {json.dumps(value)}" for key, value in config.to_dict()["array"].items()]
    Path("c.toml").write_text("\n".join(["[array]", *lines, ""]))
    np.save("w.npy", np.ones((6, 3)))
    words = ["gemm", "--config", "c.toml", "--acts", "x.npy", "--weights", "w.npy"]
    assert cli.main([*words, "--out", "a.npy", "--backend", "golden"]) == 0
    assert cli.main([*words, "--out", "b.npy", "--backend", "rtl"]) == 0
    assert cli.main([*words, "--out", "c.npy", "--backend", "rtl", "--rtl-dir", "rtl"]) == 0
    a, b, c = (np.load(f"{name}.npy") for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
