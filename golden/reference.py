"""A slow second opinion in Python integers and Fractions, for tests alone.

It shares no code with the fast model, not even the derived properties of :class:`shiftforge.formats.Format`: it reads the
field widths and derives the rest by its own arithmetic. A value is a Fraction, or one of the strings ``"+inf"``, ``"-inf"``,
``"nan"``.
"""

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Literal

from shiftforge.formats import Format

Value = Fraction | Literal["+inf", "-inf", "nan"]


def value_of(fmt: Format, code: int) -> Value:
    """The value of a code, by the definition of the format."""
    if fmt.exponent_bits == 0:
        return Fraction(code - (1 << fmt.bits) if code >> (fmt.bits - 1) else code)
    sign = -1 if code >> (fmt.bits - 1) else 1
    top = (1 << fmt.exponent_bits) - 1
    field = (code >> fmt.fraction_bits) & top
    fraction = code % (1 << fmt.fraction_bits)
    if field == top and fmt.has_inf:
        return "nan" if fraction else ("+inf" if sign > 0 else "-inf")
    if field == top and fraction == (1 << fmt.fraction_bits) - 1:
        return "nan"
    part = Fraction(fraction, 1 << fmt.fraction_bits)
    if field == 0:
        return sign * part * Fraction(2) ** (1 - fmt.bias)
    return sign * (1 + part) * Fraction(2) ** (field - fmt.bias)


def weight_of(bits: int, code: int, exponent_bias: int = 0) -> Fraction:
    """The value of a weight code: the leading bit is the sign, the rest the exponent; 0 with a mask bit above them."""
    if code >= 2**bits:
        return Fraction(0)
    half = 2 ** (bits - 1)
    sign, exponent = divmod(code, half)
    return (-1) ** sign * Fraction(2) ** (exponent + exponent_bias)


def dot(
    fmt: Format, x_codes: Sequence[int], weight_bits: int, w_codes: Sequence[int], k_bias: Sequence[int] | None = None
) -> tuple[Value, bool]:
    """The exact dot product, and whether it is invalid (both infinities, no NaN operand)."""
    total, seen = Fraction(0), set[str]()
    for k, (x_code, w_code) in enumerate(zip(x_codes, w_codes, strict=True)):
        x, w = value_of(fmt, x_code), weight_of(weight_bits, w_code, k_bias[k] if k_bias is not None else 0)
        if w == 0:
            continue  # no product, not 0 * inf
        if isinstance(x, Fraction):
            total += x * w
        elif x == "nan":
            seen.add("nan")
        else:
            seen.add("+inf" if (x == "+inf") == (w > 0) else "-inf")
    if "nan" in seen or len(seen) == 2:
        return "nan", "nan" not in seen
    if "+inf" in seen:
        return "+inf", False
    return ("-inf", False) if seen else (total, False)


@cache
def _ladder(fmt: Format) -> list[Fraction]:
    """The non-negative finite values of a small format by code, and beyond them the first value that is out of range."""
    ladder: list[Fraction] = []
    for code in range(1 << (fmt.bits - 1)):
        value = value_of(fmt, code)
        if not isinstance(value, Fraction):
            break
        ladder.append(value)
    return [*ladder, 2 * ladder[-1] - ladder[-2]]


def _nearest_by_search(fmt: Format, magnitude: Fraction) -> tuple[int, Fraction]:
    """The nearest rung of the ladder, ties to the even code, and its value."""
    ladder = _ladder(fmt)
    high = min(bisect_left(ladder, magnitude), len(ladder) - 1)
    low = max(high - 1, 0)
    up, down = abs(ladder[high] - magnitude), abs(magnitude - ladder[low])
    code = high if up < down or (up == down and high % 2 == 0) else low
    return code, ladder[code]


def _nearest_by_division(fmt: Format, magnitude: Fraction) -> tuple[int, Fraction]:
    """The same for formats whose ladder is too long: Python's ``round`` of a Fraction is to nearest, ties to even."""
    exponent = 1 - fmt.bias
    while Fraction(2) ** (exponent + 1) <= magnitude:
        exponent += 1
    unit = Fraction(2) ** (exponent - fmt.fraction_bits)
    steps = round(magnitude / unit)
    code = steps + (exponent - 1 + fmt.bias) * (1 << fmt.fraction_bits)
    return code, steps * unit


def round_to(
    fmt: Format, value: Value, *, negative_zero: bool = False, saturate: bool = False
) -> tuple[int, bool, bool, bool]:
    """The code nearest to a value, and the flags NV, OF, NX of that rounding.

    ``negative_zero`` says that a zero value is -0 (possible where the source is a float, not a sum).
    """
    if fmt.exponent_bits == 0:
        return _round_to_integer(fmt, value)
    sign_bit = 1 << (fmt.bits - 1)
    infinity = (2**fmt.exponent_bits - 1) << fmt.fraction_bits if fmt.has_inf else None
    quiet = sign_bit - 1 if infinity is None else infinity + (1 << (fmt.fraction_bits - 1))
    if not isinstance(value, Fraction):
        if value == "nan" or infinity is None:
            return quiet, False, False, False
        return infinity + (sign_bit if value == "-inf" else 0), False, False, False
    sign = sign_bit if value < 0 or (value == 0 and negative_zero) else 0
    nearest = _nearest_by_search if fmt.bits <= 16 else _nearest_by_division
    code, rounded = nearest(fmt, abs(value))
    largest = infinity - 1 if infinity is not None else sign_bit - 2
    if code > largest:
        if saturate:
            return largest + sign, False, True, True
        return (quiet if infinity is None else infinity + sign), False, True, True
    return code + sign, False, False, rounded != abs(value)


def _round_to_integer(fmt: Format, value: Value) -> tuple[int, bool, bool, bool]:
    top = 2 ** (fmt.bits - 1) - 1
    if not isinstance(value, Fraction):
        code = {"nan": 0, "+inf": top, "-inf": -top - 1}[value]
        return code % (1 << fmt.bits), True, False, False
    steps = round(value)
    code = max(-top - 1, min(steps, top))
    return code % (1 << fmt.bits), False, code != steps, code != value


def gemm_element(
    fmt: Format,
    x_codes: Sequence[int],
    weight_bits: int,
    w_codes: Sequence[int],
    output: Format,
    *,
    exponent_bias: int = 0,
    saturate: bool = False,
    k_bias: Sequence[int] | None = None,
) -> tuple[int, bool, bool, bool]:
    """One element of a matrix product with direct rounding: the code and the flags NV, OF, NX."""
    total, invalid = dot(fmt, x_codes, weight_bits, w_codes, k_bias)
    if isinstance(total, Fraction):
        total *= Fraction(2) ** exponent_bias
    code, nv, of, nx = round_to(output, total, saturate=saturate)
    return code, nv or invalid, of, nx
