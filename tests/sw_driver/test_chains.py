"""Chains of convolutions and linear layers through the emulated machine: every bit is the golden network's."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from golden import network as golden_network
from golden.emulator import EmulatorTransport
from shiftforge.errors import NotBuiltError
from shiftforge.graph import AveragePool, Conv, Graph, Input, Linear, Reshape, Window
from shiftforge.program import from_bytes
from shiftforge.registers import Flag
from sw_driver.accelerator import Accelerator
from sw_driver.compiler.pipeline import assemble
from tests.sw_driver.networks import ACTIVATIONS, config_of


class Chain:
    """A graph that grows layer by layer, with random codes, scales, biases and activations."""

    def __init__(self, *image: int, seed: int = 0, bits: int = 3) -> None:
        self.rng, self.bits = np.random.default_rng(seed), bits
        self.nodes: list = [Input("x", image, image=image if len(image) > 1 else None)]

    @property
    def shape(self):
        return Graph(tuple(self.nodes)).shapes[self.nodes[-1].name] if len(self.nodes) > 1 else self.nodes[0].image

    def _common(self, k: int, n: int, terms: int):
        normal = self.rng.normal(size=(2, n)).astype(np.float32) * np.float32(0.1)
        return {
            "name": f"n{len(self.nodes)}",
            "source": self.nodes[-1].name,
            "codes": self.rng.integers(0, 1 << self.bits, (terms * k, n)).astype(np.uint8),
            "weight_bits": self.bits,
            "exponent_bias": int(self.rng.integers(-3, 1)),
            "scale": normal[0],
            "bias": normal[1],
            "activation": ACTIVATIONS[int(self.rng.integers(len(ACTIVATIONS)))],
            "terms": terms,
        }

    def conv(self, n, kernel, stride=1, padding: Any = 0, dilation: Any = 1, terms=1, **more) -> "Chain":
        window = Window.of(kernel, stride, padding, dilation)
        k = window.positions * self.shape[-1] // more.get("groups", 1)
        self.nodes.append(Conv(**self._common(k, n, terms), window=window, **more))
        return self

    def linear(self, n: int, terms: int = 1) -> "Chain":
        self.nodes.append(Linear(**self._common(self.shape[-1], n, terms)))
        return self

    def reshape(self, *shape: int) -> "Chain":
        self.nodes.append(Reshape(f"n{len(self.nodes)}", self.nodes[-1].name, shape))
        return self

    def flat(self) -> "Chain":
        return self.reshape(int(np.prod(self.shape)))

    @property
    def graph(self) -> Graph:
        return Graph(tuple(self.nodes))


CHAINS = {
    "image": lambda: Chain(6, 7, 3).conv(5, (3, 3), 2, 1).conv(4, (3, 2), 1, ((0, 1), (2, 0)), (1, 2)).flat().linear(6),
    "pixels out": lambda: Chain(5, 4, 2, seed=1).conv(7, (2, 3), 1, 1).linear(3).conv(9, (1, 1)),
    "time": lambda: Chain(19, 3, seed=2).conv(6, (5,), 2, 2).conv(4, (3,), 1, 0, 2).flat().linear(2),
    "strided pointwise": lambda: Chain(6, 6, 4, seed=3).conv(6, (1, 1), 2).linear(5).flat().linear(4),
    "terms": lambda: Chain(5, 5, 2, seed=4).conv(4, (3, 3), 2, 1, terms=2).linear(5, terms=3).flat().linear(3, terms=2),
    "whole words": lambda: Chain(3, 3, 4, seed=5).conv(4, (2, 2)).flat().linear(8).linear(3),
    "flattened input": lambda: Chain(3, 4, 5, seed=6).flat().linear(6).linear(2),
}

MACHINES = {
    "4x3 fp16": config_of(4, 3, max_k=256),
    "3x5 int8": config_of(3, 5, "int8", "int16", max_k=256, activation_words=1024),
    "5x2 e4m3": config_of(5, 2, "fp8_e4m3", "fp32", max_k=256, stream_bits=32),
    "small memories": config_of(2, 2, "fp16", "fp16", max_k=200, parameter_words=8),
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", CHAINS)
def test_every_bit(name, machine):
    config, graph = MACHINES[machine], CHAINS[name]().graph
    program = from_bytes(assemble(graph, config).to_bytes())
    assert program.placed is not None
    x = np.random.default_rng(7).normal(0, 2, (5, *graph.input.shape))
    accelerator = Accelerator(EmulatorTransport(config), config)
    codes = accelerator.encode_input(program, x)
    want = golden_network.run(program.graph, config, codes)
    np.testing.assert_array_equal(accelerator.run_codes(program, codes), want.output.reshape(5, -1))
    assert [flag in accelerator.flags for flag in Flag] == [want.flags.nv, want.flags.of, want.flags.nx]


@pytest.mark.parametrize(("rows", "cols"), [(4, 3), (2, 5)])
def test_groups_and_averages_are_masked(rows, cols):
    config = config_of(rows, cols, max_k=256, mask=True)
    chain = (
        Chain(6, 5, 4, seed=8).conv(6, (3, 3), 1, 1, groups=2).conv(6, (3, 3), 2, 1, groups=6).conv(4, (1, 1), groups=2)
    )
    average = AveragePool("mean", chain.nodes[-1].name, Window.of(chain.shape[:2])).layer(4, 3)
    graph = Graph(
        (*chain.nodes, replace(average, scale=average.scale.astype(np.float32), bias=np.zeros(4, np.float32)))
    )
    program = assemble(graph, config)
    accelerator = Accelerator(EmulatorTransport(config), config)
    x = np.random.default_rng(2).normal(size=(3, 6, 5, 4))
    x[0, 1, 2] = np.inf, -np.inf, np.nan, 1  # reach the outputs of their own group alone
    codes = accelerator.encode_input(program, x)
    want = golden_network.run(program.graph, config, codes).output
    np.testing.assert_array_equal(accelerator.run_codes(program, codes), want.reshape(3, -1))


def test_weights_that_do_not_fit_are_loaded_piece_by_piece():
    config = config_of(2, 2, max_k=100, weight_words=256)
    graph = Chain(4, 5, 3).conv(9, (3, 3), 1, 1).conv(7, (3, 3)).graph
    program = assemble(graph, config)
    assert program.recipe.steps[0].loads
    accelerator = Accelerator(EmulatorTransport(config), config)
    codes = accelerator.encode_input(program, np.random.default_rng(1).normal(size=(3, 4, 5, 3)))
    want = golden_network.run(graph, config, codes).output
    np.testing.assert_array_equal(accelerator.run_codes(program, codes), want.reshape(3, -1))


def test_as_many_examples_as_fit_go_together():
    config = config_of(4, 3, max_k=100, activation_words=512)
    program = assemble(Chain(6, 7, 4).conv(5, (3, 3), 2, 1).flat().linear(3).graph, config)
    assert program.recipe.phases[0].chunk == 256 // 42
    assert [step.pixels for step in program.recipe.steps] == [12, 1]


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (
            lambda: Chain(4, 4, 4).conv(4, (3, 3), 1, 1, groups=2).graph,
            "layer 'n1' has 2 groups (or is an average), which needs array.mask = true in the configuration",
        ),
        (
            lambda: Chain(4, 4, 4).conv(4, (300, 1), 1, ((300, 0), (0, 0))).graph,
            "layer 'n1' does not fit its addresses: ",
        ),
        (
            lambda: Chain(4, 4, 4).reshape(16, 4).conv(4, (3,)).graph,
            "layer 'n2' does not fit its addresses: it reads pixels ",
        ),
        (
            lambda: Chain(4, 4, 4).reshape(8, 8).linear(3).graph,
            "layer 'n2' does not fit its addresses: it reads a tensor ",
        ),
        (
            lambda: Chain(300, 1, 1).flat().linear(3).graph,
            "layer 'n2' does not fit its addresses: it reads an image of 300 ",
        ),
    ],
)
def test_what_the_machine_does_not_run_says_why(graph, reason):
    program = assemble(graph(), config_of(4, 3, max_k=2048))
    assert program.unplaced.startswith(reason)
    with pytest.raises(NotBuiltError, match="run --backend golden$"):
        _ = program.recipe
