"""Drain and writer in the simulator: every step, sum, credit, memory write, FIFO write and flag of random layers."""

import pytest

from tests.hw.bench import a_config, check, name_of


def test_drain(tmp_path):
    check("drain", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        a_config(1, 1, words=64),
        a_config(1, 7, "fp16", max_k=7, words=64),
        a_config(7, 1, "fp8_e4m3", words=64),
        a_config(3, 5, words=64),
        a_config(16, 18, max_k=16, words=64),
    ],
    ids=name_of,
)
def test_drain_of_other_shapes(config, tmp_path):
    check("drain", tmp_path, config, seed=2)


def test_writer(tmp_path):
    check("writer", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        a_config(1, 1, output="int16"),
        a_config(1, 7, "int16", "int8"),
        a_config(7, 1, "fp16", "fp32"),
        a_config(3, 5),
        a_config(16, 18, words=64),
        a_config(8, 8),
    ],
    ids=name_of,
)
def test_writer_of_other_shapes(config, tmp_path):
    check("writer", tmp_path, config, seed=2)
