"""Graph in, `Program` out: all passes in order, then place and emit."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shiftforge.config import Config
from shiftforge.errors import InputError
from shiftforge.graph import Conv, Graph, Layer, Linear, Reshape
from shiftforge.passes import compiled
from shiftforge.program import LayerReport, Program
from sw_driver import layout
from sw_driver.compiler.emit import StreamLayer, emit
from sw_driver.compiler.place import Placement, place
from sw_driver.compiler.reading import Reading, reading_of


def compile_graph(
    graph: Graph,
    config: Config,
    *,
    name: str = "network",
    overflow: Literal["inf", "saturate"] = "saturate",
    calibration: NDArray[np.float64] | None = None,
) -> Program:
    """Compile an imported graph.

    Parameters
    ----------
    name : str
        The program's, for messages and reports.
    overflow : str
        What a finite result (or input) beyond its format becomes.
    calibration : float64 array (samples, *shape) or (samples, features), or None
        Sample inputs from which tensor scales are set (int8, int16 and fp8); without them every scale is 1.

    Raises
    ------
    InputError
        When the network does not fit the machine or a pass refuses it; the message names the layer.
    """
    return assemble(compiled(graph, config, config.weights.bits, calibration), config, name=name, overflow=overflow)


def assemble(
    graph: Graph, config: Config, *, name: str = "network", overflow: Literal["inf", "saturate"] = "saturate"
) -> Program:
    """Place and emit a compiled graph (also part of one: `Graph.up_to`).

    A graph that the machine of this version does not run becomes a program without a recipe, which says why; the golden network
    runs it all the same.
    """
    layers = graph.layers()
    for layer in layers:
        if layer.weight_bits != config.weights.bits:
            raise InputError(
                f"weights of layer {layer.name!r} must have the configuration's {config.weights.bits} bits, not "
                f"{layer.weight_bits}"
            )
        if layer.mask is not None and not config.weights.mask:
            raise InputError(
                f"weights of layer {layer.name!r} must not be zero without masks; set array.mask = true in the configuration"
            )
    try:
        readings = chain_of(graph, config.weights.mask)
    except NotPlaced as reason:
        report = tuple(_line(config, graph, layer) for layer in layers)
        return Program(name, config, overflow, graph, None, report, str(reason))
    streams = [
        _stream_layer(config, layer, reading, overflow == "saturate")
        for layer, reading in zip(layers, readings, strict=True)
    ]
    placement = place(config, [layer.shape(config) for layer in streams])
    recipe = emit(config, streams, placement)
    return Program(name, config, overflow, graph, recipe, tuple(_report(config, graph, layers, streams, placement)))


class NotPlaced(Exception):
    """Why the machine of this version does not run a compiled graph, as part of a sentence."""


def chain_of(graph: Graph, masks: bool) -> list[Reading]:
    """How each layer reads the one before it; `NotPlaced` when the graph is no chain that the machine runs."""
    readings: list[Reading] = []
    before, stored = graph.input.name, graph.shapes[graph.input.name]
    for node in graph.nodes[1:]:
        if isinstance(node, Reshape):
            if node.source != before:
                raise NotPlaced(f"node {node.name!r} does not read what is before it, {before!r}")
            before = node.name
            continue
        if not isinstance(node, Linear | Conv):
            raise NotPlaced(f"node {node.name!r} is a {type(node).__name__}, which it does not do yet")
        if node.residual:
            raise NotPlaced(f"layer {node.name!r} adds the residual {node.residual!r}, which it does not do yet")
        if node.source != before:
            raise NotPlaced(f"layer {node.name!r} does not read what is before it, {before!r}")
        if isinstance(node, Conv) and node.groups != 1 and not masks:
            raise NotPlaced(
                f"layer {node.name!r} has {node.groups} groups (or is an average), "
                "which needs array.mask = true in the configuration"
            )
        try:
            readings.append(reading_of(node, stored, graph.shapes[before]))
        except InputError as error:
            raise NotPlaced(f"layer {node.name!r} does not fit its addresses: {error}") from None
        before, stored = node.name, graph.shapes[node.name]
    return readings


def elements_of(config: Config, layer: Layer) -> NDArray[np.uint8]:
    """Weight elements (K, N): codes, with the mask bit where a weight is zero or another group reads the channel."""
    masked = np.uint8(config.weights.mask_bit)
    elements = layer.codes if layer.mask is None else np.where(layer.mask, layer.codes, masked)
    if not isinstance(layer, Conv) or layer.groups == 1:
        return elements
    groups, inputs, outputs = layer.groups, layer.channels // layer.groups, layer.features // layer.groups
    dense = np.full((layer.k // inputs, groups, inputs, groups, outputs), masked)
    for group in range(groups):
        dense[:, group, :, group] = elements.reshape(-1, inputs, groups, outputs)[:, :, group]
    return dense.reshape(-1, layer.features)


def _stream_layer(config: Config, layer: Layer, reading: Reading, saturate: bool) -> StreamLayer:
    return StreamLayer(
        layer.name,
        reading.pad(config, elements_of(config, layer)),
        reading,
        layer.exponent_bias,
        layer.scale.astype(np.float32),
        layer.bias.astype(np.float32),
        layer.activation,
        saturate,
    )


def _line(config: Config, graph: Graph, layer: Layer) -> LayerReport:
    """What is known of a layer without its placement."""
    shape = graph.shapes[layer.name]
    depth, pixels = layer.k, int(np.prod(shape[:-1]))
    tiles = layout.n_tiles(config, layer.features)
    return LayerReport(
        name=layer.name,
        k=depth,
        n=layer.features,
        weight_bits=layer.weight_bits,
        exponent_bias=layer.exponent_bias,
        activation=layer.activation.kind,
        tiles=tiles,
        pieces=0,
        macs=depth * layer.features,
        slots=tiles * layout.k_words(config, depth) * config.rows,
        weight_words=0,
        parameter_words=layout.parameter_words(config, layer.features),
        activation_words=0,
        kind="conv" if isinstance(layer, Conv) else "linear",
        pixels=pixels,
        terms=layer.terms,
        groups=layer.groups if isinstance(layer, Conv) else 1,
    )


def _report(
    config: Config,
    graph: Graph,
    layers: tuple[Layer, ...],
    streams: Sequence[StreamLayer],
    placement: Placement,
) -> Iterator[LayerReport]:
    for index, (layer, stream) in enumerate(zip(layers, streams, strict=True)):
        last = index == len(layers) - 1
        depth = stream.codes.shape[0]
        yield replace(
            _line(config, graph, layer),
            slots=layout.n_tiles(config, layer.features) * layout.k_words(config, depth) * config.rows,
            pieces=sum(piece.layer == index for piece in placement.pieces),
            weight_words=layout.weight_words(config, depth, layer.features),
            activation_words=0 if last else layout.k_words(config, layer.features),
        )
