"""Time of the exact golden ResNet-18 at 224x224 as a ratio to torch's float32 convolutions of the same shapes in the same run.

    python -m bench.golden_network [--batch 1] [--activation fp16] [--repeat 5] [--json]

The weights are random 3-bit codes; scales keep the activations near 1, as after training with BatchNorm.
"""

import argparse
import json
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from golden import network
from shiftforge.activation import Activation
from shiftforge.config import from_dict
from shiftforge.formats import FORMATS
from shiftforge.graph import AveragePool, Conv, Graph, Input, Linear, MaxPool, Node, Reshape, Window

STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))


def resnet18(rng: np.random.Generator, size: int = 224, classes: int = 1000, bits: int = 3) -> Graph:
    """Compiled, with random weights."""
    nodes: list[Node] = [Input("x", (3, size, size), 1.0, (size, size, 3), True)]

    def conv(name: str, source: str, inputs: int, outputs: int, kernel: int, stride: int, **more: object) -> str:
        window = Window.of((kernel, kernel), stride, kernel // 2)
        k = window.positions * inputs
        codes = rng.integers(0, 1 << bits, (k, outputs)).astype(np.uint8)
        scale = np.full(outputs, 0.2 / np.sqrt(k), np.float32)
        bias = rng.normal(0, 0.1, outputs).astype(np.float32)
        nodes.append(Conv(name, source, codes, bits, 0, scale, bias, window=window, **more))  # pyright: ignore[reportArgumentType]
        return name

    relu = Activation.relu()
    x = conv("stem", "x", 3, 64, 7, 2, activation=relu)
    nodes.append(MaxPool("pool", x, Window.of((3, 3), 2, 1)))
    x, inputs = "pool", 64
    for stage, (outputs, stride) in enumerate(STAGES):
        for block in range(2):
            name, step = f"{stage}.{block}", stride if block == 0 else 1
            short = x if step == 1 and inputs == outputs else conv(f"{name}.down", x, inputs, outputs, 1, step)
            y = conv(f"{name}.a", x, inputs, outputs, 3, step, activation=relu)
            x, inputs = conv(f"{name}.b", y, outputs, outputs, 3, 1, activation=relu, residual=short), outputs
    last = size // 32
    nodes.append(AveragePool("mean", x, Window.of((last, last))))
    nodes.append(Reshape("flat", "mean", (inputs,)))
    codes = rng.integers(0, 1 << bits, (inputs, classes)).astype(np.uint8)
    ones = np.full(classes, 0.2 / np.sqrt(inputs), np.float32)
    nodes.append(Linear("fc", "flat", codes, bits, 0, ones, np.zeros(classes, np.float32)))
    return Graph(tuple(nodes))


class Twin(nn.Module):
    """The same graph in torch's float32, layer by layer, with scale and bias folded into the weights."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.weights: dict[str, torch.Tensor] = {}
        for layer in graph:
            if isinstance(layer, Conv | Linear):
                weight = (layer.weights() * layer.scale).astype(np.float32).T
                if isinstance(layer, Conv):
                    weight = weight.reshape(layer.features, *layer.window.kernel, -1).transpose(0, 3, 1, 2)
                self.weights[layer.name] = torch.from_numpy(np.ascontiguousarray(weight))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tensors = {"x": x}
        for node in self.graph.nodes[1:]:
            source = tensors[node.inputs[0]]
            if isinstance(node, Conv):
                bias = torch.from_numpy(node.bias)
                padding = node.window.padding[0][0]
                y = functional.conv2d(source, self.weights[node.name], bias, node.window.stride, padding)
                y = y + tensors[node.residual] if node.residual else y
                y = functional.relu(y) if node.activation.kind == "relu" else y
            elif isinstance(node, Linear):
                y = functional.linear(source, self.weights[node.name], torch.from_numpy(node.bias))
            elif isinstance(node, MaxPool):
                y = functional.max_pool2d(source, node.window.kernel, node.window.stride, node.window.padding[0][0])
            elif isinstance(node, AveragePool):
                y = source.mean((2, 3), keepdim=True)
            else:
                y = source.flatten(1)
            tensors[node.name] = y
        return tensors[self.graph.output.name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--activation", default="fp16", choices=list(FORMATS))
    parser.add_argument("--repeat", type=int, default=5, help="best of this many")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    graph = resnet18(rng, options.size)
    array = {"rows": 8, "cols": 8, "activation": options.activation, "output": "fp16", "weight_bits": 3, "max_k": 4608}
    config = from_dict({"array": array})
    x = rng.normal(0, 1, (options.batch, 3, options.size, options.size)).astype(np.float32)
    codes = network.encode_input(graph, config, x)
    twin, images = Twin(graph).eval(), torch.from_numpy(x)
    macs = (
        sum(layer.macs(graph.shapes_of(layer)) for layer in graph if isinstance(layer, Conv | Linear)) * options.batch
    )
    ours, base = [], []
    float32, result = np.zeros(0, np.float32), codes
    for _ in range(options.repeat):  # interleaved, so that other load on the machine hits both
        start = time.perf_counter()
        with torch.no_grad():
            float32 = twin(images).numpy()
        base.append(time.perf_counter() - start)
        start = time.perf_counter()
        result = network.run(graph, config, codes).output
        ours.append(time.perf_counter() - start)
    got = network.output_values(graph, config, result)
    told = {
        "activation": options.activation,
        "batch": options.batch,
        "macs": macs,
        "seconds": min(ours),
        "float32_seconds": min(base),
        "ratio": min(ours) / min(base),
        "largest_difference": float(np.abs(got - float32).max() / np.abs(float32).max()),
    }
    if options.json:
        print(json.dumps(told))
        return
    print(f"{macs / 1e9:.2f} GMAC, activations {options.activation}, batch {options.batch}")
    print(f"golden, exact   {min(ours):8.3f} s")
    print(f"torch, float32  {min(base):8.3f} s")
    print(f"ratio           {told['ratio']:8.2f}")
    print(f"largest difference of the results {told['largest_difference']:.2e} of the largest")


if __name__ == "__main__":
    main()
