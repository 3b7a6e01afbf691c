"""Row feed in the simulator: every element of every word."""

import pytest

from tests.hw.bench import a_config, check, name_of


def test_row_feed(tmp_path):
    check("row_feed", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        a_config(1, 1),
        a_config(1, 5, "fp16"),
        a_config(5, 1, "fp8_e4m3"),
        a_config(16, 16),
    ],
    ids=name_of,
)
def test_row_feed_of_other_shapes(config, tmp_path):
    check("row_feed", tmp_path, config, seed=2)
