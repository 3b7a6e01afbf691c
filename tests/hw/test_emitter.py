"""Emitter in the simulator: packets byte for byte and the rules of AXI4-Stream, for steps below, of and above a beat."""

import pytest

from tests.hw.bench import a_config, check, name_of


def test_emitter(tmp_path):
    check("emitter", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        a_config(1, 1, stream_bits=32),
        a_config(1, 1, stream_bits=128),
        a_config(3, 5, output="fp32", stream_bits=32),
        a_config(9, 15, output="fp32"),
        a_config(9, 15, output="fp32", stream_bits=128),
        a_config(16, 18, output="fp32", stream_bits=32),
    ],
    ids=name_of,
)
def test_emitter_of_other_shapes(config, tmp_path):
    check("emitter", tmp_path, config, seed=2)
