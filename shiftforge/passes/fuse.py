"""Pass: every `Add` and every `Activate` into the layer before it."""

from dataclasses import replace

from shiftforge.errors import InputError
from shiftforge.graph import Activate, Add, Conv, Graph, Linear, Node, rewired


def fuse(graph: Graph) -> Graph:
    """The graph without `Add` and `Activate` nodes.

    A layer takes the place of the addition that it absorbs, so that the residual comes before it.

    Raises
    ------
    InputError
        For an addition whose source, or an activation that, does not follow a layer with room for it, or whose input is read by
        another node too.
    """
    nodes: dict[str, Node] = {}
    names: dict[str, str] = {}
    for node in graph:
        if isinstance(node, Add):
            target = nodes[names.get(node.source, node.source)]
            free = isinstance(target, Linear | Conv) and target.activation.kind == "none" and not target.residual
            if not free or len(graph.readers(node.source)) > 1 or node.source == node.residual:
                raise InputError(
                    f"addition {node.name!r} must have an operand that is a layer's result without an activation, read by nothing "
                    f"else, and adds {node.source!r} and {node.residual!r}; put a layer (with BatchNorm) into one branch and "
                    "the activation after the addition"
                )
            del nodes[target.name]
            nodes[target.name] = replace(target, residual=names.get(node.residual, node.residual))
            names[node.name] = target.name
        elif isinstance(node, Activate):
            target = nodes[names.get(node.source, node.source)]
            readers = graph.readers(node.source)
            if len(readers) > 1:
                raise InputError(
                    f"{node.source!r} must be read by {node.name!r} alone to be fused, not also by {readers[-1].name!r}"
                )
            if not isinstance(target, Linear | Conv) or target.activation.kind != "none":
                raise InputError(
                    f"activation {node.name!r} must follow a layer without an activation, and follows {node.source!r}; "
                    "leave one activation between two layers, and none on the input"
                )
            nodes[target.name] = replace(target, activation=node.activation)
            names[node.name] = target.name
        else:
            nodes[node.name] = rewired(node, names)
    return Graph(tuple(nodes.values()))
