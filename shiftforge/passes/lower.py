"""Passes: average pools become layers, and every addition is turned so that it continues the layer that it fuses with."""

from collections.abc import Collection
from dataclasses import replace

from shiftforge.graph import Add, AveragePool, Conv, Graph, Linear, Node


def lower(graph: Graph, weight_bits: int) -> Graph:
    """The graph without `AveragePool`: each is a depthwise convolution with weights +1 and a scale, as the machine runs it."""
    nodes: list[Node] = []
    for node in graph:
        if isinstance(node, AveragePool):
            nodes.append(node.layer(graph.shapes[node.name][-1], weight_bits))
        else:
            nodes.append(node)
    return Graph(tuple(nodes))


def orient(graph: Graph) -> Graph:
    """The graph with the sources of `Add` nodes chosen: the later of two layers that nothing else reads.

    The one goes on unrounded, the other arrives as a tensor of its own.
    """
    order = {node.name: index for index, node in enumerate(graph)}
    nodes: list[Node] = []
    for node in graph:
        if isinstance(node, Add):
            ready = [edge for edge in set(node.inputs) if can_continue(graph, edge, (node.name,))]
            if ready:
                source = max(ready, key=lambda edge: order[edge])
                node = replace(node, source=source, residual=next(e for e in node.inputs if e != source))
        nodes.append(node)
    return Graph(tuple(nodes))


def can_continue(graph: Graph, name: str, readers: Collection[str]) -> bool:
    """Whether the node is a layer that still has room for an addition, and is read by these nodes alone."""
    node = graph[name]
    plain = isinstance(node, Linear | Conv) and node.activation.kind == "none" and not node.residual
    return plain and {reader.name for reader in graph.readers(name)} == set(readers)
