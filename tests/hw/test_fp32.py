"""binary32 multiplication and addition against NumPy float32, with every NaN canonical."""

import numpy as np
import pytest

from hw.fp32 import Fp32Add, Fp32Multiply
from shiftforge import timing
from shiftforge.binary32 import canonical
from tests.hw.pipeline import stream

EDGES = np.array(
    [0, 1, 2, 3, 0x7FFFFF, 0x7FFFFE, 0x800000, 0x800001, 0x1000000, 0x33800000, 0x3F7FFFFF, 0x3F800000, 0x3F800001, 0x40000000]
    + [0x4B800000, 0x7EFFFFFF, 0x7F000000, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FC00000, 0x7FFFFFFF],
    np.uint32,
)  # fmt: skip
EDGES = np.concatenate([EDGES, EDGES | np.uint32(1 << 31)])


def patterns(rng: np.random.Generator, size: int) -> np.ndarray:
    fraction = rng.integers(0, 1 << 23, size) & -(1 << rng.integers(0, 24, size))
    return ((rng.integers(0, 2, size) << 31) | (rng.integers(0, 255, size) << 23) | fraction).astype(np.uint32)


def products(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs whose product is anywhere, but often about the least normal, the least subnormal or the largest number."""
    a, b = patterns(rng, size), patterns(rng, size)
    field = rng.choice((0, -1, -12, -23, -24, -25, 254, 255, 100), size) - ((a >> 23) & 0xFF).astype(np.int64) + 127
    aimed = (b & 0x807F_FFFF) | (np.clip(field, 0, 254) << 23).astype(np.uint32)
    return a, np.where(rng.random(size) < 0.8, aimed, b).astype(np.uint32)


def sums(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of near exponents, of opposite signs and nearly equal, and of distances about the precision."""
    a = patterns(rng, size)
    b = a.astype(np.int64) + rng.integers(-4, 5, size) ^ (1 << 31)
    gap = (rng.choice((0, 1, 2, 22, 23, 24, 25, 26, 27), size) * rng.choice((-1, 1), size)) << 23
    far = (patterns(rng, size) & 0x807F_FFFF) | (((a.astype(np.int64) & 0x7F80_0000) + gap) & 0x7F80_0000)
    choice = rng.integers(0, 3, size)
    return a, np.choose(choice, (b, far, patterns(rng, size).astype(np.int64))).astype(np.uint32)


@pytest.mark.parametrize(
    "unit, latency, operation, pairs",
    [(Fp32Multiply, timing.FP32_MULTIPLY, np.multiply, products), (Fp32Add, timing.FP32_ADD, np.add, sums)],
    ids=["multiply", "add"],
)
def test_it_equals_numpy(unit, latency, operation, pairs):
    rng = np.random.default_rng(5)
    a, b = pairs(rng, 3000)
    grid = np.meshgrid(EDGES, EDGES)
    a, b = np.concatenate([a, grid[0].ravel()]), np.concatenate([b, grid[1].ravel()])
    with np.errstate(all="ignore"):
        expected = canonical(operation(a.view(np.float32), b.view(np.float32))).view(np.uint32)
    results = stream(unit(), [{"a": int(x), "b": int(y)} for x, y in zip(a, b, strict=True)], latency)
    found = np.array([result["code"] for result in results], np.uint32)
    wrong = np.flatnonzero(found != expected)
    assert not wrong.size, [(hex(a[i]), hex(b[i]), hex(expected[i]), hex(found[i])) for i in wrong[:4]]
