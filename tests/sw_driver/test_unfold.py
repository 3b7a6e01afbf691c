"""Inputs of few channels, unfolded by the host: the same bits in fewer cycles."""

import numpy as np
import pytest

from golden import network as golden_network
from golden.window import unfold as golden_unfold
from shiftforge.graph import Conv, Unfold, Window
from shiftforge.passes.reference import evaluate, unfold
from shiftforge.program import from_bytes
from shiftforge.recipe import HostStep
from sw_driver.compiler.pipeline import assemble
from sw_driver.compiler.unfold import unfolded
from tests.sw_driver.dags import Dag
from tests.sw_driver.networks import config_of
from tests.sw_driver.test_dags import check

WINDOWS = {
    "plain": Window.of((3, 3)),
    "everything": Window.of((2, 3), (3, 2), ((1, 0), (2, 1)), (2, 1)),
    "one axis": Window.of((5,), 2, ((3, 1),), 2),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_patches_are_those_that_the_definition_reads(name):
    window, rng = WINDOWS[name], np.random.default_rng(1)
    shape = (9, 11, 3)[2 - window.axes :]
    codes = rng.integers(1, 1 << 16, (2, *shape)).astype(np.uint16)
    found = unfold(codes, window)
    np.testing.assert_array_equal(found, golden_unfold(codes, window))
    sizes, channels = window.sizes("x", shape[:-1]), shape[-1]
    assert found.shape == (2, *sizes, window.positions * channels)
    for pixel in np.ndindex(*sizes):
        for position, tap in enumerate(np.ndindex(*window.kernel)):
            axes = zip(pixel, tap, window.stride, window.dilation, window.padding, strict=True)
            at = [o * s + i * d - before for o, i, s, d, (before, _) in axes]
            inside = all(0 <= i < size for i, size in zip(at, shape, strict=False))
            want = codes[(slice(None), *at)] if inside else 0
            part = found[(slice(None), *pixel)][:, position * channels : (position + 1) * channels]
            np.testing.assert_array_equal(part, np.broadcast_to(want, part.shape))


def stem(channels, kernel=(3, 3), groups=1, terms=1, n=6, size=(9, 7), residual=False):
    dag = Dag(*size, channels, seed=channels)
    first = dag.conv("x", n, kernel, groups=groups, terms=terms)
    return dag.graph(dag.conv(first, n, residual=first if residual else ""))


@pytest.mark.parametrize(
    ("graph", "pays"),
    [
        (stem(1), True),
        (stem(3, (5, 5), n=20), True),
        (stem(3, terms=2), True),
        (stem(4), False),  # whole words
        (stem(1, (1, 1)), False),
        (stem(2, groups=2), False),
    ],
    ids=["one channel", "three", "terms", "whole words", "a pixel", "groups"],
)
def test_where_it_pays(graph, pays):
    """The layer keeps its name and its weights, real values stay, and the bits are the golden network's."""
    config = config_of(4, 5, max_k=200, mask=True, residual=True, activation_words=4096)
    other = unfolded(graph, config)
    assert any(isinstance(node, Unfold) for node in other) == pays
    if pays:
        assert [node.name for node in other if isinstance(node, Conv)] == ["n1", "n2"]
        x = np.random.default_rng(0).normal(size=(2, *graph.input.shape))
        before, after = evaluate(graph, x), evaluate(other, x)
        np.testing.assert_allclose(after[graph.output.name], before[graph.output.name], rtol=1e-12)
        codes = golden_network.encode_input(graph, config, x)
        run = golden_network.run(other, config, codes).output
        np.testing.assert_array_equal(run, golden_network.run(graph, config, codes).output)
    program = assemble(graph, config)
    assert (HostStep("n1.patches") in program.recipe.parts) == pays
    check(program, 3)
    again = from_bytes(program.to_bytes())
    assert again.recipe == program.recipe
    check(again, 2)


def test_fewer_cycles_are_worth_words_but_not_a_tensor_that_no_longer_stays():
    """What the unfolded input costs counts: 7 x 7 of 3 channels are 147 of 160 elements of 10 words instead of of 49."""
    graph = stem(3, (7, 7), n=4, size=(8, 8))
    config = config_of(16, 4, max_k=160, activation_words=2048)
    program = assemble(graph, config)
    assert program.recipe.steps[0].fields["k_words"] == 10
    graph = stem(3, (3, 3), n=4, size=(8, 8))
    for words, pays in [(1024, True), (512, False)]:  # 64 pixels of 7 words each fit a page, or do not
        config = config_of(4, 1, max_k=120, activation_words=words)
        assert any(isinstance(node, Unfold) for node in unfolded(graph, config)) == pays


def test_in_strips():
    """Patches are made as they are loaded, also strip by strip."""
    dag = Dag(24, 20, 1, seed=4)
    program = assemble(dag.graph(dag.conv("x", 3, (5, 5), 2)), config_of(4, 3, max_k=120, activation_words=512))
    assert HostStep("n1.patches") in program.recipe.parts
    assert sum(len(step.inputs) for step in program.recipe.phases[0].steps) > 1
    check(program, 3)
