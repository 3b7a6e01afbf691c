"""Pass: tensor scales into the layers' scales and biases, and both rounded once to fp32.

With s the scale of a tensor, value = code's value * s. A layer that reads a tensor of scale s and writes one of scale t computes
``activation(sum * (scale * s / t) + bias / t + residual * r / t)``, r being the scale of the residual's tensor, with the bounds of
a clamp divided by t. What only passes codes on (max-pools, concatenations, reshapes) has one scale on both sides.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from shiftforge.activation import Activation, fp32_value
from shiftforge.errors import InputError
from shiftforge.formats import Format, TensorFormats
from shiftforge.graph import PASSING, Activate, Add, Conv, FloatArray, Graph, Input, Linear, Node
from shiftforge.passes.reference import evaluate

UNSCALED = ("fp32", "fp16", "bf16")
"""Formats whose range needs no scale."""


def quantise(graph: Graph, scales: Mapping[str, float] | None = None) -> Graph:
    """The compiled graph: fp32 scale and bias in every layer.

    Parameters
    ----------
    graph : Graph
        Folded; with `scales` also fused.
    scales : mapping of str to float, or None
        The tensor scale of the input and of each layer's output, by node name; 1 where one is missing. Tensors that share a scale
        (`calibrate`) must be given the same.

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
        elif isinstance(node, Linear | Conv):
            factor = given[node.source] / scale
            nodes.append(
                replace(
                    node,
                    scale=_fp32(node.name, "scale", node.scale.astype(np.float64) * factor),
                    bias=_fp32(node.name, "bias", node.bias.astype(np.float64) / scale),
                    activation=_scaled(node.activation, scale),
                    output_scale=scale,
                    residual_scale=_residual_scale(node.name, given[node.residual] / scale) if node.residual else 1.0,
                )
            )
        elif isinstance(node, PASSING) or (isinstance(node, Activate | Add) and scale == 1.0):
            nodes.append(node)
        else:
            raise InputError(f"node {node.name!r} must be folded and fused before it is quantised")
        given[node.name] = given[node.inputs[0]] if isinstance(node, PASSING) else scale
    return Graph(tuple(nodes))


def calibrate(graph: Graph, formats: TensorFormats, x: NDArray[np.float64]) -> dict[str, float]:
    """Tensor scales from sample inputs, (samples, *shape) or (samples, features).

    The largest magnitude of a tensor, or of all tensors that share a scale, becomes the largest finite value.

    fp32, fp16 and bf16 tensors keep the scale 1.

    Raises
    ------
    InputError
        When the samples hold no number, or one that is not finite.
    """
    features, shape = graph.input.features, graph.input.shape
    if x.ndim < 2 or x.shape[1:] not in (shape, (features,)) or not len(x):
        raise InputError(f"calibration samples must have the shape (samples, {features}), not {x.shape}")
    if not np.isfinite(x).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise InputError(f"calibration samples must be finite, not {float(x[index])!r} at index {index}")
    values, leaving, groups = evaluate(graph, x), graph.leaving(), _groups(graph)
    peaks: dict[str, float] = {}
    for node in graph:
        group = groups[node.name]
        peaks[group] = max(peaks.get(group, 0.0), float(np.abs(values[node.name]).max()))
    scales: dict[str, float] = {}
    for node in graph:
        group = groups[node.name]
        fmt = formats.output if node.name in leaving else formats.activation
        scale = _scale_for(fmt, peaks[group])
        if scale is not None:
            scales[group] = max(scales.get(group, 0.0), scale)
    return {node.name: scales.get(groups[node.name], 1.0) for node in graph}


def _groups(graph: Graph) -> dict[str, str]:
    """For every node the name that stands for all tensors that share its scale."""
    groups = {node.name: node.name for node in graph}
    for node in graph:
        if isinstance(node, PASSING):
            joined = {groups[edge] for edge in node.inputs} | {node.name}
            groups = {name: node.name if group in joined else group for name, group in groups.items()}
    return groups


def _residual_scale(owner: str, scale: float) -> float:
    rounded = float(np.float32(scale))
    if not (np.isfinite(rounded) and rounded > 0):
        raise InputError(f"the residual scale of layer {owner!r} must be within the range of fp32, not {scale!r}")
    return rounded


def _scale_for(fmt: Format, peak: float) -> float | None:
    """The scale with which the peak is the format's largest finite value; None where the format needs none."""
    if fmt.name in UNSCALED or peak == 0.0:
        return None
    largest = (fmt.max_fixed if fmt.is_float else fmt.max_finite) * 2.0**fmt.lsb_exponent
    scale = np.float32(peak / largest)
    return float(scale) if np.isfinite(scale) and scale > 0 else None


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
