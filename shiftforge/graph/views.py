"""Tensors as a model sees them (channels first, reshaped, permuted) over tensors as the graph stores them (channels last)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor that depends on the input.

    Parameters
    ----------
    node : str
        The graph node that makes it.
    order : integer array
        In the shape of one example as the model sees it: which element of the node's tensor (flat) each one is. Reshapes and
        permutations change this alone.
    """

    node: str
    order: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example as the model sees it."""
        return self.order.shape

    @property
    def features(self) -> int:
        return int(self.order.size)

    def seen_as(self, order: NDArray[np.int64]) -> "Tensor":
        """The same tensor in another view."""
        return Tensor(self.node, order)


def stored(node: str, shape: tuple[int, ...]) -> Tensor:
    """A node's tensor as it is stored."""
    return Tensor(node, np.arange(int(np.prod(shape))).reshape(shape))


def channels_first(node: str, shape: tuple[int, ...]) -> Tensor:
    """A node's tensor of this shape, channels last, as a model sees it: channels first."""
    return Tensor(node, np.moveaxis(stored(node, shape).order, -1, 0))
