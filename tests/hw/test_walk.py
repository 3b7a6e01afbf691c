"""Tile walk in the simulator: every step of random layers."""

import pytest

from tests.hw.bench import a_config, check, name_of


def test_walk(tmp_path):
    check("walk", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        a_config(1, 1),
        a_config(1, 7),
        a_config(7, 1),
        a_config(3, 5),
        a_config(16, 18),
    ],
    ids=name_of,
)
def test_walk_of_other_shapes(config, tmp_path):
    check("walk", tmp_path, config, seed=2)
