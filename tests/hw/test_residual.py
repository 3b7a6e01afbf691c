"""Residuals in the simulator: the memory's second copy, the reads of the drain's steps, the lane, the packets that wait."""

import pytest

from shiftforge.config import Config
from tests.hw.bench import a_config, check, name_of


def test_residual(tmp_path):
    check("residual", tmp_path)


def test_the_second_copy_of_the_memory(tmp_path):
    check("residual_memories", tmp_path)


def test_the_lane_adds_it(tmp_path):
    check("residual_lane", tmp_path)


def test_the_decoder_of_every_option(tmp_path):
    check("options_decoder", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        a_config(1, 1, residual=True),
        a_config(1, 7, "fp16", residual=True, pages=16),
        a_config(7, 1, "fp8_e4m3", residual=True),
        a_config(3, 5, "int16", residual=True, pages=4),
        a_config(16, 18, residual=True, pages=8),
    ],
    ids=name_of,
)
def test_residual_of_other_shapes(config: Config, tmp_path):
    check("residual", tmp_path, config, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "pair",
    [
        *(("int8", "int8"), ("int16", "fp16"), ("fp8_e4m3", "fp32"), ("fp8_e5m2", "int8"), ("fp16", "bf16")),
        *(("bf16", "bf16"), ("fp32", "fp32"), ("fp32", "fp16")),
    ],
    ids="-".join,
)
def test_the_lane_of_other_formats_adds_it(pair: tuple[str, str], tmp_path):
    check("residual_lane", tmp_path, a_config(4, 4, *pair, max_k=300, residual=True), seed=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        a_config(1, 1, max_k=5, words=32, stream_bits=32, pages=4, max_pool=True),
        a_config(1, 9, "fp16", max_k=7, words=128, stream_bits=128, pages=16, residual=True),
        a_config(16, 16, max_k=20, words=128, stream_bits=32, pages=2, residual=True, max_pool=True),
    ],
    ids=name_of,
)
def test_the_decoder_of_other_shapes(config: Config, tmp_path):
    check("options_decoder", tmp_path, config, seed=2)
