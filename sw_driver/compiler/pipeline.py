"""All passes in order: graph in, `Program` out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shiftforge.config import Config
from shiftforge.errors import InputError
from shiftforge.graph import Graph, Linear
from shiftforge.program import LayerReport, Program
from sw_driver import layout
from sw_driver.compiler.emit import StreamLayer, emit
from sw_driver.compiler.fold import fold
from sw_driver.compiler.fuse import fuse
from sw_driver.compiler.place import Placement, place
from sw_driver.compiler.quantise import calibrate, quantise


@dataclass(frozen=True)
class Passed:
    """A graph after a pass; `name` is that of the pass, ``"import"`` for what came in."""

    name: str
    graph: Graph


def passes(graph: Graph, config: Config, calibration: NDArray[np.float64] | None = None) -> Iterator[Passed]:
    """The graph as it comes and after each pass on graphs, the last of which gives the compiled one."""
    yield Passed("import", graph)
    graph = fold(graph)
    yield Passed("fold", graph)
    graph = fuse(graph)
    yield Passed("fuse", graph)
    scales = None if calibration is None else calibrate(graph, config, calibration)
    yield Passed("quantise", quantise(graph, scales))


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
    calibration : float64 array (samples, features), or None
        Sample inputs from which tensor scales are set (int8, int16 and fp8); without them every scale is 1.

    Raises
    ------
    InputError
        When the network does not fit the machine or a pass refuses it; the message names the layer.
    """
    return assemble([*passes(graph, config, calibration)][-1].graph, config, name=name, overflow=overflow)


def assemble(
    graph: Graph, config: Config, *, name: str = "network", overflow: Literal["inf", "saturate"] = "saturate"
) -> Program:
    """Place and emit a compiled graph (also part of one: `Graph.up_to`)."""
    layers = graph.layers()
    _check_chain(graph, layers)
    streams = [_stream_layer(layer, config, overflow == "saturate") for layer in layers]
    placement = place(config, [layer.shape for layer in streams])
    recipe = emit(config, streams, placement)
    return Program(name, config, overflow, graph, recipe, tuple(_report(config, layers, placement)))


def _check_chain(graph: Graph, layers: tuple[Linear, ...]) -> None:
    before = graph.input.name
    for layer in layers:
        if layer.source != before:
            raise InputError(f"layer {layer.name!r} must read the layer before it, {before!r}, not {layer.source!r}")
        before = layer.name


def _stream_layer(layer: Linear, config: Config, saturate: bool) -> StreamLayer:
    if layer.weight_bits != config.weights.bits:
        raise InputError(
            f"weights of layer {layer.name!r} must have the configuration's {config.weights.bits} bits, not {layer.weight_bits}"
        )
    return StreamLayer(
        layer.name,
        layer.codes,
        layer.exponent_bias,
        layer.scale.astype(np.float32),
        layer.bias.astype(np.float32),
        layer.activation,
        saturate,
    )


def _report(config: Config, layers: tuple[Linear, ...], placement: Placement) -> Iterator[LayerReport]:
    for index, layer in enumerate(layers):
        tiles = layout.n_tiles(config, layer.features)
        last = index == len(layers) - 1
        yield LayerReport(
            name=layer.name,
            k=layer.k,
            n=layer.features,
            weight_bits=layer.weight_bits,
            exponent_bias=layer.exponent_bias,
            activation=layer.activation.kind,
            tiles=tiles,
            pieces=sum(piece.layer == index for piece in placement.pieces),
            macs=layer.k * layer.features,
            slots=tiles * layout.k_words(config, layer.k) * config.rows,
            weight_words=layout.weight_words(config, layer.k, layer.features),
            parameter_words=layout.parameter_words(config, layer.features),
            activation_words=0 if last else layout.k_words(config, layer.features),
        )
