"""Random compiled networks for tests: no torch."""

from itertools import pairwise

import numpy as np

from shiftforge.activation import Activation
from shiftforge.config import Config, from_dict
from shiftforge.graph import Graph, Input, Linear, Node

ACTIVATIONS = (Activation.relu(), Activation.leaky(3), Activation.clamp(-1.0, 6.0), Activation.none())


def config_of(
    rows=3,
    cols=5,
    activation="fp16",
    output="fp16",
    bits=3,
    max_k=40,
    stream_bits=64,
    mask=False,
    residual=False,
    max_pool=False,
    **memory,
) -> Config:
    array = {
        "rows": rows,
        "cols": cols,
        "activation": activation,
        "output": output,
        "weight_bits": bits,
        "max_k": max_k,
        "mask": mask,
        "residual": residual,
        "max_pool": max_pool,
    }
    return from_dict({"array": array, "memory": memory, "interface": {"stream_bits": stream_bits}})


def network(
    rng: np.random.Generator,
    widths: list[int],
    bits: int = 3,
    dtype: type[np.floating] = np.float32,
    size: float = 0.05,
) -> Graph:
    """A chain of layers of these widths with random weights, scales (both signs), biases and activations."""
    nodes: list[Node] = [Input("x", (widths[0],))]
    for index, (k, n) in enumerate(pairwise(widths)):
        nodes.append(
            Linear(
                name=f"fc{index}",
                source=nodes[-1].name,
                codes=rng.integers(0, 1 << bits, (k, n)).astype(np.uint8),
                weight_bits=bits,
                exponent_bias=int(rng.integers(-2, 3)),
                scale=rng.normal(0, size, n).astype(dtype),
                bias=rng.normal(0, 1, n).astype(dtype),
                activation=ACTIVATIONS[index % len(ACTIVATIONS)],
            )
        )
    return Graph(tuple(nodes))
