"""The largest array that an ECP5 holds, placed and routed, and what it multiplies and accumulates per second.

    python -m bench.largest [--only REGEX] [--size 20x21] [--limit 85] [--seed 1] [--placer elements] [--router router2]
                            [--device 85k] [--resets 0] [--max-k 1024] [--timeout MINUTES]
                            [--cache DIR] [--out RESULT.json] [--json]

The arrays are those of `bench.area` in the same shell, without DSP; all by one flow, that of `bench.area` but for `--router` and
`--resets`.
Four small ones tell what an element, a row and a column take; the largest size that is predicted to fit is synthesized, counted as
nextpnr packs it, placed and routed. A size that nextpnr cannot place and route gives way to one of about 2 % fewer elements.
docs/benchmarks.md tells what is counted.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, astuple, dataclass
from functools import cache, partial
from itertools import count
from pathlib import Path
from types import MappingProxyType

import numpy as np
from amaranth.hdl import Fragment, Shape

from bench.area import DEFAULT_CACHE, Result, size_of
from bench.baselines.catalogue import BASELINES
from bench.measure import AIM_MHZ, Cost, Measure, require_whole
from bench.rows import Part, Row, baseline_row, configuration, own_row
from shiftforge import timing
from shiftforge.area import merge_inputs
from shiftforge.errors import InputError, ShiftForgeError, ToolError
from shiftforge.files import write_atomically
from shiftforge.progress import Progress
from sim.route import DEFAULT_DEVICE, DEVICES, PLACERS, ROUTERS, Flow

TREE = "int8 x int8 tree"
"""What the others are compared with."""
SAMPLES = ((4, 4), (4, 8), (8, 4), (8, 8))
"""Arrays that the prediction is made from: every sum of what grows with rows x cols, rows, cols and neither."""
LIMIT = 85
"""Percent of the device that is aimed at by itself: nextpnr's placer gives up well below a full device."""
PLACER = "elements"
"""The one that places an element once: the others' legalisation does not come to an end on a full device."""
ROUTER = "router2"
"""The one that comes to an end: arrays that fill half the device are more than router1 gets through in hours."""
STEP = 0.02
"""Share of its elements that an array loses when nextpnr could not place and route it."""
SUMS = 2
"""Registers of an element's sum: where it is added up, and where it is captured."""
_FIT, _SYNTHESIS, _ROUTE = 1, 9, 90
"""Effort of a row's steps, in percent of the row, to say how much of the work is done."""

Size = tuple[int, int]

MAKE: Mapping[str, Callable[[int, int, int], Row]] = MappingProxyType(
    {
        "fp16 x 3-bit banked": lambda r, c, k: own_row(configuration("fp16", 3, "banked", rows=r, cols=c, max_k=k)),
        "int8 x 3-bit aligned": lambda r, c, k: own_row(configuration("int8", 3, "aligned", rows=r, cols=c, max_k=k)),
        TREE: lambda r, c, k: baseline_row(BASELINES[TREE], rows=r, cols=c, max_k=k),
    }
)
"""The rows: from rows, columns and the longest dot product."""


@dataclass(frozen=True)
class Use:
    """What an array takes of a device, as nextpnr counts it.

    Parameters
    ----------
    luts : float
        TRELLIS_COMB (LUT4, two per carry cell and those that feed a chain, four per LUT RAM) and two per TRELLIS_RAMW, which
        stands in the place of two.
    ffs : float
        TRELLIS_FF.
    places : float
        What these take of their sites, with those that another's reset or clock enable bars (`sim.route.flip_flop_places`).
    """

    luts: float
    ffs: float
    places: float

    @staticmethod
    def of(packed: Mapping[str, tuple[int, int]], places: int) -> "Use":
        """From `Measure.packed` and `Measure.flip_flop_places`."""
        return Use(packed["TRELLIS_COMB"][0] + 2 * packed["TRELLIS_RAMW"][0], packed["TRELLIS_FF"][0], places)

    def percent(self, sites: int) -> float:
        """The scarcer of LUT4 and places, of a device with so many of each."""
        return 100 * max(self.luts, self.places) / sites


