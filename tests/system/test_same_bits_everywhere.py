"""The promise: the bits of the Fraction reference, from the golden model and from the gateware, for any array, shape and tiling."""

from dataclasses import dataclass

import numpy as np
import pytest

from golden import reference
from golden.emulator import EmulatorTransport
from golden.rounding import Overflow
from shiftforge.config import ALIGNED_FORMATS, BANKED_FORMATS, Config, from_dict
from shiftforge.formats import FORMATS, WEIGHT_BITS, format_named
from shiftforge.registers import Flag
from sim.backends import open_transport
from sw_driver.accelerator import Accelerator
from sw_driver.layout import storage_dtype
from tests.golden.cases import random_codes

SHAPES = [(1, 1), (3, 5), (8, 8), (16, 16)]
FAST_SHAPES = SHAPES[:2]
MAX_K = 40


@dataclass(frozen=True)
class Product:
    """One matrix product: its operands as codes, and how it is rounded."""

    x: np.ndarray
    w: np.ndarray
    exponent_bias: int
    overflow: Overflow

    @property
    def shape(self) -> str:
        return f"{self.x.shape[0]}x{self.x.shape[1]}x{self.w.shape[1]}, bias {self.exponent_bias}, {self.overflow}"


def _config(rows: int, cols: int, activation: str, output: str, weight_bits: int, accumulator: str = "") -> Config:
    array = {
        **({"accumulator": accumulator} if accumulator else {}),
        "rows": rows,
        "cols": cols,
        "activation": activation,
        "output": output,
        "weight_bits": weight_bits,
        "max_k": MAX_K,
    }
    return from_dict({"array": array})


def _products(config: Config, rng: np.random.Generator) -> list[Product]:
    """Ragged, tiny, deep and wide; subnormals and both zeros among all, infinities and NaN in some."""
    sizes = [(1, 1, 1), (config.rows + 1, MAX_K, config.cols + 2), (2 * config.rows - 1, 7, 3), (5, MAX_K - 1, 2)]
    products = []
    for i, (m, k, n) in enumerate(sizes):
        x = random_codes(config.activation, (m, k), rng, specials=False)
        if i % 2:  # few enough that most sums stay finite
            special = rng.random(x.shape) < 0.01
            x = np.where(special, random_codes(config.activation, x.shape, rng), x).astype(x.dtype)
        w = rng.integers(0, 1 << config.weights.bits, (k, n)).astype(np.uint8)
        products.append(Product(x, w, 0, "inf"))
        products.append(Product(x, w, int(rng.integers(-128, 128)), "saturate"))
    return products


