"""The post-processing lane in the simulator against the golden model, for pairs of formats."""

from pathlib import Path

import pytest
from amaranth.back import verilog

from hw.lane import Lane
from shiftforge.config import Config, from_dict
from shiftforge.errors import CheckFailed
from sim.runner import build_design
from tests.hw.lane_mutants import MUTANTS, write_mutated_lane

FAST = (("fp16", "fp16", 3), ("fp8_e4m3", "fp32", 4), ("fp32", "fp16", 2))
SLOW = (
    ("int8", "int8", 2),
    ("int8", "fp32", 3),
    ("int16", "bf16", 4),
    ("fp8_e4m3", "fp8_e4m3", 2),
    ("fp8_e4m3", "int8", 3),
    ("fp8_e5m2", "fp8_e5m2", 4),
    ("fp8_e5m2", "fp16", 2),
    ("fp16", "fp32", 4),
    ("fp16", "bf16", 2),
    ("fp16", "fp8_e5m2", 3),
    ("fp16", "int16", 3),
    ("bf16", "bf16", 3),
    ("bf16", "int8", 2),
    ("bf16", "fp32", 4),
    ("fp32", "fp32", 3),
    ("fp32", "bf16", 4),
    ("fp32", "int16", 4),
)


def a_config(activation: str, output: str, weight_bits: int, max_k: int = 300) -> Config:
    array = {
        "rows": 4,
        "cols": 4,
        "activation": activation,
        "output": output,
        "weight_bits": weight_bits,
        "max_k": max_k,
    }
    return from_dict({"array": array})


def write_lane(config: Config, folder: Path) -> Path:
    path = folder / "lane.v"
    path.write_text(verilog.convert(Lane(config), name="lane", strip_internal_attrs=True, emit_src=False))
    return path


def check(config: Config, source: Path, *, seed: int = 1, batches: int = 100, size: int = 160) -> None:
    design = build_design([source], "lane", source.parent / "build")
    design.run(
        "sim.benches.lane", parameters={"config": config.to_dict(), "seed": seed, "batches": batches, "size": size}
    )


@pytest.mark.parametrize("activation, output, weight_bits", FAST)
def test_the_lane_equals_the_golden_model(activation, output, weight_bits, tmp_path):
    config = a_config(activation, output, weight_bits)
    check(config, write_lane(config, tmp_path), batches=30)


@pytest.mark.slow
@pytest.mark.parametrize("activation, output, weight_bits", FAST + SLOW)
def test_the_lane_equals_the_golden_model_for_many_pairs(activation, output, weight_bits, tmp_path):
    config = a_config(activation, output, weight_bits)
    check(config, write_lane(config, tmp_path), seed=2, batches=300)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_seeded_fault_is_found(mutant, tmp_path):
    source = write_mutated_lane(mutant, tmp_path)
    with pytest.raises(CheckFailed, match=r"must be"):
        check(a_config(*mutant.pair), source, batches=60)
