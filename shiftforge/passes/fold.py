"""Pass: every `Affine` (BatchNorm, multiplications and additions by constants) into the scale and bias of its layer.

Everything is float64; nothing is rounded to fp32 here.
"""

from dataclasses import replace

import numpy as np

from shiftforge.errors import InputError
from shiftforge.graph import Affine, Conv, Graph, Input, Linear, Node, rewired


def fold(graph: Graph) -> Graph:
    """The graph without `Affine` nodes.

    One that follows a layer multiplies its scale and bias. One on the input goes into the layers that read it, if it multiplies all
    features by the same number (and adds nothing where a convolution pads with zeros).

    Raises
    ------
    InputError
        For an `Affine` in another place, or one whose input is read by another node too.
    """
    nodes: dict[str, Node] = {}
    names: dict[str, str] = {}  # a folded node's name -> the node that now stands for it
    pending: dict[str, Affine] = {}  # on the input
    for node in graph:
        waiting = [pending[edge] for edge in node.inputs if edge in pending]
        if not isinstance(node, Affine):
            if waiting:
                if not isinstance(node, Linear | Conv) or node.residual in pending:
                    raise _misplaced(waiting[0])
                node = _before(node, waiting[0])
            nodes[node.name] = rewired(node, names)
            continue
        source = names.get(node.source, node.source)
        readers = graph.readers(node.source)
        if len(readers) > 1:
            raise InputError(
                f"{node.source!r} must be read by {node.name!r} alone to be folded, not also by {readers[-1].name!r}"
            )
        target = nodes[source]
        if isinstance(target, Linear | Conv) and target.activation.kind == "none" and not target.residual:
            nodes[source] = replace(
                target,
                scale=target.scale.astype(np.float64) * node.scale,
                bias=target.bias.astype(np.float64) * node.scale + node.bias,
            )
        elif isinstance(target, Input):
            pending[node.name] = _composed(waiting[0], node) if waiting else node
        else:
            raise _misplaced(node)
        names[node.name] = source
    if graph.output.name in pending:
        raise _misplaced(pending[graph.output.name])
    return Graph(tuple(nodes.values()))


def _misplaced(node: Affine) -> InputError:
    return InputError(
        f"{node.name!r} must follow a layer directly (or scale the input of one by a single number) to be folded, and follows "
        f"{node.source!r}; put BatchNorm, scales and additions between a layer and its activation"
    )


def _composed(first: Affine, then: Affine) -> Affine:
    return Affine(then.name, first.source, first.scale * then.scale, first.bias * then.scale + then.bias)


def _before(layer: Linear | Conv, affine: Affine) -> Linear | Conv:
    """The layer that reads ``x`` where this one reads ``affine(x)``; its sums no longer see the addition."""
    if np.any(affine.scale != affine.scale[0]):
        index = int(np.flatnonzero(affine.scale != affine.scale[0])[0])
        one, other = float(affine.scale[0]), float(affine.scale[index])
        raise InputError(
            f"{affine.name!r} must scale all features of {layer.name!r} by one number, not feature 0 by {one!r} and "
            f"feature {index} by {other!r}; apply it to the data instead"
        )
    if isinstance(layer, Conv):
        if layer.window.padded and affine.bias.any():
            raise InputError(
                f"{affine.name!r} must add nothing to the input of {layer.name!r}, which pads it with zeros, and adds "
                f"{float(affine.bias[affine.bias != 0][0])!r}; apply it to the data instead"
            )
        by_group = affine.bias.reshape(layer.groups, 1, -1, 1)
        weights = layer.weights().reshape(layer.window.positions, by_group.shape[2], layer.groups, -1)
        added = (by_group * np.moveaxis(weights, 2, 0)).sum(axis=(1, 2)).reshape(-1)
    else:
        added = affine.bias @ layer.weights()
    return replace(
        layer,
        scale=layer.scale.astype(np.float64) * affine.scale[0],
        bias=layer.bias.astype(np.float64) + layer.scale * added,
    )
