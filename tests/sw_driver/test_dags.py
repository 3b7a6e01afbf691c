"""Networks that are no chains on the emulated machine: pages, strips, spills, host steps; every bit is the golden network's."""

import numpy as np
import pytest

from golden import network as golden_network
from golden.emulator import EmulatorTransport
from shiftforge.errors import InputError
from shiftforge.program import Program, from_bytes
from shiftforge.registers import Flag
from sw_driver.accelerator import Accelerator
from sw_driver.compiler.pipeline import assemble
from tests.sw_driver.dags import DAGS, Dag, random_dag
from tests.sw_driver.networks import config_of

MACHINES = {
    "4x3 fp16": config_of(4, 3, max_k=700, activation_pages=8, residual=True, max_pool=True, mask=True),
    "3x5 int8 to fp32": config_of(
        3,
        5,
        "int8",
        "fp32",
        max_k=700,
        activation_pages=4,
        residual=True,
        max_pool=True,
        mask=True,
    ),
    "5x2 e4m3": config_of(
        5,
        2,
        "fp8_e4m3",
        "fp8_e4m3",
        max_k=700,
        stream_bits=32,
        activation_pages=16,
        residual=True,
        max_pool=True,
        mask=True,
    ),
    "two pages": config_of(4, 4, max_k=700, residual=True, max_pool=True, mask=True),
    "weights in pieces": config_of(
        2,
        2,
        max_k=500,
        weight_words=1024,
        parameter_words=8,
        activation_pages=4,
        residual=True,
        max_pool=True,
        mask=True,
    ),
}


def check(program: Program, examples: int, seed: int = 7, spread: float = 2.0) -> None:
    """Bits and flags of the program on the emulator are the golden network's, after a round trip through its file."""
    program = from_bytes(program.to_bytes())
    assert not program.unplaced
    config, graph = program.config, program.graph
    x = np.random.default_rng(seed).normal(0, spread, (examples, *graph.input.shape))
    accelerator = Accelerator(EmulatorTransport(config), config)
    codes = accelerator.encode_input(program, x)
    want = golden_network.run(graph, config, codes)
    np.testing.assert_array_equal(accelerator.run_codes(program, codes), want.output.reshape(examples, -1))
    assert [flag in accelerator.flags for flag in Flag] == [want.flags.nv, want.flags.of, want.flags.nx]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", DAGS)
def test_every_bit(name, machine):
    check(assemble(DAGS[name](), MACHINES[machine]), 3)


@pytest.mark.parametrize("name", [name for name in DAGS if name not in ("pooled out", "kept")])
def test_what_fits_is_one_phase(name):
    """Every word-aligned part of a concatenation is written in place or copied on chip; nothing leaves but the result."""
    config = config_of(
        4, 3, max_k=700, activation_words=1 << 15, activation_pages=16, residual=True, max_pool=True, mask=True
    )
    program = assemble(DAGS[name](), config)
    assert len(program.recipe.parts) == 1
    assert len(program.recipe.tensors) == 2


@pytest.mark.parametrize("seed", range(30))
def test_random_networks(seed):
    rng = np.random.default_rng(seed)
    rows, cols = int(rng.integers(1, 7)), int(rng.integers(1, 7))
    activation, output = [("fp16", "fp16"), ("int8", "fp32"), ("fp8_e4m3", "fp8_e4m3")][seed % 3]
    pages = int(2 ** rng.integers(1, 4))
    config = config_of(
        rows,
        cols,
        activation,
        output,
        max_k=2040,
        activation_words=pages * int(2 ** rng.integers(11, 13)),
        activation_pages=pages,
        residual=True,
        max_pool=True,
        mask=True,
    )
    check(assemble(random_dag(seed, True), config), int(rng.integers(1, 4)), seed)


@pytest.mark.parametrize("seed", range(20))
def test_random_networks_that_do_not_fit(seed):
    """Pages of a few words: strips, spills and host steps in every mixture."""
    rng = np.random.default_rng(seed)
    config = config_of(
        int(rng.integers(3, 7)),
        int(rng.integers(1, 5)),
        *[("fp16", "fp16"), ("int8", "fp32")][seed % 2],
        max_k=180 if seed % 4 else 300,
        activation_words=512 if seed % 4 else 1024,
        activation_pages=2,
        residual=True,
        max_pool=True,
        mask=True,
    )
    try:
        program = assemble(random_dag(seed, False), config)
    except InputError as error:
        assert str(error).startswith("K of layer")  # noqa: PT017 - the network is drawn at random
        pytest.skip("max_k")
    check(program, 2, seed)


@pytest.mark.parametrize("mask", [False, True])
def test_layers_of_fewer_bits_than_the_machines(mask):
    """Weights of 2, 3 and 4 bits in one network, on a machine of 4."""
    dag = Dag(5, 6, 3, seed=7, bits=2)
    x = dag.conv("x", 5)
    dag.bits = 4
    x = dag.conv(x, 4)
    dag.bits = 3
    graph = dag.graph(dag.linear(dag.flat(dag.conv(x, 4, groups=2 if mask else 1)), 3))
    assert [layer.weight_bits for layer in graph.layers()] == [2, 4, 3, 3]
    check(assemble(graph, config_of(3, 4, bits=4, max_k=200, mask=mask)), 3)
