"""A graph in real numbers (float64): what calibration measures, and what a pass that rounds nothing must not change."""

import numpy as np
from numpy.typing import NDArray

from shiftforge.activation import Activation, fp32_value
from shiftforge.graph import Affine, Graph, Input, Linear


def activate(values: NDArray[np.float64], activation: Activation) -> NDArray[np.float64]:
    """The activation function in real numbers."""
    if activation.kind == "relu":
        return np.maximum(values, 0.0)
    if activation.kind == "clamp":
        return np.clip(values, fp32_value(activation.lo), fp32_value(activation.hi))
    if activation.kind == "leaky":
        return np.where(values > 0, values, values * 2.0**-activation.shift)
    return values


def evaluate(graph: Graph, x: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """The real values of every node's tensor for a batch of real values (batch, features): tensor scales are multiplied back in."""
    values: dict[str, NDArray[np.float64]] = {}
    scales: dict[str, float] = {}
    for node in graph:
        if isinstance(node, Input):
            values[node.name], scales[node.name] = x, node.scale
            continue
        source, scale = values[node.source], scales[node.source]
        if isinstance(node, Linear):
            products = source / scale @ node.weights()
            scale = node.output_scale
            result = activate(products * node.scale + node.bias, node.activation) * scale
        elif isinstance(node, Affine):
            result = source * node.scale + node.bias
        else:
            result = activate(source, node.activation)
        values[node.name], scales[node.name] = result, scale
    return values
