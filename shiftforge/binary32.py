"""Post-processing values in NumPy float32, whose every NaN is the canonical one: what golden model and host share."""

import numpy as np
import numpy.typing as npt

from shiftforge.activation import Activation
from shiftforge.formats import FP32

Float32Array = npt.NDArray[np.float32]


def canonical(values: Float32Array) -> Float32Array:
    """The same values with every NaN as 7FC00000."""
    nan = np.isnan(values)
    if not nan.any():
        return values
    bits = values.view(np.uint32).copy()
    bits[nan] = FP32.nan
    return bits.view(np.float32)


def _order(bits: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """Integers ordered as the values, -0 just below +0."""
    magnitude = (bits & np.uint32(0x7FFF_FFFF)).astype(np.int64)
    return np.where(bits >> np.uint32(31), -magnitude - 1, magnitude)


def apply_activation(values: Float32Array, activation: Activation) -> Float32Array:
    """The activation function on binary32 values, as :mod:`shiftforge.activation` defines it."""
    values = canonical(values)
    nan = np.isnan(values)
    if activation.kind == "relu":
        return np.where((values > 0) | nan, values, np.float32(0))
    if activation.kind == "clamp":
        bits = values.view(np.uint32)
        lo, hi = (np.full((), bound, np.uint32) for bound in (activation.lo, activation.hi))
        order = _order(bits)
        bounded = np.where(order > _order(hi), hi, bits)
        bounded = np.where(order < _order(lo), lo, bounded)
        return np.where(nan, bits, bounded).view(np.float32)
    if activation.kind == "leaky":
        with np.errstate(under="ignore"):
            scaled = values * np.float32(2.0**-activation.shift)
        return np.where((values > 0) | nan, values, scaled)
    return values


def post(
    values: Float32Array,
    scale: Float32Array,
    bias: Float32Array,
    activation: Activation,
    residual: Float32Array | None = None,
    residual_scale: float | np.float32 = 1.0,
) -> Float32Array:
    """``activation(values * scale + bias + residual * residual_scale)``, operation by operation.

    Parameters
    ----------
    values : float32 array (..., N)
        Sums, each rounded once.
    scale, bias : float32 arrays (N,)
    residual : float32 array (..., N), or None
        Without one nothing is added, not even zero.
    """
    with np.errstate(all="ignore"):  # binary32 gives infinities, NaNs and subnormals here by definition
        values = canonical(values * scale)
        values = canonical(values + bias)
        if residual is not None:
            values = canonical(values + canonical(residual * np.float32(residual_scale)))
    return apply_activation(values, activation)
