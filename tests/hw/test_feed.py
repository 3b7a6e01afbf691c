"""Feed and row feed in the simulator: every element of every word."""

import pytest

from tests.hw.bench import a_config, check, name_of

SHAPES = [
    a_config(1, 1),
    a_config(1, 5, "fp16"),
    a_config(2, 2, "fp16"),
    a_config(5, 1, "fp8_e4m3"),
    a_config(16, 16),
    a_config(21, 2, max_pool=True),
    a_config(70, 1),
]


@pytest.mark.parametrize("unit", ["row_feed", "feed"])
def test_feed(unit, tmp_path):
    check(unit, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["row_feed", "feed"])
@pytest.mark.parametrize("config", SHAPES, ids=name_of)
def test_feed_of_other_shapes(unit, config, tmp_path):
    check(unit, tmp_path, config, seed=2)
