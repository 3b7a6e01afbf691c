# amaranth: UnusedElaboratable=no
"""Delay lines, in registers and in memory."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out

from hw.delay import Delay, delayed
from shiftforge.errors import InputError
from tests.hw.pipeline import stream


class Line(Component):
    def __init__(self, width: int, cycles: int) -> None:
        self.width, self.cycles = width, cycles
        super().__init__({"i": In(width), "o": Out(width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.o.eq(delayed(m, self.i, self.cycles, "i"))
        return m


@pytest.mark.parametrize("cycles", [1, 2, 4, 5, 16, 17, 18, 21, 22, 34, 40])
@pytest.mark.parametrize("width", [1, 4, 9])
def test_what_goes_in_comes_out(width, cycles):
    rng = random.Random(cycles)
    values = [rng.getrandbits(width) for _ in range(3 * cycles + 20)]
    found = stream(Line(width, cycles), [{"i": v} for v in values], cycles)
    assert [result["o"] for result in found[: len(values)]] == values


def test_a_ring_of_no_words_is_refused():
    with pytest.raises(InputError, match="cycles of a delay line in memory must be at least 2, not 1"):
        Delay(4, 1)
