"""Drives one baseline element in Amaranth's simulator and says in Python numbers what it must give."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from amaranth.sim import Simulator

from bench.baselines.catalogue import Baseline
from bench.baselines.element import Element
from bench.baselines.floats import parts_layout
from shiftforge.config import Config, from_dict
from shiftforge.formats import FORMATS

FP16 = FORMATS["fp16"]


def a_config(baseline: Baseline, *, rows: int = 1, cols: int = 1, max_k: int = 21) -> Config:
    array = {"rows": rows, "cols": cols, "activation": baseline.activation, "output": baseline.activation}
    return from_dict({"array": {**array, "weight_bits": 2, "max_k": max_k, "accumulator": "aligned"}})


def fraction_of(code: int) -> Fraction | None:
    """The value of an fp16 code, as NumPy has it; None where it is not finite."""
    value = float(np.uint16(code).view(np.float16))
    return Fraction(value) if np.isfinite(value) else None


def parts_of(code: int, *, normal: bool) -> int:
    """`parts_layout` of an fp16 code, from its value alone; 0 magnitude where it is not finite."""
    layout = parts_layout(FP16, normal=normal)
    value, sign = fraction_of(code), code >> 15
    significand, exponent = 0, 0
    if value:
        unit = -34 if normal else -24
        scaled = abs(value) / Fraction(2) ** unit
        significand = int(scaled)
        assert significand == scaled
        while significand >= 1 << 11:
            assert significand % 2 == 0
            significand, exponent = significand >> 1, exponent + 1
    return layout.const({"significand": significand, "exponent": exponent, "sign": sign}).as_value().value


@dataclass(frozen=True)
class Operand:
    """What goes into a port, and what it means: a value, or a mark (nan, inf, -inf)."""

    bits: int
    value: Fraction
    mark: str = ""


def activation(baseline: Baseline, code: int, *, behind_edge: bool) -> Operand:
    """The operand of an activation code; `behind_edge`: as the element's x, else as the edge's code."""
    if baseline.activation == "int8":
        value = code - ((code & 0x80) << 1)
        return Operand(value if behind_edge else code, Fraction(value))
    value = fraction_of(code)
    mark = "" if value is not None else "nan" if code & 0x3FF else "-inf" if code >> 15 else "inf"
    value = value or Fraction(0)
    if not behind_edge:
        return Operand(code, value, mark)
    if "{" in baseline.name:
        return Operand(int(value * 2**24), value, mark)
    return Operand(parts_of(code, normal=not baseline.exact), value, mark)


def weight(baseline: Baseline, code: int, *, behind_edge: bool) -> Operand:
    """The operand of a weight code of the width that `weight_code_bits` tells."""
    if "{" in baseline.name:
        exponent_bits = weight_code_bits(baseline) - 2
        sign, present = code >> (exponent_bits + 1) & 1, code >> exponent_bits & 1
        return Operand(code, Fraction((-1) ** sign * present * 2 ** (code & ((1 << exponent_bits) - 1))))
    if baseline.weight_edge is None:
        bits = weight_code_bits(baseline)
        value = code - ((code >> (bits - 1)) << bits)
        return Operand(code, Fraction(value))
    value = fraction_of(code)
    assert value is not None, "weights are finite"
    if not behind_edge:
        return Operand(code, value)
    zero = int(value == 0) << parts_layout(FP16, normal=not baseline.exact).size
    return Operand(parts_of(code, normal=not baseline.exact) | zero, value)


def weight_code_bits(baseline: Baseline) -> int:
    """Width of a weight as the memory holds it."""
    if baseline.weight_edge is not None:
        return 16
    return {"±8}": 4, "±2}": 3, "int4": 4, "int8": 8}[
        next(key for key in ("±8}", "±2}", "int4", "int8") if key in baseline.name.split(" x ")[1])
    ]


def marks_of(pairs: Sequence[tuple[Operand, Operand]]) -> tuple[bool, bool, bool]:
    """(nan, +inf, -inf) seen among the products."""
    nan = positive = negative = False
    for x, w in pairs:
        if x.mark == "nan" or (x.mark and w.value == 0):
            nan = True
        elif x.mark:
            minus = (x.mark == "-inf") != (w.value < 0)
            positive, negative = positive | (not minus), negative | minus
    return nan, positive, negative


def exact_sum(baseline: Baseline, element: Element, pairs: Sequence[tuple[Operand, Operand]]) -> int:
    """The sum of the finite products in units of the accumulator's lowest bit, modulo its width."""
    unit = Fraction(1)
    if baseline.activation == "fp16":
        unit = Fraction(1, 2**24) if baseline.weight_edge is None else Fraction(1, 2**48)
    total = sum((Fraction(0) if x.mark else x.value * w.value for x, w in pairs), Fraction(0)) / unit
    assert total.denominator == 1
    assert -(1 << (element.sum_bits - 1)) <= total < 1 << (element.sum_bits - 1), "no sum may wrap"
    return int(total) & ((1 << element.sum_bits) - 1)


