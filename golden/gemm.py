"""Exact matrix products on BLAS.

The activations become integers (in units of the format's smallest subnormal), cut into limbs; limb times weights is a float64
matrix product whose partial sums stay below 2**53, hence exact in any order that BLAS adds. Limbs are 32 bits wide, so that
their sums add up in :class:`golden.sums.Sums` without shifts, unless one product takes the whole operand.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from golden.codec import decode, decode_weights
from golden.rounding import Codes, Flags, Overflow, round_sums, storage_dtype
from golden.sums import RADIX_BITS, BoolArray, Float64Array, Int64Array, Sums, carry
from shiftforge.errors import InputError
from shiftforge.formats import Format, WeightCode

FloatArray: TypeAlias = npt.NDArray[np.float32 | np.float64]
Conditions: TypeAlias = tuple[BoolArray, BoolArray, BoolArray]

_BLOCK = 1 << 20  # outputs at a time: bounds the memory, and long enough for BLAS to run at its best
_SHORT_K = 128  # rather two limbs than shorter products than this
_SHORT_K_FLOAT32 = 512
_MAX_K = 1 << 22  # limb sums stay below 2**62: 2**32 * 2**7 * 2**22


def _check(x_codes: npt.NDArray[np.integer], w_codes: npt.NDArray[np.integer]) -> None:
    for name, array in (("activations", x_codes), ("weights", w_codes)):
        if array.ndim != 2:
            raise InputError(f"{name} must be a matrix, not of shape {array.shape}")
    if x_codes.shape[1] != w_codes.shape[0]:
        raise InputError(f"weights must have K = {x_codes.shape[1]} rows as the activations, not {w_codes.shape[0]}")
    if x_codes.shape[1] > _MAX_K:
        raise InputError(f"K must be at most {_MAX_K}, not {x_codes.shape[1]}")


def _conditions(x: Float64Array, w: Float64Array) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Which sums see +inf, -inf, NaN: a weight of zero is no product. Only rows with a special cost anything."""
    shape = (x.shape[0], w.shape[1])
    nan = np.broadcast_to(np.any(np.isnan(x), axis=1, keepdims=True), shape)
    if nan.any() and not w.all():
        nan = np.zeros(shape, np.bool_)
        rows = np.flatnonzero(np.isnan(x).any(axis=1))
        columns = np.flatnonzero(np.isnan(x[rows]).any(axis=0))
        part = np.isnan(x[np.ix_(rows, columns)]).astype(np.float32)
        nan[rows] = part @ (w[columns] != 0).astype(np.float32) > 0
    pos_inf, neg_inf = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    rows = np.flatnonzero(np.isinf(x).any(axis=1))
    if rows.size:
        columns = np.flatnonzero(np.isinf(x[rows]).any(axis=0))
        part = x[np.ix_(rows, columns)]
        signed = np.where(np.isinf(part), np.sign(part), 0.0)
        sign = np.sign(w[columns])
        count, balance = np.abs(signed) @ np.abs(sign), signed @ sign
        pos_inf[rows], neg_inf[rows] = count + balance > 0, count - balance > 0
    return pos_inf, neg_inf, nan


def exact_type(bound: int, k: int) -> tuple[int, type[np.float32] | type[np.float64]]:
    """How many products of at most ``bound`` one sum may hold, and the float type whose sums are then exact."""
    terms, dtype = ((1 << 24) - 1) // bound, np.float32
    if terms < min(k, _SHORT_K_FLOAT32):
        terms, dtype = ((1 << 53) - 1) // bound, np.float64
    return terms, dtype


def exact_product(x: FloatArray, w: FloatArray, bound: int) -> Int64Array:
    """The exact product of integer matrices with ``|x| * |w| <= bound`` for every pair of elements."""
    k = x.shape[1]
    terms, dtype = exact_type(bound, k)
    left, right = x.astype(dtype, copy=False), w.astype(dtype, copy=False)
    total = (left[:, :terms] @ right[:terms]).astype(np.int64)
    for start in range(terms, k, terms):
        total += (left[:, start : start + terms] @ right[start : start + terms]).astype(np.int64)
    return total


