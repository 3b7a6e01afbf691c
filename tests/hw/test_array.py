"""Row edge, PE and array in the simulator against the cycle-true golden model."""

from pathlib import Path

import pytest
from amaranth.back import verilog

from hw.array import Array
from hw.instance import Unit
from hw.pe import PE
from hw.row_edge import RowEdge
from shiftforge.config import ALIGNED_FORMATS, Config, from_dict
from shiftforge.errors import CheckFailed
from sim.benches.array import register_names
from sim.runner import Design, build_design

SHAPES = [(1, 1), (2, 3), (4, 4), (3, 2)]
FAST = [(1, 1, "int8", 2), (2, 3, "fp16", 3)]  # a build takes some seconds; the rest of the grid is slow
GRID = [(*shape, name) for shape in [*SHAPES, (1, 5), (5, 1)] for name in ALIGNED_FORMATS]
SLOW = [(*case, (2, 3, 4)[i % 3]) for i, case in enumerate(GRID)]  # 6 shapes x 5 formats, the weight bits in turn


def a_config(rows: int, cols: int, activation: str, weight_bits: int, max_k: int = 21, *, mask: bool = False) -> Config:
    return from_dict(
        {
            "array": {
                "rows": rows,
                "cols": cols,
                "activation": activation,
                "accumulator": "aligned",
                "output": "fp32",
                "weight_bits": weight_bits,
                "max_k": max_k,
                "mask": mask,
            }
        }
    )


def emit(folder: Path, unit: Unit | Array, name: str) -> Path:
    path = folder / f"{name}.v"
    path.write_text(verilog.convert(unit, name=name, strip_internal_attrs=True, emit_src=False))
    return path


def build_array(config: Config, folder: Path) -> Design:
    array = Array(config)
    name = array.pe.module_name
    sources = [emit(folder, part, part.module_name) for part in (array.pe, *array.units)]
    sources.append(emit(folder, array, "array"))
    public = [(name, register) for register in register_names(config)]
    return build_design(sources, "array", folder / "build", public=public)


def run_array(config: Config, folder: Path, seed: int = 1) -> None:
    build_array(config, folder).run("sim.benches.array", parameters={"config": config.to_dict(), "seed": seed})


@pytest.mark.parametrize("rows, cols, activation, weight_bits", FAST)
def test_every_register_of_every_pe(rows, cols, activation, weight_bits, tmp_path):
    run_array(a_config(rows, cols, activation, weight_bits), tmp_path)


def test_every_register_of_every_pe_with_masks(tmp_path):
    run_array(a_config(3, 2, "fp16", 2, mask=True), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("rows, cols, activation, weight_bits", SLOW)
def test_every_register_of_every_pe_for_every_format(rows, cols, activation, weight_bits, mask, tmp_path):
    run_array(a_config(rows, cols, activation, weight_bits, mask=mask), tmp_path, seed=2)


@pytest.mark.slow
def test_the_bench_sees_a_changed_operator(tmp_path):
    """An operator changed by hand in the Verilog is found, and the first difference is named."""
    config = a_config(2, 3, "int8", 2)
    array = Array(config)
    name = array.pe.module_name
    pe, top = emit(tmp_path, array.pe, name), emit(tmp_path, array, "array")
    parts = [emit(tmp_path, part, part.module_name) for part in array.units]
    text = pe.read_text()
    changed = text.replace("raised <= ", "raised <= 1 ^ ")
    assert changed != text
    pe.write_text(changed)
    public = [(name, register) for register in register_names(config)]
    design = build_design([*parts, pe, top], "array", tmp_path / "build", public=public)
    with pytest.raises(CheckFailed, match=r"must be 0x[0-9a-f]+ in cycle \d+, not 0x[0-9a-f]+"):
        design.run("sim.benches.array", parameters={"config": config.to_dict(), "seed": 1})


def test_the_pe(tmp_path):
    check_pe(a_config(1, 1, "fp16", 4), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("weight_bits", [2, 3, 4])
@pytest.mark.parametrize("activation", ALIGNED_FORMATS)
def test_the_pe_for_every_format(activation, weight_bits, mask, tmp_path):
    check_pe(a_config(1, 1, activation, weight_bits, mask=mask), tmp_path, cycles=20000, seed=2)


def check_pe(config: Config, folder: Path, cycles: int = 2000, seed: int = 1) -> None:
    unit = PE(config)
    sources = [emit(folder, part, part.module_name) for part in unit.units]
    sources.append(emit(folder, unit, "pe"))
    public = [("pe", register) for register in register_names(config)]
    design = build_design(sources, "pe", folder / "build", public=public)
    design.run("sim.benches.pe", parameters={"config": config.to_dict(), "cycles": cycles, "seed": seed})


def test_the_row_edge_for_every_code(tmp_path):
    check_row_edge("fp16", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ALIGNED_FORMATS)
def test_the_row_edge_for_every_code_of_every_format(activation, tmp_path):
    check_row_edge(activation, tmp_path)


def check_row_edge(activation: str, tmp_path: Path) -> None:
    config = a_config(1, 1, activation, 3)
    design = build_design([emit(tmp_path, RowEdge(config), "row_edge")], "row_edge", tmp_path / "build")
    design.run("sim.benches.row_edge", parameters={"config": config.to_dict()})
