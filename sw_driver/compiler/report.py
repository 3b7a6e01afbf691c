"""The compiler's report: what every layer costs, with what moves in and out for it."""

from dataclasses import replace

import numpy as np

from shiftforge.config import Config
from shiftforge.graph import Conv, Graph, Layer
from shiftforge.program import LayerReport
from shiftforge.recipe import HostStep, Phase, Recipe, Step
from sw_driver import layout


def report(config: Config, graph: Graph, recipe: Recipe | None) -> tuple[LayerReport, ...]:
    """A line for each shift layer, in order; without a recipe what depends on the placement is 0."""
    lines = {layer.name: _line(config, graph, layer) for layer in graph.layers()}
    for part in () if recipe is None else recipe.parts:
        if isinstance(part, HostStep):
            if part.node in lines:
                lines[part.node] = replace(lines[part.node], place="host")
            continue
        for name in dict.fromkeys(step.layer for step in part.steps):
            steps = [step for step in part.steps if step.layer == name and not step.fields.get("pool_kind")]
            if steps:
                lines[name] = _placed(config, lines[name], part, steps)
    return tuple(lines.values())


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


def _placed(config: Config, line: LayerReport, phase: Phase, steps: list[Step]) -> LayerReport:
    step, word_bytes = steps[0], layout.activation_stride(config)
    pieces = {each.first: each for each in steps}.values()
    results = sum(layout.result_bytes(config, each.pixels, each.channels) for each in steps if each.result)
    weight_words = sum(piece.fields["n_tiles"] * piece.fields["k_words"] * config.rows for piece in pieces)
    return replace(
        line,
        slots=weight_words,
        pieces=len(steps),
        weight_words=weight_words,
        activation_words=0 if step.result else step.fields["output_stride"],
        place="strips" if len({each.result for each in steps}) > 1 else "chip",
        loaded_bytes=sum(load.words for each in steps for load in each.inputs) * word_bytes,
        result_bytes=results,
        constant_bytes=weight_words * layout.weight_stride(config)
        + line.parameter_words * layout.parameter_stride(config),
    )
