"""Post-processing: IEEE 754 binary32, operation by operation, on the rounded exact sum.

NumPy float32 defines every operation; every NaN becomes the canonical one after each. The order is fixed::

    sum --round--> fp32 --(* scale)--(+ bias)--(+ residual * residual_scale)--(activation)--round--> output
"""

import numpy as np
import numpy.typing as npt

from golden.codec import decode
from golden.rounding import Codes, Flags, Overflow, round_fp32, round_sums
from golden.sums import Sums
from shiftforge.activation import Activation
from shiftforge.binary32 import canonical, post
from shiftforge.errors import InputError
from shiftforge.formats import FP32, Format


def post_process(
    sums: Sums,
    scale: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    *,
    exponent_bias: int = 0,
    activation: Activation,
    output: Format,
    overflow: Overflow = "inf",
    residual: npt.NDArray[np.integer] | None = None,
    residual_format: Format | None = None,
    residual_scale: float | np.float32 = 1.0,
) -> tuple[Codes, Flags]:
    """Round exact sums to binary32, scale, add bias and residual, activate, and round once to the output format.

    Parameters
    ----------
    sums : Sums of shape (M, N)
    scale, bias : float32 arrays (N,)
        Per output channel.
    exponent_bias : int
        The layer's, -128..127; applied exactly before the first rounding.
    overflow : str
        Of the rounding to the output; the rounding of the sum to binary32 overflows to infinity as IEEE 754 says.
    residual : unsigned array (M, N), optional
        Codes of ``residual_format``, widened exactly, multiplied by ``residual_scale`` (a binary32 value) and added.

    Returns
    -------
    Codes (M, N) in ``storage_dtype(output)``, and the flags of the first and the last rounding (the operations between
    raise none).
    """
    columns = sums.shape[-1:]
    for name, array in (("scale", scale), ("bias", bias)):
        if array.dtype != np.float32 or array.shape != columns:
            raise InputError(f"{name} must be float32 of shape {columns}, not {array.dtype} of shape {array.shape}")
    bits, first = round_sums(sums, FP32, exponent_bias=exponent_bias)
    values = bits.view(np.float32)
    widened = None
    if residual is not None:
        if residual_format is None:
            raise InputError("residual_format must be given with a residual, not None")
        if residual.shape != sums.shape:
            raise InputError(f"residual must be of shape {sums.shape}, not {residual.shape}")
        if not np.isnan(residual_scale) and float(np.float32(residual_scale)) != float(residual_scale):
            raise InputError(f"residual_scale must be a binary32 value, not {residual_scale!r}")
        with np.errstate(invalid="ignore"):  # a signalling NaN
            widened = canonical(decode(residual_format, residual).astype(np.float32))  # exact for every format
    values = post(values, scale, bias, activation, widened, residual_scale)
    codes, last = round_fp32(values.view(np.uint32), output, overflow=overflow)
    return codes, first | last