def rounded_sum(pairs: Sequence[tuple[Operand, Operand]]) -> int:
    """The binary32 code after one NumPy float32 addition per product (marked products add zero)."""
    total = np.float32(0)
    for x, w in pairs:
        if not x.mark:
            total = np.float32(total + np.float32(float(x.value)) * np.float32(float(w.value)))
    return int(np.float32(total).view(np.uint32))


def expected(baseline: Baseline, element: Element, tiles: Sequence[Sequence[tuple[Operand, Operand]]]) -> list[int]:
    """The sum of each tile."""
    if not baseline.exact:
        return [rounded_sum(pairs) for pairs in tiles]
    return [exact_sum(baseline, element, pairs) for pairs in tiles]


def differences(baseline: Baseline, element: Element, readings: Sequence[int]) -> list[int]:
    """Sums out of the readings of a free-running accumulator: each less the one before; a rounding one holds the sum itself."""
    if not baseline.exact:
        return list(readings)
    mask = (1 << element.sum_bits) - 1
    return [(reading - before) & mask for reading, before in zip(readings, [0, *readings], strict=False)]


def random_tiles(
    baseline: Baseline, rng: np.random.Generator, depths: Sequence[int], *, behind_edge: bool
) -> list[list[tuple[Operand, Operand]]]:
    """Tiles of random operands: any code, and one tile each of the largest magnitudes of either sign."""
    bits = 8 if baseline.activation == "int8" else 16
    width = weight_code_bits(baseline)

    def a_weight(code: int) -> Operand:
        if baseline.weight_edge is not None and code & 0x7C00 == 0x7C00:
            code &= 0xBFFF  # finite
        return weight(baseline, code, behind_edge=behind_edge)

    tiles = [
        [
            (
                activation(baseline, int(rng.integers(1 << bits)), behind_edge=behind_edge),
                a_weight(int(rng.integers(1 << width))),
            )
            for _ in range(depth)
        ]
        for depth in depths
    ]
    largest = {"int8": (0x80, 0x7F), "fp16": (0xFBFF, 0x7BFF)}[baseline.activation]
    for code in largest:
        x = activation(baseline, code, behind_edge=behind_edge)
        w = max((a_weight(c) for c in range(0, 1 << width, 1 if width < 16 else 1023)), key=lambda o: abs(o.value))
        tiles.append([(x, w)] * max(depths))
    if baseline.activation == "fp16":  # the smallest beside the largest, and a sum that cancels
        small, big = (activation(baseline, code, behind_edge=behind_edge) for code in (0x0001, 0x7BFF))
        minus = activation(baseline, 0xFBFF, behind_edge=behind_edge)
        one = a_weight({16: 0x3C00, 3: 2, 4: 4 if "{" in baseline.name else 1}[width])
        tiles.append([(big, one), (small, one), (minus, one)])
        for low, high in (
            (0x3800, 0x4200),
            (0, 0x800),
        ):  # exponents near one another: every addition rounds; and subnormals
            codes = [int(code) | int(rng.integers(2)) << 15 for code in rng.integers(low, high, max(depths))]
            tiles.append([(activation(baseline, code, behind_edge=behind_edge), one) for code in codes])
            if width == 16:
                near = [a_weight(int(code)) for code in rng.integers(low, high, len(codes))]
                tiles.append([(x, w) for (x, _), w in zip(tiles[-1], near, strict=True)])
    return tiles


def simulate(
    element: Element, tiles: Sequence[Sequence[tuple[Operand, Operand]]], rng: np.random.Generator
) -> tuple[list[int], list[tuple[bool, bool, bool]]]:
    """Readings and flags of every tile, back to back with some bubbles; operands pass on one cycle later."""
    readings: list[int] = []
    flags: list[tuple[bool, bool, bool]] = []
    marks = {"": 0, "nan": 1, "inf": 2, "-inf": 6}

    async def bench(ctx):
        async def cycle() -> None:
            before = (ctx.get(element.x), ctx.get(element.w))
            await ctx.tick()
            assert (ctx.get(element.x_out), ctx.get(element.w_out)) == before
            if ctx.get(element.capture.valid):
                readings.append(ctx.get(element.capture.sum))
                if element.config.activation.flag_bits:
                    seen = ctx.get(element.capture.flags)
                    flags.append((bool(seen.nan), bool(seen.pos_inf), bool(seen.neg_inf)))
                else:
                    flags.append((False, False, False))
            else:
                assert ctx.get(element.capture.as_value()) == 0

        for pairs in tiles:
            for k, (x, w) in enumerate(pairs):
                ctx.set(element.x, x.bits)
                ctx.set(element.w, w.bits)
                if element.config.activation.flag_bits:
                    ctx.set(element.special.as_value(), marks[x.mark])
                ctx.set(element.token.as_value(), 1 | (k == 0) << 1 | (k == len(pairs) - 1) << 2)
                await cycle()
                while rng.random() < 0.2:
                    ctx.set(element.token.as_value(), 0)
                    ctx.set(element.x, int(rng.integers(100)))
                    await cycle()
        ctx.set(element.token.as_value(), 0)
        for _ in range(element.latency + 2):
            await cycle()

    simulator = Simulator(element)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return readings, flags
