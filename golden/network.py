"""A compiled graph, layer by layer: codes in, codes out, and everything in between by name.

The number contract's network: each layer's exact sums are rounded once to fp32, post-processed, and rounded once to the
format that they leave in: the activation format, for the last layer the output format. Nothing here knows tiles or packets.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from golden.codec import decode, encode
from golden.gemm import exact_sums
from golden.post import apply_activation, post_process
from golden.rounding import Codes, Flags, Overflow, round_fp32
from shiftforge.config import Config
from shiftforge.errors import InputError
from shiftforge.formats import FP32, Format, WeightCode
from shiftforge.graph import Activate, Graph, Input, Linear

_BLOCK = 1 << 20  # results per step, so that a large batch needs little memory


@dataclass(frozen=True, eq=False)
class NetworkResult:
    """What a network gave for a batch.

    Members
    -------
    tensors : dict of str to codes (batch, features)
        Every node's tensor by its name, in order; the input's codes are the first and the result the last.
    flags : Flags
        Raised by any layer.
    """

    tensors: dict[str, Codes]
    flags: Flags

    @property
    def output(self) -> Codes:
        return list(self.tensors.values())[-1]


def encode_input(graph: Graph, config: Config, x: npt.ArrayLike, overflow: Overflow = "saturate") -> Codes:
    """Codes (batch, features) of a batch of real values: divided by the input's scale in float64, then rounded once."""
    values = np.asarray(x)
    if values.dtype.kind not in "fiub" or values.dtype.itemsize > 8:
        raise InputError(f"the input must be real numbers of at most 64 bits, not {values.dtype}")
    flat = values.reshape(len(values), int(np.prod(values.shape[1:])))
    if flat.shape[1] != graph.input.features:
        raise InputError(f"the input must have {graph.input.features} features, not {flat.shape[1]}")
    return encode(config.activation, flat / np.float64(graph.input.scale), overflow)


def run(graph: Graph, config: Config, x_codes: Codes, overflow: Overflow = "saturate") -> NetworkResult:
    """Execute a graph of layers with fp32 scale and bias (an activation may still be a node of its own, after its layer).

    Parameters
    ----------
    x_codes : unsigned array (batch, features)
        In the activation format.

    Raises
    ------
    InputError
        For codes of another shape, or a graph that is not compiled.
    """
    if x_codes.ndim != 2 or x_codes.shape[1] != graph.input.features:
        raise InputError(f"codes of the input must have the shape (batch, {graph.input.features}), not {x_codes.shape}")
    # A sum goes on in fp32 where an activation that is still a node of its own reads it.
    wide = {node.source for node in graph if isinstance(node, Activate)}
    tensors: dict[str, Codes] = {}
    flags = Flags()
    for node in graph:
        fmt = FP32 if node.name in wide else config.output if node is graph.output else config.activation
        if isinstance(node, Input):
            tensors[node.name], raised = x_codes, Flags()
        elif isinstance(node, Linear) and node.compiled:
            tensors[node.name], raised = _linear(node, tensors[node.source], config, fmt, overflow)
        elif isinstance(node, Activate) and isinstance(graph[node.source], Linear):
            values = apply_activation(tensors[node.source].view(np.float32), node.activation)
            tensors[node.name], raised = round_fp32(values.view(np.uint32), fmt, overflow=overflow)
        else:
            raise InputError(f"node {node.name!r} must be a compiled layer, not {type(node).__name__}")
        flags |= raised
    return NetworkResult(tensors, flags)


def output_values(graph: Graph, config: Config, codes: Codes) -> npt.NDArray[np.float32]:
    """The result's values as float32: widened exactly, times the output's scale where that is not 1."""
    return (decode(config.output, codes) * graph.layers()[-1].output_scale).astype(np.float32)


def _linear(layer: Linear, x: Codes, config: Config, fmt: Format, overflow: Overflow) -> tuple[Codes, Flags]:
    parts: list[Codes] = []
    flags = Flags()
    step = max(1, _BLOCK // layer.features)
    for start in range(0, max(1, len(x)), step):
        sums = exact_sums(x[start : start + step], layer.codes, config.activation, WeightCode(layer.weight_bits))
        codes, raised = post_process(
            sums,
            layer.scale.astype(np.float32),
            layer.bias.astype(np.float32),
            exponent_bias=layer.exponent_bias,
            activation=layer.activation,
            output=fmt,
            overflow=overflow,
        )
        parts.append(codes)
        flags |= raised
    return np.concatenate(parts), flags
