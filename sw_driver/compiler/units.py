"""A compiled graph as the machine sees it: nodes that compute or join, without the reshapes between them."""

from dataclasses import dataclass, field
from typing import TypeAlias

from shiftforge.graph import Concat, Graph, Layer, MaxPool, Reshape, Unfold
from shiftforge.graph.checks import Shape
from sw_driver.compiler.reading import image_of

Unit: TypeAlias = Layer | MaxPool | Concat | Unfold


class NotPlaced(Exception):
    """Why a network, or a part of one, cannot run so; part of a sentence."""


@dataclass(frozen=True, eq=False)
class Units:
    """The nodes of a graph but for its input and its reshapes, which move nothing.

    Members
    -------
    nodes : tuple of Layer, MaxPool, Concat and Unfold
        In order.
    roots : dict of str to str
        For every node of the graph the one whose tensor it is: itself, or what a reshape reshapes.
    readers : dict of str to tuple of int
        For every root the nodes that read it, as indices; the output is read by one more, ``len(nodes)``.
    """

    graph: Graph
    nodes: tuple[Unit, ...] = field(init=False)
    roots: dict[str, str] = field(init=False)
    readers: dict[str, tuple[int, ...]] = field(init=False)

    def __post_init__(self) -> None:
        roots: dict[str, str] = {}
        nodes: list[Unit] = []
        readers: dict[str, tuple[int, ...]] = {}
        for node in self.graph:
            if isinstance(node, Reshape):
                roots[node.name] = roots[node.source]
                continue
            roots[node.name] = node.name
            readers[node.name] = ()
            if isinstance(node, Unit):
                for edge in node.inputs:
                    readers[roots[edge]] += (len(nodes),)
                nodes.append(node)
        readers[roots[self.graph.output.name]] += (len(nodes),)
        object.__setattr__(self, "nodes", tuple(nodes))
        object.__setattr__(self, "roots", roots)
        object.__setattr__(self, "readers", readers)

    @property
    def output(self) -> str:
        """The root of the graph's output."""
        return self.roots[self.graph.output.name]

    def image(self, root: str) -> tuple[int, int, int]:
        """(height, width, channels) of a root's tensor, as it is stored."""
        return image_of(self.graph.shapes[root])

    def stored(self, edge: str) -> Shape:
        """The shape in which the tensor that an edge names is stored."""
        return self.graph.shapes[self.roots[edge]]
