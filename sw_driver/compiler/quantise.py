"""Pass: tensor scales into the layers' scales and biases, and both rounded once to fp32.

With s the scale of a tensor, value = code's value * s. A layer that reads a tensor of scale s and writes one of scale t computes
``activation(sum * (scale * s / t) + bias / t)``, with the bounds of a clamp divided by t.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from shiftforge.activation import Activation, fp32_value
from shiftforge.config import Config
from shiftforge.errors import InputError
from shiftforge.formats import Format
from shiftforge.graph import Activate, FloatArray, Graph, Input, Linear, Node
from sw_driver.compiler.reference import evaluate

UNSCALED = ("fp32", "fp16", "bf16")
"""Formats whose range needs no scale."""


def quantise(graph: Graph, scales: Mapping[str, float] | None = None) -> Graph:
    """The compiled graph: fp32 scale and bias in every layer.

    Parameters
    ----------
    graph : Graph
        Folded; with `scales` also fused.
    scales : mapping of str to float, or None
        The tensor scale of the input and of each layer's output, by node name; 1 where one is missing.

    Raises
    ------
    InputError
        When a scale or a bias is beyond the range of fp32; it names layer and channel.
    """
    scales = scales or {}
    nodes: list[Node] = []
    given: dict[str, float] = {}
    for node in graph:
        scale = float(np.float32(scales.get(node.name, 1.0)))
        if isinstance(node, Input):
            nodes.append(replace(node, scale=scale))
        elif isinstance(node, Linear):
            factor = given[node.source] / scale
            nodes.append(
                replace(
                    node,
                    scale=_fp32(node.name, "scale", node.scale.astype(np.float64) * factor),
                    bias=_fp32(node.name, "bias", node.bias.astype(np.float64) / scale),
                    activation=_scaled(node.activation, scale),
                    output_scale=scale,
                )
            )
        elif isinstance(node, Activate) and scale == 1.0:
            nodes.append(node)
        else:
            raise InputError(f"node {node.name!r} must be folded and fused before it is quantised")
        given[node.name] = scale
    return Graph(tuple(nodes))


def calibrate(graph: Graph, config: Config, x: NDArray[np.float64]) -> dict[str, float]:
    """Tensor scales from sample inputs (samples, features): the largest magnitude of each tensor becomes the largest finite value.

    fp32, fp16 and bf16 tensors keep the scale 1.

    Raises
    ------
    InputError
        When the samples hold no number, or one that is not finite.
    """
    if x.ndim != 2 or x.shape[1] != graph.input.features or not len(x):
        raise InputError(f"calibration samples must have the shape (samples, {graph.input.features}), not {x.shape}")
    if not np.isfinite(x).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise InputError(f"calibration samples must be finite, not {float(x[index])!r} at index {index}")
    values = evaluate(graph, x)
    scales = {}
    for node in graph:
        fmt = config.output if node is graph.output else config.activation
        peak = float(np.abs(values[node.name]).max())
        scales[node.name] = _scale_for(fmt, peak)
    return scales


def _scale_for(fmt: Format, peak: float) -> float:
    if fmt.name in UNSCALED or peak == 0.0:
        return 1.0
    largest = (fmt.max_fixed if fmt.is_float else fmt.max_finite) * 2.0**fmt.lsb_exponent
    scale = np.float32(peak / largest)
    return float(scale) if np.isfinite(scale) and scale > 0 else 1.0


def _fp32(owner: str, what: str, values: FloatArray) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    if not np.isfinite(rounded).all():
        index = int(np.flatnonzero(~np.isfinite(rounded))[0])
        raise InputError(
            f"{what} of layer {owner!r} must be within the range of fp32, not {float(values[index])!r} at channel {index}"
        )
    return rounded


def _scaled(activation: Activation, scale: float) -> Activation:
    if activation.kind != "clamp" or scale == 1.0:
        return activation
    return Activation.clamp(fp32_value(activation.lo) / scale, fp32_value(activation.hi) / scale)
