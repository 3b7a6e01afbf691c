"""The utilization that is claimed, by the cycle model: a fall below the targets is a failure."""

import numpy as np
import pytest

from bench import utilization
from bench.utilization import CASES, gemm, machine, measure, resnet50
from examples.resnet18 import alone
from sim.backends import open_transport
from sw_driver.accelerator import Accelerator
from sw_driver.compiler.pipeline import assemble


def test_the_networks_have_their_published_products():
    """ResNet-50: 4.09 G products with the classifier, 2.05 M of which are its own."""
    graph = resnet50(np.random.default_rng(0))
    macs = sum(layer.macs(graph.shapes_of(layer)) for layer in graph.layers())
    assert macs == 4_089_184_256 - 2048 * 1000
    assert len(graph.layers()) == 53
    (product,) = gemm(np.random.default_rng(0)).layers()
    assert product.macs([(1024,)]) == 1 << 20


def test_every_target_is_met():
    for name, case in CASES.items():
        for (size, batch), target in case.targets.items():
            found, layers = measure(case, size, batch)
            assert target <= found < 100, (name, size, batch)
            assert all(layer.macs and layer.cycles for layer in layers)
            drained, _ = measure(case, size, batch, "banked")
            if name == "gemm":  # tiles of 1024 cycles, and one more for each of eight banks
                assert drained == pytest.approx(found * 1024 / 1032, abs=0.005)
            assert 0.93 * found < drained < found, (name, size, batch)


@pytest.mark.parametrize("size, batch", [(8, 8), (8, 9)])
def test_by_hand(size, batch, monkeypatch):
    """One layer of 64 by 8: a tile of eight rows takes 64 cycles; a ninth row takes as many again."""
    case = utilization.Case("small", lambda rng: gemm(rng, 64), lambda _: True, {})
    found, (layer,) = measure(case, size, batch)
    tiles = -(-batch // size) * 64 // size
    assert layer.slots == tiles * 64
    assert layer.macs == batch * 64 * 64
    assert found == pytest.approx(100 * layer.macs / (layer.cycles * size * size))
    assert layer.cycles > layer.slots


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_layers_of_resnet50_on_the_verilog():
    """The stem (unfolded), a 3x3 convolution of 116 million products and the raggedest, of 49 pixels: bits and cycles."""
    config, graph = machine(16, 4608 + 16), resnet50(np.random.default_rng(0))
    rng = np.random.default_rng(1)
    with open_transport("golden", config) as golden, open_transport("rtl", config) as rtl:
        for name in ("stem", "0.0.b", "3.1.b", "3.0.down"):
            program = assemble(alone(graph, name), config, name=name)
            model, device = Accelerator(golden, config), Accelerator(rtl, config)
            codes = model.encode_input(program, rng.normal(0, 1, (1, *program.graph.input.shape)))
            np.testing.assert_array_equal(device.run_codes(program, codes), model.run_codes(program, codes))
            assert device.last_cycles == model.last_cycles > 0
