# amaranth: UnusedElaboratable=no
"""All baselines by name: what `bench.area` measures and what the tests simulate."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from bench.baselines.element import Element
from bench.baselines.floats import FloatEdge, FloatInteger, FloatMultiply
from bench.baselines.integers import IntegerMultiply, ZeroCode
from bench.baselines.rounding import FloatRounding
from hw.instance import Unit
from hw.row_edge import RowEdge
from shiftforge.config import Config

Make = Callable[[Config, bool], Element]


@dataclass(frozen=True)
class Baseline:
    """One competitor.

    Parameters
    ----------
    name, text : str
    activation : str
        Format of the activations.
    make : callable
        ``make(config, cells)``: the element, in ECP5 carry cells or in plain Verilog.
    row_edge : callable
        The unit that prepares a row's activations.
    weight_edge : callable or None
        The same for a column's weights; None where codes enter as they are.
    dsp : bool
        DSP blocks are allowed.
    exact : bool
        False where sums are rounded at each step.
    blocks : bool
        A dot product is read after every `rows` products; what adds up the readings is not measured.
    """

    name: str
    text: str
    activation: str
    make: Make
    row_edge: Callable[[Config], Unit]
    weight_edge: Callable[[Config], Unit] | None = None
    dsp: bool = False
    exact: bool = True
    blocks: bool = False


def _edge(config: Config) -> Unit:
    return FloatEdge(config)


def _weights(config: Config) -> Unit:
    return FloatEdge(config, for_weights=True)


BASELINES = MappingProxyType(
    {
        b.name: b
        for b in (
            Baseline(
                "int8 x int8 tree",
                "hand-built tree of carry chains",
                "int8",
                lambda c, cells: IntegerMultiply(c, 8, cells=cells),
                RowEdge,
            ),
            Baseline(
                "int8 x int8 tree, blocks",
                "the same, read after each block of products",
                "int8",
                lambda c, cells: IntegerMultiply(c, 8, blocks=True, cells=cells),
                RowEdge,
                blocks=True,
            ),
            Baseline(
                "int8 x int8 *",
                "the operator, in LUTs",
                "int8",
                lambda c, cells: IntegerMultiply(c, 8, star=True, cells=cells),
                RowEdge,
            ),
            Baseline(
                "int8 x int8 DSP",
                "the operator, in a DSP block",
                "int8",
                lambda c, cells: IntegerMultiply(c, 8, star=True, cells=cells),
                RowEdge,
                dsp=True,
            ),
            Baseline(
                "int8 x int4 tree",
                "hand-built tree of carry chains",
                "int8",
                lambda c, cells: IntegerMultiply(c, 4, cells=cells),
                RowEdge,
            ),
            Baseline(
                "int8 x {0,±1,±2}",
                "zero-containing power-of-two code of 3 bits",
                "int8",
                lambda c, cells: ZeroCode(c, 1, cells=cells),
                RowEdge,
            ),
            Baseline(
                "int8 x {0,±1..±8}",
                "zero-containing power-of-two code of 4 bits",
                "int8",
                lambda c, cells: ZeroCode(c, 2, cells=cells),
                RowEdge,
            ),
            Baseline(
                "fp16 x {0,±1,±2}",
                "zero-containing power-of-two code of 3 bits",
                "fp16",
                lambda c, cells: ZeroCode(c, 1, cells=cells),
                RowEdge,
            ),
            Baseline(
                "fp16 x {0,±1..±8}",
                "zero-containing power-of-two code of 4 bits",
                "fp16",
                lambda c, cells: ZeroCode(c, 2, cells=cells),
                RowEdge,
            ),
            Baseline(
                "fp16 x int4 exact",
                "significand times int4, one wide accumulator",
                "fp16",
                lambda c, cells: FloatInteger(c, cells=cells),
                _edge,
            ),
            Baseline(
                "fp16 x fp16 exact",
                "product of significands, one wide accumulator",
                "fp16",
                lambda c, cells: FloatMultiply(c, cells=cells),
                _edge,
                _weights,
            ),
            Baseline(
                "fp16 x fp16 fp32",
                "binary32 accumulator, rounded at each step",
                "fp16",
                lambda c, cells: FloatRounding(c, cells=cells),
                lambda c: FloatEdge(c, normal=True),
                lambda c: FloatEdge(c, normal=True, for_weights=True),
                exact=False,
            ),
        )
    }
)
