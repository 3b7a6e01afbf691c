"""Values to codes and back, as the driver needs them for a network's inputs and outputs (NumPy only).

The golden model has a codec of its own: the two are written apart and compared by the tests.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftforge.errors import InputError
from shiftforge.formats import Format
from shiftforge.registers import Flag
from sw_driver.layout import Codes, storage_dtype

_EXACT = 1 << 53


def as_float64(values: ArrayLike, what: str) -> NDArray[np.float64]:
    """Real values of at most 64 bits as float64, exactly.

    ``InputError`` for complex numbers, objects, wider floats, and integers that float64 does not hold.
    """
    array = np.asarray(values)
    if array.dtype.kind == "f" and array.dtype.itemsize <= 8:
        return array.astype(np.float64)
    if array.dtype.kind in "bui":
        converted = array.astype(np.float64)
        if array.size and np.abs(converted).max() >= _EXACT:
            index = tuple(int(i) for i in np.argwhere(np.abs(converted) >= _EXACT)[0])
            raise InputError(f"{what} at index {index} must be below 2**53 in magnitude, not {array[index].item()!r}")
        return converted
    raise InputError(f"{what} must be real numbers of at most 64 bits, not {array.dtype}")


def encode(fmt: Format, values: NDArray[np.float64], *, saturate: bool) -> Codes:
    """Codes of float64 values, each rounded once to nearest, ties to even.

    Overflow gives infinity (NaN where the format has none), or with `saturate` the largest finite value; an infinity stays one.
    Integers always saturate, and NaN becomes 0.
    """
    return encode_flagged(fmt, values, saturate=saturate)[0]


def encode_flagged(fmt: Format, values: NDArray[np.float64], *, saturate: bool) -> tuple[Codes, Flag]:
    """As `encode`, and the flags that the machine's rounding raises for the same values."""
    dtype = storage_dtype(fmt)
    finite = np.isfinite(values)
    if not fmt.is_float:
        limit = 1 << (fmt.bits - 1)
        rounded = np.rint(np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf))
        clipped = np.clip(rounded, -limit, limit - 1)
        raised = _flags(not finite.all(), finite & (clipped != rounded), finite & (clipped != values))
        return (clipped.astype(np.int64) & ((1 << fmt.bits) - 1)).astype(dtype), raised
    magnitude = np.abs(np.where(finite, values, 0.0))
    # frexp gives 0.5 <= fraction < 1, so the leading bit is at exponent - 1; subnormals share the smallest exponent.
    exponent = np.where(magnitude == 0, fmt.min_exponent, np.frexp(magnitude)[1].astype(np.int64) - 1)
    exponent = np.maximum(exponent, fmt.min_exponent)
    # In units of the last place, at most precision + 1 bits: the scaling is exact unless the units vanish below 2**-1022.
    exact = np.ldexp(magnitude, fmt.fraction_bits - exponent)
    units = np.rint(exact).astype(np.int64)
    # A normal number's hidden bit adds 1 to the field, and so does a carry out of the fraction.
    codes = ((exponent - fmt.min_exponent) << fmt.fraction_bits) + units
    over = codes > fmt.max_finite
    raised = _flags(False, over, over | (units != exact))
    overflowed = fmt.max_finite if saturate else (fmt.inf if fmt.has_inf else fmt.nan)
    codes = np.where(over, overflowed, codes)
    codes = np.where(np.isinf(values), fmt.inf if fmt.has_inf else fmt.nan, codes)
    codes |= np.where(np.signbit(values), fmt.sign_bit, 0)
    nan = np.isnan(values) | ((codes & (fmt.sign_bit - 1)) == fmt.nan)
    return np.where(nan, fmt.nan, codes).astype(dtype), raised


def _flags(invalid: bool, over: NDArray[np.bool_], inexact: NDArray[np.bool_]) -> Flag:
    raised = Flag.NV if invalid else Flag(0)
    raised |= Flag.OF if over.any() else Flag(0)
    return raised | (Flag.NX if inexact.any() else Flag(0))


def decode(fmt: Format, codes: Codes) -> NDArray[np.float64]:
    """The exact values of codes."""
    raw = codes.astype(np.int64)
    if not fmt.is_float:
        return (raw - ((raw & fmt.sign_bit) << 1)).astype(np.float64)
    magnitude = raw & (fmt.sign_bit - 1)
    field, fraction = magnitude >> fmt.fraction_bits, magnitude & ((1 << fmt.fraction_bits) - 1)
    significand = np.where(field == 0, fraction, fraction | (1 << fmt.fraction_bits)).astype(np.float64)
    values = np.ldexp(significand, np.maximum(field, 1) - 1 + fmt.lsb_exponent)
    values[magnitude > fmt.max_finite] = np.nan
    if fmt.has_inf:
        values[magnitude == fmt.inf] = np.inf
    return np.where(raw & fmt.sign_bit, -values, values)
