"""Layers with groups: each LAYER packet reads only the words of the channels that it needs; the same bits in fewer cycles."""

from dataclasses import replace

import numpy as np
import pytest

from shiftforge.config import Config
from shiftforge.graph import Graph
from sim.profile import profile
from sw_driver.compiler.machine import readings_of
from sw_driver.compiler.pipeline import assemble
from sw_driver.compiler.shares import shares_of
from sw_driver.compiler.units import Units
from tests.sw_driver.dags import Dag
from tests.sw_driver.networks import config_of
from tests.sw_driver.test_dags import check


def machine(rows: int, cols: int) -> Config:
    words = 1 << 14
    return config_of(rows, cols, max_k=700, residual=True, mask=True, activation_pages=4, activation_words=words)


def grouped(channels: int, n: int, groups: int, terms: int = 1) -> Graph:
    """A layer with groups that adds a residual, beside another in a concatenation, and what reads that."""
    dag = Dag(9, 8, channels, seed=groups)
    x = dag.conv("x", n)
    first = dag.conv("x", n, groups=groups, residual=x, terms=terms)
    return dag.graph(dag.conv(dag.join(first, dag.conv(x, n, groups=n)), 5))


@pytest.mark.parametrize("rows, cols", [(4, 4), (3, 5), (8, 2)])
@pytest.mark.parametrize(
    "channels, n, groups, terms", [(16, 16, 16, 1), (16, 16, 4, 2), (12, 24, 12, 1), (30, 15, 5, 1), (24, 12, 2, 1)]
)
def test_every_bit(channels, n, groups, terms, rows, cols):
    check(assemble(grouped(channels, n, groups, terms), machine(rows, cols)), 2)


@pytest.mark.parametrize("rows, cols", [(4, 4), (4, 3), (3, 8)])
@pytest.mark.parametrize("channels, n, groups", [(32, 32, 32), (20, 40, 20), (36, 18, 6), (12, 12, 1)])
def test_shares_cover_every_channel_and_what_it_reads(channels, n, groups, rows, cols):
    dag = Dag(6, 5, channels, seed=1)
    graph = dag.graph(dag.conv("x", n, groups=groups))
    config, units = machine(rows, cols), Units(graph)
    layer = graph.layers()[0]
    shares = shares_of(config, layer, readings_of(config, units)[layer.name])
    assert [c for share in shares for c in range(share.first, share.first + share.channels)] == list(range(n))
    for share in shares:
        assert share.low % rows == 0
        for channel in (share.first, share.first + share.channels - 1):
            group = channel // (n // groups)
            needed = np.arange(channels).reshape(groups, -1)[group]
            assert share.low <= needed[0]
            assert needed[-1] < share.high


def test_a_depthwise_layer_reads_one_word_per_tap():
    """64 channels on 8 x 8: each of eight packets takes 9 taps of one word instead of eight."""
    dag = Dag(25, 5, 64, seed=3)
    graph = dag.graph(dag.conv("x", 64, groups=64))
    config = config_of(8, 8, max_k=600, mask=True, activation_words=1 << 13, weight_words=1 << 14)
    config = replace(config, accumulator="aligned")
    program = assemble(graph, config)
    assert len(program.recipe.steps) == 8
    assert program.report[0].slots == 8 * 9 * 8
    (layer,) = profile(program).layers
    assert layer.slots == 8 * 16 * 9 * 8  # sixteen tiles of pixels each
    assert layer.cycles < 1.12 * layer.slots
