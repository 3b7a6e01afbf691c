"""Column reader in the simulator: every sum, every read, resets."""

import pytest

from tests.hw.bench import a_config, check, name_of


def test_column(tmp_path):
    check("column", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        a_config(1, 1),
        a_config(1, 5, "fp8_e4m3"),
        a_config(5, 1, "fp16"),
        a_config(16, 2),
    ],
    ids=name_of,
)
def test_column_of_other_shapes(config, tmp_path):
    check("column", tmp_path, config, seed=2)
