"""What a training task is: data, a plain float32 network, and a recipe for both it and its DenseShift twin."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from shiftforge.errors import InputError


@dataclass(frozen=True)
class Split:
    """One labelled set.

    Parameters
    ----------
    x : float32 array, shape (N, ...)
    y : int64 array, shape (N,)
        Class numbers, from 0.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.x.dtype != np.float32 or self.y.dtype != np.int64:
            raise InputError(f"x and y must be float32 and int64, not {self.x.dtype.name!r} and {self.y.dtype.name!r}")
        if self.y.ndim != 1 or self.x.ndim < 2 or len(self.x) != len(self.y):
            raise InputError(
                f"x and y must have the shapes (N, ...) and (N,), not {self.x.shape!r} and {self.y.shape!r}"
            )
        if len(self.y) == 0:
            raise InputError("a split must hold one row or more, not 0")
        if self.y.min() < 0:
            raise InputError(f"every class number must be 0 or more, not {int(self.y.min())!r}")
        if not np.isfinite(self.x).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(self.x))[0])
            raise InputError(f"every input must be finite, not {float(self.x[index])!r} at index {index}")


@dataclass(frozen=True)
class Recipe:
    """AdamW with a cosine from ``learning_rate`` to 0, over whole batches in a new order each epoch."""

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} must be a positive integer, not {value!r}")
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate must be positive, not {self.learning_rate!r}")
        if not self.weight_decay >= 0:
            raise InputError(f"weight_decay must be 0 or more, not {self.weight_decay!r}")


@dataclass(frozen=True)
class Task:
    """One training task.

    Parameters
    ----------
    load : callable
        Gives the training and the test split, the same at every call and without a network.
    build : callable
        Gives the plain float32 network, freshly initialised from torch's generator.
    keep : tuple of str
        Layers that stay in full precision in the DenseShift twin.
    """

    name: str
    description: str
    load: Callable[[], tuple[Split, Split]]
    build: Callable[[], nn.Module]
    recipe: Recipe
    keep: tuple[str, ...] = ()
