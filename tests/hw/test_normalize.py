"""The normaliser against shifts of Python integers, exhaustively where it is narrow."""

import random

import pytest

from hw.normalize import Normalize
from shiftforge import timing
from tests.hw.pipeline import stream


def jammed(value: int, width: int, result_width: int) -> int:
    """The upper bits of a `width`-bit value, the lowest of them sticky."""
    lost = width - result_width
    if lost <= 0:
        return value << -lost
    return (value >> lost) | (value & ((1 << lost) - 1) != 0)


def expected(value: int, width: int, result_width: int, bound: int) -> tuple[int, int]:
    """The result and the places shifted."""
    places = min(width - value.bit_length(), bound)
    return jammed((value << places) & ((1 << width) - 1), width, result_width), places


@pytest.mark.parametrize("width, result_width", [(1, 3), (2, 3), (5, 3), (9, 4), (10, 10), (11, 14)])
def test_every_value_of_a_narrow_one(width, result_width):
    levels = max(1, (width - 1).bit_length())
    unit = Normalize(width, result_width, levels)
    values = range(1 << width)
    for value, found in zip(values, stream(unit, [{"value": v} for v in values], unit.latency), strict=True):
        result, places = expected(value, width, result_width, (1 << levels) - 1)
        assert found["result"] == result
        if value:
            assert found["left"] == places


@pytest.mark.parametrize("width", [26, 27, 33, 54, 64, 70])
def test_wide_ones_keep_a_sticky_bit(width):
    rng = random.Random(width)
    levels = (width - 1).bit_length()
    unit = Normalize(width, 26, levels)
    values = [rng.getrandbits(rng.randrange(1, width + 1)) & -(1 << rng.randrange(width)) for _ in range(300)]
    values += [(1 << top) | low for top in range(1, width) for low in (0, 1)]
    for value, found in zip(values, stream(unit, [{"value": v} for v in values], unit.latency), strict=True):
        assert found["result"] == expected(value, width, 26, width)[0], hex(value)
        if value:
            assert found["left"] == width - value.bit_length()


def test_a_budget_bounds_the_shift():
    unit = Normalize(12, 6, 4, budget_bits=5)
    inputs = [
        {"value": value, "budget": budget}
        for value in range(0, 1 << 12, 7)
        for budget in (0, 1, 2, 3, 5, 8, 12, 16, 31)
    ]
    for case, found in zip(inputs, stream(unit, inputs, timing.normalize(4)), strict=True):
        if case["value"]:
            result, places = expected(case["value"], 12, 6, case["budget"])
            assert (found["result"], found["left"]) == (result, case["budget"] - places), case
        else:
            assert found["result"] == 0
