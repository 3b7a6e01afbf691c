"""Codes to values and back: every activation format, and the power-of-two weights, zero-free but for masked elements."""

from functools import cache

import numpy as np
import numpy.typing as npt

from golden.rounding import Codes, Overflow, round_float64, storage_dtype
from golden.sums import Float64Array, odd_float64
from shiftforge.errors import InputError
from shiftforge.formats import Format, WeightCode

__all__ = [
    "decode",
    "decode_weights",
    "encode",
    "encode_exact_integers",
    "encode_weights",
    "storage_dtype",
]

# Kind "V" and one of "f" in NumPy; named here because the product does not depend on ml_dtypes.
_ML_DTYPES = ("bfloat16", "float8", "float6", "float4", "int1", "int2", "int4", "uint1", "uint2", "uint4")


def _decode_fields(fmt: Format, codes: npt.NDArray[np.int64]) -> Float64Array:
    if not fmt.is_float:
        return (codes - ((codes & fmt.sign_bit) << 1)).astype(np.float64)
    fraction = codes & ((1 << fmt.fraction_bits) - 1)
    field = (codes >> fmt.fraction_bits) & ((1 << fmt.exponent_bits) - 1)
    significand = np.where(field == 0, fraction, fraction | (1 << fmt.fraction_bits))
    values = np.ldexp(significand.astype(np.float64), np.maximum(field, 1) - 1 + fmt.lsb_exponent)
    magnitude = codes & (fmt.sign_bit - 1)
    values[magnitude > fmt.max_finite] = np.nan
    if fmt.has_inf:
        values[magnitude == fmt.inf] = np.inf
    return np.where(codes & fmt.sign_bit, -values, values)


@cache
def _table(fmt: Format) -> Float64Array:
    table = _decode_fields(fmt, np.arange(1 << fmt.bits, dtype=np.int64))
    table.flags.writeable = False
    return table


def _index(bad: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(bad)[0])


def decode(fmt: Format, codes: npt.NDArray[np.integer]) -> Float64Array:
    """The exact value of every code, as float64 of the same shape; NaN and infinities for the specials.

    Codes are raw bits in any unsigned integer dtype (``storage_dtype(fmt)`` is what the rest of the model makes).
    ``InputError`` for another dtype, or for bits beyond the format's.
    """
    codes = np.asarray(codes)
    if codes.dtype.kind != "u":
        raise InputError(f"codes of {fmt.name} must be raw bits in an unsigned integer array, not {codes.dtype}")
    if codes.dtype.itemsize > fmt.bytes and codes.size and int(codes.max()) >> fmt.bits:
        index = _index(codes >> fmt.bits != 0)
        raise InputError(f"code of {fmt.name} at index {index} must have {fmt.bits} bits, not {int(codes[index]):#x}")
    if fmt.bits <= 16:
        return _table(fmt)[codes]
    return _decode_fields(fmt, codes.astype(np.int64))


def _source_values(values: npt.ArrayLike) -> Float64Array:
    """Values of any real dtype as float64, exact or (64-bit integers beyond 2**53) rounded to odd."""
    array = np.asarray(values)
    kind = array.dtype.kind
    if array.dtype.name.startswith(_ML_DTYPES) or kind == "b" or (kind == "f" and array.dtype.itemsize <= 8):
        with np.errstate(invalid="ignore"):  # a signalling NaN
            return array.astype(np.float64)
    if kind == "i":
        return odd_float64(array.astype(np.int64))
    if kind == "u":
        return odd_float64(array.astype(np.uint64))
    raise InputError(f"values must be real numbers of at most 64 bits, not {array.dtype}")


def encode(fmt: Format, values: npt.ArrayLike, overflow: Overflow = "inf") -> Codes:
    """Round values once, to nearest even, from their own dtype (floats to 64 bits, integers, ml_dtypes) to codes.

    Overflow gives infinity (NaN in E4M3), or the largest finite value with ``overflow="saturate"``. Integer formats
    saturate, with 0 for NaN; use :func:`encode_exact_integers` to refuse what they do not hold.
    """
    return round_float64(_source_values(values), fmt, overflow=overflow)[0]


def encode_exact_integers(fmt: Format, values: npt.ArrayLike) -> Codes:
    """Codes of an integer format; ``InputError`` names the first fraction, NaN or value out of range."""
    if fmt.is_float:
        raise InputError(f"format must be an integer format, not {fmt.name!r}")
    source = _source_values(values)
    limit = float(1 << (fmt.bits - 1))
    bad = ~((source >= -limit) & (source < limit) & (np.rint(source) == source))
    if bad.any():
        index = _index(bad)
        value = np.asarray(values)[index].item()
        raise InputError(
            f"value at index {index} must be an integer in {-int(limit)}..{int(limit) - 1} for {fmt.name}, not {value!r}"
        )
    return round_float64(source, fmt)[0]


def encode_weights(
    values: npt.ArrayLike, bits: int, exponent_bias: int = 0, *, mask: bool = False
) -> npt.NDArray[np.uint8]:
    """Codes of weights that are exactly ``±2**(e + exponent_bias)``, e in 0..2**(bits-1)-1, of any shape and real dtype.

    With ``mask`` a weight may be zero too: its element is the mask bit alone. ``InputError`` names the first weight that is none
    of these (zero without a mask, NaN, not a power of two, out of range).
    """
    code = WeightCode(bits, mask)
    source = _source_values(values)
    fraction, exponent = np.frexp(source)  # 2**e is 0.5 * 2**(e+1)
    shift = exponent.astype(np.int64) - 1 - exponent_bias
    zero = source == 0
    bad = (np.abs(fraction) != 0.5) | (shift < 0) | (shift > code.max_exponent)
    if mask:
        bad &= ~zero
    if bad.any():
        index = _index(bad)
        value = np.asarray(values)[index].item()
        mend = "; set array.mask = true for weights of zero" if value == 0 else ""
        raise InputError(
            f"weight at index {index} must be ±2**e with e in {exponent_bias}..{exponent_bias + code.max_exponent}"
            f" for {bits} bits{' or zero' if mask else ''}, not {value!r}{mend}"
        )
    return np.where(zero, code.mask_bit, shift + np.where(source < 0, code.sign_bit, 0)).astype(np.uint8)


def decode_weights(
    codes: npt.NDArray[np.integer], bits: int, exponent_bias: int = 0, *, mask: bool = False
) -> Float64Array:
    """The values ``±2**(e + exponent_bias)`` of weight codes, 0 of masked ones; ``InputError`` for bits beyond the element's."""
    code = WeightCode(bits, mask)
    count = 1 << code.element_bits
    codes = np.asarray(codes)
    if codes.dtype.kind not in "iu":
        raise InputError(f"weight codes must be integers, not {codes.dtype}")
    if codes.size and (int(codes.max()) >= count or int(codes.min()) < 0):
        index = _index((codes < 0) | (codes >= count))
        raise InputError(f"weight code at index {index} must be 0..{count - 1}, not {int(codes[index])!r}")
    elements = np.arange(count)
    signs = np.where(elements & code.sign_bit, -1.0, 1.0)
    signs[elements & code.mask_bit != 0] = 0.0
    table = np.ldexp(signs, (elements & code.max_exponent) + exponent_bias)
    return table[codes]