@dataclass(frozen=True)
class Prediction:
    """What an array of any size takes: `linear` holds, for each field of `Use`, the cells per element, row, column and array.

    What grows otherwise is counted: the registers of the weight skew (`code_bits` wide), the OR trees of the columns (in `ends`
    parts) and the registers of an element's sum (`capture_bits` wide, of so many rows).
    """

    linear: tuple[tuple[float, ...], ...]
    code_bits: int
    capture_bits: Callable[[int], int]
    ends: int = 1

    @staticmethod
    def fit(
        samples: Mapping[Size, Use], code_bits: int, capture_bits: Callable[[int], int], ends: int = 1
    ) -> "Prediction":
        """From arrays of two or more numbers of rows and of columns, in all combinations."""
        matrix = np.array([_linear(size) for size in samples], float)
        counted = [astuple(_counted(size, code_bits, capture_bits, ends)) for size in samples]
        rest = np.array([astuple(use) for use in samples.values()], float) - np.array(counted, float)
        solved = np.linalg.lstsq(matrix, rest, rcond=None)[0]
        return Prediction(tuple(tuple(column) for column in solved.T.tolist()), code_bits, capture_bits, ends)

    def use(self, size: Size) -> Use:
        known = astuple(_counted(size, self.code_bits, self.capture_bits, self.ends))
        linear = [sum(a * b for a, b in zip(line, _linear(size), strict=True)) for line in self.linear]
        return Use(*(a + b for a, b in zip(known, linear, strict=True)))


def _linear(size: Size) -> tuple[int, int, int, int]:
    rows, cols = size
    return rows * cols, rows, cols, 1


def _counted(size: Size, code_bits: int, capture_bits: Callable[[int], int], ends: int) -> Use:
    rows, cols = size
    inputs, bits = merge_inputs(rows, ends), capture_bits(rows)
    luts = cols * sum(n > 1 for n in inputs) * bits
    registers = cols * (SUMS * rows + len(inputs)) * bits + code_bits * cols * (cols - 1) // 2
    return Use(luts, registers, registers)


@dataclass(frozen=True)
class Attempt:
    """A size that did not do, and why."""

    rows: int
    cols: int
    reason: str


@dataclass(frozen=True)
class Found:
    """The largest size that was placed and routed, its use and clock, and what was tried before."""

    size: Size
    use: Use
    fmax_mhz: float
    attempts: tuple[Attempt, ...]


def candidates(prediction: Prediction, sites: int, limit: float) -> list[Size]:
    """Sizes that are predicted to take `limit` percent at most, most elements first, of as many the nearest to a square.

    Neither side is more than twice the other.
    """

    def fitting() -> Iterator[Size]:
        for rows in count(1):
            least = (rows + 1) // 2
            for cols in range(least, 2 * rows + 1):
                if prediction.use((rows, cols)).percent(sites) > limit:
                    if cols == least:
                        return
                    break
                yield rows, cols

    def order(size: Size) -> tuple[float, ...]:
        return -size[0] * size[1], abs(size[0] - size[1]), prediction.use(size).percent(sites)

    return sorted(fitting(), key=order)


def search(
    sizes: list[Size],
    *,
    counted: Callable[[Size], float],
    placed: Callable[[Size], tuple[float | None, str]],
    limit: float,
) -> tuple[Size, float, list[Attempt]]:
    """The first of `sizes` that fits and is placed and routed, its clock, and the attempts before it.

    Parameters
    ----------
    sizes : list of (rows, cols)
        As of `candidates`.
    counted : callable
        The use of a size in percent, measured. Over `limit`, the next size has as many fewer elements as that takes.
    placed : callable
        The clock in MHz, or None and why there is none. Then the next size has `STEP` fewer elements.

    Raises
    ------
    ToolError
        When none is left.
    """
    attempts: list[Attempt] = []
    most = float("inf")
    for size in sizes:
        elements = size[0] * size[1]
        if elements > most:
            continue
        percent = counted(size)
        if percent > limit:
            attempts.append(Attempt(*size, f"takes {percent:.2f} % of the device, and {limit:g} % is the limit"))
            most = min(elements * limit / percent, elements - 1)
            continue
        mhz, reason = placed(size)
        if mhz is not None:
            return size, mhz, attempts
        attempts.append(Attempt(*size, reason))
        most = min(elements * (1 - STEP), elements - 1)
    last = f"; the last said: {attempts[-1].reason}" if attempts else ""
    raise ToolError(f"an array of some size must fit the device, and of {len(attempts)} sizes none did{last}")


