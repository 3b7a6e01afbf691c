"""Row edge of banked accumulators in the simulator against the golden model."""

import pytest

from shiftforge.config import BANKED_FORMATS
from tests.hw.bench import a_config, check


@pytest.mark.parametrize("unit", ["banked_edge", "ring_edge"])
def test_banked_edge(unit, tmp_path):
    check(unit, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("weight_bits", [2, 3, 4])
@pytest.mark.parametrize("activation", BANKED_FORMATS)
def test_banked_edge_of_every_format(activation, weight_bits, tmp_path):
    config = a_config(1, 1, activation, weight_bits=weight_bits, accumulator="banked")
    check("banked_edge", tmp_path, config, seed=2)
