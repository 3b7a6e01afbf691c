"""A graph from a sequence of tensor operations whose constants are known. NumPy only: importers of any source use it.

Models see channels first, the graph stores channels last: the methods turn weights, and `Tensor.order` keeps track of the rest.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shiftforge.activation import MAX_LEAKY_SHIFT, Activation
from shiftforge.errors import InputError
from shiftforge.graph import (
    Activate,
    Add,
    Affine,
    AveragePool,
    Concat,
    Conv,
    Graph,
    Input,
    Layer,
    Linear,
    MaxPool,
    Node,
    Reshape,
    Window,
)
from shiftforge.graph.views import Tensor, channels_first, stored
from shiftforge.graph.weights import ShiftWeights, shift_weights

FloatArray = NDArray[np.float64]


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
    """Collects nodes; every method takes the tensor that an operation reads and returns the one it makes.

    Parameters
    ----------
    name, shape : str, tuple of int
        The input, and one example of it.
    weight_bits : int
    mask : bool
        Whether a weight may be a masked zero.
    host : collection of str
        Names of layers that keep their weights in full precision: the host computes them.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        weight_bits: int,
        *,
        mask: bool = False,
        host: Collection[str] = (),
    ) -> None:
        self.weight_bits = weight_bits
        self.mask = mask
        self.host = host
        self._nodes: list[Node] = [Input(name, shape)]
        self._shapes: dict[str, tuple[int, ...]] = {name: (int(np.prod(shape)),)}
        # What the input and the element-wise nodes on it are named while nothing has decided yet how they are stored.
        self._undecided = {name}
        self._turned: dict[str, NDArray[np.int64]] = {}  # and afterwards: from the order of the input to the stored one
        self.input = stored(name, shape)

    def graph(self, output: Tensor) -> Graph:
        """The finished graph; `InputError` when it has no layer, or the output is not as a layer stores it."""
        if not any(isinstance(node, Layer) for node in self._nodes):
            raise InputError("the network must have at least one Linear or convolution layer, and it has none")
        names = [node.name for node in self._nodes]
        layers = [node.name for node in self._nodes if isinstance(node, Layer)]
        for name in self.host:
            if name not in layers:
                raise InputError(
                    f"a layer that the host keeps must be one of the network's, {', '.join(layers)}, not {name!r}"
                )
        del self._nodes[names.index(output.node) + 1 :]
        order = self._order(output)
        if order.ndim > 1 and not _is_sequence(order):
            order = np.moveaxis(order, 0, -1)
        if not _is_sequence(order):
            raise InputError(
                f"the output must have its elements as {output.node!r} makes them, channels first or flat, and has them permuted; "
                "leave the permutation at the end to the host"
            )
        if self._shapes[output.node] != order.shape:
            self._append(Reshape(f"{output.node}.output", output.node, order.shape), order.shape)
        used = {self._nodes[-1].name}
        kept: list[Node] = []
        for node in reversed(self._nodes):
            if node.name in used or isinstance(node, Input):
                used.update(node.inputs)
                kept.append(node)
        return Graph(tuple(reversed(kept)))

    # ---- layers

    def linear(
        self,
        x: Tensor,
        weight: FloatArray,
        bias: FloatArray | None,
        at: Place,
        bits: int | None = None,
        k_bias: NDArray[np.int8] | None = None,
    ) -> Tensor:
        """``x @ weight.T + bias`` over the last axis, with weight (N, K).

        `bits` are its own instead of the builder's; `k_bias` (K,) is what of the weights' exponents belongs to the K index.
        """
        bits = self.weight_bits if bits is None else bits
        if x.shape[-1] != weight.shape[1]:
            raise InputError(f"{at} must read {weight.shape[1]} features, not examples of shape {x.shape}")
        shifts, real = self._weights(_without(k_bias, weight), bits, at)
        codes, mask = shifts.codes, shifts.mask
        if len(x.shape) == 1:
            source, order = self._flat(x, at)
            rows = np.empty(len(order), np.int64)
            rows[order] = np.arange(len(order))
            codes = np.ascontiguousarray(codes.reshape(shifts.terms, *weight.shape[::-1])[:, rows].reshape(codes.shape))
            mask = None if mask is None else np.ascontiguousarray(mask[rows])  # with one term alone
            k_bias = None if k_bias is None else k_bias[rows]
            real = None if real is None else np.ascontiguousarray(real[rows])
        else:
            source = self._image(x, -1, at)
        name = self._unique(at)
        layer = Linear(
            name,
            source,
            codes,
            bits,
            shifts.exponent_bias,
            shifts.scale,
            np.zeros(weight.shape[0]) if bias is None else np.array(bias, np.float64),
            terms=shifts.terms,
            mask=mask,
            k_bias=None if k_bias is None else np.tile(k_bias, shifts.terms),
            real=real,
        )
        return self._append(layer, (*x.shape[:-1], layer.features))

    def conv(
        self,
        x: Tensor,
        weight: FloatArray,
        bias: FloatArray | None,
        window: Window,
        groups: int,
        at: Place,
        bits: int | None = None,
        k_bias: NDArray[np.int8] | None = None,
    ) -> Tensor:
        """A convolution with weight (N, C / groups, *kernel) of x (C, *pixels); `bits` as in `linear`.

        `k_bias` (groups, C / groups, *kernel) as there.
        """
        bits = self.weight_bits if bits is None else bits
        axes = window.axes
        if len(x.shape) != axes + 1 or x.shape[0] != weight.shape[1] * groups:
            raise InputError(
                f"{at} must read ({weight.shape[1] * groups} channels, {'length' if axes == 1 else 'height, width'}), not "
                f"examples of shape {x.shape}"
            )
        source = self._image(x, 0, at)
        of_channels = None if k_bias is None else np.repeat(k_bias, weight.shape[0] // groups, 0)
        shifts, real = self._weights(_without(of_channels, weight), bits, at)
        axes_of_rows = (shifts.terms, *weight.shape[1:], weight.shape[0])

        def side_by_side(rows: NDArray[np.uint8] | NDArray[np.bool_] | NDArray[np.float32]) -> NDArray:
            """The channels of a pixel next to one another."""
            return np.ascontiguousarray(np.moveaxis(rows.reshape(axes_of_rows), 1, -2).reshape(rows.shape))

        name = self._unique(at)
        layer = Conv(
            name,
            source,
            side_by_side(shifts.codes),
            bits,
            shifts.exponent_bias,
            shifts.scale,
            np.zeros(weight.shape[0]) if bias is None else np.array(bias, np.float64),
            terms=shifts.terms,
            mask=None if shifts.mask is None else side_by_side(shifts.mask),
            k_bias=None if k_bias is None else np.tile(np.moveaxis(k_bias, (0, 1), (-2, -1)).reshape(-1), shifts.terms),
            real=None if real is None else side_by_side(real),
            window=window,
            groups=groups,
        )
        return self._append_image(layer)

    def _weights(self, weight: FloatArray, bits: int, at: Place) -> tuple[ShiftWeights, NDArray[np.float32] | None]:
        """Codes of weights (N, ...); or for a layer that the host keeps, codes that mean nothing and the weights (K, N)."""
        if at.name not in self.host:
            return shift_weights(at.name, weight, bits, mask=self.mask), None
        real = np.ascontiguousarray(weight.reshape(len(weight), -1).T.astype(np.float32))
        if not np.isfinite(real).all():
            raise InputError(f"weights of layer {at.name!r} must be finite in fp32 to be kept in full precision")
        return ShiftWeights(np.zeros(real.shape, np.uint8), 0, np.ones(len(weight))), real

    # ---- element by element

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
        """BatchNorm in evaluation mode over the channels, the first axis."""
        scale = 1.0 / np.sqrt(variance + epsilon)
        if gamma is not None:
            scale = gamma * scale
        shift = -mean * scale if beta is None else beta - mean * scale
        pixels = (1,) * (len(x.shape) - 1)
        return self.affine(x, scale.reshape(-1, *pixels), shift.reshape(-1, *pixels), at)

    def affine(self, x: Tensor, scale: FloatArray | float, bias: FloatArray | float, at: Place) -> Tensor:
        """``x * scale + bias``; the constants broadcast over the examples' shape, not over the batch."""
        spread: list[FloatArray] = []
        order = self._order(x)
        shape = self._shapes[x.node]
        for constant in (np.asarray(scale, np.float64), np.asarray(bias, np.float64)):
            if constant.ndim == len(x.shape) + 1 and constant.shape[0] == 1:
                constant = constant[0]
            try:
                seen = np.broadcast_to(constant, x.shape)
            except ValueError:
                raise InputError(
                    f"{at} must combine examples of shape {x.shape} with a constant that broadcasts to it, not {constant.shape}"
                ) from None
            values = np.empty(x.features)
            values[order.reshape(-1)] = seen.reshape(-1)
            spread.append(values)
        if x.node in self._undecided and any(np.any(values != values[0]) for values in spread):
            if len(x.shape) > 1:
                self._image(x, 0, at)
                return self.affine(x, scale, bias, at)
            self._undecided.clear()
        by_channel = [values.reshape(-1, shape[-1]) for values in spread]
        if any(np.any(values != values[0]) for values in by_channel):
            raise InputError(f"{at} must have one constant for all or one per channel, not others for other pixels")
        name = self._unique(at)
        self._append(Affine(name, x.node, by_channel[0][0].copy(), by_channel[1][0].copy()), shape)
        return self._same(x, name)

    def activation(self, x: Tensor, activation: Activation, at: Place) -> Tensor:
        name = self._unique(at)
        self._append(Activate(name, x.node, activation), self._shapes[x.node])
        return self._same(x, name)

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

    def add(self, x: Tensor, other: Tensor, at: Place) -> Tensor:
        """The sum of two computed tensors of one shape."""
        one, two = self._order(x), self._order(other)
        if x.shape != other.shape or self._shapes[x.node] != self._shapes[other.node] or np.any(one != two):
            raise InputError(
                f"{at} must add tensors of one shape and order, not {x.shape} of {x.node!r} and {other.shape} of {other.node!r}"
            )
        name = self._unique(at)
        self._append(Add(name, x.node, other.node), self._shapes[x.node])
        return Tensor(name, one)

    # ---- pooling and joining

    def max_pool(self, x: Tensor, window: Window, at: Place) -> Tensor:
        """The largest of each window of x (C, *pixels)."""
        return self._append_image(MaxPool(self._unique(at), self._pixels(x, window, at), window))

    def average_pool(self, x: Tensor, window: Window, at: Place) -> Tensor:
        """The mean of each window of x (C, *pixels)."""
        return self._append_image(AveragePool(self._unique(at), self._pixels(x, window, at), window))

    def concat(self, tensors: Sequence[Tensor], axis: int, at: Place) -> Tensor:
        """Tensors side by side along an axis of the examples: the channels, or features."""
        if any(len(tensor.shape) != len(tensors[0].shape) for tensor in tensors):
            raise InputError(f"{at} must join tensors of as many axes, not shapes {[t.shape for t in tensors]}")
        name = self._unique(at)
        if len(tensors[0].shape) == 1:
            sources, orders, begin = [], [], 0
            for tensor in tensors:
                source, order = self._flat(tensor, at)
                sources.append(source)
                orders.append(order + begin)
                begin += len(order)
            self._append(Concat(name, tuple(sources)), (begin,))
            return Tensor(name, np.concatenate(orders))
        if axis % len(tensors[0].shape) != 0:
            raise InputError(
                f"{at} must join channels, axis 1 of (batch, channels, ...), not axis {axis % len(tensors[0].shape) + 1}"
            )
        return self._append_image(Concat(name, tuple(self._image(tensor, 0, at) for tensor in tensors)))

    # ---- how tensors are stored

    def _order(self, x: Tensor) -> NDArray[np.int64]:
        """The view's elements in the node's stored order, also where that was decided after the view was made."""
        turned = self._turned.get(x.node)
        return x.order if turned is None else turned[x.order]

    def _same(self, x: Tensor, name: str) -> Tensor:
        """The view of an element-wise node's result: as its input's."""
        if x.node in self._undecided:
            self._undecided.add(name)
        elif x.node in self._turned:
            self._turned[name] = self._turned[x.node]
        return Tensor(name, x.order)

    def _pixels(self, x: Tensor, window: Window, at: Place) -> str:
        if len(x.shape) != window.axes + 1:
            rule = "length" if window.axes == 1 else "height, width"
            raise InputError(f"{at} must read (channels, {rule}), not examples of shape {x.shape}")
        return self._image(x, 0, at)

    def _image(self, x: Tensor, channels: int, at: Place) -> str:
        """The name of a node that stores the view with this axis last, the others in order."""
        order = np.moveaxis(self._order(x), channels, -1)
        if x.node in self._undecided:
            self._decide(order, at)
            order = np.moveaxis(self._order(x), channels, -1)
        if not _is_sequence(order):
            raise InputError(
                f"{at} must read the channels of a pixel as {x.node!r} makes them, not permuted; leave permutations to the "
                "data, or between Flatten and Linear"
            )
        return self._shaped(x.node, order.shape)

    def _flat(self, x: Tensor, at: Place) -> tuple[str, NDArray[np.int64]]:
        """The name of a node that stores the view's elements in one axis, and their order there."""
        if x.node in self._undecided:
            self._undecided.clear()
        order = self._order(x).reshape(-1)
        return self._shaped(x.node, (len(order),)), order

    def _shaped(self, node: str, shape: tuple[int, ...]) -> str:
        if self._shapes[node] == shape:
            return node
        for other in self._nodes:
            if isinstance(other, Reshape) and (other.source, other.shape) == (node, shape):
                return other.name
        name = f"{node}.{'flat' if len(shape) == 1 else 'image'}"
        while name in self._shapes:
            name += "'"
        self._append(Reshape(name, node, shape), shape)
        return name

    def _decide(self, order: NDArray[np.int64], at: Place) -> None:
        """Store the input (and what was done to its elements so far) in this order, an image with channels last."""
        turned = np.moveaxis(order, -1, 0)
        if not (_is_sequence(order) or _is_sequence(turned)):
            raise InputError(
                f"{at} must read the input's elements with the channels first or last, not permuted otherwise; permute the data"
            )
        first = not _is_sequence(order)
        entry = self._nodes[0]
        assert isinstance(entry, Input)
        self._nodes[0] = replace(entry, image=order.shape, channels_first=first)
        places = np.empty(order.size, np.int64)
        places[order.reshape(-1)] = np.arange(order.size)
        for index, node in enumerate(self._nodes):
            if node.name not in self._undecided:
                continue
            self._shapes[node.name] = order.shape
            self._turned[node.name] = places
            if isinstance(node, Affine):  # one number for all elements: else it had decided itself
                channels = order.shape[-1]
                scale, bias = np.full(channels, node.scale[0]), np.full(channels, node.bias[0])
                self._nodes[index] = replace(node, scale=scale, bias=bias)
        self._undecided.clear()

    def _append(self, node: Node, shape: tuple[int, ...]) -> Tensor:
        self._nodes.append(node)
        self._shapes[node.name] = shape
        return stored(node.name, shape)

    def _append_image(self, node: Node) -> Tensor:
        shape = node.shape_from([self._shapes[edge] for edge in node.inputs])
        self._append(node, shape)
        return channels_first(node.name, shape)

    def _unique(self, at: Place) -> str:
        names = {node.name for node in self._nodes}
        name, count = at.name, 1
        while name in names:
            count += 1
            name = f"{at.name}#{count}"
        return name


def _without(k_bias: NDArray[np.int8] | None, weight: FloatArray) -> FloatArray:
    """The weights with the exponents that belong to the K index taken out."""
    return weight if k_bias is None else np.ldexp(weight, -k_bias.astype(np.int64))


def _is_sequence(order: NDArray[np.int64]) -> bool:
    return bool((order.reshape(-1) == np.arange(order.size)).all())
