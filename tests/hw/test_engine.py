"""Engine in the simulator: every slot and stall of random layers."""

import pytest

from tests.hw.bench import a_config, check, name_of


def test_engine(tmp_path):
    check("engine", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        a_config(1, 1),
        a_config(1, 7, max_k=3),
        a_config(7, 1),
        a_config(4, 4, max_k=4),
    ],
    ids=name_of,
)
def test_engine_of_other_shapes(config, tmp_path):
    check("engine", tmp_path, config, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["long_engine", "tall_engine"])
def test_a_matrix_product_of_more_rows_than_a_coordinate_counts(unit, tmp_path):
    check(unit, tmp_path)


@pytest.mark.parametrize("unit", ["banked_engine", "ring_engine"])
def test_banked_engine(unit, tmp_path):
    check(unit, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        a_config(1, 1, "fp16", weight_bits=4, max_k=1, accumulator="banked"),
        a_config(1, 7, "fp8_e4m3", max_k=3, accumulator="banked"),
        a_config(4, 4, "fp8_e4m3", weight_bits=4, max_k=8, accumulator="banked"),
        a_config(2, 2, "bf16", accumulator="banked"),
    ],
    ids=name_of,
)
def test_banked_engine_of_other_shapes(config, tmp_path):
    check("banked_engine", tmp_path, config, seed=2)
