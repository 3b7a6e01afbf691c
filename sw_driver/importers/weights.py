"""Weights that are ±2**e, or that times a number per output channel, to codes of the machine's width. NumPy only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftforge.errors import InputError
from shiftforge.formats import WEIGHT_BITS, WeightCode
from shiftforge.graph import MAX_EXPONENT_BIAS, MIN_EXPONENT_BIAS


@dataclass(frozen=True, eq=False)
class ShiftWeights:
    """``weights[k, n] = (-1)**sign * 2**(e + exponent_bias) * scale[n]`` with the sign and e of ``codes[k, n]``."""

    codes: NDArray[np.uint8]
    exponent_bias: int
    scale: NDArray[np.float64]


def shift_weights(layer: str, weights: NDArray[np.float64], bits: int) -> ShiftWeights:
    """Codes of a weight matrix (N, K), outputs first as torch has it.

    A common window of exponents is preferred, at bias 0 where that fits; where only each channel's exponents fit the window, the
    channel's offset goes into its scale, which is exact.

    Raises
    ------
    InputError
        When a weight is no power of two (times its channel's number), or the exponents span more than `bits` bits hold; the
        message names the layer and the first index.
    """
    code = WeightCode(bits)
    fraction, exponent = np.frexp(weights)
    mantissa = np.abs(fraction)  # 0.5 for a power of two; 0 for zero; NaN and infinity stay
    exponent = exponent.astype(np.int64) - 1
    same = (mantissa == mantissa[:, :1]).all(axis=1) & (mantissa[:, 0] > 0) & np.isfinite(mantissa[:, 0])
    if not same.all():
        row = int(np.flatnonzero(~same)[0])
        column = int(np.flatnonzero(mantissa[row] != 0.5)[0])
        raise InputError(
            f"weight of layer {layer!r} at index ({row}, {column}) must be a power of two with a sign, not "
            f"{float(weights[row, column])!r}; train it as a DenseShift layer (golden.train.convert) or keep it off the accelerator"
        )
    scale = 2 * mantissa[:, 0]
    low, high = exponent.min(axis=1), exponent.max(axis=1)
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
    return ShiftWeights(np.ascontiguousarray(codes.T), bias, np.ldexp(scale, offset))


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
