"""What `bench.area` measures: the project's own configurations and the baselines, each as a list of units to synthesize."""

from collections.abc import Callable
from dataclasses import dataclass, fields

from bench.baselines.catalogue import BASELINES, Baseline
from bench.baselines.column import ReadingColumn, Widened
from bench.baselines.shell import shell_of, shell_of_baseline
from hw.accumulator import column_of, element_of
from hw.instance import Unit
from hw.lane import Lane
from hw.verilog import with_parts
from shiftforge.config import Config, from_dict
from shiftforge.manifest import min_overlap_k

OWN = (
    ("int8", 2, "aligned", False),
    ("int8", 2, "aligned", True),
    ("int8", 3, "aligned", False),
    ("int8", 4, "aligned", False),
    ("fp8_e4m3", 3, "aligned", False),
    ("fp8_e4m3", 3, "banked", False),
    ("fp16", 3, "aligned", False),
    ("fp16", 4, "aligned", False),
    ("fp16", 3, "banked", False),
    ("fp16", 4, "banked", False),
    ("bf16", 3, "banked", False),
    ("fp32", 3, "banked", False),
)
"""Activation, weight bits, accumulator, mask bit."""


@dataclass(frozen=True)
class Part:
    """One thing to synthesize: the modules it needs, its top last, and how many of it a machine has.

    `units` makes the modules anew for a choice of cells; `instances` are (module name, count) that the top must hold.
    """

    units: Callable[[bool], tuple[Unit, ...]]
    count: int


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Parameters
    ----------
    name, text, kind : str
        `kind` is ``shiftforge`` or ``baseline``.
    config : Config
    array, pe : Part
        The whole array, and one element alone: its flip-flops times the elements bound the array's from below.
    column, lane : Part or None
        Resolve, round and buffers; None where a baseline has no such thing.
    dsp : bool
    min_overlap_k : int
        From this K on, draining a tile hides behind the next one's accumulation.
    """

    name: str
    text: str
    kind: str
    config: Config
    array: Part
    pe: Part
    column: Part | None
    lane: Part | None
    dsp: bool
    min_overlap_k: int


def configuration(
    activation: str, bits: int, accumulator: str, *, rows: int, cols: int, max_k: int, mask: bool = False
) -> Config:
    """The configuration of one of our rows."""
    array: dict[str, object] = {"rows": rows, "cols": cols, "activation": activation, "output": activation}
    array |= {"weight_bits": bits, "max_k": max_k, "accumulator": accumulator}
    return from_dict({"array": array | ({"mask": True} if mask else {})})


def own_row(config: Config) -> Row:
    """The row of a configuration; `NotBuiltError` where the gateware does not build it."""
    if config.accumulator == "aligned":  # the units of the other refuse what they cannot hold
        config.require_hardware()
    mask = " masked" if config.weights.mask else ""
    return Row(
        name=f"{config.activation.name} x {config.weights.bits}-bit{mask} {config.accumulator}",
        text="power-of-two weights" + (", a bit for zero" if mask else ""),
        kind="shiftforge",
        config=config,
        array=Part(lambda cells: shell_of(config).units, 1),
        pe=Part(lambda cells: with_parts(element_of(config)), 1),
        column=Part(lambda cells: with_parts(column_of(config)), config.cols),
        lane=Part(lambda cells: with_parts(Lane(config)), config.lanes),
        dsp=False,
        min_overlap_k=min_overlap_k(config),
    )


def baseline_row(baseline: Baseline, *, rows: int, cols: int, max_k: int) -> Row:
    """The row of a baseline."""
    config = configuration(baseline.activation, 2, "aligned", rows=rows, cols=cols, max_k=max_k)
    element = baseline.make(config, False)
    wide = Widened(**{f.name: getattr(config, f.name) for f in fields(config)}, sum_bits=element.sum_bits)
    return Row(
        name=baseline.name,
        text=baseline.text,
        kind="baseline",
        config=config,
        array=Part(lambda cells: shell_of_baseline(baseline, config, cells=cells).units, 1),
        pe=Part(lambda cells: with_parts(baseline.make(config, cells)), 1),
        column=None
        if baseline.blocks
        else Part(lambda cells: (ReadingColumn(baseline.make(config, cells), rows, exact=baseline.exact),), cols),
        lane=Part(lambda cells: (Lane(wide),), config.lanes) if baseline.exact and not baseline.blocks else None,
        dsp=baseline.dsp,
        min_overlap_k=min_overlap_k(config),
    )


def all_rows(*, rows: int, cols: int, max_k: int) -> tuple[list[Row], list[str]]:
    """Every row that can be built, and why the others cannot."""
    from shiftforge.errors import InputError

    found, refused = [], []
    for activation, bits, accumulator, mask in OWN:
        try:
            found.append(
                own_row(
                    configuration(activation, bits, accumulator, rows=rows, cols=cols, max_k=max_k, mask=mask),
                )
            )
        except InputError as error:
            refused.append(f"{activation} x {bits}-bit {accumulator}: {error}")
    found += [baseline_row(baseline, rows=rows, cols=cols, max_k=max_k) for baseline in BASELINES.values()]
    return found, refused
