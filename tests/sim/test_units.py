"""Every bench of the table runs and holds; the top's also on other shapes, formats and stream widths, and finds a fault."""

import pytest

from hw.top import TOP_NAME
from hw.verilog import emit
from shiftforge.config import from_dict
from shiftforge.errors import CheckFailed, InputError
from shiftforge.registers import ID_VALUE
from sim.runner import build_design
from sim.units import UNITS, run_unit, unit_named


def config_of(rows, cols, activation, output, bits, max_k, stream_bits):
    array = {"rows": rows, "cols": cols, "activation": activation, "output": output, "weight_bits": bits}
    return from_dict({"array": {**array, "max_k": max_k}, "interface": {"stream_bits": stream_bits}})


def test_the_table_names_every_bench():
    assert {"row_edge", "pe", "array", "lane", "top"} <= set(UNITS)
    with pytest.raises(InputError, match="unit must be one of row_edge, .*top, not .tops."):
        unit_named("tops")


@pytest.mark.parametrize("name", ["row_edge", "pe", "top"])
def test_a_bench_holds(name, tmp_path):
    log = run_unit(UNITS[name], tmp_path)
    assert "FAIL=0" in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["array", "lane"])
def test_the_other_benches_hold(name, tmp_path):
    run_unit(UNITS[name], tmp_path, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, "int8", "int8", 2, 5, 32),
        (3, 5, "fp16", "fp16", 3, 9, 128),
        (5, 3, "fp8_e4m3", "fp32", 4, 12, 32),
        (4, 4, "int16", "fp16", 4, 16, 64),
        (1, 7, "fp8_e5m2", "bf16", 2, 6, 64),
    ],
    ids=str,
)
def test_the_top_in_other_shapes(shape, tmp_path):
    run_unit(UNITS["top"], tmp_path, config=config_of(*shape), seed=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (f"32'd{ID_VALUE}", f"32'd{ID_VALUE - 1}", "ID must be 0x53465247, not 0x53465246"),
        ("words_left - 1'h1", "words_left - 2'h2", "answer 0 must|receive|Timeout"),
    ],
)
def test_the_top_bench_finds_a_change(before, after, found, tmp_path):
    unit = UNITS["top"]
    sources = emit(unit.config, tmp_path)
    text = sources[-1].read_text()
    assert before in text
    sources[-1].write_text(text.replace(before, after))
    design = build_design(sources, TOP_NAME, tmp_path / "build")
    with pytest.raises(CheckFailed, match=found):
        design.run(unit.module, parameters={"config": unit.config.to_dict(), "seed": 1})
