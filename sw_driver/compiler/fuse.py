"""Pass: every `Activate` into the layer before it."""

from dataclasses import replace

from shiftforge.errors import InputError
from shiftforge.graph import Activate, Graph, Input, Linear, Node


def fuse(graph: Graph) -> Graph:
    """The graph without `Activate` nodes.

    Raises
    ------
    InputError
        For an activation that does not follow a layer without one, or whose input is read by another node too.
    """
    nodes: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    for node in graph:
        if isinstance(node, Input):
            nodes[node.name] = node
            continue
        source = renamed.get(node.source, node.source)
        if not isinstance(node, Activate):
            nodes[node.name] = replace(node, source=source)
            continue
        target = nodes[source]
        readers = [other.name for other in graph if node.source in other.inputs]
        if len(readers) > 1:
            raise InputError(
                f"{node.source!r} must be read by {node.name!r} alone to be fused, not also by {readers[-1]!r}"
            )
        if not isinstance(target, Linear) or target.activation.kind != "none":
            raise InputError(
                f"activation {node.name!r} must follow a Linear without an activation, and follows {node.source!r}; "
                "leave one activation between two Linear layers, and none on the input"
            )
        nodes[source] = replace(target, activation=node.activation)
        renamed[node.name] = source
    return Graph(tuple(nodes.values()))
