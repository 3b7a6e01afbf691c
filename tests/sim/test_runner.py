"""The simulation entry: a passing bench, a failing assertion, a crash of the tool, and parameters that arrive."""

from pathlib import Path

import pytest

from shiftforge.errors import CheckFailed, InputError, ToolError
from sim.runner import Design, bench_parameters, build_design, module_ports

COUNTER = """
module counter(clk, rst, step, count);
  input clk; input rst; input [3:0] step; output [7:0] count;
  reg [7:0] hidden = 0;
  always @(posedge clk) if (rst) hidden <= 0; else hidden <= hidden + {4'd0, step};
  assign count = hidden;
endmodule
"""


@pytest.fixture(scope="module")
def design(tmp_path_factory: pytest.TempPathFactory) -> Design:
    folder = tmp_path_factory.mktemp("runner")
    source = folder / "counter.v"
    source.write_text(COUNTER)
    return build_design([source], "counter", folder / "build")


def test_a_good_bench_passes(design):
    log = design.run("sim.benches.counter", parameters={"step": 3, "cycles": 20, "expected": 60})
    assert "PASS=1" in log.read_text()


def test_a_failing_assertion_is_reported_with_its_text(design):
    with pytest.raises(CheckFailed, match=r"count must be 61, not 60"):
        design.run("sim.benches.counter", parameters={"step": 3, "cycles": 20, "expected": 61})


def test_a_missing_bench_is_a_tool_error(design):
    with pytest.raises((ToolError, CheckFailed)):
        design.run("sim.benches.no_such_bench")


def test_bad_verilog_is_a_tool_error(tmp_path: Path):
    source = tmp_path / "bad.v"
    source.write_text("module bad(clk);\n input clk\nendmodule\n")
    with pytest.raises(ToolError, match="syntax error"):
        build_design([source], "bad", tmp_path / "build")


def test_the_ports_are_read_from_the_header():
    assert module_ports(COUNTER, "counter") == ["clk", "rst", "step", "count"]
    with pytest.raises(InputError, match="top must be a module of the Verilog, not 'other'"):
        module_ports(COUNTER, "other")


def test_there_are_no_parameters_outside_a_bench(monkeypatch):
    monkeypatch.delenv("SHIFTFORGE_BENCH", raising=False)
    assert bench_parameters() == {}
