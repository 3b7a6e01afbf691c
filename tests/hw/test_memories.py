"""Memories in the simulator: every read of words written bank by bank."""

import pytest

from tests.hw.bench import a_config, check, name_of


def test_memories(tmp_path):
    check("memories", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        a_config(1, 1),
        a_config(1, 5, "fp16"),
        a_config(5, 1, words=64),
    ],
    ids=name_of,
)
def test_memories_of_other_shapes(config, tmp_path):
    check("memories", tmp_path, config, seed=2)
