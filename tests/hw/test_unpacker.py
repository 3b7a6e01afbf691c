"""Unpacker in the simulator: all stream widths and many word widths at once."""

import pytest

from tests.hw.bench import check


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_unpacker(seed, tmp_path):
    check("unpacker", tmp_path, seed=seed)
