"""Weights that are ±2**e, or sums of these, times a number per output channel, to codes of the machine's width. NumPy only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftforge.errors import InputError
from shiftforge.formats import WEIGHT_BITS, WeightCode
from shiftforge.graph import MAX_EXPONENT_BIAS, MIN_EXPONENT_BIAS
from shiftforge.terms import decompositions

MAX_SUM = 4
"""Terms that are tried for weights that are no powers of two."""


@dataclass(frozen=True, eq=False)
class ShiftWeights:
    """``weights[k, n] = scale[n] * sum over t of (-1)**sign * 2**(e + exponent_bias)``, sign and e of ``codes[t * K + k, n]``.

    ``mask`` says which of them take part; None: all.
    """

    codes: NDArray[np.uint8]
    exponent_bias: int
    scale: NDArray[np.float64]
    terms: int = 1
    mask: NDArray[np.bool_] | None = None


def shift_weights(layer: str, weights: NDArray[np.float64], bits: int, *, mask: bool = False) -> ShiftWeights:
    """Codes of weights (N, ...), outputs first as torch and ONNX have them; K is the other axes in order.

    Powers of two, with `mask` zeros among them: a common window of exponents is preferred, at bias 0 where that fits; where only
    each channel's exponents fit the window, the channel's offset goes into its scale, which is exact. Else the fewest terms of
    which all weights are sums, times the channel's number; a weight that was rounded to fp32 must be what that sum times an fp32
    number rounds to.

    Raises
    ------
    InputError
        When a weight is none of these, or the exponents span more than `bits` bits hold; the message names the layer and the
        first index.
    """
    shape, weights = weights.shape, weights.reshape(len(weights), -1)
    mantissa = np.abs(np.frexp(weights)[0])  # 0.5 for a power of two; 0 for zero; NaN and infinity stay
    lead = mantissa.max(axis=1)
    zero = mantissa == 0 if mask else np.zeros(weights.shape, np.bool_)
    same = ((mantissa == lead[:, None]) | zero).all(axis=1) & np.isfinite(lead) & (mask | (lead > 0))
    if same.all():
        return _powers(layer, weights, bits, ~zero)
    sums = _sums(weights, bits) if np.isfinite(weights).all() else None
    if sums is None:
        row = int(np.flatnonzero(~same)[0])
        column = int(np.flatnonzero((mantissa[row] != 0.5) & ~zero[row])[0])
        index = tuple(int(i) for i in np.unravel_index(row * weights.shape[1] + column, shape))
        raise InputError(
            f"weight of layer {layer!r} at index {index} must be a power of two with a sign or a sum of up to {MAX_SUM} (times one "
            f"number per channel), not {float(weights[row, column])!r}; train it as a DenseShift layer or turn it into sums "
            "(golden.train: convert, convert_pretrained), or let the host compute it (compile --host)"
        )
    return sums


def _powers(layer: str, weights: NDArray[np.float64], bits: int, present: NDArray[np.bool_]) -> ShiftWeights:
    code = WeightCode(bits)
    fraction, exponent = np.frexp(weights)
    exponent = exponent.astype(np.int64) - 1
    # A zero has the exponent of its channel's smallest weight, a channel of zeros that of the layer's; they do not matter.
    lowest = exponent.min(where=present, initial=np.iinfo(np.int32).max)
    empty = np.logical_not(np.any(present, axis=1))
    exponent[empty] = 0 if empty.all() else lowest
    shown = present | empty[:, None]
    low = exponent.min(axis=1, where=shown, initial=np.iinfo(np.int32).max)
    high = exponent.max(axis=1, where=shown, initial=np.iinfo(np.int32).min)
    exponent = np.where(shown, exponent, low[:, None])
    scale = np.where(empty, 1.0, 2 * np.abs(fraction).max(axis=1))
    wide = high - low > code.max_exponent
    if wide.any():
        row = int(np.flatnonzero(wide)[0])
        raise _too_wide(layer, row, int(low[row]), int(high[row]), bits)
    bias = int(low.min())
    if bias >= 0 and int(high.max()) <= code.max_exponent:
        bias = 0
    bias = min(max(bias, MIN_EXPONENT_BIAS), MAX_EXPONENT_BIAS)
    offset = np.zeros_like(low)
    if bias > low.min() or int(high.max()) - bias > code.max_exponent:
        offset = low - bias
    e = exponent - offset[:, None] - bias
    codes = (e | np.where(weights < 0, code.sign_bit, 0)).astype(np.uint8)
    mask = None if present.all() else np.ascontiguousarray(present.T)
    return ShiftWeights(np.ascontiguousarray(codes.T), bias, np.ldexp(scale, offset), mask=mask)


def _sums(weights: NDArray[np.float64], bits: int) -> ShiftWeights | None:
    for terms in range(2, MAX_SUM + 1):
        levels = np.array(list(decompositions(bits, terms)), np.float64)
        scales: list[float] = []
        for row in weights:
            scale = _unit(row, levels)
            if scale is None:
                break
            scales.append(scale)
        else:
            return _coded(weights, np.array(scales), bits, terms)
    return None


def _unit(row: NDArray[np.float64], levels: NDArray[np.float64]) -> float | None:
    """A number of which every weight is a multiple by one of the levels; 1 where that is one, else the largest."""
    size = np.unique(np.abs(row))
    peak = size[-1]
    if peak == 0.0:
        return 1.0
    found = [peak / level for level in levels[levels > 0]]  # falling
    near = [float(np.float32(unit)) for unit in found]
    beside = [float(np.nextafter(np.float32(unit), np.float32(side))) for unit in near for side in (np.inf, 0)]
    for unit in (1.0, *found, *near, *beside):
        if unit > 0 and _multiples(size, unit, levels) is not None:
            return unit
    return None


def _multiples(size: NDArray[np.float64], unit: float, levels: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """For each magnitude the index of the level that times the unit is it, exactly or rounded to fp32; None if there is none."""
    with np.errstate(over="ignore"):
        index = np.searchsorted(levels, np.rint(size / unit))
    index = np.minimum(index, len(levels) - 1)
    product = levels[index] * unit
    exact = (product == size) | (product.astype(np.float32) == size)
    return index if exact.all() else None


def _coded(weights: NDArray[np.float64], scale: NDArray[np.float64], bits: int, terms: int) -> ShiftWeights:
    code, table = WeightCode(bits), decompositions(bits, terms)
    levels = np.array(list(table), np.float64)
    powers = np.array(list(table.values()), np.int64)  # (levels, terms)
    index = np.searchsorted(levels, np.rint(np.abs(weights) / scale[:, None]))
    signed = powers[index] * np.where(weights < 0, -1, 1)[..., None]  # (N, K, terms)
    exponent = np.frexp(np.abs(signed).astype(np.float64))[1] - 1
    codes = (exponent | np.where(signed < 0, code.sign_bit, 0)).astype(np.uint8)
    return ShiftWeights(np.ascontiguousarray(codes.transpose(2, 1, 0).reshape(-1, len(weights))), 0, scale, terms)


def _too_wide(layer: str, channel: int, low: int, high: int, bits: int) -> InputError:
    span = high - low + 1
    enough = [b for b in WEIGHT_BITS if 1 << (b - 1) >= span]
    mend = (
        f"generate the accelerator with array.weight_bits = {enough[0]}" if enough else "train it with fewer exponents"
    )
    return InputError(
        f"exponents of layer {layer!r} must span at most {1 << (bits - 1)} values for {bits}-bit weights, not the {span} of "
        f"2**{low}..2**{high} in output channel {channel}; {mend}"
    )
