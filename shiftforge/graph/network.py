"""The graph itself: nodes in order, their shapes, and who reads whom."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from shiftforge.errors import InputError
from shiftforge.graph.checks import Shape
from shiftforge.graph.layers import Conv, Layer, Linear
from shiftforge.graph.nodes import Activate, Add, Affine, AveragePool, Concat, Input, MaxPool, Reshape, Unfold

Node: TypeAlias = Input | Linear | Conv | Affine | Activate | Add | MaxPool | AveragePool | Concat | Reshape | Unfold

Passing: TypeAlias = MaxPool | Concat | Reshape | Unfold
"""Nodes whose output holds codes of their inputs, in the same scale."""
PASSING = (MaxPool, Concat, Reshape, Unfold)


def rewired(node: Node, names: Mapping[str, str]) -> Node:
    """The node with other inputs, each edge replaced where it is among the names."""
    if isinstance(node, Input):
        return node
    if isinstance(node, Concat):
        return replace(node, sources=tuple(names.get(edge, edge) for edge in node.sources))
    if isinstance(node, Layer | Add):
        return replace(
            node, source=names.get(node.source, node.source), residual=names.get(node.residual, node.residual)
        )
    return replace(node, source=names.get(node.source, node.source))


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in an order in which each comes after those that it reads. The first is the input, the last the output.

    Members
    -------
    shapes : dict of str to tuple of int
        Shape of every node's tensor for one example.

    Raises
    ------
    InputError
        For no nodes, two nodes of one name, an edge to a later or missing node, shapes that do not match, a node that is never
        read, or more than one input.
    """

    nodes: tuple[Node, ...]
    shapes: dict[str, Shape] = field(init=False)

    def __post_init__(self) -> None:
        if len(self.nodes) < 2 or not isinstance(self.nodes[0], Input):
            raise InputError("a graph must begin with its input and have at least one node more")
        shapes: dict[str, Shape] = {}
        read: set[str] = set()
        for node in self.nodes:
            if node.name in shapes:
                raise InputError(f"node names must be unique, not {node.name!r} twice")
            if isinstance(node, Input) and shapes:
                raise InputError(f"a graph must have one input, not also {node.name!r}")
            for edge in node.inputs:
                if edge not in shapes:
                    raise InputError(f"node {node.name!r} must read a node before it, not {edge!r}")
                read.add(edge)
            shapes[node.name] = node.shape_from([shapes[edge] for edge in node.inputs])
        unread = [node.name for node in self.nodes[:-1] if node.name not in read]
        if unread:
            raise InputError(f"every node but the last must be read, and {unread[0]!r} is not")
        object.__setattr__(self, "shapes", shapes)

    @property
    def input(self) -> Input:
        first = self.nodes[0]
        assert isinstance(first, Input)
        return first

    @property
    def output(self) -> Node:
        return self.nodes[-1]

    @property
    def output_features(self) -> int:
        """Elements of one example's output."""
        return int(np.prod(self.shapes[self.output.name]))

    @property
    def output_scale(self) -> float:
        """The scale of the output tensor; see `Input.scale`."""
        return self.scales()[self.output.name]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __getitem__(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise InputError(f"the graph must have a node {name!r}; its nodes are {', '.join(n.name for n in self.nodes)}")

    def readers(self, name: str) -> tuple[Node, ...]:
        """The nodes that read the named one, in order, each once."""
        return tuple(node for node in self.nodes if name in node.inputs)

    def shapes_of(self, node: Node) -> list[Shape]:
        """The shapes of a node's inputs."""
        return [self.shapes[edge] for edge in node.inputs]

    def leaving(self) -> frozenset[str]:
        """The nodes whose tensor is in the output format: the output, and what it is made of without a layer between."""
        found = {self.output.name}
        for node in reversed(self.nodes[:-1]):
            readers = self.readers(node.name)
            if not isinstance(node, Input) and all(isinstance(r, PASSING) and r.name in found for r in readers):
                found.add(node.name)
        return frozenset(found)

    def scales(self) -> dict[str, float]:
        """The scale of every node's tensor. Nodes that hold codes of their inputs have their scale."""
        scales: dict[str, float] = {}
        for node in self.nodes:
            if isinstance(node, Input):
                scales[node.name] = node.scale
            elif isinstance(node, Layer):
                scales[node.name] = node.output_scale
            elif isinstance(node, PASSING):
                found = {scales[edge] for edge in node.inputs}
                if len(found) > 1:
                    raise InputError(f"the inputs of {node.name!r} must share a tensor scale, not have {sorted(found)}")
                scales[node.name] = found.pop()
            else:
                scales[node.name] = 1.0
        return scales

    def layers(self) -> tuple[Linear | Conv, ...]:
        """The shift layers of a compiled graph, in order; `InputError` when a node is not yet folded, fused or rounded."""
        layers: list[Linear | Conv] = []
        for node in self.nodes[1:]:
            if isinstance(node, Linear | Conv) and node.compiled:
                layers.append(node)
            elif not isinstance(node, PASSING):
                raise InputError(
                    f"node {node.name!r} must be a layer with fp32 scale and bias here; compile the graph first"
                )
        return tuple(layers)

    def up_to(self, name: str) -> "Graph":
        """The graph that ends with the named node: what brings an inner layer's results out for a comparison."""
        wanted = {name}
        kept: list[Node] = []
        for node in reversed(self.nodes[: self.nodes.index(self[name]) + 1]):
            if node.name in wanted or isinstance(node, Input):
                wanted.update(node.inputs)
                kept.append(node)
        return replace(self, nodes=tuple(reversed(kept)))
