"""Codes and values: exhaustive where there are at most 2**16 codes."""

import re

import ml_dtypes
import numpy as np
import pytest

from golden import reference
from golden.codec import decode, decode_weights, encode, encode_exact_integers, encode_weights, storage_dtype
from shiftforge.errors import InputError
from shiftforge.formats import FORMATS, WEIGHT_BITS
from tests.golden.cases import ALL, FLOATS, INTEGERS, TWINS, every_code, random_codes, twin_values

EIGHT = [f for f in ALL if f.bits == 8]


def same_floats(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal values, NaN where NaN, and equal signs of zero."""
    return np.array_equal(a, b, equal_nan=True) and bool((np.signbit(a) == np.signbit(b))[~np.isnan(a)].all())


def round_fp32_with_numpy(fmt, values: np.ndarray) -> np.ndarray:
    """Codes by a NumPy or ml_dtypes cast from float32, which rounds once; NaN made canonical."""
    with np.errstate(all="ignore"):
        cast = values.astype(np.float32).astype(TWINS[fmt.name])
        nan = np.isnan(cast.astype(np.float64))
    return np.where(nan, fmt.nan, cast.view(storage_dtype(fmt)))


@pytest.mark.parametrize("fmt", ALL, ids=lambda f: f.name)
def test_decode_every_code(fmt):
    codes = every_code(fmt) if fmt.bits <= 16 else random_codes(fmt, (1 << 17,), np.random.default_rng(0))
    assert same_floats(decode(fmt, codes), twin_values(fmt, codes))


@pytest.mark.parametrize("fmt", ALL, ids=lambda f: f.name)
def test_encode_undoes_decode(fmt):
    codes = every_code(fmt) if fmt.bits <= 16 else random_codes(fmt, (1 << 17,), np.random.default_rng(0))
    values = decode(fmt, codes)
    expected = np.where(np.isnan(values), fmt.nan, codes) if fmt.is_float else codes
    got = encode(fmt, values)
    assert got.dtype == storage_dtype(fmt)
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("fmt", FLOATS, ids=lambda f: f.name)
@pytest.mark.parametrize("source", ["fp16", "bf16", "fp8_e5m2", "fp8_e4m3"])
def test_encode_every_small_float_from_its_own_dtype(source, fmt):
    codes = every_code(FORMATS[source])
    values = codes.view(TWINS[source])
    assert np.array_equal(encode(fmt, values), round_fp32_with_numpy(fmt, twin_values(FORMATS[source], codes)))


@pytest.mark.parametrize("fmt", FLOATS, ids=lambda f: f.name)
def test_encode_random_fp32(fmt):
    values = random_codes(FORMATS["fp32"], (1 << 18,), np.random.default_rng(1)).view(np.float32)
    near = np.ldexp(values.view(np.uint32).astype(np.float32), -32 - np.arange(len(values)) % 64)
    for floats in (values, near):
        assert np.array_equal(encode(fmt, floats), round_fp32_with_numpy(fmt, floats))


@pytest.mark.parametrize("fmt", EIGHT, ids=lambda f: f.name)
@pytest.mark.parametrize("overflow", ["inf", "saturate"])
def test_encode_every_fp16_as_the_reference(fmt, overflow):
    fp16 = FORMATS["fp16"]
    codes = every_code(fp16)
    expected = [
        reference.round_to(
            fmt, reference.value_of(fp16, c), negative_zero=c == 0x8000, saturate=overflow == "saturate"
        )[0]
        for c in range(1 << 16)
    ]
    assert np.array_equal(encode(fmt, codes.view(np.float16), overflow), expected)


@pytest.mark.parametrize("fmt", INTEGERS, ids=lambda f: f.name)
def test_encode_every_bf16_to_integers(fmt):
    values = every_code(FORMATS["bf16"]).view(ml_dtypes.bfloat16)
    floats = twin_values(FORMATS["bf16"], values.view(np.uint16))
    limits = np.iinfo(TWINS[fmt.name])
    expected = np.clip(np.rint(np.nan_to_num(floats, nan=0.0)), limits.min, limits.max).astype(TWINS[fmt.name])
    assert np.array_equal(encode(fmt, values), expected.view(storage_dtype(fmt)))


@pytest.mark.parametrize("fmt", ALL, ids=lambda f: f.name)
def test_encode_float64_rounds_once(fmt):
    """Just above, at and just below the middle of two neighbours, where a cast through float32 goes wrong."""
    magnitudes = np.unique(random_codes(fmt, (200,), np.random.default_rng(2), specials=False) & (fmt.sign_bit - 1))
    codes = magnitudes[magnitudes < fmt.max_finite].astype(np.int64)
    low, high = (decode(fmt, c.astype(storage_dtype(fmt))) for c in (codes, codes + 1))
    middle = (low + high) / 2
    tiny = (high - low) * 2.0**-27
    for sign, bit in ((1, 0), (-1, fmt.sign_bit)):

        def code(magnitude: np.ndarray, sign: int = sign, bit: int = bit) -> np.ndarray:
            return magnitude | bit if fmt.is_float else (sign * magnitude) & ((1 << fmt.bits) - 1)

        assert np.array_equal(encode(fmt, sign * (middle - tiny)), code(codes))
        assert np.array_equal(encode(fmt, sign * (middle + tiny)), code(codes + 1))
        assert np.array_equal(encode(fmt, sign * middle), code(codes + codes % 2))


def test_a_cast_through_float32_would_round_twice():
    value = np.array([1 + 2.0**-8 + 2.0**-40])
    assert encode(FORMATS["bf16"], value)[0] == 0x3F81
    assert encode(FORMATS["bf16"], value.astype(np.float32))[0] == 0x3F80


@pytest.mark.parametrize("fmt", ALL, ids=lambda f: f.name)
@pytest.mark.parametrize("dtype", ["bool", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_encode_integers_of_any_width(fmt, dtype):
    rng = np.random.default_rng(3)
    if dtype == "bool":
        values = np.array([False, True])
    else:
        limits = np.iinfo(dtype)
        powers = [2**e + d for e in range(64) for d in (-1, 0, 1)] + [
            2**60 + 2**52 + 1,
            2**62 + 2**38 + 1,
            2**62 + 2**38,
        ]
        values = [s * p for p in powers for s in (1, -1) if limits.min <= s * p <= limits.max]
        values = np.array([0, limits.min, limits.max, *values, *rng.integers(limits.min, limits.max, 50, dtype)], dtype)
    expected = [reference.round_to(fmt, reference.Fraction(int(v)))[0] for v in values]
    assert encode(fmt, values).tolist() == expected


def test_encode_refuses_what_it_cannot_round_once():
    for values in (np.zeros(2, np.longdouble), np.zeros(2, np.complex64), np.array(["1"]), np.array([None])):
        with pytest.raises(InputError, match=r"^values must be real numbers of at most 64 bits, not "):
            encode(FORMATS["fp16"], values)
    with pytest.raises(InputError, match=r"""^overflow must be "inf" or "saturate", not 'wrap'$"""):
        encode(FORMATS["fp16"], [1.0], "wrap")  # pyright: ignore[reportArgumentType]


def test_signalling_nans_become_canonical_without_warnings():
    assert (
        encode(FORMATS["fp16"], np.array([0x7F800001, 0xFF800001], np.uint32).view(np.float32)).tolist() == [0x7E00] * 2
    )
    assert encode(FORMATS["fp16"], np.array([0x7FF0 << 48 | 1], np.uint64).view(np.float64)).tolist() == [0x7E00]
    assert encode(FORMATS["int8"], np.array([0x7FF0 << 48 | 1], np.uint64).view(np.float64)).tolist() == [0]
    assert np.isnan(decode(FORMATS["fp32"], np.array([0x7F800001], np.uint32))).all()


def test_shapes_are_kept():
    for shape in ((), (0,), (2, 0), (2, 3, 4), (1, 70000)):
        assert encode(FORMATS["bf16"], np.ones(shape)).shape == shape
        assert decode(FORMATS["bf16"], np.zeros(shape, np.uint16)).shape == shape


@pytest.mark.parametrize(
    "codes, message",
    [
        (np.array([[1, 2], [3, 256]], np.uint16), "code of int8 at index (1, 1) must have 8 bits, not 0x100"),
        (np.array([1], np.int8), "codes of int8 must be raw bits in an unsigned integer array, not int8"),
    ],
)
def test_decode_refusals(codes, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        decode(FORMATS["int8"], codes)


@pytest.mark.parametrize(
    "values, message",
    [
        (np.array([[0, 1], [2, 2.5]]), "value at index (1, 1) must be an integer in -128..127 for int8, not 2.5"),
        (np.array([-128, 128]), "value at index (1,) must be an integer in -128..127 for int8, not 128"),
        (np.array([-129.0]), "value at index (0,) must be an integer in -128..127 for int8, not -129.0"),
        (np.array([np.nan]), "value at index (0,) must be an integer in -128..127 for int8, not nan"),
        (np.array([np.inf]), "value at index (0,) must be an integer in -128..127 for int8, not inf"),
    ],
)
def test_exact_integers_refuse(values, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        encode_exact_integers(FORMATS["int8"], values)


def test_exact_integers():
    codes = encode_exact_integers(FORMATS["int16"], np.array([-32768.0, -1, -0.0, 32767]))
    assert codes.tolist() == [0x8000, 0xFFFF, 0, 0x7FFF]
    with pytest.raises(InputError, match=r"^format must be an integer format, not 'fp16'$"):
        encode_exact_integers(FORMATS["fp16"], [1])


@pytest.mark.parametrize("bits", WEIGHT_BITS)
@pytest.mark.parametrize("bias", [-128, -5, 0, 3, 127])
def test_every_weight_code(bits, bias):
    codes = np.arange(1 << bits, dtype=np.uint8)
    values = decode_weights(codes, bits, bias)
    assert values.tolist() == [float(reference.weight_of(bits, c, bias)) for c in range(1 << bits)]
    got = encode_weights(values.reshape(2, -1), bits, bias)
    assert got.dtype == np.uint8
    assert np.array_equal(got.ravel(), codes)


@pytest.mark.parametrize("dtype", ["i1", "i8", "f2", "f4", ml_dtypes.bfloat16])
def test_weights_of_any_dtype(dtype):
    assert encode_weights(np.array([1, 2, 4, 8, -1, -2, -4, -8]).astype(dtype), 3).tolist() == list(range(8))


@pytest.mark.parametrize(
    "values, bias, bad",
    [
        (
            [[1, 2], [0, 1]],
            0,
            "weight at index (1, 0) must be ±2**e with e in 0..3 for 3 bits, not 0; set array.mask = true for weights of zero",
        ),
        ([1.0, 3.0], 0, "weight at index (1,) must be ±2**e with e in 0..3 for 3 bits, not 3.0"),
        ([16], 0, "weight at index (0,) must be ±2**e with e in 0..3 for 3 bits, not 16"),
        ([-0.5], 0, "weight at index (0,) must be ±2**e with e in 0..3 for 3 bits, not -0.5"),
        ([1, np.nan], 0, "weight at index (1,) must be ±2**e with e in 0..3 for 3 bits, not nan"),
        ([np.inf], 0, "weight at index (0,) must be ±2**e with e in 0..3 for 3 bits, not inf"),
        ([2**60 + 1], 58, f"weight at index (0,) must be ±2**e with e in 58..61 for 3 bits, not {2**60 + 1}"),
    ],
)
def test_bad_weights(values, bias, bad):
    with pytest.raises(InputError, match=f"^{re.escape(bad)}$"):
        encode_weights(np.array(values), 3, bias)


def test_bad_weight_codes():
    with pytest.raises(InputError, match=r"^weight code at index \(0, 1\) must be 0\.\.7, not 8$"):
        decode_weights(np.array([[7, 8]]), 3)
    with pytest.raises(InputError, match=r"^weight code at index \(0,\) must be 0\.\.7, not -1$"):
        decode_weights(np.array([-1]), 3)
    with pytest.raises(InputError, match=r"^weight codes must be integers, not float64$"):
        decode_weights(np.array([1.0]), 3)  # pyright: ignore[reportArgumentType]