@dataclass(frozen=True)
class Bench:
    """One row at any size: synthesis, packing, placement.

    Parameters
    ----------
    measure : Measure
    name : str
        A key of `MAKE`.
    max_k, seed : int
    flow : Flow
    shared_resets : int
        As of `sim.synth.synthesize`.
    """

    measure: Measure
    name: str
    max_k: int
    seed: int
    flow: Flow
    shared_resets: int

    def row(self, size: Size) -> Row:
        return MAKE[self.name](*size, self.max_k)

    def label(self, size: Size) -> str:
        return f"{self.name}, {size[0]}x{size[1]}"

    def synthesized(self, size: Size) -> tuple[Cost, Path]:
        return self._ecp5(self.row(size).array, self.label(size))

    def _ecp5(self, part: Part, label: str) -> tuple[Cost, Path]:
        return self.measure.ecp5(part, dsp=False, label=label, shared_resets=self.shared_resets)

    def packed(self, size: Size) -> tuple[Use, int]:
        """Use, and the LUT4 that the device has; it has as many flip-flops."""
        folder = self.synthesized(size)[1]
        found = self.measure.packed(folder, device=self.flow.device)
        return Use.of(found, self.measure.flip_flop_places(folder)), found["TRELLIS_COMB"][1]

    def placed(self, size: Size) -> tuple[float | None, str]:
        """The clock in MHz; or None, and why."""
        folder, label = self.synthesized(size)[1], f"{self.label(size)} on ECP5-{self.flow.device}"
        reason = self.measure.refusal(folder, self.seed, label=label, flow=self.flow)
        if reason:
            self.measure.progress.say(f"{label}: {reason}")
            return None, reason
        mhz = self.measure.fmax(folder, self.seed, label=label, flow=self.flow)
        return mhz, "has no clocked path"

    def prediction(self, samples: tuple[Size, ...] = SAMPLES) -> tuple[Prediction, int]:
        """From the small arrays; and the LUT4 of the device."""
        ends = timing.read_out_ends(self.row(samples[0]).config)
        uses = {size: self.packed(size) for size in samples}
        sampled = {size: use for size, (use, _) in uses.items()}
        code_bits, capture_bits = self.port_bits("w", samples[0][0]), cache(partial(self.port_bits, "capture"))
        return Prediction.fit(sampled, code_bits, capture_bits, ends), uses[samples[0]][1]

    def port_bits(self, port: str, rows: int) -> int:
        """Width of a port of the element in an array of so many rows."""
        units = self.row((rows, 1)).pe.units(False)
        for unit in units:
            Fragment.get(unit, None)  # Amaranth warns of components that are made and never elaborated
        return Shape.cast(units[-1].signature.members[port].shape).width

    def result(self, size: Size, mhz: float) -> Result:
        """All figures of a size with its clock, as JSON's types."""
        row = self.row(size)
        cost, (use, sites) = self.synthesized(size)[0], self.packed(size)
        pe, _ = self._ecp5(row.pe, f"{self.name}, pe")
        require_whole(cost, pe, *size, self.name)
        return {
            "name": self.name,
            "kind": row.kind,
            "rows": size[0],
            "cols": size[1],
            "elements": size[0] * size[1],
            **asdict(cost),
            "use": asdict(use),
            "sites": sites,
            "lut_percent": 100 * use.luts / sites,
            "ff_percent": 100 * use.ffs / sites,
            "place_percent": 100 * use.places / sites,
            "fmax_mhz": mhz,
            "gmac_per_s": size[0] * size[1] * mhz / 1000,
        }


def measure_row(bench: Bench, *, size: Size | None, limit: float, advance: Callable[[int], None]) -> Result:
    """The result of one row: of `size`, or of the largest size that takes `limit` percent at most."""
    prediction, sites = bench.prediction()
    advance(_FIT)
    told: Result = {}
    if size is not None:
        sizes, limit = [size], float("inf")
    else:
        sizes = candidates(prediction, sites, limit)
        if not sizes:
            raise InputError(f"--limit must leave room for an element of {bench.name}, not {limit:g}")
        use = prediction.use(sizes[0])
        told = {"predicted": {"rows": sizes[0][0], "cols": sizes[0][1], **asdict(use)}}
        bench.measure.progress.say(
            f"{bench.label(sizes[0])} should take {use.percent(sites):.1f} % of {sites:,} LUT4 or flip-flop places"
        )
    synthesized = False

    def counted(size: Size) -> float:
        nonlocal synthesized
        percent = bench.packed(size)[0].percent(sites)
        advance(0 if synthesized else _SYNTHESIS)
        synthesized = True
        return percent

    size, mhz, attempts = search(sizes, counted=counted, placed=bench.placed, limit=limit)
    advance(_ROUTE)
    return {**bench.result(size, mhz), **told, "attempts": [asdict(attempt) for attempt in attempts]}


def compare(results: list[Result]) -> None:
    """Adds to each how many times the tree's products it does; None where the tree was not measured."""
    tree = next((result for result in results if result["name"] == TREE), None)
    for result in results:
        result["of_tree"] = None if tree is None else _value(result, "gmac_per_s") / _value(tree, "gmac_per_s")


