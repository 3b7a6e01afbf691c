"""A graph in real numbers (float64): what calibration measures, and what a pass that rounds nothing must not change."""

from typing import TypeVar, assert_never

import numpy as np
from numpy.typing import NDArray

from shiftforge.activation import Activation, fp32_value
from shiftforge.graph import (
    Activate,
    Add,
    Affine,
    AveragePool,
    Concat,
    Conv,
    Graph,
    Input,
    Linear,
    MaxPool,
    Reshape,
    Unfold,
    Window,
)

Values = NDArray[np.float64]
_Scalar = TypeVar("_Scalar", bound=np.generic)


def activate(values: Values, activation: Activation) -> Values:
    """The activation function in real numbers."""
    if activation.kind == "relu":
        return np.maximum(values, 0.0)
    if activation.kind == "clamp":
        return np.clip(values, fp32_value(activation.lo), fp32_value(activation.hi))
    if activation.kind == "leaky":
        return np.where(values > 0, values, values * 2.0**-activation.shift)
    return values


def windows(x: NDArray[_Scalar], window: Window, fill: float) -> NDArray[_Scalar]:
    """The pixels that every output pixel reads: (batch, *output pixels, channels, *kernel) of x (batch, *pixels, channels)."""
    padded = np.pad(x, ((0, 0), *window.padding, (0, 0)), constant_values=fill)
    pixels = tuple(range(1, window.axes + 1))
    view = np.lib.stride_tricks.sliding_window_view(padded, window.reach, axis=pixels)
    steps = (slice(None), *(slice(None, None, s) for s in window.stride), slice(None))
    return view[steps + tuple(slice(None, None, d) for d in window.dilation)]


def unfold(x: NDArray[_Scalar], window: Window) -> NDArray[_Scalar]:
    """What each window position reads, 0 for padding: (batch, *pixels, positions * channels) of (batch, *pixels, channels)."""
    view = np.moveaxis(windows(x, window, 0), 1 + window.axes, -1)  # channels last
    return view.reshape(*view.shape[: 1 + window.axes], -1)


def convolve(x: Values, layer: Conv) -> Values:
    """The layer's sums, without scale, bias and residual."""
    view = windows(x, layer.window, 0.0)
    weights = layer.weights().reshape(*layer.window.kernel, -1, layer.groups, layer.features // layer.groups)
    grouped = view.reshape(*x.shape[:1], *view.shape[1 : 1 + layer.window.axes], layer.groups, -1, *layer.window.kernel)
    spots = "yx"[: layer.window.axes]
    sums = np.einsum(f"b...gc{spots},{spots}cgn->b...gn", grouped, weights, optimize=True)
    return sums.reshape(*sums.shape[:-2], layer.features)


def evaluate(graph: Graph, x: Values) -> dict[str, Values]:
    """The real values of every node's tensor for a batch of examples: tensor scales are multiplied back in."""
    values: dict[str, Values] = {}
    scales = graph.scales()
    for node in graph:
        if isinstance(node, Input):
            values[node.name] = node.arrange(x)
            continue
        inputs = [values[edge] for edge in node.inputs]
        if isinstance(node, Linear | Conv):
            codes = inputs[0] / scales[node.source]
            sums = convolve(codes, node) if isinstance(node, Conv) else codes @ node.weights()
            result = sums * node.scale + node.bias
            if node.residual:
                result = result + inputs[1] / scales[node.residual] * node.residual_scale
            result = activate(result, node.activation) * node.output_scale
        elif isinstance(node, Affine):
            result = inputs[0] * node.scale + node.bias
        elif isinstance(node, Activate):
            result = activate(inputs[0], node.activation)
        elif isinstance(node, Add):
            result = inputs[0] + inputs[1]
        elif isinstance(node, MaxPool):
            result = windows(inputs[0], node.window, -np.inf).max(axis=tuple(range(-node.window.axes, 0)))
        elif isinstance(node, AveragePool):
            result = windows(inputs[0], node.window, 0.0).mean(axis=tuple(range(-node.window.axes, 0)))
        elif isinstance(node, Concat):
            result = np.concatenate(inputs, axis=-1)
        elif isinstance(node, Unfold):
            result = unfold(inputs[0], node.window)
        elif isinstance(node, Reshape):
            result = inputs[0].reshape(len(inputs[0]), *node.shape)
        else:
            assert_never(node)
        values[node.name] = result
    return values
