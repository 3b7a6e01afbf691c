"""Exact matrix products: every format and weight width against Fractions, whatever the limbs, the order or the split of K."""

import re
from fractions import Fraction

import numpy as np
import pytest

from golden import gemm as gemm_module
from golden import reference
from golden.codec import decode, decode_weights
from golden.gemm import exact_sums, gemm
from golden.rounding import Flags, Overflow, round_sums
from golden.sums import Sums
from shiftforge.errors import InputError
from shiftforge.formats import FORMATS, WEIGHT_BITS, Format, WeightCode
from tests.golden.cases import ALL, random_codes

OUTPUTS = ["fp32", "fp16", "bf16", "fp8_e5m2", "fp8_e4m3", "int8", "int16"]


def finite(fmt: Format, code: int) -> Fraction:
    value = reference.value_of(fmt, code)
    assert isinstance(value, Fraction)
    return value


def exact_integers(x: np.ndarray, w: np.ndarray, fmt: Format, bits: int, lsb: int, k_bias: np.ndarray | None = None):
    """Python integers in units of ``2**lsb`` from the reference's Fractions."""
    xs = [[finite(fmt, int(c)) for c in row] for row in x]
    biases = [0] * x.shape[1] if k_bias is None else k_bias.tolist()
    ws = [[reference.weight_of(bits, int(c), b) for c, b in zip(column, biases, strict=True)] for column in w.T]
    return [
        [sum((a * b for a, b in zip(row, column, strict=True)), Fraction(0)) / Fraction(2) ** lsb for column in ws]
        for row in xs
    ]


def check_elements(x, w, fmt, bits, output, exponent_bias=0, overflow: Overflow = "inf"):
    """Codes of the whole, and flags of every element, against the reference."""
    codes, flags = gemm(x, w, fmt, WeightCode(bits), output, exponent_bias=exponent_bias, overflow=overflow)
    seen = Flags()
    for i, j in np.ndindex(codes.shape):
        code, *raised = reference.gemm_element(
            fmt,
            x[i].tolist(),
            bits,
            w[:, j].tolist(),
            output,
            exponent_bias=exponent_bias,
            saturate=overflow == "saturate",
        )
        single = gemm(
            x[i : i + 1],
            w[:, j : j + 1],
            fmt,
            WeightCode(bits),
            output,
            exponent_bias=exponent_bias,
            overflow=overflow,
        )
        assert (int(codes[i, j]), int(single[0][0, 0]), single[1]) == (code, code, Flags(*raised)), (i, j)
        seen |= Flags(*raised)
    assert flags == seen


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("bits", WEIGHT_BITS)
@pytest.mark.parametrize("fmt", ALL, ids=lambda f: f.name)
def test_every_pair_of_formats(fmt, bits, output):
    """Random and corner codes, specials in half of the cases, any exponent bias, both overflow modes."""
    rng = np.random.default_rng([fmt.bits, bits, OUTPUTS.index(output)])
    for case, (m, k, n) in enumerate([(3, 1, 3), (2, 5, 3), (1, 17, 2), (3, 8, 1)]):
        x = random_codes(fmt, (m, k), rng, specials=case % 2 == 0)
        w = rng.integers(0, 1 << bits, (k, n), np.uint8)
        bias = int(rng.choice([0, 0, -128, 127, *range(-20, 20)]))
        check_elements(x, w, fmt, bits, FORMATS[output], bias, "saturate" if case >= 2 else "inf")


@pytest.mark.parametrize("bits", WEIGHT_BITS)
@pytest.mark.parametrize("fmt", [f for f in ALL if f.is_float], ids=lambda f: f.name)
def test_cancellation(fmt, bits):
    """Huge terms that cancel and leave the smallest subnormal, a half, or nothing: any rounding on the way loses it."""
    top, e = fmt.max_finite, (1 << (bits - 1)) - 1
    minus = 1 << (bits - 1)
    for tail in ([], [1], [1 | fmt.sign_bit], [1, 1], [fmt.bias << fmt.fraction_bits, 1]):
        x = np.array([[top, *tail, top]])
        w = np.array([[e], *([0] for _ in tail), [e | minus]])
        x = x.astype(np.uint64).astype(f"u{fmt.bytes}")
        check_elements(x, w, fmt, bits, fmt)
        if not tail:
            assert gemm(x, w, fmt, WeightCode(bits), fmt)[0].tolist() == [[0]]


