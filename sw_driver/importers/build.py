"""A graph from a sequence of tensor operations whose constants are known. NumPy only: importers of any source use it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftforge.activation import MAX_LEAKY_SHIFT, Activation
from shiftforge.errors import InputError
from shiftforge.graph import Activate, Affine, Graph, Input, Linear, Node
from sw_driver.importers.weights import shift_weights

FloatArray = NDArray[np.float64]

SUPPORTED = (
    "Linear, BatchNorm1d, ReLU, ReLU6, Hardtanh, clamp, LeakyReLU with a power-of-two slope, Dropout, Flatten, "
    "and multiplication or addition of constants"
)


@dataclass(frozen=True)
class Tensor:
    """A tensor that depends on the input: the graph node that makes it, and the shape of one example."""

    node: str
    shape: tuple[int, ...]

    @property
    def features(self) -> int:
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Place:
    """Where an operation comes from, for messages: its node, the layer (module) it belongs to, and the source line."""

    node: str
    layer: str = ""
    line: str = ""

    @property
    def name(self) -> str:
        """The name of the graph's node: the layer's where there is one."""
        return self.layer or self.node

    def __str__(self) -> str:
        details = [f"layer {self.layer!r}"] if self.layer else []
        details += [self.line] if self.line else []
        return f"node {self.node!r}" + (f" ({', '.join(details)})" if details else "")


class Builder:
    """Collects nodes; every method takes the tensor that an operation reads and returns the one it makes."""

    def __init__(self, name: str, shape: tuple[int, ...], weight_bits: int) -> None:
        self.weight_bits = weight_bits
        self._nodes: list[Node] = [Input(name, shape)]
        self.input = Tensor(name, shape)

    def graph(self, output: Tensor) -> Graph:
        """The finished graph; `InputError` when the output is not that of its last layer."""
        if not any(isinstance(node, Linear) for node in self._nodes):
            raise InputError("the network must have at least one Linear layer, and it has none")
        names = [node.name for node in self._nodes]
        return Graph(tuple(self._nodes[: names.index(output.node) + 1]))

    def linear(self, x: Tensor, weight: FloatArray, bias: FloatArray | None, at: Place) -> Tensor:
        """``x @ weight.T + bias`` with weight (N, K)."""
        if len(x.shape) != 1:
            raise InputError(
                f"{at} must read (batch, features), not examples of shape {x.shape}; flatten them before the Linear layer"
            )
        shifts = shift_weights(at.name, weight, self.weight_bits)
        zeros = np.zeros(weight.shape[0])
        name = self._unique(at)
        self._nodes.append(
            Linear(
                name=name,
                source=x.node,
                codes=shifts.codes,
                weight_bits=self.weight_bits,
                exponent_bias=shifts.exponent_bias,
                scale=shifts.scale,
                bias=zeros if bias is None else bias,
            )
        )
        return Tensor(name, (int(weight.shape[0]),))

    def batch_norm(
        self,
        x: Tensor,
        gamma: FloatArray | None,
        beta: FloatArray | None,
        mean: FloatArray,
        variance: FloatArray,
        epsilon: float,
        at: Place,
    ) -> Tensor:
        """BatchNorm in evaluation mode over the features."""
        if len(x.shape) != 1:
            raise InputError(
                f"{at} must read (batch, features), not examples of shape {x.shape}; only BatchNorm1d is built"
            )
        scale = 1.0 / np.sqrt(variance + epsilon)
        if gamma is not None:
            scale = gamma * scale
        shift = -mean * scale if beta is None else beta - mean * scale
        return self.affine(x, scale, shift, at)

    def affine(self, x: Tensor, scale: FloatArray | float, bias: FloatArray | float, at: Place) -> Tensor:
        """``x * scale + bias``; the constants broadcast over the examples' shape, not over the batch."""
        spread: list[FloatArray] = []
        for constant in (np.asarray(scale, np.float64), np.asarray(bias, np.float64)):
            if constant.ndim == len(x.shape) + 1 and constant.shape[0] == 1:
                constant = constant[0]
            try:
                spread.append(np.ascontiguousarray(np.broadcast_to(constant, x.shape)).reshape(-1))
            except ValueError:
                raise InputError(
                    f"{at} must combine examples of shape {x.shape} with a constant that broadcasts to it, not {constant.shape}"
                ) from None
        name = self._unique(at)
        self._nodes.append(Affine(name, x.node, spread[0], spread[1]))
        return Tensor(name, x.shape)

    def activation(self, x: Tensor, activation: Activation, at: Place) -> Tensor:
        name = self._unique(at)
        self._nodes.append(Activate(name, x.node, x.features, activation))
        return Tensor(name, x.shape)

    def clamp(self, x: Tensor, low: float | None, high: float | None, at: Place) -> Tensor:
        low, high = -np.inf if low is None else float(low), np.inf if high is None else float(high)
        if not low <= high:
            raise InputError(f"{at} must clamp to a range, not to {low!r}..{high!r}")
        return self.activation(x, Activation.clamp(low, high), at)

    def leaky_relu(self, x: Tensor, slope: float, at: Place) -> Tensor:
        fraction, exponent = np.frexp(slope)
        shift = 1 - int(exponent)
        if fraction != 0.5 or not 0 <= shift <= MAX_LEAKY_SHIFT:
            nearest = min(range(MAX_LEAKY_SHIFT + 1), key=lambda n: abs(2.0**-n - slope))
            raise InputError(
                f"{at} must have a slope of 2**-n with n in 0..{MAX_LEAKY_SHIFT}, not {slope!r}; "
                f"the nearest is LeakyReLU(2**-{nearest})"
            )
        return self.activation(x, Activation.leaky(shift), at)

    def _unique(self, at: Place) -> str:
        names = {node.name for node in self._nodes}
        name, count = at.name, 1
        while name in names:
            count += 1
            name = f"{at.name}#{count}"
        return name
