"""Utilization of the array: useful products per cycle and element, from the exact cycle model.

    python -m bench.utilization [--only resnet18] [--json]

Counted per layer from its start, when its first tile's operands lie on chip, to its last result; what is loaded later counts. A
network's figure is all products of the layers in question by all their cycles. Weights are random: cycles do not depend on them.
"""

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from bench.golden_network import resnet18
from shiftforge.activation import Activation
from shiftforge.commands.frame import print_table
from shiftforge.config import ACCUMULATORS, Config, from_dict
from shiftforge.graph import AveragePool, Conv, Graph, Input, Layer, Linear, MaxPool, Node, Window
from sim.profile import LayerProfile, profile
from sw_driver.compiler.pipeline import assemble

BITS = 3


def machine(size: int, max_k: int, accumulator: str = "aligned") -> Config:
    """A square fp16 machine with all memories at their largest and 128-bit streams."""
    return from_dict(
        {
            "array": {
                "rows": size,
                "cols": size,
                "activation": "fp16",
                "output": "fp16",
                "weight_bits": BITS,
                "max_k": max_k,
                "accumulator": accumulator,
                "mask": False,
                "residual": True,
                "max_pool": True,
            },
            "memory": {
                "activation_words": 1 << 17,
                "activation_pages": 2,
                "weight_words": 1 << 17,
                "parameter_words": 1 << 12,
            },
            "interface": {"stream_bits": 128},
        }
    )


def resnet50(rng: np.random.Generator, size: int = 224) -> Graph:
    """He et al. (arXiv 1512.03385) with the stride in the 3x3 convolution; without the classifier."""
    nodes: list[Node] = [Input("x", (3, size, size), 1.0, (size, size, 3), True)]

    def conv(name: str, source: str, inputs: int, outputs: int, kernel: int, stride: int, **more: object) -> str:
        window = Window.of((kernel, kernel), stride, kernel // 2)
        k = window.positions * inputs
        codes = rng.integers(0, 1 << BITS, (k, outputs)).astype(np.uint8)
        scale, bias = np.full(outputs, 0.2 / np.sqrt(k), np.float32), np.zeros(outputs, np.float32)
        nodes.append(Conv(name, source, codes, BITS, 0, scale, bias, window=window, **more))  # pyright: ignore[reportArgumentType]
        return name

    relu = Activation.relu()
    x, inputs = conv("stem", "x", 3, 64, 7, 2, activation=relu), 64
    nodes.append(MaxPool("pool", x, Window.of((3, 3), 2, 1)))
    x = "pool"
    for stage, (width, depth) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(depth):
            name, stride = f"{stage}.{block}", 2 if stage and not block else 1
            short = conv(f"{name}.down", x, inputs, 4 * width, 1, stride) if not block else x
            y = conv(f"{name}.a", x, inputs, width, 1, 1, activation=relu)
            y = conv(f"{name}.b", y, width, width, 3, stride, activation=relu)
            x, inputs = conv(f"{name}.c", y, width, 4 * width, 1, 1, activation=relu, residual=short), 4 * width
    return Graph(tuple(nodes))


def gemm(rng: np.random.Generator, size: int = 1024) -> Graph:
    """One linear layer, of which a batch of `size` makes a matrix product."""
    codes = rng.integers(0, 1 << BITS, (size, size)).astype(np.uint8)
    ones = np.ones(size, np.float32)
    return Graph((Input("x", (size,)), Linear("gemm", "x", codes, BITS, 0, ones, 0 * ones)))


def _three_by_three(layer: Layer) -> bool:
    return isinstance(layer, Conv) and layer.window.kernel == (3, 3)


def _convolution(layer: Layer) -> bool:
    return isinstance(layer, Conv)


@dataclass(frozen=True)
class Case:
    """A network, the layers of it that count, and the targets of the project by array size and batch."""

    name: str
    graph: Callable[[np.random.Generator], Graph]
    counts: Callable[[Layer], bool]
    targets: dict[tuple[int, int], float]


CASES = {
    "gemm": Case("GEMM 1024 x 1024 x 1024", gemm, lambda _: True, {(8, 1024): 99.9, (16, 1024): 99.9}),
    "resnet18": Case(
        "ResNet-18, 3x3 convolutions",
        lambda rng: _without_head(resnet18(rng)),
        _three_by_three,
        {(8, 1): 95.9, (16, 1): 91.0, (16, 4): 98.0},
    ),
    "resnet50": Case("ResNet-50, all convolutions", resnet50, _convolution, {(16, 1): 92.0, (16, 4): 98.0}),
}


def _without_head(graph: Graph) -> Graph:
    """Without average and classifier."""
    pooled = next(node for node in graph if isinstance(node, AveragePool))
    return graph.up_to(pooled.source)


def measure(case: Case, size: int, batch: int, accumulator: str = "aligned") -> tuple[float, list[LayerProfile]]:
    """Utilization in percent of the layers that count, and the profile of each."""
    graph = case.graph(np.random.default_rng(0))
    layers = {layer.name: layer for layer in graph.layers()}
    config = machine(size, 4608 + size, accumulator)
    program = assemble(graph, config, name=case.name, batch=batch)
    done = [line for line in profile(program, batch).layers if line.layer in layers and case.counts(layers[line.layer])]
    macs, cycles = sum(line.macs for line in done), sum(line.cycles for line in done)
    return 100 * macs / (cycles * size * size), done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(CASES))
    parser.add_argument("--layers", action="store_true", help="every layer")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: list[list[str]] = []
    told: list[dict[str, object]] = []
    for key, case in CASES.items():
        if options.only not in (None, key):
            continue
        for (size, batch), target in case.targets.items():
            found: list[str] = []
            for accumulator in ACCUMULATORS:
                share, lines = measure(case, size, batch, accumulator)
                found.append(f"{share:.3f} %")
                which = {"case": key, "array": size, "batch": batch, "accumulator": accumulator}
                told.append({**which, "utilization": share, "target": target})
                if options.layers:
                    print(f"{case.name}, {size}x{size}, batch {batch}, {accumulator}")
                    print_layers(lines, size)
            rows.append([case.name, f"{size}x{size}", str(batch), *found, f"{target} %"])
    if options.json:
        print(json.dumps(told))
        return
    print_table("Utilization", ["what", "array", "batch", *ACCUMULATORS, "target"], rows)


def print_layers(lines: Iterable[LayerProfile], size: int) -> None:
    """One line for each layer."""
    for line in lines:
        share = 100 * line.macs / (line.cycles * size * size)
        print(
            f"{line.layer:12s} {share:6.2f} %  {line.cycles:>10,} cycles, loads {line.stall_load:,}, drain {line.stall_drain:,}"
        )


if __name__ == "__main__":
    main()
