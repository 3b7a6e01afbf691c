"""The slow reference, anchored to NumPy, ml_dtypes and hand-worked numbers, so that it can judge the fast model."""

from fractions import Fraction

import numpy as np
import pytest

from golden import reference
from shiftforge.formats import FORMATS
from tests.golden.cases import ALL, FLOATS, TWINS, every_code, random_codes, twin_values


def as_float(value: reference.Value) -> float:
    return float(value)


@pytest.mark.parametrize("fmt", ALL, ids=lambda f: f.name)
def test_values_are_those_of_numpy_and_ml_dtypes(fmt):
    codes = every_code(fmt) if fmt.bits == 8 else random_codes(fmt, (3000,), np.random.default_rng(0))
    got = np.array([as_float(reference.value_of(fmt, int(c))) for c in codes])
    assert np.array_equal(got, twin_values(fmt, codes), equal_nan=True)


@pytest.mark.parametrize("fmt", FLOATS, ids=lambda f: f.name)
def test_rounding_from_fp32_is_that_of_numpy_and_ml_dtypes(fmt):
    fp32 = FORMATS["fp32"]
    codes = random_codes(fp32, (3000,), np.random.default_rng(1))
    values = codes.view(np.float32)
    values = np.concatenate([values, (values.view(np.uint32) & 0x9FFFFFFF | 0x20000000).view(np.float32)])
    with np.errstate(all="ignore"):
        expected = values.astype(TWINS[fmt.name])
        nan = np.isnan(expected.astype(np.float64))
    for code, want, is_nan in zip(values.view(np.uint32), expected.view(f"u{fmt.bytes}"), nan, strict=True):
        value = reference.value_of(fp32, int(code))
        got = reference.round_to(fmt, value, negative_zero=bool(code >> 31))[0]
        assert got == (fmt.nan if is_nan else int(want)), hex(code)


def test_hand_worked_roundings():
    half = Fraction(1, 2)
    e4m3, int8 = FORMATS["fp8_e4m3"], FORMATS["int8"]
    assert reference.round_to(e4m3, Fraction(464)) == (0x7E, False, False, True)
    assert reference.round_to(e4m3, Fraction(464) + Fraction(1, 2**80)) == (0x7F, False, True, True)
    assert reference.round_to(e4m3, Fraction(-465), saturate=True) == (0xFE, False, True, True)
    assert reference.round_to(e4m3, Fraction(-1, 2**10)) == (0x80, False, False, True)
    assert reference.round_to(e4m3, "+inf", saturate=True) == (0x7F, False, False, False)
    assert reference.round_to(int8, 126 + half) == (126, False, False, True)
    assert reference.round_to(int8, 127 + half) == (127, False, True, True)
    assert reference.round_to(int8, -128 - half) == (0x80, False, False, True)
    assert reference.round_to(int8, "-inf") == (0x80, True, False, False)
    assert reference.round_to(int8, "nan") == (0, True, False, False)


def test_hand_worked_dot_products():
    fp16 = FORMATS["fp16"]
    one, minus, inf, nan = 0x3C00, 0xBC00, 0x7C00, 0x7E00
    assert reference.dot(fp16, [one, minus, 1], 3, [3, 6, 4]) == (8 + 4 - Fraction(1, 2**24), False)
    assert reference.dot(fp16, [inf, one], 2, [2, 0]) == ("-inf", False)
    assert reference.dot(fp16, [inf, inf], 2, [2, 0]) == ("nan", True)
    assert reference.dot(fp16, [inf, inf, nan], 2, [2, 0, 0]) == ("nan", False)
    assert reference.dot(fp16, [one], 2, [3], [-5]) == (Fraction(-1, 16), False)
