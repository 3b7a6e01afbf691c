"""The maximum over windows in the simulator: every write of random layers."""

import pytest

from shiftforge.formats import FORMATS
from tests.hw.bench import a_config, check, name_of


def test_pool(tmp_path):
    check("pool", tmp_path)


def test_the_engine_reads_for_it(tmp_path):
    check("pool_engine", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        *(a_config(2, 1, name, max_pool=True) for name in FORMATS),
        a_config(1, 7, "fp16", max_pool=True),
        a_config(7, 1, max_pool=True, pages=4),
        a_config(18, 2, "fp8_e4m3", max_pool=True, pages=16),
    ],
    ids=name_of,
)
def test_pool_of_other_shapes(config, tmp_path):
    check("pool", tmp_path, config, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [a_config(1, 1, max_pool=True), a_config(7, 1, max_pool=True, pages=4), a_config(4, 4, max_k=4, max_pool=True)],
    ids=name_of,
)
def test_the_engine_of_other_shapes_reads_for_it(config, tmp_path):
    check("pool_engine", tmp_path, config, seed=2)