def table(results: list[Result]) -> str:
    """One line per array."""
    head = (
        f"{'largest array':<24}{'size':>8}{'MACs':>7}{'LUT4':>8}{'FF':>8}{'LUT %':>7}{'FF %':>7}{'place %':>9}{'MHz':>8}"
        f"{'GMAC/s':>9}{'x tree':>8}"
    )
    return "\n".join([head, *(_line(result) for result in results)])


def _line(result: Result) -> str:
    size = f"{result['rows']}x{result['cols']}"
    of_tree = "-" if result["of_tree"] is None else f"{_value(result, 'of_tree'):.2f}"
    return (
        f"{result['name']:<24}{size:>8}{result['elements']:>7}{result['lut4']:>8}{result['ff']:>8}"
        f"{_value(result, 'lut_percent'):>7.1f}{_value(result, 'ff_percent'):>7.1f}{_value(result, 'place_percent'):>9.1f}"
        f"{_value(result, 'fmax_mhz'):>8.1f}{_value(result, 'gmac_per_s'):>9.1f}{of_tree:>8}"
    )


def _value(result: Result, key: str) -> float:
    return float(result[key])  # pyright: ignore[reportArgumentType]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.largest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="REGEX", help="arrays whose name matches")
    parser.add_argument("--size", metavar="ROWSxCOLS", help="measure this size instead of the largest")
    parser.add_argument(
        "--limit",
        type=float,
        default=LIMIT,
        metavar="PERCENT",
        help="use of the device aimed at (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the placement (default: %(default)s)")
    parser.add_argument("--placer", default=PLACER, help=f"one of {', '.join(PLACERS)} (default: %(default)s)")
    parser.add_argument("--router", default=ROUTER, help=f"one of {', '.join(ROUTERS)} (default: %(default)s)")
    parser.add_argument("--device", default=DEFAULT_DEVICE, help=f"one of {', '.join(DEVICES)} (default: %(default)s)")
    parser.add_argument(
        "--resets",
        type=int,
        default=0,
        metavar="N",
        help="a synchronous reset of fewer flip-flops becomes logic (default: %(default)s, as in bench.area)",
    )
    parser.add_argument("--max-k", type=int, default=1024, help="longest dot product (default: %(default)s)")
    parser.add_argument(
        "--timeout",
        type=float,
        default=360,
        metavar="MINUTES",
        help="limit of one run of a tool (default: %(default)s)",
    )
    parser.add_argument("--cache", type=Path, default=Path(DEFAULT_CACHE), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the JSON here")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    try:
        return _run(_parser().parse_args(argv))
    except ShiftForgeError as error:
        print(f"bench.largest: error: {error}", file=sys.stderr)
        return error.exit_code


def _chosen(pattern: str) -> list[str]:
    try:
        names = [name for name in MAKE if re.search(pattern, name)]
    except re.error as error:
        raise InputError(f"--only must be a regular expression, not {pattern!r} ({error})") from None
    if not names:
        raise InputError(f"--only must match one of {', '.join(MAKE)}, not {pattern!r}")
    return names


def _run(options: argparse.Namespace) -> int:
    if not 0 < options.limit <= 100:
        raise InputError(f"--limit must be over 0 and at most 100, not {options.limit:g}")
    if options.seed < 0:
        raise InputError(f"--seed must be 0 or more, not {options.seed}")
    if options.resets < 0:
        raise InputError(f"--resets must be 0 or more, not {options.resets}")
    try:
        flow = Flow(options.device, options.placer, options.router)
    except InputError as error:  # names the field, which the option is called after
        raise InputError(f"--{error}") from None
    if not options.timeout > 0:
        raise InputError(f"--timeout must be positive, not {options.timeout:g}")
    size = None if options.size is None else size_of(options.size)
    names = _chosen(options.only)
    for name in names:
        MAKE[name](*(size or SAMPLES[0]), options.max_k)  # refuses what there is no array for, before hours of work
    progress = Progress()
    measure = Measure(options.cache, progress, timeout_s=60 * options.timeout)
    results: list[Result] = []
    with progress.bar("largest", (_FIT + _SYNTHESIS + _ROUTE) * len(names)) as advance:
        for name in names:
            bench = Bench(measure, name, options.max_k, options.seed, flow, options.resets)
            results.append(measure_row(bench, size=size, limit=options.limit, advance=advance))
    compare(results)
    report = {"device": f"LFE5U-{options.device}, speed 6", "aim_mhz": AIM_MHZ, "seed": options.seed}
    report |= {"placer": options.placer, "router": options.router}
    report |= {"limit_percent": None if size else options.limit, "max_k": options.max_k}
    report |= {"shared_resets": options.resets, "rows": results}
    if options.out is not None:
        write_atomically(options.out, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(report, indent=1, ensure_ascii=False) if options.json else table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
