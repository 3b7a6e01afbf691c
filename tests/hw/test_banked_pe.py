"""Banked PE and array in the simulator against the cycle-true golden model, whose sums are checked in Fractions."""

import pytest

from shiftforge.config import BANKED_FORMATS
from tests.hw.bench import a_config, check

SHAPES = [(1, 1), (2, 3), (4, 4), (3, 2), (1, 5), (5, 1)]
GRID = [(*shape, name) for shape in SHAPES for name in BANKED_FORMATS]
CASES = [(*case, (2, 3, 4)[i % 3]) for i, case in enumerate(GRID)]  # 6 shapes x 5 formats, the weight bits in turn


@pytest.mark.parametrize("unit", ["banked_pe", "wide_pe"])
def test_the_pe(unit, tmp_path):
    check(unit, tmp_path)


@pytest.mark.parametrize("unit", ["banked_array", "ring_array"])
def test_every_register_of_every_pe(unit, tmp_path):
    check(unit, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("weight_bits", [2, 3, 4])
@pytest.mark.parametrize("activation", BANKED_FORMATS)
def test_the_pe_for_every_format(activation, weight_bits, mask, tmp_path):
    config = a_config(1, 1, activation, weight_bits=weight_bits, mask=mask, accumulator="banked")
    check("banked_pe", tmp_path, config, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("rows, cols, activation, weight_bits", CASES)
def test_every_register_of_every_pe_for_every_format(rows, cols, activation, weight_bits, tmp_path):
    mask = (rows + cols) % 2 == 0
    config = a_config(rows, cols, activation, weight_bits=weight_bits, mask=mask, accumulator="banked")
    check("banked_array", tmp_path, config, seed=3)
