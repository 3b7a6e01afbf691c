"""Pass: every `Affine` (BatchNorm, multiplications and additions by constants) into the scale and bias of its `Linear`.

Everything is float64; nothing is rounded to fp32 here.
"""

from dataclasses import replace

import numpy as np

from shiftforge.errors import InputError
from shiftforge.graph import Affine, Graph, Input, Linear, Node


def fold(graph: Graph) -> Graph:
    """The graph without `Affine` nodes.

    One that follows a layer multiplies its scale and bias. One on the input goes into the layer after it, if it multiplies all
    features by the same number.

    Raises
    ------
    InputError
        For an `Affine` in another place, or one whose input is read by another node too.
    """
    nodes: dict[str, Node] = {}
    renamed: dict[str, str] = {}  # a folded node's name -> the node that now stands for it
    pending: dict[str, Affine] = {}  # on the input
    for node in graph:
        if isinstance(node, Input):
            nodes[node.name] = node
            continue
        source = renamed.get(node.source, node.source)
        if not isinstance(node, Affine):
            waiting = pending.pop(node.source, None)
            if waiting is not None:
                if not isinstance(node, Linear):
                    raise _misplaced(waiting)
                node = _before(node, waiting)
            nodes[node.name] = replace(node, source=source)
            continue
        readers = [other.name for other in graph if node.source in other.inputs]
        if len(readers) > 1:
            raise InputError(
                f"{node.source!r} must be read by {node.name!r} alone to be folded, not also by {readers[-1]!r}"
            )
        target = nodes[source]
        if isinstance(target, Linear) and target.activation.kind == "none":
            nodes[source] = replace(
                target,
                scale=target.scale.astype(np.float64) * node.scale,
                bias=target.bias.astype(np.float64) * node.scale + node.bias,
            )
        elif isinstance(target, Input):
            earlier = pending.pop(node.source, None)
            pending[node.name] = node if earlier is None else _composed(earlier, node)
        else:
            raise _misplaced(node)
        renamed[node.name] = source
    for waiting in pending.values():
        raise _misplaced(waiting)
    return Graph(tuple(nodes.values()))


def _misplaced(node: Affine) -> InputError:
    return InputError(
        f"{node.name!r} must follow a Linear directly (or scale the input of one by a single number) to be folded, and follows "
        f"{node.source!r}; put BatchNorm, scales and additions between the Linear and its activation"
    )


def _composed(first: Affine, then: Affine) -> Affine:
    return Affine(then.name, first.source, first.scale * then.scale, first.bias * then.scale + then.bias)


def _before(layer: Linear, affine: Affine) -> Linear:
    """The layer that reads ``x`` where this one reads ``affine(x)``; its sums no longer see the addition."""
    if np.any(affine.scale != affine.scale[0]):
        index = int(np.flatnonzero(affine.scale != affine.scale[0])[0])
        one, other = float(affine.scale[0]), float(affine.scale[index])
        raise InputError(
            f"{affine.name!r} must scale all features of {layer.name!r} by one number, not feature 0 by {one!r} and "
            f"feature {index} by {other!r}; apply it to the data instead"
        )
    added = affine.bias @ layer.weights()
    return replace(
        layer,
        scale=layer.scale.astype(np.float64) * affine.scale[0],
        bias=layer.bias.astype(np.float64) + layer.scale * added,
    )
