"""Handshake patterns against their definition, and what a result may hold."""

import numpy as np
import pytest

from shiftforge.errors import InputError
from shiftforge.transport import TransferResult, check_pattern, random_pattern, wait_table


@pytest.mark.parametrize("bits", range(1, 64))
def test_the_wait_table_leads_to_the_next_true_cycle(bits):
    length = max(1, bits.bit_length())
    pattern = np.array([bits >> i & 1 for i in range(length)], dtype=bool)
    table = wait_table(pattern)
    for t in range(2 * length):
        following = next(u for u in range(t, t + 2 * length) if pattern[u % length])
        assert t + table[t % length] == following


def test_no_pattern_never_waits():
    assert wait_table(None).tolist() == [0]
    check_pattern(None, "any")


def test_random_patterns_have_their_density_and_at_least_one_true_cycle():
    rng = np.random.default_rng(1)
    assert abs(random_pattern(rng, 100_000, 0.25).mean() - 0.25) < 0.01
    assert all(random_pattern(rng, 7, 0.0).sum() == 1 for _ in range(50))
    assert random_pattern(rng, 7, 1.0).all()
    assert len({random_pattern(rng, 7, 0.0).tobytes() for _ in range(200)}) == 7


@pytest.mark.parametrize(
    "pattern, found",
    [
        ([True], "list"),
        (np.ones(3, np.uint8), r"uint8 \(3,\)"),
        (np.ones((2, 2), bool), r"bool \(2, 2\)"),
    ],
)
def test_what_is_no_pattern_is_refused(pattern, found):
    with pytest.raises(
        InputError, match=f"^output_ready must be None or a one-dimensional array of bool, not {found}$"
    ):
        check_pattern(pattern, "output_ready")


@pytest.mark.parametrize("pattern", [np.zeros(4, bool), np.zeros(0, bool)])
def test_a_pattern_that_never_comes_true_is_refused(pattern):
    with pytest.raises(InputError, match=f"true in at least one of its cycles, not in none of {len(pattern)}$"):
        check_pattern(pattern, "input_valid")
    with pytest.raises(InputError, match="the pattern must be true"):
        wait_table(pattern)


def test_wrong_random_patterns_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="length must be at least 1, not 0"):
        random_pattern(rng, 0, 0.5)
    with pytest.raises(InputError, match=r"density must be within 0\.\.1, not 1\.5"):
        random_pattern(rng, 4, 1.5)


def test_a_result_has_cycles_and_int64_beats():
    beats = np.arange(3, dtype=np.int64)
    assert TransferResult([b"ab"], 7, beats, beats).packets == [b"ab"]
    with pytest.raises(InputError, match="cycles must be 0 or more, not -1"):
        TransferResult([], -1, beats, beats)
    with pytest.raises(InputError, match="output_beats must be a one-dimensional int64 array, not float64"):
        TransferResult([], 0, beats, np.zeros(2))  # pyright: ignore[reportArgumentType]
