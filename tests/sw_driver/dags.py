"""Compiled networks that are no chains: residuals, max-pools, averages and concatenations, chosen or at random. No torch."""

from dataclasses import replace
from typing import Any

import numpy as np

from shiftforge.graph import AveragePool, Concat, Conv, Graph, Input, Layer, Linear, MaxPool, Node, Reshape, Window
from tests.sw_driver.networks import ACTIVATIONS


class Dag:
    """A graph that grows node by node; every method returns the new node's name."""

    def __init__(self, *image: int, seed: int = 0, bits: int = 3) -> None:
        self.rng, self.bits = np.random.default_rng(seed), bits
        self.nodes: list[Node] = [Input("x", image, image=image if len(image) > 1 else None)]
        self.shapes: dict[str, tuple[int, ...]] = {"x": image}

    def _add(self, node: Node) -> str:
        self.nodes.append(node)
        self.shapes[node.name] = node.shape_from([self.shapes[edge] for edge in node.inputs])
        return node.name

    def _layer(self, source: str, k: int, n: int, residual: str, terms: int):
        return {
            "name": f"n{len(self.nodes)}",
            "source": source,
            "codes": self.rng.integers(0, 1 << self.bits, (terms * k, n)).astype(np.uint8),
            "weight_bits": self.bits,
            "exponent_bias": int(self.rng.integers(-3, 1)),
            "scale": self.rng.normal(0, 0.1, n).astype(np.float32),
            "bias": self.rng.normal(0, 0.1, n).astype(np.float32),
            "activation": ACTIVATIONS[int(self.rng.integers(len(ACTIVATIONS)))],
            "terms": terms,
            "residual": residual,
            "residual_scale": float(np.float32(self.rng.uniform(0.3, 2))) if residual else 1.0,
        }

    def conv(
        self,
        source: str,
        n: int,
        kernel=(3, 3),
        stride: int | tuple[int, int] = 1,
        padding=None,
        residual="",
        terms=1,
        groups=1,
        dilation=1,
    ) -> str:
        window = Window.of(kernel, stride, tuple(k // 2 for k in kernel) if padding is None else padding, dilation)
        k = window.positions * self.shapes[source][-1] // groups
        return self._add(Conv(**self._layer(source, k, n, residual, terms), window=window, groups=groups))

    def linear(self, source: str, n: int, residual: str = "", terms: int = 1) -> str:
        return self._add(Linear(**self._layer(source, self.shapes[source][-1], n, residual, terms)))

    def keep(self, name: str) -> str:
        """The named layer, the last that was added, becomes one of full precision."""
        layer = self.nodes[-1]
        assert isinstance(layer, Layer)
        assert layer.name == name
        real = self.rng.normal(0, 1, layer.codes.shape).astype(np.float32)
        self.nodes[-1] = replace(layer, real=real, codes=np.zeros_like(layer.codes))
        return name

    def pool(self, source: str, kernel=(2, 2), stride: Any = 2, padding: Any = 0) -> str:
        return self._add(MaxPool(f"n{len(self.nodes)}", source, Window.of(kernel, stride, padding)))

    def mean(self, source: str) -> str:
        *pixels, channels = self.shapes[source]
        layer = AveragePool(f"n{len(self.nodes)}", source, Window.of(tuple(pixels))).layer(channels, self.bits)
        return self._add(replace(layer, scale=layer.scale.astype(np.float32), bias=layer.bias.astype(np.float32)))

    def join(self, *sources: str) -> str:
        return self._add(Concat(f"n{len(self.nodes)}", sources))

    def flat(self, source: str) -> str:
        return self._add(Reshape(f"n{len(self.nodes)}", source, (int(np.prod(self.shapes[source])),)))

    def graph(self, output: str) -> Graph:
        """What the output needs."""
        wanted = {output}
        for node in reversed(self.nodes):
            wanted |= set(node.inputs) if node.name in wanted else set()
        kept = [node for node in self.nodes if node.name in wanted or isinstance(node, Input)]
        last = next(index for index, node in enumerate(kept) if node.name == output)
        return Graph(tuple(kept[: last + 1]))


def residual_network() -> Graph:
    """A stem, a max-pool, a plain block, a block with a strided shortcut, the mean over the map, a classifier."""
    dag = Dag(9, 8, 3, seed=1)
    x = dag.pool(dag.conv("x", 4), (3, 3), 2, 1)
    x = dag.conv(dag.conv(x, 4), 4, residual=x)
    short = dag.conv(x, 7, (1, 1), 2)
    x = dag.conv(dag.conv(x, 7, stride=2), 7, residual=short)
    return dag.graph(dag.linear(dag.flat(dag.mean(x)), 5))


def inception() -> Graph:
    """Branches of 3, 4 and 5 channels beside a pooled one, joined, and what reads the join and one of its parts."""
    dag = Dag(6, 7, 4, seed=2)
    x = dag.conv("x", 8)
    first = dag.conv(x, 4, (1, 1))
    parts = [first, dag.conv(x, 4), dag.pool(x, (3, 3), 1, 1), dag.conv(x, 5, (1, 3)), dag.conv(x, 3, (3, 1))]
    joined = dag.join(*parts)
    other = dag.conv(first, 6)
    return dag.graph(dag.linear(dag.flat(dag.conv(joined, 6, residual=other)), 3))


def dense() -> Graph:
    """Every layer reads all before it: nested concatenations, the input among them."""
    dag = Dag(5, 6, 4, seed=3)
    x = "x"
    for n in (4, 8, 4):
        x = dag.join(x, dag.conv(x, n))
    return dag.graph(dag.conv(x, 3))


def joined_out() -> Graph:
    """A concatenation is the output, of two layers."""
    dag = Dag(4, 5, 3, seed=4)
    x = dag.conv("x", 6)
    return dag.graph(dag.join(dag.conv(x, 3), dag.conv(x, 5)))


def pooled_out() -> Graph:
    """A max-pool is the output, of a tensor that is read elsewhere too; the host has to make it."""
    dag = Dag(6, 6, 3, seed=5)
    x = dag.conv("x", 5)
    return dag.graph(dag.pool(dag.join(dag.conv(x, 4, residual=dag.conv(x, 4)), x)))


def vectors() -> Graph:
    """Linear layers with residuals and a concatenation of vectors, one part twice."""
    dag = Dag(12, seed=6)
    x = dag.linear("x", 8)
    y = dag.linear(x, 8, residual=x)
    z = dag.linear(dag.join(y, x, y), 8, residual=y)
    return dag.graph(dag.linear(z, 9, terms=2))


def pixels() -> Graph:
    """A feed-forward block on a line of pixels: linear layers over each, a residual past both."""
    dag = Dag(11, 8, seed=7)
    x = dag.linear("x", 8)
    return dag.graph(dag.linear(dag.linear(x, 20), 8, residual=x))


def kept() -> Graph:
    """The first and the last layer in full precision, and one with a residual and groups between."""
    dag = Dag(7, 6, 3, seed=8)
    x = dag.conv(dag.keep(dag.conv("x", 4, stride=2)), 4)
    x = dag.conv(dag.keep(dag.conv(x, 4, residual=x, groups=2)), 6)
    return dag.graph(dag.keep(dag.linear(dag.flat(dag.mean(x)), 5)))


DAGS = {
    "residual": residual_network,
    "inception": inception,
    "dense": dense,
    "joined out": joined_out,
    "pooled out": pooled_out,
    "vectors": vectors,
    "pixels": pixels,
    "kept": kept,
}


def random_dag(seed: int, masks: bool) -> Graph:
    """A network of ten or so nodes, any of which may read any before them."""
    rng = np.random.default_rng(seed)
    dag = Dag(int(rng.integers(3, 9)), int(rng.integers(3, 9)), int(rng.integers(1, 6)), seed=seed)
    tensors = [dag.conv("x", int(rng.integers(1, 9)))]
    for _ in range(int(rng.integers(4, 11))):
        source = str(rng.choice([*tensors[-3:], "x"]))
        height, width, channels = dag.shapes[source]
        kind = rng.choice(["conv", "conv", "add", "pool", "join", "stride"])
        alike = [name for name in tensors if dag.shapes[name][:2] == (height, width)]
        if kind == "pool" and min(height, width) >= 2:
            tensors.append(dag.pool(source, (2, int(rng.integers(1, 3))), int(rng.integers(1, 3)), ((0, 1), (0, 0))))
        elif kind == "join" and alike:
            tensors.append(dag.join(*rng.choice([*alike, source], int(rng.integers(2, 4)))))
        elif kind == "add" and alike:
            residual = str(rng.choice(alike))
            tensors.append(dag.conv(source, dag.shapes[residual][2], residual=residual, terms=int(rng.integers(1, 3))))
        elif kind == "stride":
            tensors.append(dag.conv(source, int(rng.integers(1, 9)), (int(rng.integers(1, 4)), 3), 2))
        else:
            groups = channels if masks and rng.integers(3) == 0 else 1
            tensors.append(dag.conv(source, channels * int(rng.integers(1, 3)), groups=groups))
    last = tensors[-1]
    if rng.integers(2):
        last = dag.linear(dag.flat(last), int(rng.integers(1, 8)))
    return dag.graph(last)