def _hard_products(config: Config, rng: np.random.Generator) -> list[Product]:
    """Of length `max_k`: sums that cancel but for a bit, the tiniest among the hugest, and the largest of either sign."""
    fmt, sign_bit = config.activation, config.weights.sign_bit
    m, n = config.rows + 1, config.cols + 1
    dtype = storage_dtype(fmt)
    huge, tiny, negative = fmt.max_finite, 1, fmt.sign_bit
    # Every other product undoes the one before it; the last ones are the tiniest.
    pairs = np.repeat(random_codes(fmt, (m, MAX_K // 2), rng, specials=False), 2, axis=1)
    pairs[:, -2:] = tiny
    signs = np.tile([0, sign_bit], MAX_K // 2)[:, None]
    exponents = np.repeat(rng.integers(0, sign_bit, (MAX_K // 2, n)), 2, axis=0)
    cancelling = (signs | exponents).astype(np.uint8)
    cancelling[-1] &= sign_bit - 1
    mixed = rng.choice([huge, tiny, 0], (m, MAX_K)) ^ (rng.choice([0, negative], (m, MAX_K)) if fmt.is_float else 0)
    largest = np.full((m, MAX_K), huge)
    largest[-1] = negative | huge if fmt.is_float else negative
    top = np.full((MAX_K, n), sign_bit - 1, np.uint8)
    top[:, -1] |= sign_bit
    operands = (
        (pairs, cancelling),
        (mixed, cancelling),
        (mixed, rng.integers(0, 2 * sign_bit, top.shape)),
        (largest, top),
    )
    within = -(MAX_K.bit_length() + config.weights.max_exponent)  # the largest sum is finite with this bias
    return [
        Product(x.astype(dtype), w.astype(np.uint8), bias, "inf" if bias else "saturate")
        for x, w in operands
        for bias in (0, within)
    ]


def _expected(config: Config, product: Product, rng: np.random.Generator) -> dict[tuple[int, int], int]:
    """A sample of the elements, by Fractions."""
    m, n = product.x.shape[0], product.w.shape[1]
    elements = {(int(i), int(j)) for i, j in zip(rng.integers(0, m, 12), rng.integers(0, n, 12), strict=True)}
    return {
        (i, j): reference.gemm_element(
            config.activation,
            product.x[i].tolist(),
            config.weights.bits,
            product.w[:, j].tolist(),
            config.output,
            exponent_bias=product.exponent_bias,
            saturate=product.overflow == "saturate",
        )[0]
        for i, j in elements
    }


def _golden(config: Config, products: list[Product]) -> list[tuple[np.ndarray, Flag]]:
    machine = Accelerator(EmulatorTransport(config), config)
    results = []
    for p in products:
        codes = machine.gemm(p.x, p.w, exponent_bias=p.exponent_bias, overflow=p.overflow)
        results.append((codes, machine.flags))
    return results


@pytest.mark.parametrize("weight_bits", [2, 3, 4])
@pytest.mark.parametrize("activation", list(FORMATS))
def test_golden_gives_the_bits_of_fractions(activation: str, weight_bits: int) -> None:
    rng = np.random.default_rng(weight_bits)
    outputs = [activation, *rng.choice([f for f in FORMATS if f != activation], 2, replace=False)]
    for output, (rows, cols) in zip(outputs, [(1, 1), (3, 5), (8, 8)], strict=True):
        config = _config(rows, cols, activation, str(output), weight_bits)
        products = _products(config, rng)
        for product, (codes, _) in zip(products, _golden(config, products), strict=True):
            for (i, j), code in _expected(config, product, rng).items():
                assert codes[i, j] == code, f"{activation} to {output}, {product.shape}, element {(i, j)}"


def test_every_tiling_gives_the_same_bits() -> None:
    rng = np.random.default_rng(7)
    x = random_codes(format_named("fp16"), (23, MAX_K), rng, specials=False)
    w = rng.integers(0, 8, (MAX_K, 19)).astype(np.uint8)
    first = None
    for rows, cols in [(1, 1), (2, 7), (3, 5), (8, 8), (16, 4), (5, 16)]:
        config = _config(rows, cols, "fp16", "fp16", 3)
        codes = Accelerator(EmulatorTransport(config), config).gemm(x, w)
        first = codes if first is None else first
        assert np.array_equal(codes, first), f"{rows}x{cols}"


def _check_rtl(config: Config, seed: int, stalls: int | None) -> None:
    products = _products(config, np.random.default_rng(seed))
    with open_transport("rtl", config, stalls=stalls) as transport:
        machine = Accelerator(transport, config)
        # Back to back, without reset: nothing of one product may be left in the next.
        for product, (codes, flags) in zip(products, _golden(config, products), strict=True):
            found = machine.gemm(product.x, product.w, exponent_bias=product.exponent_bias, overflow=product.overflow)
            assert np.array_equal(found, codes), product.shape
            assert machine.flags == flags, product.shape


def _check_everywhere(config: Config, seed: int) -> None:
    """Fractions, golden model and gateware give the same bits for hard products."""
    rng = np.random.default_rng(seed)
    products = [*_hard_products(config, rng), *_products(config, rng)]
    results = _golden(config, products)
    for product, (codes, _) in zip(products, results, strict=True):
        for (i, j), code in _expected(config, product, rng).items():
            assert codes[i, j] == code, f"{product.shape}, element {(i, j)}"
    with open_transport("rtl", config, stalls=seed) as transport:
        machine = Accelerator(transport, config)
        for product, (codes, flags) in zip(products, results, strict=True):
            found = machine.gemm(product.x, product.w, exponent_bias=product.exponent_bias, overflow=product.overflow)
            assert np.array_equal(found, codes), product.shape
            assert machine.flags == flags, product.shape


MACHINES = [
    (activation, bits, accumulator)
    for accumulator, built in (("aligned", ALIGNED_FORMATS), ("banked", BANKED_FORMATS))
    for activation in built
    for bits in WEIGHT_BITS
]


@pytest.mark.parametrize(("activation", "weight_bits", "accumulator"), MACHINES)
def test_every_machine_gives_the_bits_of_fractions(activation: str, weight_bits: int, accumulator: str) -> None:
    """Every format x weight bits x accumulator that is built, as a whole accelerator; shapes and outputs take turns."""
    number = MACHINES.index((activation, weight_bits, accumulator))
    output = activation if number % 2 else [*FORMATS][number % len(FORMATS)]
    shape = ((1, 1), (2, 3))[number % 3 == 0]
    _check_everywhere(_config(*shape, activation, output, weight_bits, accumulator), seed=number + 1)


CASES = [
    ("int8", "int8", 2),
    ("fp8_e4m3", "fp16", 4),
    ("fp16", "fp16", 3),
    ("int8", "fp32", 4),
    ("int16", "int8", 3),
    ("fp8_e4m3", "fp8_e4m3", 3),
    ("fp8_e5m2", "bf16", 2),
    ("fp8_e4m3", "int16", 2),
    ("int8", "int16", 3),
    ("int16", "fp8_e5m2", 4),
    ("fp16", "fp32", 2),
    ("fp16", "fp8_e4m3", 4),
    ("bf16", "bf16", 4),
    ("bf16", "fp16", 2),
    ("fp32", "fp32", 3),
    ("fp32", "int8", 4),
]


def test_the_cases_cover_every_format_that_is_built() -> None:
    assert {case[0] for case in CASES} == set(FORMATS)
    assert {case[1] for case in CASES} == set(FORMATS)
    for activation in ("int8", "fp8_e4m3", "fp16"):
        assert {bits for name, _, bits in CASES if name == activation} == {2, 3, 4}


@pytest.mark.parametrize(("activation", "output", "weight_bits"), CASES[1:3])
def test_gateware_gives_the_same_bits(activation: str, output: str, weight_bits: int) -> None:
    _check_rtl(_config(3, 5, activation, output, weight_bits), seed=1, stalls=None)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # compiling a simulation of 16x16 can take five minutes where the machine is shared
@pytest.mark.parametrize(
    ("shape", "case"),
    [(shape, case) for shape in SHAPES for case in (CASES if shape in FAST_SHAPES else CASES[:3])],
    ids=lambda value: "-".join(map(str, value)),
)
def test_gateware_gives_the_same_bits_for_all(shape: tuple[int, int], case: tuple[str, str, int]) -> None:
    config = _config(*shape, *case)
    _check_rtl(config, seed=2, stalls=None)
    _check_rtl(config, seed=3, stalls=4)
