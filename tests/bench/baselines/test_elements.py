"""Every baseline adds what it claims to: its sums against Python's integers and fractions, or NumPy's float32 step by step."""

import numpy as np
import pytest
from amaranth.hdl import Module, Shape
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from bench.baselines.catalogue import BASELINES
from bench.baselines.column import ReadingColumn
from bench.baselines.floats import FloatEdge
from bench.baselines.multiply import levels, multiply
from tests.bench.baselines import elements


@pytest.mark.parametrize("name", list(BASELINES))
def test_sums(name):
    baseline = BASELINES[name]
    deepest = 21
    element = baseline.make(elements.a_config(baseline, rows=deepest if baseline.blocks else 1), False)
    rng = np.random.default_rng(7)
    tiles = elements.random_tiles(
        baseline, rng, [1, 2, deepest, deepest, *rng.integers(1, deepest + 1, 8)], behind_edge=True
    )
    readings, flags = elements.simulate(element, tiles, rng)
    assert elements.differences(baseline, element, readings) == elements.expected(baseline, element, tiles)
    assert flags == [elements.marks_of(pairs) for pairs in tiles]


class Multiplier(wiring.Component):
    """`multiply` behind ports."""

    def __init__(self, x: Shape, w: Shape):
        super().__init__({"x": In(x), "w": In(w), "product": Out(Shape(x.width + w.width, x.signed))})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.product.eq(multiply(m, self.x, self.w, cells=False))
        return m


@pytest.mark.parametrize(
    "shape", [(8, 8, True), (8, 4, True), (12, 4, True), (4, 2, True), (5, 5, False), (4, 3, False)]
)
def test_products(shape):
    x_bits, w_bits, is_signed = shape
    unit = Multiplier(Shape(x_bits, is_signed), Shape(w_bits, is_signed))
    low = is_signed << (x_bits - 1), is_signed << (w_bits - 1)
    pairs = [
        (x - low[0], w - low[1])
        for x in range(0, 1 << x_bits, 1 if x_bits < 12 else 37)
        for w in range(0, 1 << w_bits, 1 if w_bits < 8 else 3)
    ]
    found = []

    async def bench(ctx):
        for x, w in [*pairs, *[(0, 0)] * (levels(w_bits) - 1)]:
            ctx.set(unit.x, x)
            ctx.set(unit.w, w)
            await ctx.tick()
            found.append(ctx.get(unit.product))

    run(unit, bench)
    assert found[levels(w_bits) - 1 :] == [x * w for x, w in pairs]


@pytest.mark.parametrize("normal", [False, True])
def test_edges_decode_every_code(normal):
    config = elements.a_config(BASELINES["fp16 x fp16 exact"])
    edge, weights = FloatEdge(config, normal=normal), FloatEdge(config, normal=normal, for_weights=True)
    codes = [*range(0, 1 << 16, 7), *range(0x400), *range(0x8000, 0x8400), 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00]
    for unit in (edge, weights):
        found = []

        async def bench(ctx, unit=unit, found=found):
            for code in [*codes, 0]:
                ctx.set(unit.code, code)
                await ctx.tick()
                found.append(
                    (ctx.get(unit.x.as_value()), ctx.get(unit.w if unit is weights else unit.special.as_value()))
                )

        run(unit, bench)
        for code, (x, other) in zip(codes, found[1:], strict=True):
            value = elements.fraction_of(code)
            expected = elements.parts_of(code, normal=normal)
            if value == 0 or value is None:  # the exponent of nothing means nothing, but a zero must be small
                parts = elements.parts_layout(config.activation, normal=normal).from_bits(x)
                assert parts.significand == 0
                assert value is None or parts.exponent == 0
            else:
                assert x == expected
            if unit is edge:
                operand = elements.activation(BASELINES["fp16 x fp16 exact"], code, behind_edge=False)
                assert other & 3 == {"": 0, "nan": 1, "inf": 2, "-inf": 2}[operand.mark]
                assert operand.mark == "nan" or other >> 2 == code >> 15
            else:
                assert other >> (elements.parts_layout(config.activation, normal=normal).size) == (not value)


def test_column_subtracts_and_keeps_two_tiles():
    element = BASELINES["int8 x int8 tree"].make(elements.a_config(BASELINES["int8 x int8 tree"]), False)
    column = ReadingColumn(element, 3)
    rng = np.random.default_rng(3)
    width = element.sum_bits
    captures = [[int(rng.integers(1 << width)) for _ in range(3)] for _ in range(5)]
    found, ends = [], []

    async def bench(ctx):
        for tile, values in enumerate(captures):
            for value in values:
                ctx.set(column.capture.valid, 1)
                ctx.set(column.capture.sum, value)
                await ctx.tick()
                ctx.set(column.capture.as_value(), 0)
                for _ in range(int(rng.integers(2))):
                    await ctx.tick()
            for _ in range(2):
                ends.append(ctx.get(column.tile))
                await ctx.tick()
            ends.append(ctx.get(column.tile))
            for row in range(3):
                ctx.set(column.set, tile % 2)
                ctx.set(column.row, row)
                await ctx.tick().repeat(2)
                found.append(ctx.get(column.read))

    run(column, bench)
    flat = [value for tile in captures for value in tile]
    before = [0, 0, 0, *flat]
    assert found == [(a - b) & ((1 << width) - 1) for a, b in zip(flat, before, strict=False)]
    assert sum(ends) == len(captures)


def run(unit: wiring.Component, bench) -> None:
    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