@pytest.mark.parametrize("bits", WEIGHT_BITS)
@pytest.mark.parametrize("fmt", ALL, ids=lambda f: f.name)
@pytest.mark.parametrize("k", [1, 700, 9000])
def test_all_maximum_never_wraps(fmt, bits, k):
    """Also with the smallest value among them, whose bit the sum of a limb must not lose."""
    extremes = [fmt.max_finite, fmt.max_finite | fmt.sign_bit] if fmt.is_float else [fmt.sign_bit - 1, fmt.sign_bit]
    x = np.repeat(np.array(extremes, f"u{fmt.bytes}")[:, None], k, axis=1)
    x[:, k // 2] = 1
    w = np.repeat(np.array([[(1 << (bits - 1)) - 1, (1 << bits) - 1]], np.uint8), k, axis=0)
    w[k // 2] = 0
    sums = exact_sums(x, w, fmt, WeightCode(bits))
    values = [finite(fmt, c) for c in extremes]
    weights = [reference.weight_of(bits, int(c)) for c in ((1 << (bits - 1)) - 1, (1 << bits) - 1)]
    unit = Fraction(2) ** fmt.lsb_exponent
    assert sums.integers().tolist() == [[(k - 1) * a * b / unit + 1 for b in weights] for a in values]


def test_a_sum_beyond_64_bits_of_short_products():
    fmt, k = FORMATS["fp16"], 1 << 21
    sums = exact_sums(np.full((1, k), 0x7BFF, np.uint16), np.full((k, 1), 3, np.uint8), fmt, WeightCode(3))
    assert sums.integers().tolist() == [[k * (65504 << 24) * 8]]


@pytest.mark.parametrize("bits", WEIGHT_BITS)
@pytest.mark.parametrize("fmt", ALL, ids=lambda f: f.name)
@pytest.mark.parametrize("biased", [False, True])
def test_sums_are_exact(fmt, bits, biased):
    rng = np.random.default_rng(bits)
    x = random_codes(fmt, (5, 150), rng, specials=False)
    w = rng.integers(0, 1 << bits, (150, 4), np.uint8)
    k_bias = rng.integers(-8, 8, 150) if biased else None
    sums = exact_sums(x, w, fmt, WeightCode(bits), k_bias=k_bias)
    assert sums.lsb_exponent == fmt.lsb_exponent + (0 if k_bias is None else int(k_bias.min()))
    assert sums.integers().tolist() == exact_integers(x, w, fmt, bits, sums.lsb_exponent, k_bias)
    assert not (sums.pos_inf | sums.neg_inf | sums.nan).any()


@pytest.mark.parametrize("fmt", ALL, ids=lambda f: f.name)
def test_the_extreme_biases_of_k(fmt):
    x = random_codes(fmt, (3, 12), np.random.default_rng(0), specials=False)
    w = np.random.default_rng(1).integers(0, 16, (12, 2), np.uint8)
    k_bias = np.array([-128, 127] * 6, np.int8)
    sums = exact_sums(x, w, fmt, WeightCode(4), k_bias=k_bias)
    assert sums.integers().tolist() == exact_integers(x, w, fmt, 4, sums.lsb_exponent, k_bias)
    for output in ALL:
        codes, _ = round_sums(sums, output, exponent_bias=-128)
        for i, j in np.ndindex(3, 2):
            row, column = x[i].tolist(), w[:, j].tolist()
            want = reference.gemm_element(fmt, row, 4, column, output, exponent_bias=-128, k_bias=k_bias.tolist())
            assert int(codes[i, j]) == want[0]


@pytest.mark.parametrize("fmt", ALL, ids=lambda f: f.name)
@pytest.mark.parametrize("split", [1, 64, 127, 299])
def test_any_split_of_k_gives_the_same_sums(fmt, split):
    rng = np.random.default_rng(split)
    x = random_codes(fmt, (6, 300), rng)
    w = rng.integers(0, 16, (300, 5), np.uint8)
    whole = exact_sums(x, w, fmt, WeightCode(4))
    parts = exact_sums(x[:, :split], w[:split], fmt, WeightCode(4)) + exact_sums(
        x[:, split:], w[split:], fmt, WeightCode(4)
    )
    assert whole.integers().tolist() == parts.integers().tolist()
    for name in ("pos_inf", "neg_inf", "nan"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))


@pytest.mark.parametrize("fmt", ALL, ids=lambda f: f.name)
def test_the_cuts_into_limbs_and_blocks_do_not_matter(fmt, monkeypatch):
    rng = np.random.default_rng(7)
    x = random_codes(fmt, (200, 400), rng)
    w = rng.integers(0, 16, (400, 9), np.uint8)
    expected, flags = gemm(x, w, fmt, WeightCode(4), fmt)
    for name, value in (("_BLOCK", 600), ("_SHORT_K", 1), ("_SHORT_K", 1 << 30), ("_SHORT_K_FLOAT32", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(gemm_module, name, value)
            codes, raised = gemm(x, w, fmt, WeightCode(4), fmt)
        assert np.array_equal(codes, expected), name
        assert raised == flags


def test_large_fp16_as_int64_arithmetic():
    """A size at which BLAS cuts and threads, against NumPy's own 64-bit integers."""
    fmt = FORMATS["fp16"]
    rng = np.random.default_rng(8)
    x = random_codes(fmt, (65, 1000), rng, specials=False)
    w = rng.integers(0, 16, (1000, 70), np.uint8)
    fixed = np.ldexp(decode(fmt, x), 24).astype(np.int64)
    expected = fixed @ decode_weights(w, 4).astype(np.int64)
    sums = exact_sums(x, w, fmt, WeightCode(4))
    assert sums.fixed.dtype == np.int64
    assert np.array_equal(sums.fixed, expected)


def test_conditions_of_a_product():
    fmt = FORMATS["fp16"]
    inf, minus_inf, nan, one = 0x7C00, 0xFC00, 0xFE01, 0x3C00
    x = np.array([[inf, one, one], [minus_inf, one, inf], [nan, inf, minus_inf], [one, one, one]], np.uint16)
    w = np.array([[0, 2], [0, 0], [0, 2]], np.uint8)
    sums = exact_sums(x, w, fmt, WeightCode(2))
    assert sums.pos_inf.tolist() == [[True, False], [True, True], [True, True], [False, False]]
    assert sums.neg_inf.tolist() == [[False, True], [True, True], [True, False], [False, False]]
    assert sums.nan.tolist() == [[False, False], [False, False], [True, True], [False, False]]
    assert sums.fixed.tolist() == [[2 << 24, 0], [1 << 24, 1 << 24], [0, 0], [3 << 24, -1 << 24]]
    codes, flags = round_sums(sums, fmt)
    assert codes.tolist() == [[inf, minus_inf], [0x7E00, 0x7E00], [0x7E00, 0x7E00], [0x4200, 0xBC00]]
    assert flags == Flags(nv=True)
    assert round_sums(Sums(sums.limbs[:, 2:], -24, sums.pos_inf[2:], sums.neg_inf[2:], sums.nan[2:]), fmt)[1] == Flags()


@pytest.mark.parametrize("fmt", ALL, ids=lambda f: f.name)
def test_empty_shapes(fmt):
    for m, k, n in ((0, 3, 2), (2, 3, 0), (2, 0, 3)):
        codes, flags = gemm(
            np.zeros((m, k), f"u{fmt.bytes}"), np.zeros((k, n), np.uint8), fmt, WeightCode(2), FORMATS["fp16"]
        )
        assert codes.shape == (m, n)
        assert not codes.any()
        assert flags == Flags()


@pytest.mark.parametrize(
    "x, w, message",
    [
        ((2, 3), (4, 2), "weights must have K = 3 rows as the activations, not 4"),
        ((3,), (3, 2), "activations must be a matrix, not of shape (3,)"),
        ((2, 3), (3,), "weights must be a matrix, not of shape (3,)"),
        ((0, (1 << 22) + 1), ((1 << 22) + 1, 0), "K must be at most 4194304, not 4194305"),
    ],
)
def test_bad_shapes(x, w, message):
    for call in (gemm, exact_sums):
        outputs = [FORMATS["fp16"]] if call is gemm else []
        with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
            call(np.zeros(x, np.uint16), np.zeros(w, np.uint8), FORMATS["fp16"], WeightCode(2), *outputs)


@pytest.mark.parametrize(
    "k_bias, message",
    [
        (np.zeros(2, np.int8), "k_bias must be K = 3 integers, not int8 of shape (2,)"),
        (np.zeros(3), "k_bias must be K = 3 integers, not float64 of shape (3,)"),
        (np.array([0, -129, 0]), "k_bias must be -128..127, not (-129, 0)"),
        (np.array([0, 128, 0]), "k_bias must be -128..127, not (0, 128)"),
    ],
)
def test_bad_k_bias(k_bias, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        exact_sums(
            np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), FORMATS["int8"], WeightCode(2), k_bias=k_bias
        )


def test_bad_exponent_bias():
    with pytest.raises(InputError, match=r"^exponent_bias must be -128\.\.127, not 128$"):
        gemm(
            np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8), FORMATS["int8"], WeightCode(2), FORMATS["int8"],
            exponent_bias=128,
        )  # fmt: skip
