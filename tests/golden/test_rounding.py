"""One rounding from exact sums: every format, both overflow modes, against the slow reference."""

from fractions import Fraction

import numpy as np
import pytest

from golden import reference
from golden.rounding import Flags, round_float64, round_fp32, round_sums, storage_dtype
from golden.sums import Sums
from shiftforge.errors import InputError
from shiftforge.formats import FP32, Format
from tests.golden.cases import ALL, FLOATS, INTEGERS, TWINS, random_codes

OVERFLOWS = ["inf", "saturate"]


def check(values: list[int], lsb: int, fmt: Format, overflow: str, bias: int = 0) -> None:
    """All at once for the codes, one by one for the flags."""
    sums = Sums.from_integers(np.array(values, object), lsb)
    codes, flags = round_sums(sums, fmt, exponent_bias=bias, overflow=overflow)  # pyright: ignore[reportArgumentType]
    assert codes.dtype == storage_dtype(fmt)
    seen = Flags()
    for value, code in zip(values, codes, strict=True):
        exact = value * Fraction(2) ** (lsb + bias)
        want, *raised = reference.round_to(fmt, exact, saturate=overflow == "saturate")
        single = round_sums(Sums.from_integers([value], lsb), fmt, exponent_bias=bias, overflow=overflow)  # pyright: ignore[reportArgumentType]
        assert (int(code), int(single[0][0]), single[1]) == (want, want, Flags(*raised)), (value, lsb, bias)
        seen |= Flags(*raised)
    assert flags == seen


@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize("fmt", ALL, ids=lambda f: f.name)
def test_every_neighbourhood_of_random_codes(fmt, overflow):
    """Each code, the middle to the next one, and both displaced by one part in 2**70, with both signs."""
    codes = np.unique(random_codes(fmt, (50,), np.random.default_rng(0), specials=False) & (fmt.sign_bit - 1))
    values: list[int] = []
    for code in codes:
        low = reference.value_of(fmt, int(code))
        high = reference.value_of(fmt, int(code) + 1)
        assert isinstance(low, Fraction)
        if not isinstance(high, Fraction):
            high = 2 * low - reference.value_of(fmt, int(code) - 1)  # pyright: ignore[reportOperatorIssue]
        if code == fmt.max_finite:
            high = abs(high)
        for point in (low, (low + high) / 2):
            fixed = int(point * Fraction(2) ** (70 - fmt.lsb_exponent))
            values += [s * (fixed + d) for s in (1, -1) for d in (-1, 0, 1)]
    check(values, fmt.lsb_exponent - 70, fmt, overflow)


@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize("bias", [-128, -40, -1, 0, 1, 30, 127])
@pytest.mark.parametrize("fmt", ALL, ids=lambda f: f.name)
def test_every_exponent_bias(fmt, bias, overflow):
    rng = np.random.default_rng(bias + 128)
    for lsb, bits in ((fmt.lsb_exponent - bias - 3, 20), (fmt.lsb_exponent, 60), (-149, 280), (-24, 50), (0, 30)):
        values = [0, 1, -1]
        for _ in range(12):
            value = int(rng.integers(1, 1 << 30)) << int(rng.integers(0, bits)) >> int(rng.integers(0, 30))
            values += [value, -value, value + 1]
        check(values, lsb, fmt, overflow, bias)


@pytest.mark.parametrize("place", [0, 5, 31, 32, 63, 64, 90, 127, 128])
@pytest.mark.parametrize("fmt", ALL, ids=lambda f: f.name)
def test_one_bit_anywhere_below_breaks_a_tie(fmt, place):
    """A wide sum at the middle of two neighbours, around 1 (floats) or 64 (integers), and one bit beside it."""
    fraction_bits = fmt.fraction_bits if fmt.is_float else 6
    half = 1 << (200 - fraction_bits - 1)
    values = [s * ((1 << 200) + h * half + d * (1 << place)) for s in (1, -1) for h in (1, 3) for d in (-1, 0, 1)]
    check(values, -200 + (0 if fmt.is_float else 6), fmt, "inf")


@pytest.mark.parametrize("fmt", FLOATS, ids=lambda f: f.name)
def test_zeros(fmt):
    codes, flags = round_sums(Sums.from_integers([0, -1, 1], -400), fmt)
    assert codes.tolist() == [0, fmt.sign_bit, 0]
    assert flags == Flags(nx=True)


