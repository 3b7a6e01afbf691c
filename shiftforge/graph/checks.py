"""What nodes check of their parameters, and how they say it."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftforge.errors import InputError

FloatArray: TypeAlias = NDArray[np.float64] | NDArray[np.float32]
Shape: TypeAlias = tuple[int, ...]


def check_scale(owner: str, scale: float, what: str = "tensor scale") -> None:
    """A scale is a positive finite binary32 number."""
    if not (np.isfinite(scale) and scale > 0 and float(np.float32(scale)) == scale):
        raise InputError(f"the {what} of {owner!r} must be a positive finite fp32 number, not {scale!r}")


def check_channels(owner: str, what: str, array: FloatArray, channels: int) -> None:
    """One finite float per channel."""
    if array.shape != (channels,) or array.dtype not in (np.float32, np.float64):
        raise InputError(
            f"{what} of {owner!r} must be {channels} floats in one dimension, not {array.dtype} of shape {array.shape}"
        )
    if not np.isfinite(array).all():
        index = int(np.flatnonzero(~np.isfinite(array))[0])
        raise InputError(f"{what} of {owner!r} must be finite, not {float(array[index])!r} at channel {index}")


def check_shape(owner: str, what: str, shape: Shape) -> None:
    """Positive sizes, one or more."""
    if not shape or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in shape):
        raise InputError(f"{what} of {owner!r} must be positive sizes, not {shape!r}")
