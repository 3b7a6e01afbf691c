"""The network between importer, compiler and golden model: a small typed graph of named nodes with explicit input edges.

NumPy only, and not imported by the gateware. The nodes of today describe chains of fully connected layers; convolutions,
pooling and the residual addition come in as further node classes with more than one input edge.

What a graph means, in real numbers: `Linear` is ``activation((x @ W) * scale + bias)`` with ``W = ±2**(e + exponent_bias)``;
`Affine` is ``x * scale + bias`` per channel; `Activate` is its function. What it means in bits is defined once the compiler has
folded every `Affine` and `Activate` into its `Linear` and rounded scale and bias to fp32: then the exact sum of the codes
is rounded to fp32, scaled, biased, activated and rounded to the format of its tensor (contract, section 1).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftforge.activation import Activation
from shiftforge.errors import InputError
from shiftforge.formats import WeightCode

FloatArray: TypeAlias = NDArray[np.float64] | NDArray[np.float32]

MIN_EXPONENT_BIAS, MAX_EXPONENT_BIAS = -128, 127


def _check_scale(owner: str, scale: float) -> None:
    if not (np.isfinite(scale) and scale > 0 and float(np.float32(scale)) == scale):
        raise InputError(f"the tensor scale of {owner!r} must be a positive finite fp32 number, not {scale!r}")


def _check_channels(owner: str, what: str, array: FloatArray, channels: int) -> None:
    if array.shape != (channels,) or array.dtype not in (np.float32, np.float64):
        raise InputError(
            f"{what} of {owner!r} must be {channels} floats in one dimension, not {array.dtype} of shape {array.shape}"
        )
    if not np.isfinite(array).all():
        index = int(np.flatnonzero(~np.isfinite(array))[0])
        raise InputError(f"{what} of {owner!r} must be finite, not {float(array[index])!r} at channel {index}")


@dataclass(frozen=True, eq=False)
class Input:
    """The network's input.

    Parameters
    ----------
    name : str
    shape : tuple of int
        Shape of one example, without the batch axis; flattened in C order it is the first layer's K.
    scale : float
        Value of one unit of the codes' values: value = decoded code * scale. An fp32 number.
    """

    name: str
    shape: tuple[int, ...]
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.shape or any(size < 1 for size in self.shape):
            raise InputError(f"the shape of input {self.name!r} must be positive sizes, not {self.shape!r}")
        _check_scale(self.name, self.scale)

    @property
    def inputs(self) -> tuple[str, ...]:
        return ()

    @property
    def features(self) -> int:
        return int(np.prod(self.shape))


@dataclass(frozen=True, eq=False)
class Linear:
    """A fully connected shift layer.

    Parameters
    ----------
    name, source : str
        Its own name, and the node that it reads.
    codes : uint8 array (K, N)
        Weight codes of `weight_bits` bits.
    weight_bits, exponent_bias : int
        A weight is ``(-1)**sign * 2**(e + exponent_bias)``; the bias is -128..127.
    scale, bias : float array (N,)
        float64 in a graph that is still being compiled, float32 in one that is compiled.
    activation : Activation
    output_scale : float
        The scale of the output tensor, see `Input.scale`; it is already divided out of `scale`, `bias` and `activation`.
    """

    name: str
    source: str
    codes: NDArray[np.uint8]
    weight_bits: int
    exponent_bias: int
    scale: FloatArray
    bias: FloatArray
    activation: Activation = field(default_factory=Activation.none)
    output_scale: float = 1.0

    def __post_init__(self) -> None:
        WeightCode(self.weight_bits)
        if self.codes.ndim != 2 or self.codes.dtype != np.uint8 or 0 in self.codes.shape:
            raise InputError(
                f"weight codes of {self.name!r} must be a uint8 matrix (K, N), not {self.codes.dtype} of shape {self.codes.shape}"
            )
        if int(self.codes.max()) >> self.weight_bits:
            raise InputError(
                f"weight codes of {self.name!r} must have {self.weight_bits} bits, not the value {int(self.codes.max())}"
            )
        if not MIN_EXPONENT_BIAS <= self.exponent_bias <= MAX_EXPONENT_BIAS:
            raise InputError(
                f"exponent bias of {self.name!r} must be {MIN_EXPONENT_BIAS}..{MAX_EXPONENT_BIAS}, not {self.exponent_bias}"
            )
        _check_channels(self.name, "scale", self.scale, self.features)
        _check_channels(self.name, "bias", self.bias, self.features)
        _check_scale(self.name, self.output_scale)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source,)

    @property
    def k(self) -> int:
        return int(self.codes.shape[0])

    @property
    def features(self) -> int:
        return int(self.codes.shape[1])

    @property
    def compiled(self) -> bool:
        """Whether scale and bias are rounded to fp32, so that the layer means bits."""
        return self.scale.dtype == np.float32 and self.bias.dtype == np.float32

    def weights(self) -> NDArray[np.float64]:
        """The weights (K, N) as exact float64 values."""
        code = WeightCode(self.weight_bits)
        exponent = (self.codes & code.max_exponent).astype(np.int64) + self.exponent_bias
        return np.ldexp(np.where(self.codes & code.sign_bit, -1.0, 1.0), exponent)


@dataclass(frozen=True, eq=False)
class Affine:
    """``x * scale + bias`` per channel (BatchNorm in evaluation mode, or multiplications and additions by constants)."""

    name: str
    source: str
    scale: NDArray[np.float64]
    bias: NDArray[np.float64]

    def __post_init__(self) -> None:
        _check_channels(self.name, "scale", self.scale, self.features)
        _check_channels(self.name, "bias", self.bias, self.features)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source,)

    @property
    def features(self) -> int:
        return int(self.scale.shape[0])


@dataclass(frozen=True, eq=False)
class Activate:
    """An activation function that is not yet part of a layer."""

    name: str
    source: str
    features: int
    activation: Activation

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source,)


Node: TypeAlias = Input | Linear | Affine | Activate


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in an order in which each comes after those that it reads. The first is the input, the last the output.

    Raises
    ------
    InputError
        For no nodes, two nodes of one name, an edge to a later or missing node, widths that do not match, a node that is never
        read, or more than one input.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        if len(self.nodes) < 2 or not isinstance(self.nodes[0], Input):
            raise InputError("a graph must begin with its input and have at least one node more")
        seen: dict[str, Node] = {}
        read: set[str] = set()
        for node in self.nodes:
            if node.name in seen:
                raise InputError(f"node names must be unique, not {node.name!r} twice")
            if isinstance(node, Input) and seen:
                raise InputError(f"a graph must have one input, not also {node.name!r}")
            for edge in node.inputs:
                if edge not in seen:
                    raise InputError(f"node {node.name!r} must read a node before it, not {edge!r}")
                width = node.k if isinstance(node, Linear) else node.features
                if seen[edge].features != width:
                    raise InputError(
                        f"node {node.name!r} must read {width} features, not the {seen[edge].features} of {edge!r}"
                    )
                read.add(edge)
            seen[node.name] = node
        unread = [node.name for node in self.nodes[:-1] if node.name not in read]
        if unread:
            raise InputError(f"every node but the last must be read, and {unread[0]!r} is not")

    @property
    def input(self) -> Input:
        first = self.nodes[0]
        assert isinstance(first, Input)
        return first

    @property
    def output(self) -> Node:
        return self.nodes[-1]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __getitem__(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise InputError(f"the graph must have a node {name!r}; its nodes are {', '.join(n.name for n in self.nodes)}")

    def layers(self) -> tuple[Linear, ...]:
        """The layers of a compiled graph, in order; `InputError` when a node is not yet folded, fused or rounded."""
        layers = []
        for node in self.nodes[1:]:
            if not isinstance(node, Linear) or not node.compiled:
                raise InputError(
                    f"node {node.name!r} must be a layer with fp32 scale and bias here; compile the graph first"
                )
            layers.append(node)
        return tuple(layers)

    def up_to(self, name: str) -> "Graph":
        """The graph that ends with the named node: what brings an inner layer's results out for a comparison."""
        last = self[name]
        nodes = self.nodes[: self.nodes.index(last) + 1]
        return replace(self, nodes=nodes)
