"""Column of banked accumulators in the simulator: every sum, every read, resets."""

import pytest

from shiftforge.config import BANKED_FORMATS
from tests.hw.bench import a_config, check


@pytest.mark.parametrize("unit", ["banked_column", "ring_column"])
def test_banked_column(unit, tmp_path):
    check(unit, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 2, 5, 16])
@pytest.mark.parametrize("weight_bits", [2, 3, 4])
@pytest.mark.parametrize("activation", BANKED_FORMATS)
def test_banked_column_of_every_format(activation, weight_bits, rows, tmp_path):
    config = a_config(rows, 1, activation, weight_bits=weight_bits, max_k=100, accumulator="banked")
    check("banked_column", tmp_path, config, seed=2)
