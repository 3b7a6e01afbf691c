"""The format table against the published constants of each format."""

from fractions import Fraction

import pytest

from shiftforge.errors import InputError
from shiftforge.formats import FORMATS, WeightCode, format_named

# name: bits, lsb exponent, min exponent, max exponent, code of the largest finite, its value, fixed bits, flag bits
PUBLISHED = {
    "fp32": (32, -149, -126, 127, 0x7F7FFFFF, Fraction(2**24 - 1) * 2**104, 278, 3),
    "fp16": (16, -24, -14, 15, 0x7BFF, Fraction(65504), 41, 3),
    "bf16": (16, -133, -126, 127, 0x7F7F, Fraction(255) * 2**120, 262, 3),
    "fp8_e5m2": (8, -16, -14, 15, 0x7B, Fraction(57344), 33, 3),
    "fp8_e4m3": (8, -9, -6, 8, 0x7E, Fraction(448), 19, 1),
    "int8": (8, 0, 0, 0, 0x7F, Fraction(127), 8, 0),
    "int16": (16, 0, 0, 0, 0x7FFF, Fraction(32767), 16, 0),
}
NANS = {"fp32": 0x7FC00000, "fp16": 0x7E00, "bf16": 0x7FC0, "fp8_e5m2": 0x7E, "fp8_e4m3": 0x7F}
INFINITIES = {"fp32": 0x7F800000, "fp16": 0x7C00, "bf16": 0x7F80, "fp8_e5m2": 0x7C}


def test_the_table_is_complete():
    assert list(FORMATS) == list(PUBLISHED)


@pytest.mark.parametrize("name", FORMATS)
def test_derived_constants(name):
    fmt = FORMATS[name]
    bits, lsb, low, high, code, largest, fixed, flags = PUBLISHED[name]
    assert (fmt.name, fmt.bits, fmt.bytes) == (name, bits, bits // 8)
    assert (fmt.lsb_exponent, fmt.min_exponent, fmt.max_exponent) == (lsb, low, high)
    assert (fmt.max_finite, fmt.fixed_bits, fmt.flag_bits) == (code, fixed, flags)
    assert fmt.sign_bit == 1 << (bits - 1)
    magnitude = largest if fmt.is_float else largest + 1
    assert Fraction(fmt.max_fixed) * Fraction(2) ** lsb == magnitude
    assert (
        fmt.precision == {"fp32": 24, "fp16": 11, "bf16": 8, "fp8_e5m2": 3, "fp8_e4m3": 4, "int8": 7, "int16": 15}[name]
    )


@pytest.mark.parametrize("name", FORMATS)
def test_special_codes(name):
    fmt = FORMATS[name]
    if name in NANS:
        assert fmt.nan == NANS[name]
    else:
        with pytest.raises(InputError, match=rf"^format {name} must be a float for \.nan to be read$"):
            _ = fmt.nan
    if name in INFINITIES:
        assert fmt.inf == INFINITIES[name]
    else:
        with pytest.raises(InputError, match=rf"^format {name} must have infinities for \.inf to be read$"):
            _ = fmt.inf


def test_unknown_format_lists_the_names():
    with pytest.raises(InputError, match=r"^format must be one of fp32, fp16, .*, int16, not 'fp64'$"):
        format_named("fp64")


@pytest.mark.parametrize("bits, largest, sign", [(2, 1, 2), (3, 3, 4), (4, 7, 8)])
def test_weight_code(bits, largest, sign):
    code = WeightCode(bits)
    assert (code.exponent_bits, code.max_exponent, code.sign_bit) == (bits - 1, largest, sign)


@pytest.mark.parametrize("bits", [0, 1, 5, "3", None])
def test_weight_code_refuses_other_widths(bits):
    with pytest.raises(InputError, match=rf"^weight_bits must be 2, 3 or 4, not {bits!r}$"):
        WeightCode(bits)
