"""A compiled graph, layer by layer: codes in, codes out, and everything in between by name.

The number contract's network: each layer's exact sums are rounded once to fp32, post-processed, and rounded once to the
format that they leave in: the activation format, for the last layer the output format. Nothing here knows tiles or packets.
Tensors are (batch, features), (batch, length, channels) or (batch, height, width, channels).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import assert_never

import numpy as np
import numpy.typing as npt

from golden.codec import decode, encode
from golden.post import post_process
from golden.rounding import Codes, Flags, Overflow, round_float64, round_fp32
from golden.window import layer_sums, max_pool, unfold
from shiftforge.binary32 import Float32Array, apply_activation, canonical
from shiftforge.errors import InputError
from shiftforge.formats import FP32, Format, TensorFormats
from shiftforge.graph import (
    Activate,
    Add,
    Affine,
    AveragePool,
    Concat,
    Graph,
    Input,
    Layer,
    MaxPool,
    Node,
    Reshape,
    Unfold,
)
from shiftforge.graph.host import host_layer

_BLOCK = 1 << 20  # results per step, so that a large batch needs little memory


@dataclass(frozen=True, eq=False)
class NetworkResult:
    """What a network gave for a batch.

    Members
    -------
    tensors : dict of str to codes (batch, *shape)
        Every node's tensor by its name, in order; the input's codes are the first and the result the last.
    flags : Flags
        Raised by any layer.
    """

    tensors: dict[str, Codes]
    flags: Flags

    @property
    def output(self) -> Codes:
        return list(self.tensors.values())[-1]


def encode_input(graph: Graph, config: TensorFormats, x: npt.ArrayLike, overflow: Overflow = "saturate") -> Codes:
    """Codes (batch, *shape of the graph's input) of real values: divided by the input's scale in float64, then rounded once."""
    values = np.asarray(x)
    if values.dtype.kind not in "fiub" or values.dtype.itemsize > 8:
        raise InputError(f"the input must be real numbers of at most 64 bits, not {values.dtype}")
    arranged = graph.input.arrange(values.astype(np.float64))
    return encode(config.activation, arranged / np.float64(graph.input.scale), overflow)


def formats(graph: Graph, config: TensorFormats) -> dict[str, Format]:
    """The format of every tensor: the activation format, or the output format where only the output comes of it.

    A result that an `Activate` or `Add` node alone goes on with stays in fp32, as within a layer.
    """
    leaving = graph.leaving()
    found: dict[str, Format] = {}
    for node in graph:
        readers = graph.readers(node.name)
        if len(readers) == 1 and isinstance(node, Layer | Add) and _continues(readers[0], node.name):
            found[node.name] = FP32
        else:
            found[node.name] = config.output if node.name in leaving else config.activation
    return found


def _continues(reader: Node, name: str) -> bool:
    return isinstance(reader, Activate) or (isinstance(reader, Add) and name == reader.source != reader.residual)


def run(
    graph: Graph,
    config: TensorFormats,
    x_codes: Codes,
    overflow: Overflow = "saturate",
    progress: Callable[[int, int], None] | None = None,
) -> NetworkResult:
    """Execute a graph of layers with fp32 scale and bias (activations and additions may still be nodes of their own).

    Parameters
    ----------
    x_codes : unsigned array (batch, *shape of the graph's input), or (batch, features)
        In the activation format.
    progress : callable
        Called after every node with the nodes that are done and all of them.

    Raises
    ------
    InputError
        For codes of another shape, or a graph that is not compiled.
    """
    shape = graph.shapes[graph.input.name]
    if x_codes.ndim < 2 or x_codes.shape[1:] not in (shape, (graph.input.features,)):
        rule = ", ".join(map(str, shape))
        raise InputError(f"codes of the input must have the shape (batch, {rule}), not {x_codes.shape}")
    of = formats(graph, config)
    tensors: dict[str, Codes] = {}
    flags = Flags()
    for index, node in enumerate(graph):
        inputs = [tensors[edge] for edge in node.inputs]
        arrived = [of[edge] for edge in node.inputs]
        if isinstance(node, Input):
            tensors[node.name], raised = x_codes.reshape(len(x_codes), *shape), Flags()
        elif isinstance(node, AveragePool):
            layer = node.layer(graph.shapes[node.name][-1], 2)
            layer = replace(layer, scale=layer.scale.astype(np.float32), bias=layer.bias.astype(np.float32))
            tensors[node.name], raised = _layer(layer, inputs, arrived, of[node.name], overflow)
        elif isinstance(node, Layer) and node.on_host and node.compiled:
            residual = _fp32(inputs[1], arrived[1]) if node.residual else None
            values = host_layer(node, _fp32(inputs[0], arrived[0]), residual)
            tensors[node.name], raised = round_fp32(values.view(np.uint32), of[node.name], overflow=overflow)
        elif isinstance(node, Layer):
            if not node.compiled:
                raise InputError(
                    f"node {node.name!r} must be a compiled layer, and its scale is not yet rounded to fp32"
                )
            tensors[node.name], raised = _layer(node, inputs, arrived, of[node.name], overflow)
        elif isinstance(node, Activate):
            values = apply_activation(_fp32(inputs[0], arrived[0]), node.activation)
            tensors[node.name], raised = round_fp32(values.view(np.uint32), of[node.name], overflow=overflow)
        elif isinstance(node, Add):
            with np.errstate(all="ignore"):
                values = canonical(_fp32(inputs[0], arrived[0]) + _fp32(inputs[1], arrived[1]))
            tensors[node.name], raised = round_fp32(values.view(np.uint32), of[node.name], overflow=overflow)
        elif isinstance(node, MaxPool | Concat | Reshape | Unfold):
            tensors[node.name], raised = _passed(node, graph, inputs, arrived, of[node.name], overflow)
        elif isinstance(node, Affine):
            raise InputError(f"node {node.name!r} must be a compiled layer, not {type(node).__name__}")
        else:
            assert_never(node)
        flags |= raised
        if progress is not None:
            progress(index + 1, len(graph.nodes))
    return NetworkResult(tensors, flags)


def output_values(graph: Graph, config: TensorFormats, codes: Codes) -> npt.NDArray[np.float32]:
    """The result's values as float32: widened exactly, times the output's scale where that is not 1."""
    return (decode(config.output, codes) * graph.output_scale).astype(np.float32)


def _fp32(codes: Codes, fmt: Format) -> Float32Array:
    """The values, which binary32 holds for every format."""
    if fmt == FP32:
        return codes.view(np.float32)
    return canonical(decode(fmt, codes).astype(np.float32))


def _layer(
    layer: Layer, inputs: list[Codes], arrived: list[Format], fmt: Format, overflow: Overflow
) -> tuple[Codes, Flags]:
    parts: list[Codes] = []
    flags = Flags()
    x = inputs[0]
    each = int(np.prod(layer.shape_from([codes.shape[1:] for codes in inputs])))
    step = max(1, _BLOCK // each)
    for start in range(0, max(1, len(x)), step):
        part = slice(start, start + step)
        codes, raised = post_process(
            layer_sums(x[part], layer, arrived[0]),
            layer.scale.astype(np.float32),
            layer.bias.astype(np.float32),
            exponent_bias=layer.exponent_bias,
            activation=layer.activation,
            output=fmt,
            overflow=overflow,
            residual=inputs[1][part] if layer.residual else None,
            residual_format=arrived[1] if layer.residual else None,
            residual_scale=layer.residual_scale,
        )
        parts.append(codes)
        flags |= raised
    return np.concatenate(parts), flags


def _passed(
    node: MaxPool | Concat | Reshape | Unfold,
    graph: Graph,
    inputs: list[Codes],
    arrived: list[Format],
    fmt: Format,
    overflow: Overflow,
) -> tuple[Codes, Flags]:
    """What moves or compares codes, each rounded once where it arrives in another format than it leaves in."""
    flags = Flags()
    converted: list[Codes] = []
    for codes, source in zip(inputs, arrived, strict=True):
        if source != fmt:
            codes, raised = round_float64(decode(source, codes), fmt, overflow=overflow)
            flags |= raised
        converted.append(codes)
    if isinstance(node, MaxPool):
        return max_pool(converted[0], node.window, fmt), flags
    if isinstance(node, Unfold):
        return unfold(converted[0], node.window), flags
    if isinstance(node, Concat):
        return np.concatenate(converted, axis=-1), flags
    return converted[0].reshape(len(converted[0]), *graph.shapes[node.name]), flags
