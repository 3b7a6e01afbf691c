"""Decoder in the simulator: random packets, good and broken, against the golden decoder."""

import pytest

from tests.hw.bench import a_config, check, name_of


def test_decoder(tmp_path):
    check("decoder", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        a_config(1, 1, max_k=5, words=32, stream_bits=32),
        a_config(1, 1, max_k=5, words=32, stream_bits=128),
        a_config(1, 9, "fp16", max_k=7, words=64),
        a_config(9, 1, max_k=20, words=64, stream_bits=32),
        a_config(16, 16, max_k=20, words=64, stream_bits=128),
    ],
    ids=name_of,
)
def test_decoder_of_other_shapes(config, tmp_path):
    check("decoder", tmp_path, config, seed=2)
