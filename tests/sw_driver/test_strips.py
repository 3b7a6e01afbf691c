"""Layers whose input is larger than a page: strips of their output with halos, every bit the golden network's."""

import numpy as np
import pytest

from shiftforge.geometry import Geometry
from shiftforge.graph import Graph, Reshape
from shiftforge.program import Program
from shiftforge.recipe import HostStep, Phase
from sw_driver.compiler.pipeline import assemble
from sw_driver.compiler.reading import Reading
from sw_driver.compiler.strips import strips_of
from tests.sw_driver.dags import Dag
from tests.sw_driver.networks import config_of
from tests.sw_driver.test_dags import check

SMALL = {"activation_words": 512, "max_k": 120, "residual": True, "max_pool": True, "mask": True}


def single(
    height, width, channels, n, kernel, stride: int | tuple[int, int] = 1, padding=None, dilation=1, terms=1, seed=0
) -> Graph:
    dag = Dag(height, width, channels, seed=seed)
    same = Reshape("same", "x", (height, width, channels))  # it stays as it is: only the input is ever unfolded
    dag.nodes.append(same)
    dag.shapes["same"] = dag.shapes["x"]
    return dag.graph(dag.conv("same", n, kernel, stride, padding, terms=terms, dilation=dilation))


LAYERS = {
    "halo": lambda: single(19, 17, 3, 5, (3, 3)),
    "stride": lambda: single(21, 18, 4, 3, (5, 3), 2, ((2, 1), (0, 2))),
    "dilation": lambda: single(23, 16, 2, 4, (3, 3), 1, 3, 3),
    "wide": lambda: single(5, 300, 3, 2, (3, 3)),
    "one row": lambda: single(1, 700, 4, 3, (1, 5), (1, 2)),
    "pointwise": lambda: single(20, 20, 4, 6, (1, 1)),
    "strided pointwise": lambda: single(20, 33, 4, 6, (1, 1), 2),
    "terms": lambda: single(18, 18, 3, 4, (2, 3), 1, ((1, 0), (1, 1)), terms=3),
    "gaps": lambda: single(40, 20, 1, 3, (1, 2), (5, 1), 0),
}


def strips(program: Program) -> int:
    """Loads of the input of the first phase."""
    return sum(len(step.inputs) for step in program.recipe.phases[0].steps)


@pytest.mark.parametrize("rows, cols, activation, output", [(4, 3, "fp16", "fp16"), (3, 5, "int8", "fp32")])
@pytest.mark.parametrize("name", LAYERS)
def test_single_layers(name, rows, cols, activation, output):
    program = assemble(LAYERS[name](), config_of(rows, cols, activation, output, **SMALL))
    assert strips(program) > 1
    assert [line.place for line in program.report] == ["strips"]
    assert program.report[0].loaded_bytes > 0
    check(program, 3)


@pytest.mark.parametrize("n, weight_words, loads", [(23, 256, True), (23, 4096, False), (4, 4096, False)])
def test_residuals_and_weights_in_pieces(n, weight_words, loads):
    """Weights for every strip or strips for every piece of the weights, whichever moves less; the residual beside the input."""
    dag = Dag(18, 17, 4, seed=2)
    x = dag.conv("x", n)
    graph = dag.graph(dag.conv(x, n, (3, 1), residual=x))
    config = config_of(4, 3, **{**SMALL, "weight_words": weight_words})
    program = assemble(graph, config)
    assert [type(part) for part in program.recipe.parts] == [Phase, Phase]
    assert {line.place for line in program.report} == {"strips"}
    assert any(step.loads for step in program.recipe.steps) == loads
    check(program, 2)


def test_the_order_of_strips_and_weights_moves_fewer_bytes():
    """With wide weight words each piece of the weights is loaded once, with narrow ones each strip is."""
    for cols, n, weights_once in [(16, 336, True), (3, 90, False)]:
        dag = Dag(60, 17, 12, seed=3)
        program = assemble(
            dag.graph(dag.conv("x", n, (1, 1))),
            config_of(4, cols, **{**SMALL, "weight_words": 256, "parameter_words": 4096}),
        )
        (phase,) = program.recipe.phases
        pieces = {step.first for step in phase.steps}
        assert len(pieces) > 1
        assert sum(bool(step.loads) for step in phase.steps) == (len(pieces) if weights_once else len(phase.steps))
        check(program, 2)


def test_a_whole_network_larger_than_the_chip():
    """Strips, then a max-pool on the host, then layers that stay on chip."""
    dag = Dag(24, 22, 3, seed=4)
    x = dag.pool(dag.conv("x", 4), (3, 3), 2, 1)
    x = dag.conv(dag.conv(x, 5, stride=2), 4)
    graph = dag.graph(dag.linear(dag.flat(dag.mean(x)), 5))
    program = assemble(graph, config_of(4, 3, **{**SMALL, "max_k": 180}))
    kinds = [part.node if isinstance(part, HostStep) else len(part.steps) for part in program.recipe.parts]
    assert kinds[1] == "n2"
    assert [line.place for line in program.report] == ["strips", "chip", "chip", "chip", "chip"]
    check(program, 3)


def test_strips_cover_the_output_once_and_stay_within_a_page():
    config = config_of(4, 3, **SMALL)
    geometry = Geometry(31, 29, 3, 5, 2, 1, 1, 2, 1, 4, 0, 3)
    reading = Reading(29, 31, 3, geometry)
    found = strips_of(config, reading, "x", "y", 2)
    seen = np.zeros((geometry.output_height, geometry.output_width), int)
    for strip in found:
        out = strip.output
        seen[out.top : out.top + out.height, out.left : out.left + out.width] += 1
        assert strip.source.pixels + out.pixels * 2 <= 256
        assert strip.reading.output_pixels == out.pixels
    assert (seen == 1).all()
    assert len(found) < 60


def test_what_does_not_run_even_in_strips():
    dag = Dag(30, 30, 4, seed=5)
    program = assemble(dag.graph(dag.conv("x", 2, (3, 3), 1, 14, dilation=14)), config_of(4, 3, **SMALL))
    assert program.unplaced == (
        "layer 'n1' reads 841 words for one output pixel, which must fit a page of the activation memory, 256 words"
    )
    dag = Dag(40, 20, 4, seed=5)
    program = assemble(dag.graph(dag.conv("x", 2, (1, 1), 1, ((30, 0), (0, 0)))), config_of(4, 3, **SMALL))
    assert program.unplaced == "a strip of a layer would read padding alone, which lies beyond its input"
    dag = Dag(40, 20, 4, seed=5)
    graph = dag.graph(dag.conv(dag.conv("x", 2), 2))
    assert assemble(graph, config_of(4, 3, "int8", "int16", **SMALL)).unplaced == (
        "the result of 'n1' does not stay on chip and must come back as the same bits, which needs array.output = 'int8' (or "
        "'fp32'), or more memory.activation_words or memory.activation_pages"
    )
