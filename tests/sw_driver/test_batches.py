"""Networks cut for a batch: the same bits in fewer cycles."""

import pytest

from shiftforge.graph import Graph
from sim.profile import profile
from sw_driver.compiler.pipeline import assemble
from tests.sw_driver.dags import Dag
from tests.sw_driver.networks import config_of
from tests.sw_driver.test_dags import check


def shrinking() -> Graph:
    """A wide layer, then maps of 3 x 3 pixels, which leave seven of sixteen rows idle unless examples go together."""
    dag = Dag(12, 12, 16, seed=9)
    x = dag.conv("x", 16, stride=4)
    for _ in range(3):
        x = dag.conv(dag.conv(x, 32), 16, residual=x)
    return dag.graph(x)


@pytest.mark.parametrize("weight_words", [1 << 13, 1 << 11])
def test_a_cut_for_a_batch_takes_fewer_cycles(weight_words):
    """Weights that stay on chip, and weights that are streamed for every chunk."""
    config = config_of(
        16, 16, max_k=300, activation_words=2048, weight_words=weight_words, residual=True, activation_pages=4
    )
    graph = shrinking()
    plain, cut = (assemble(graph, config, batch=batch) for batch in (1, 8))
    assert [phase.chunk for phase in plain.recipe.phases] == [6]
    assert [phase.chunk for phase in cut.recipe.phases] == [6, 28]
    assert profile(cut, 8).cycles < profile(plain, 8).cycles
    check(cut, 9)
    assert assemble(graph, config, batch=3).recipe == plain.recipe


def test_no_cut_where_it_does_not_pay():
    """Maps of sixteen pixels fill the rows of single examples."""
    dag = Dag(16, 16, 16, seed=9)
    x = dag.conv("x", 16, stride=4)
    graph = dag.graph(dag.conv(dag.conv(x, 16), 16))
    config = config_of(16, 16, max_k=300, activation_words=1024, weight_words=1 << 13)
    assert assemble(graph, config, batch=8).recipe == assemble(graph, config).recipe
