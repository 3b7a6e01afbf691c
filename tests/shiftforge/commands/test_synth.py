"""The `synth` command around a small design in place of the accelerator."""

import json
import tempfile
from pathlib import Path

import pytest

from hw import verilog
from shiftforge import cli

CONFIG = """[array]
rows = 1
cols = 1
activation = "int8"
output = "int8"
weight_bits = 2
max_k = 16
"""
GOOD = """module shiftforge_top(input clk, input [15:0] a, output reg y);
  reg [15:0] r;
  always @(posedge clk) begin r <= a; y <= ^r; end
endmodule
"""
BAD = GOOD.replace("y <= ^r", "y <= ^q")


@pytest.fixture
def config(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "c.toml"
    path.write_text(CONFIG)
    (tmp_path / "t").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    return path


@pytest.fixture
def design(monkeypatch):
    """Replaces the accelerator by the text that the test gives."""

    def replace(text: str) -> None:
        def emit(config: object, directory: Path) -> list[Path]:
            path = directory / "shiftforge_top.v"
            path.write_text(text)
            return [path]

        monkeypatch.setattr(verilog, "emit", emit)

    return replace


def test_result_is_printed_and_kept(config, design, tmp_path, capsys):
    design(GOOD)
    words = ["synth", str(config), "--target", "ecp5", "--device", "25k", "--seeds", "2", "--json"]
    assert cli.main([*words, "--out", str(tmp_path / "out")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["lut"], printed["ff"], printed["top"], printed["device"]) == (5, 17, "shiftforge_top", "25k")
    assert list(printed["routed"]["fmax_by_seed"]) == ["1", "2"]
    assert printed["fmax_mhz"] == sum(printed["routed"]["fmax_by_seed"].values()) / 2
    assert json.loads((tmp_path / "out" / "synth.json").read_text()) == printed
    assert (tmp_path / "out" / "sources" / "shiftforge_top.v").read_text() == GOOD
    assert list((tmp_path / "t").iterdir()) == []


def test_table_without_placing(config, design, capsys):
    design(GOOD)
    assert cli.main(["synth", str(config), "--target", "ecp5", "--no-place"]) == 0
    out = capsys.readouterr().out
    assert [line.split("│")[1:3] for line in out.splitlines() if "│" in line] == [
        [" LUT4                     ", " 5          "],
        [" flip-flops               ", " 17         "],
        [" block memories (18 Kbit) ", " 0          "],
        [" multipliers (18x18)      ", " 0          "],
        [" fmax                     ", " not placed "],
    ]


def test_a_failed_tool_exits_3_leaves_its_log_and_no_output_folder(config, design, tmp_path, capsys):
    design(BAD)
    assert cli.main(["synth", str(config), "--target", "ecp5", "--out", str(tmp_path / "out")]) == 3
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("shiftforge: error: yosys failed: ")
    log = Path(error.rpartition("its log is ")[2])
    assert log.is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.toml", "t"]


def test_an_unwritable_folder_is_refused_before_any_work(config, design, capsys):
    design(BAD)
    assert cli.main(["synth", str(config), "--target", "ecp5", "--out", f"{config}/out"]) == 2
    assert capsys.readouterr().err.startswith("shiftforge: error: output folder must be writable, not ")


def test_wrong_configurations_are_refused(config, capsys):
    config.write_text(CONFIG.replace("max_k", "maxk"))
    assert cli.main(["synth", str(config), "--target", "ecp5"]) == 2
    assert "max_k" in capsys.readouterr().err
    assert cli.main(["synth", str(config) + "x", "--target", "ecp5"]) == 2
    assert capsys.readouterr().err.startswith("shiftforge: error: ")


def test_the_seven_series_is_counted(config, design, tmp_path, capsys):
    design(GOOD)
    words = ["synth", str(config), "--target", "xilinx7", "--json", "--out", str(tmp_path / "out")]
    assert cli.main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    found = [printed[name] for name in ("target", "lut6", "ff", "bram", "dsp")]
    assert found == ["xilinx7", 5, 17, 0, 0]
    assert json.loads((tmp_path / "out" / "synth.json").read_text()) == printed


def test_gates_are_counted(config, design, capsys):
    design(GOOD)
    assert cli.main(["synth", str(config), "--target", "asic"]) == 0
    cells = [line.split("│")[1:3] for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert [[word.strip() for word in line] for line in cells] == [
        ["gates", "15"],  # the parity of 16 bits
        ["flip-flops", "17"],
        ["longest path in gates", "4"],
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("xilinx7", "--seeds", "2"), "--seeds must be given with the target ecp5, not with 'xilinx7'"),
        (("asic", "--no-dsp"), "--no-dsp must be given with the target ecp5 and xilinx7, not with 'asic'"),
        (("ecp5", "--liberty", "x.lib"), "--liberty must be given with the target asic, not with 'ecp5'"),
        (("ecp5", "--seeds", "0"), "--seeds must be at least 1, not 0"),
        (("ecp5", "--resets", "-1"), "--resets must be 0 or more, not -1"),
        (("ecp5", "--device", "12k"), "device must be one of 25k, 45k, 85k, not '12k'"),
        (("gowin",), "target must be one of ecp5, xilinx7, asic in this version, not 'gowin'"),
        (
            ("asic", "--liberty", "x.lib"),
            "liberty file must be a readable file, not 'x.lib' (no such file or directory)",
        ),
    ],
)
def test_options_of_other_targets_are_refused(words, message, config, design, capsys):
    design(GOOD)
    assert cli.main(["synth", str(config), "--target", *words]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"shiftforge: error: {message}"
