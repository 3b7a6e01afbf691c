"""What enters and leaves a systolic array besides its processing elements: the inputs' shapes, the weight skew, the read-out."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from shiftforge import timing
from shiftforge.config import Config
from shiftforge.errors import InputError

_Scalar = TypeVar("_Scalar", bound=np.generic)


def check_inputs(config: Config, rows: Mapping[str, npt.NDArray[np.generic]], w: npt.NDArray[np.generic]) -> None:
    """`InputError` unless every array of `rows` is (cycles, rows), and `w` (cycles, cols)."""
    cycles = len(w)
    for name, array, width in (*((name, array, config.rows) for name, array in rows.items()), ("w", w, config.cols)):
        if array.shape != (cycles, width):
            raise InputError(f"{name} of the array must be of shape {(cycles, width)}, not {array.shape}")


def skewed(w: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    """Weights (cycles, cols) as they enter row 0: column c's c cycles later, zeros before."""
    entering = np.zeros_like(w)
    for c in range(w.shape[1]):
        entering[c:, c] = w[: max(0, len(w) - c), c]
    return entering


def read_out(config: Config, merged: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    """Behind the registers of the OR tree; their number depends on the rows, the value does not."""
    delayed = np.zeros_like(merged)
    depth = timing.read_out(config)
    delayed[depth:] = merged[: max(0, len(merged) - depth)]
    return delayed
