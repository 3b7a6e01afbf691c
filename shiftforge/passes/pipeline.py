"""All passes in order."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftforge.formats import TensorFormats
from shiftforge.graph import Graph
from shiftforge.passes.fold import fold
from shiftforge.passes.fuse import fuse
from shiftforge.passes.lower import lower, orient
from shiftforge.passes.quantise import calibrate, quantise


@dataclass(frozen=True)
class Passed:
    """A graph after a pass; `name` is that of the pass, ``"import"`` for what came in."""

    name: str
    graph: Graph


def passes(
    graph: Graph, formats: TensorFormats, weight_bits: int, calibration: NDArray[np.float64] | None = None
) -> Iterator[Passed]:
    """The graph as it comes and after each pass, the last of which gives the compiled one.

    Parameters
    ----------
    formats : TensorFormats
        Of the tensors; a configuration has them.
    weight_bits : int
        Of the weights that passes make (averages).
    calibration : float64 array (samples, *shape) or (samples, features), or None
        Sample inputs from which tensor scales are set (int8, int16 and fp8); without them every scale is 1.
    """
    yield Passed("import", graph)
    graph = lower(graph, weight_bits)
    yield Passed("lower", graph)
    graph = fold(graph)
    yield Passed("fold", graph)
    graph = orient(graph)
    yield Passed("orient", graph)
    graph = fuse(graph)
    yield Passed("fuse", graph)
    scales = None if calibration is None else calibrate(graph, formats, calibration)
    yield Passed("quantise", quantise(graph, scales))


def compiled(
    graph: Graph, formats: TensorFormats, weight_bits: int, calibration: NDArray[np.float64] | None = None
) -> Graph:
    """The graph after the last pass."""
    return [*passes(graph, formats, weight_bits, calibration)][-1].graph
