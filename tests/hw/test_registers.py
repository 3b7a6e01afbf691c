"""Registers in the simulator: every register over AXI4-Lite."""

import pytest

from tests.hw.bench import a_config, check, name_of


def test_registers(tmp_path):
    check("registers", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        a_config(1, 1),
        a_config(16, 18, "fp16", "fp32", weight_bits=4, max_k=300),
    ],
    ids=name_of,
)
def test_registers_of_other_shapes(config, tmp_path):
    check("registers", tmp_path, config, seed=2)