@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize("fmt", ALL, ids=lambda f: f.name)
def test_conditions(fmt, overflow):
    """All eight combinations; the finite part never matters."""
    for index in range(8):
        pos, neg, nan = (np.array([bool(index >> i & 1)]) for i in range(3))
        value = "nan" if nan or (pos and neg) else "+inf" if pos else "-inf" if neg else Fraction(-3)
        code, nv, of, nx = reference.round_to(fmt, value, saturate=overflow == "saturate")
        sums = Sums.from_integers([-3], 0, pos_inf=pos, neg_inf=neg, nan=nan)
        got, flags = round_sums(sums, fmt, overflow=overflow)
        invalid = bool(pos[0] and neg[0] and not nan[0])
        assert (int(got[0]), flags) == (code, Flags(nv or invalid, of, nx))


@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize("fmt", ALL, ids=lambda f: f.name)
def test_fp32_patterns_as_the_reference(fmt, overflow):
    bits = random_codes(FP32, (700,), np.random.default_rng(4))
    near = np.ldexp(random_codes(FP32, (700,), np.random.default_rng(5)).astype(np.float32), -32 + np.arange(700) % 40)
    for pattern in np.concatenate([bits, near.astype(np.float32).view(np.uint32)]):
        codes, flags = round_fp32(np.array([pattern]), fmt, overflow=overflow)
        code, *raised = reference.round_to(
            fmt,
            reference.value_of(FP32, int(pattern)),
            negative_zero=bool(pattern >> 31),
            saturate=overflow == "saturate",
        )
        assert (int(codes[0]), flags) == (code, Flags(*raised)), hex(pattern)


@pytest.mark.parametrize("fmt", FLOATS, ids=lambda f: f.name)
def test_fp32_patterns_as_numpy_and_ml_dtypes(fmt):
    bits = np.random.default_rng(6).integers(0, 1 << 32, 1 << 18, np.uint64).astype(np.uint32)
    with np.errstate(all="ignore"):
        expected = bits.view(np.float32).astype(TWINS[fmt.name])
        nan = np.isnan(expected.astype(np.float64))
    assert np.array_equal(round_fp32(bits, fmt)[0], np.where(nan, fmt.nan, expected.view(storage_dtype(fmt))))


@pytest.mark.parametrize("fmt", INTEGERS, ids=lambda f: f.name)
def test_integer_flags(fmt):
    top = 2.0 ** (fmt.bits - 1)
    cases = {
        0.5: Flags(nx=True),
        top - 0.75: Flags(nx=True),
        top - 0.5: Flags(of=True, nx=True),
        -top - 0.5: Flags(nx=True),
        -top - 1: Flags(of=True, nx=True),
        -top: Flags(),
        np.inf: Flags(nv=True),
        np.nan: Flags(nv=True),
    }
    for value, flags in cases.items():
        assert round_float64(np.array([value]), fmt)[1] == flags, value


def test_shapes_and_chunks():
    values = np.arange(3 * 20000, dtype=np.float64).reshape(3, 20000) / 8
    codes, flags = round_float64(values[:, ::2], FP32)
    assert np.array_equal(codes.view(np.float32), values[:, ::2])
    assert flags == Flags()
    late = values.copy()
    late[2, -1] += 2.0**-30
    assert round_float64(late, FP32)[1] == Flags(nx=True)
    for shape in ((), (0,), (3, 0), (2, 3, 4)):
        assert round_sums(Sums.from_integers(np.ones(shape, np.int64), 0), FP32)[0].shape == shape


def test_refusals():
    one = Sums.from_integers([1], 0)
    for bias in (-129, 128):
        with pytest.raises(InputError, match=rf"^exponent_bias must be -128\.\.127, not {bias}$"):
            round_sums(one, FP32, exponent_bias=bias)
    with pytest.raises(InputError, match=r"""^overflow must be "inf" or "saturate", not 'wrap'$"""):
        round_sums(one, FP32, overflow="wrap")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=r"^binary32 patterns must be uint32, not float32$"):
        round_fp32(np.ones(1, np.float32), FP32)  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        InputError, match=r"^exponents of sums must be within those of float64, not from 2\*\*-1100 in 1 limbs$"
    ):
        round_sums(Sums.from_integers([1], -1100), FP32)


def test_flags_join():
    assert Flags(nv=True) | Flags(of=True) | Flags(nx=True) == Flags(True, True, True)
    assert Flags() | Flags() == Flags()
