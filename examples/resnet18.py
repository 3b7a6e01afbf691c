"""ResNet-18 at 224x224: ``python -m examples.resnet18``.

The whole network runs on the golden model, layer by layer, with its exact cycles. The layers with the most and the raggedest work
run on the simulated Verilog too, each by itself on the tensors that the network has there.
"""

from dataclasses import replace

import numpy as np

from bench.golden_network import resnet18
from examples.network import compare, options, print_layers
from golden import network
from shiftforge.config import Config
from shiftforge.graph import Conv, Graph, Input
from shiftforge.program import Program
from sim.backends import open_transport
from sw_driver.accelerator import Accelerator
from sw_driver.compiler.pipeline import assemble

HEAVY = ("stem", "0.0.a", "1.0.a", "3.0.down")
"""The stem, a 3x3 convolution of 116 million products, a strided one, and the raggedest: 49 pixels."""


def alone(graph: Graph, name: str) -> Graph:
    """One convolution of a graph, on a tensor that comes from the host."""
    layer = graph[name]
    assert isinstance(layer, Conv)
    shape = graph.shapes[layer.source]
    return Graph((Input("x", shape, image=shape), replace(layer, source="x", residual="", residual_scale=1.0)))


def heavy(graph: Graph, config: Config, x: np.ndarray) -> bool:
    """The heavy layers on the Verilog against the golden model."""
    codes = network.encode_input(graph, config, x)
    tensors = network.run(graph, config, codes).tensors
    equal = True
    with open_transport("golden", config) as golden, open_transport("rtl", config) as rtl:
        for name in HEAVY:
            layer = graph[name]
            assert isinstance(layer, Conv)
            program: Program = assemble(alone(graph, name), config, name=name)
            inputs = tensors[layer.source].reshape(len(x), -1)
            model, device = Accelerator(golden, config), Accelerator(rtl, config)
            same = np.array_equal(model.run_codes(program, inputs), device.run_codes(program, inputs))
            same &= model.last_cycles == device.last_cycles
            equal &= bool(same)
            print(
                f"{name}: {model.last_cycles:,} cycles predicted, {device.last_cycles:,} counted, "
                f"{'every bit equal' if same else 'DIFFERENT'}"
            )
    return equal


def main() -> int:
    """Exit code 0 when golden network, golden model and Verilog are equal."""
    given = options(__doc__, "resnet18.toml")
    rng = np.random.default_rng(0)
    graph = resnet18(rng)
    x = rng.normal(0, 1, (given.batch, 3, 224, 224)).astype(np.float32)
    found = compare("ResNet-18", graph, given.config, x, rtl=False)
    print_layers(found.program, given.batch)
    return 0 if found.equal and (given.no_rtl or heavy(found.program.graph, given.config, x)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
