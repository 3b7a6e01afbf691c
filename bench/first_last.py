"""A network's first and last layer: full precision on the host, or sums of powers of two on the machine.

    python -m bench.first_last [--json]

ResNet-20 on the machine of examples/resnet20.toml, random images. Error: root mean square of what the logits differ by from those
with both layers in full precision, by their root mean square; the shift layers between are the same. Cycles are of one image.
"""

import argparse
import json
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from examples.network import imported, initialised
from golden.network import encode_input, output_values, run
from golden.train.networks import ResNet
from golden.train.post_training import convert_pretrained
from shiftforge.commands.frame import print_table
from shiftforge.config import load
from shiftforge.graph import Graph
from shiftforge.graph.host import host_layer
from sim.profile import profile
from sw_driver.compiler.pipeline import compile_graph

CONFIG = Path(__file__).parents[1] / "examples" / "resnet20.toml"
IMAGES = 16


def host_seconds(graph: Graph) -> float:
    """Time of the layers that the host computes, for one image."""
    start = perf_counter()
    for layer in graph.layers():
        if layer.on_host:
            host_layer(layer, np.ones((1, *graph.shapes[layer.source]), np.float32), None)
    return perf_counter() - start


def measure() -> list[dict[str, str | float]]:
    """One entry for the host, and one for each number of terms."""
    config = load(CONFIG)
    torch.manual_seed(0)
    images = torch.randn(64, 3, 32, 32)
    model = initialised(ResNet((16, 32, 64), (3, 3, 3), 10, large=False), images, keep=ResNet.KEPT)
    told: list[dict[str, str | float]] = []
    reference = np.zeros(0)
    for terms in (0, 1, 2, 3, 4):
        network = convert_pretrained(model, config.weights.bits, terms) if terms else model
        program = compile_graph(imported(network, images, config, () if terms else ResNet.KEPT), config)
        codes = encode_input(program.graph, config, images[:IMAGES].numpy())
        logits = output_values(program.graph, config, run(program.graph, config, codes).output).astype(np.float64)
        reference = reference if terms else logits
        told.append(
            {
                "layers": f"{terms} terms" if terms else "on the host",
                "cycles": profile(program, 1).cycles,
                "host_seconds": 0.0 if terms else host_seconds(program.graph),
                "error": float(np.sqrt(((logits - reference) ** 2).mean() / (reference**2).mean())),
            }
        )
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    told = measure()
    if options.json:
        print(json.dumps(told))
        return
    rows = []
    for one in told:
        host, error = f"{1000 * float(one['host_seconds']):.1f} ms", f"{100 * float(one['error']):.1f} %"
        rows.append([str(one["layers"]), f"{one['cycles']:,}", host, error])
    print_table("ResNet-20, stem and classifier", ["as", "cycles", "host", "error of the logits"], rows)


if __name__ == "__main__":
    main()
