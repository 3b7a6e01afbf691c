"""What a training task is: data, a plain float32 network, and a recipe for both it and its twins with trained shifts."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shiftforge.errors import InputError

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Changes a batch of inputs at random, for training alone; every random number comes from the generator."""


class Data(Protocol):
    """One labelled set, in memory (``Split``) or read from files batch by batch."""

    def __len__(self) -> int:
        """Rows."""
        ...

    def batch(self, rows: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Inputs and labels of these rows; augmented where the set is, unless the generator is None."""
        ...

    def digest(self) -> bytes:
        """Something that differs where the set differs."""
        ...


@dataclass(frozen=True)
class Split:
    """One labelled set in memory.

    Parameters
    ----------
    x : float32 array, shape (N, ...); or int64, for the codes of characters, which the annotation leaves out
    y : int64 array, shape (N,) or (N, positions)
        Class numbers, from 0.
    augment : callable
        What training does to its batches.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    augment: Augment | None = None

    def __post_init__(self) -> None:
        if self.x.dtype not in (np.float32, np.int64) or self.y.dtype != np.int64:
            raise InputError(f"x and y must be float32 and int64, not {self.x.dtype.name!r} and {self.y.dtype.name!r}")
        if self.y.ndim not in (1, 2) or self.x.ndim < 2 or len(self.x) != len(self.y):
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

    def __len__(self) -> int:
        return len(self.y)

    def batch(self, rows: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        x, y = torch.from_numpy(self.x)[rows], torch.from_numpy(self.y)[rows]
        return (x if generator is None or self.augment is None else self.augment(x, generator)), y

    def digest(self) -> bytes:
        return self.x.tobytes() + self.y.tobytes()


@dataclass(frozen=True)
class Recipe:
    """An optimiser under a cosine from ``learning_rate`` to 0, over whole batches in a new order each epoch.

    Parameters
    ----------
    epochs, batch : int
    learning_rate, weight_decay : float
    optimizer : "adamw" or "sgd"
        SGD has Nesterov-free momentum 0.9, and its weight decay is part of the gradient.
    warmup : int
        Epochs in which the rate first rises from 0 to the cosine's start, in equal steps per batch.
    other_decay : float or None
        Weight decay of what is no weight: biases, BatchNorm and the scales of a method. None for ``weight_decay``, as the
        paper has it.
    """

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    optimizer: Literal["adamw", "sgd"] = "adamw"
    warmup: int = 0
    other_decay: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch", 1), ("warmup", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                rule = "a positive integer" if least else "an integer of 0 or more"
                raise InputError(f"{name} must be {rule}, not {value!r}")
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate must be positive, not {self.learning_rate!r}")
        for name in ("weight_decay", "other_decay"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise InputError(f"{name} must be 0 or more, not {value!r}")
        if self.optimizer not in ("adamw", "sgd"):
            raise InputError(f"optimizer must be 'adamw' or 'sgd', not {self.optimizer!r}")

    def rate(self, step: int, batches: int) -> float:
        """The learning rate of optimiser step ``step``, from 0, where an epoch has ``batches`` of them."""
        warm = min(self.warmup, self.epochs) * batches
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.epochs * batches - warm)))


@dataclass(frozen=True)
class Pretraining:
    """What a network learns before the task: other data, its own recipe, and the layers that start anew afterwards."""

    load: Callable[[], Data]
    recipe: Recipe
    fresh: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """One training task.

    Parameters
    ----------
    load : callable
        Gives the training and the test set, the same at every call and without a network.
    build : callable
        Gives the plain float32 network, freshly initialised from torch's generator.
    keep : tuple of str
        Layers that stay in full precision in the twins.
    pretraining : Pretraining
        For transfer: every network first learns this, with the weights of its own method.
    """

    name: str
    description: str
    load: Callable[[], tuple[Data, Data]]
    build: Callable[[], nn.Module]
    recipe: Recipe
    keep: tuple[str, ...] = ()
    pretraining: Pretraining | None = None
