"""Weights with a mask bit: a masked product is not made, so it adds nothing to a sum, not even NaN or 0 * inf."""

import re

import numpy as np
import pytest

from golden import reference
from golden.array import Array
from golden.codec import decode, decode_weights, encode_weights
from golden.gemm import exact_sums, gemm
from golden.rounding import Flags, storage_dtype
from shiftforge.config import ALIGNED_FORMATS, from_dict
from shiftforge.errors import InputError
from shiftforge.formats import FORMATS, WEIGHT_BITS, WeightCode
from tests.golden.cases import ALL, random_codes


def masked_codes(bits: int, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Half of the elements masked (with any code under the mask), one column without a product where there are two or more."""
    codes = rng.integers(0, 2 << bits, shape, np.uint8)
    if shape[1] > 1:
        codes[:, 1] |= 1 << bits
    return codes


@pytest.mark.parametrize("bits", WEIGHT_BITS)
@pytest.mark.parametrize("fmt", ALL, ids=lambda f: f.name)
def test_every_format_against_fractions(fmt, bits):
    """Random and corner codes, in half of the cases specials, of which the masked ones must not be seen."""
    rng = np.random.default_rng([fmt.bits, bits])
    code = WeightCode(bits, mask=True)
    for case, (m, k, n) in enumerate([(4, 1, 3), (3, 6, 4), (2, 33, 3), (6, 9, 2)]):
        x = random_codes(fmt, (m, k), rng, specials=case % 2 == 1)
        w = masked_codes(bits, (k, n), rng)
        for output in (fmt, FORMATS["fp32"], FORMATS["int8"]):
            codes, flags = gemm(x, w, fmt, code, output, exponent_bias=case - 2)
            seen = Flags()
            for i, j in np.ndindex(m, n):
                row, column = x[i].tolist(), w[:, j].tolist()
                wanted, *raised = reference.gemm_element(fmt, row, bits, column, output, exponent_bias=case - 2)
                assert int(codes[i, j]) == wanted, (i, j)
                seen |= Flags(*raised)
            assert flags == seen
            assert not codes[:, 1].any()


@pytest.mark.parametrize("bits", WEIGHT_BITS)
@pytest.mark.parametrize("fmt", ALL, ids=lambda f: f.name)
def test_masking_is_leaving_out(fmt, bits):
    """The sum under a mask is the sum of a shorter dot product, with sizes at which the operands are cut into limbs."""
    rng = np.random.default_rng(bits)
    x = random_codes(fmt, (5, 300), rng)
    w = rng.integers(0, 1 << bits, (300, 6), np.uint8)
    present = rng.random((300, 6)) < 0.5
    masked = exact_sums(x, np.where(present, w, w | (1 << bits)).astype(np.uint8), fmt, WeightCode(bits, mask=True))
    for j in range(6):
        alone = exact_sums(x[:, present[:, j]], w[present[:, j], j : j + 1], fmt, WeightCode(bits))
        assert masked.integers()[:, j].tolist() == alone.integers()[:, 0].tolist()
        for name in ("pos_inf", "neg_inf", "nan"):
            assert np.array_equal(getattr(masked, name)[:, j], getattr(alone, name)[:, 0]), name


@pytest.mark.parametrize("fmt", ALL, ids=lambda f: f.name)
def test_nothing_but_masked_products(fmt):
    """+0 whatever the activations are, the largest, infinities and NaN among them, and no flag."""
    x = random_codes(fmt, (40, 9), np.random.default_rng(0))
    w = np.full((9, 2), 16 + 9, np.uint8)
    codes, flags = gemm(x, w, fmt, WeightCode(4, mask=True), fmt)
    assert not codes.any()
    assert flags == Flags()


def test_a_block_diagonal_product_is_grouped():
    """Four groups as one masked product, against a product for each group by itself."""
    fmt, code = FORMATS["fp16"], WeightCode(3, mask=True)
    rng = np.random.default_rng(3)
    x = random_codes(fmt, (7, 20), rng)
    w = np.full((20, 12), code.mask_bit, np.uint8)
    for g in range(4):
        w[5 * g : 5 * g + 5, 3 * g : 3 * g + 3] = rng.integers(0, 8, (5, 3))
    whole, _ = gemm(x, w, fmt, code, fmt)
    for g in range(4):
        columns = slice(3 * g, 3 * g + 3)
        part, _ = gemm(x[:, 5 * g : 5 * g + 5], w[5 * g : 5 * g + 5, columns], fmt, WeightCode(3), fmt)
        assert np.array_equal(whole[:, columns], part)


@pytest.mark.parametrize("bits", WEIGHT_BITS)
def test_values_and_elements(bits):
    code = WeightCode(bits, mask=True)
    assert (code.element_bits, code.mask_bit) == (bits + 1, 1 << bits)
    elements = np.arange(2 << bits)
    values = decode_weights(elements, bits, -3, mask=True)
    assert values[: 1 << bits].tolist() == decode_weights(elements[: 1 << bits], bits, -3).tolist()
    assert values[1 << bits :].tolist() == [0.0] * (1 << bits)
    assert [float(reference.weight_of(bits, int(e), -3)) for e in elements] == values.tolist()
    again = encode_weights(values, bits, -3, mask=True)
    assert again.tolist() == [*range(1 << bits), *[1 << bits] * (1 << bits)]
    assert encode_weights([0.0, -0.0, 1], bits, mask=True).tolist() == [1 << bits, 1 << bits, 0]


@pytest.mark.parametrize(
    ("values", "mask", "message"),
    [
        (
            [1, 0],
            False,
            "weight at index (1,) must be ±2**e with e in 0..3 for 3 bits, not 0; set array.mask = true for weights of zero",
        ),
        ([0, 3], True, "weight at index (1,) must be ±2**e with e in 0..3 for 3 bits or zero, not 3"),
        ([0, np.nan], True, "weight at index (1,) must be ±2**e with e in 0..3 for 3 bits or zero, not nan"),
    ],
)
def test_wrong_values(values, mask, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        encode_weights(values, 3, mask=mask)


def test_wrong_elements():
    with pytest.raises(InputError, match=r"^weight code at index \(1,\) must be 0\.\.7, not 8$"):
        decode_weights(np.array([7, 8]), 3)
    with pytest.raises(InputError, match=r"^weight code at index \(0,\) must be 0\.\.15, not 16$"):
        decode_weights(np.array([16]), 3, mask=True)


@pytest.mark.parametrize("bits", WEIGHT_BITS)
@pytest.mark.parametrize("name", ALIGNED_FORMATS)
def test_the_cycle_true_array(name, bits):
    """Captures of columns that have different numbers of products are those of the exact sums, flags included."""
    array = {"rows": 2, "cols": 3, "activation": name, "output": "fp32", "weight_bits": bits, "max_k": 24}
    config = from_dict({"array": {**array, "accumulator": "aligned", "mask": True}})
    rng = np.random.default_rng(bits)
    tiles = [
        (
            random_codes(config.activation, (2, k), rng).astype(np.uint32),
            masked_codes(bits, (k, 3), rng),
        )
        for k in (2, 24, 8, 2)
    ]
    model = Array(config)
    columns = model.readings(model.trace(model.schedule(tiles, rng.random(40) < 0.2)))
    for c, readings in enumerate(columns):
        assert len(readings) == 2 * len(tiles)
        for reading in readings:
            x, w = tiles[reading.tile]
            row = x[reading.row : reading.row + 1].astype(storage_dtype(config.activation))
            sums = exact_sums(row, w[:, c : c + 1], config.activation, config.weights)
            assert reading.value == sums.integers()[0, 0]
            assert reading.flags == sums.nan[0, 0] + 2 * sums.pos_inf[0, 0] + 4 * sums.neg_inf[0, 0]


def test_large_masked_fp16_as_int64_arithmetic():
    """A size at which BLAS cuts and threads, against NumPy's own 64-bit integers."""
    fmt, rng = FORMATS["fp16"], np.random.default_rng(8)
    x = random_codes(fmt, (65, 1000), rng, specials=False)
    w = masked_codes(4, (1000, 70), rng)
    expected = np.ldexp(decode(fmt, x), 24).astype(np.int64) @ decode_weights(w, 4, mask=True).astype(np.int64)
    assert np.array_equal(exact_sums(x, w, fmt, WeightCode(4, mask=True)).fixed, expected)
