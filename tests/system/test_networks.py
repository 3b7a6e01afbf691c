"""Convolutional networks through the simulated Verilog: every layer's bits and every beat are the golden model's."""

import numpy as np
import pytest

from golden import network as golden_network
from golden.emulator import EmulatorTransport
from sim.backends import open_transport
from sim.compare import Recorder, compare_program
from sw_driver.accelerator import Accelerator
from sw_driver.compiler.pipeline import assemble
from tests.sw_driver.dags import DAGS, random_dag
from tests.sw_driver.networks import config_of
from tests.sw_driver.test_chains import CHAINS

MACHINES = {
    "4x4 fp16": config_of(4, 4, max_k=256),
    "3x5 int8": config_of(3, 5, "int8", "int16", max_k=256),
    "8x8 e4m3": config_of(8, 8, "fp8_e4m3", "fp16", max_k=512),
}


def compare(name: str, machine: str, stalls: int | None) -> None:
    config, graph = MACHINES[machine], CHAINS[name]().graph
    program = assemble(graph, config)
    codes = Accelerator(EmulatorTransport(config), config).encode_input(
        program, np.random.default_rng(3).normal(0, 2, (3, *graph.input.shape))
    )
    with open_transport("golden", config, stalls=stalls) as golden, open_transport("rtl", config, stalls=stalls) as rtl:
        assert isinstance(golden, EmulatorTransport)
        done = compare_program(program, codes, golden, rtl)
        assert [layer.layer for layer in done] == [layer.name for layer in program.graph.layers()]
        assert all(layer.equal for layer in done), [layer.sentence() for layer in done if not layer.equal]
        # Another network on the same machine, without a reset, and the first one again.
        other = assemble(CHAINS["flattened input"]().graph, config)
        for run in (other, program):
            x = np.random.default_rng(4).normal(0, 2, (2, *run.graph.input.shape))
            again = Accelerator(rtl, config)
            encoded = again.encode_input(run, x)
            want = golden_network.run(run.graph, config, encoded).output
            assert np.array_equal(again.run_codes(run, encoded), want.reshape(2, -1))


@pytest.mark.parametrize(("name", "stalls"), [("image", None), ("image", 5), ("pixels out", 6), ("terms", None)])
def test_convolutions_on_the_gateware(name, stalls):
    compare(name, "3x5 int8", stalls)


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", CHAINS)
def test_every_chain_on_every_machine(name, machine):
    compare(name, machine, None)
    compare(name, machine, 2)


WHOLE = {"max_k": 900, "activation_pages": 4, "residual": True, "max_pool": True, "mask": True}
WHOLE_MACHINES = {
    "4x4 fp16": config_of(4, 4, **WHOLE),
    "3x5 int8": config_of(3, 5, "int8", "fp32", **WHOLE),
    "8x8 e4m3": config_of(8, 8, "fp8_e4m3", "fp8_e4m3", **WHOLE),
}


def run_whole(graphs, machine: str, stalls: int | None) -> None:
    """Networks one after the other on one device without a reset: bits, beats, counters and flags."""
    config = WHOLE_MACHINES[machine]
    with open_transport("golden", config, stalls=stalls) as golden, open_transport("rtl", config, stalls=stalls) as rtl:
        predicted, counted = Recorder(golden), Recorder(rtl)
        model, device = Accelerator(predicted, config), Accelerator(counted, config)
        for graph in graphs:
            program = assemble(graph, config)
            x = np.random.default_rng(3).normal(0, 2, (3, *graph.input.shape))
            codes = model.encode_input(program, x)
            want = golden_network.run(program.graph, config, codes).output.reshape(3, -1)
            np.testing.assert_array_equal(model.run_codes(program, codes), want)
            np.testing.assert_array_equal(device.run_codes(program, codes), want)
            assert device.flags == model.flags
            assert device.last_status == model.last_status
            assert device.last_cycles == model.last_cycles
        for a, b in zip(predicted.results, counted.results, strict=True):
            np.testing.assert_array_equal(a.input_beats, b.input_beats)
            np.testing.assert_array_equal(a.output_beats, b.output_beats)


@pytest.mark.parametrize("stalls", [None, 5])
def test_whole_networks_on_the_gateware(stalls):
    """Residuals, max-pools, concatenations, host steps, one network after the other."""
    run_whole([build() for build in DAGS.values()], "3x5 int8", stalls)


@pytest.mark.slow
@pytest.mark.parametrize("stalls", [None, 2])
@pytest.mark.parametrize("machine", WHOLE_MACHINES)
def test_whole_networks_on_every_machine(machine, stalls):
    run_whole([build() for build in DAGS.values()], machine, stalls)
    run_whole([random_dag(seed, True) for seed in (1, 2, 3, 4, 6, 8)], machine, stalls)