def limb_sums(
    x: Float64Array,
    w_max: int,
    k: int,
    lsb_exponent: int,
    conditions: Conditions,
    multiply: Callable[[Float64Array, int], Int64Array],
) -> Sums:
    """Exact sums of whole numbers x with whole numbers below ``w_max``, by as few products as exactness allows.

    Parameters
    ----------
    k : int
        The most products in one sum.
    conditions : three bool arrays
        Which sums see +inf, -inf, NaN.
    multiply : callable
        Given whole numbers in the shape of ``x`` and a bound on one product: the exact sums.
    """
    x_max = int(max(x.max(initial=0.0), -x.min(initial=0.0)))
    w_max = max(1, w_max)  # where every weight is zero the products are, but x is as large as it is
    bound, k = max(1, x_max * w_max), max(1, k)
    if bound * min(k, _SHORT_K) < 1 << 53 and bound * k < 1 << 63:
        return Sums(multiply(x, bound)[None], lsb_exponent, *conditions)
    count = -(-x_max.bit_length() // RADIX_BITS)
    bits = (bound * k).bit_length()
    limbs = np.zeros((max(count, 1 + -(-(bits - 62) // RADIX_BITS)), *conditions[0].shape), np.int64)
    for i in range(count - 1, -1, -1):
        part = np.trunc(x * 2.0 ** (-RADIX_BITS * i))
        x = x - part * 2.0 ** (RADIX_BITS * i)
        if part.any():
            limbs[i] = multiply(part, w_max << RADIX_BITS)
    if bits < 64:
        # The parts may wrap, their sum does not.
        return Sums((limbs[0] + (limbs[1] << RADIX_BITS))[None], lsb_exponent, *conditions)
    return Sums(carry(limbs), lsb_exponent, *conditions)


def _sum_values(x: Float64Array, w: Float64Array, lsb_exponent: int) -> Sums:
    """Exact ``x @ w`` for values x that are multiples of ``2**lsb_exponent`` or special, and integers w."""
    none = np.broadcast_to(np.False_, (x.shape[0], w.shape[1]))
    conditions = (none, none, none)
    x = x * 2.0**-lsb_exponent
    if not np.isfinite(x).all():
        conditions = _conditions(x, w)
        x = np.where(np.isfinite(x), x, 0.0)
    w_max = int(np.abs(w).max(initial=0.0))
    return limb_sums(x, w_max, x.shape[1], lsb_exponent, conditions, lambda part, bound: exact_product(part, w, bound))


def exact_sums(
    x_codes: npt.NDArray[np.integer],
    w_codes: npt.NDArray[np.integer],
    activation: Format,
    weights: WeightCode,
    *,
    k_bias: npt.NDArray[np.integer] | None = None,
) -> Sums:
    """Exact dot products of activation codes (M, K) with weight codes (K, N); masked products contribute nothing, not even NaN.

    Parameters
    ----------
    k_bias : integer array (K,), optional
        Product k is multiplied by ``2**k_bias[k]``, -128..127.

    Returns
    -------
    Sums of shape (M, N), in units of ``2**(activation.lsb_exponent + min(k_bias))``.
    """
    _check(x_codes, w_codes)
    x, w = decode(activation, x_codes), decode_weights(w_codes, weights.bits, mask=weights.mask)
    lsb = activation.lsb_exponent
    if k_bias is not None:
        k_bias = np.asarray(k_bias)
        if k_bias.shape != (x.shape[1],) or k_bias.dtype.kind not in "iu":
            raise InputError(f"k_bias must be K = {x.shape[1]} integers, not {k_bias.dtype} of shape {k_bias.shape}")
        if k_bias.size:
            low, high = int(k_bias.min()), int(k_bias.max())
            if low < -128 or high > 127:
                raise InputError(f"k_bias must be -128..127, not {(low, high)!r}")
            x = x * np.ldexp(1.0, k_bias.astype(np.int32))
            lsb += low
    return _sum_values(x, w, lsb)


def gemm(
    x_codes: npt.NDArray[np.integer],
    w_codes: npt.NDArray[np.integer],
    activation: Format,
    weights: WeightCode,
    output: Format,
    *,
    exponent_bias: int = 0,
    overflow: Overflow = "inf",
) -> tuple[Codes, Flags]:
    """The product of activation codes (M, K) and weight codes (K, N), each exact sum rounded once to ``output``.

    Returns codes (M, N) in ``storage_dtype(output)`` and the flags. ``InputError`` for shapes that do not match, codes out of
    range, or an exponent bias outside -128..127.
    """
    _check(x_codes, w_codes)
    w = decode_weights(w_codes, weights.bits, mask=weights.mask)
    m, n = x_codes.shape[0], w.shape[1]
    codes = np.empty((m, n), storage_dtype(output))
    flags = Flags()
    rows = max(64, _BLOCK // max(1, n))
    for start in range(0, m, rows):
        part = slice(start, start + rows)
        sums = _sum_values(decode(activation, x_codes[part]), w, activation.lsb_exponent)
        codes[part], raised = round_sums(sums, output, exponent_bias=exponent_bias, overflow=overflow)
        flags |= raised
    return codes, flags
