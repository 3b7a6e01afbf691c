"""What a multiply-accumulate costs here and in baselines in the same shell: LUT, FF, carry, RAM, DSP, clock, gates.

    python -m bench.area [--size 8x8] [--max-k 1024] [--seeds 5] [--placers heap,static,elements] [--only REGEX]
                         [--targets ecp5,xilinx7,gates]
                         [--liberty CELLS.lib] [--out RESULT.json] [--plot AREA.svg] [--json] [--list]

The array has its edges, skew and read-out within; what resolves, rounds and buffers (column, lane) stands apart.
Every tool run is kept under --cache and not repeated. docs/benchmarks.md tells what is counted.
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from bench.measure import AIM_MHZ, Cost, Measure, require_whole
from bench.plot import plot
from bench.rows import Part, Row, all_rows
from shiftforge.errors import InputError, ShiftForgeError
from shiftforge.files import write_atomically
from shiftforge.progress import Progress
from sim.route import DEFAULT_DEVICE, PLACERS, Flow

TARGETS = ("ecp5", "xilinx7", "gates")
DEFAULT_CACHE = "out/bench-cache"
_EXPECTED_LUT4 = {"fp32": 350, "bf16": 260, "fp16": 170, "fp8_e4m3": 90, "int8": 60, "fp16 x fp16": 700}
"""Per product, only to say how much of the work is done."""

Result = dict[str, object]


def _effort(row: Row, placements: int) -> int:
    names = sorted(_EXPECTED_LUT4, key=len, reverse=True)
    luts = next((_EXPECTED_LUT4[name] for name in names if row.name.startswith(name)), 100)
    return luts * (1 + 2 * placements)


def _median(clocks: Iterable[float | None]) -> float | None:
    known = [mhz for mhz in clocks if mhz is not None]
    return statistics.median(known) if known else None


def measure_row(
    measure: Measure,
    row: Row,
    *,
    seeds: int,
    targets: tuple[str, ...],
    liberty: Path | None,
    placers: tuple[str, ...] = PLACERS,
) -> Result:
    """All figures of one row, as JSON's types; its clock is that of the placer whose median is higher."""
    config, macs = row.config, row.config.rows * row.config.cols
    result: Result = {
        "name": row.name,
        "text": row.text,
        "kind": row.kind,
        "rows": config.rows,
        "cols": config.cols,
        "max_k": config.max_k,
        "min_overlap_k": row.min_overlap_k,
        "dsp_allowed": row.dsp,
    }
    parts: dict[str, Part] = {"array": row.array, "pe": row.pe}
    parts |= {name: part for name, part in (("column", row.column), ("lane", row.lane)) if part is not None}
    if "ecp5" in targets:
        costs: dict[str, Cost] = {}
        folder = measure.cache
        for name, part in parts.items():
            costs[name], where = measure.ecp5(
                part, dsp=row.dsp and name in ("array", "pe"), label=f"{row.name}, {name}"
            )
            if name == "array":
                folder = where
        require_whole(costs["array"], costs["pe"], config.rows, config.cols, row.name)
        by_placer = {
            placer: {
                seed: measure.fmax(folder, seed, label=row.name, flow=Flow(placer=placer))
                for seed in range(1, seeds + 1)
            }
            for placer in placers
        }
        medians = {placer: _median(by_seed.values()) for placer, by_seed in by_placer.items()}
        placer = max(placers, key=lambda name: medians[name] or 0.0)
        fmax, by_seed = medians[placer], by_placer[placer]
        lut = costs["array"].lut4 / macs
        shared = sum(costs[n].lut4 * parts[n].count for n in ("column", "lane") if n in costs)
        result["ecp5"] = {
            "device": DEFAULT_DEVICE,
            "parts": {name: {**asdict(cost), "count": parts[name].count} for name, cost in costs.items()},
            "lut4_per_mac": lut,
            "resolve_lut4_per_mac": shared / macs,
            "ff_per_mac": costs["array"].ff / macs,
            "fmax_mhz": fmax,
            "placer": placer,
            "fmax_by_seed": {str(seed): mhz for seed, mhz in by_seed.items()},
            "fmax_by_placer": medians,
            "area_delay": None if fmax is None else lut * 1000 / fmax,
        }
    if "xilinx7" in targets:
        result["xilinx7"] = {
            name: {**measure.xilinx7(part, dsp=row.dsp, label=f"{row.name}, {name}"), "count": part.count}
            for name, part in parts.items()
            if name in ("array", "pe")
        }
    if "gates" in targets:
        result["gates"] = {
            name: {**measure.gates(part, liberty=liberty, label=f"{row.name}, {name}"), "count": part.count}
            for name, part in parts.items()
            if name == "pe"
        }
    return result


def table(results: list[Result]) -> str:
    """One line per row; all figures are of one multiply-accumulate unit but for K and MHz."""
    head = (
        f"{'per MAC':<26}{'LUT4':>7}{'FF':>7}{'carry':>7}{'RAM':>6}{'DSP':>5}{'MHz':>7}{'LUT4*ns':>9}"
        f"{'column':>8}{'lane':>7}{'PE':>6}{'LUT6':>7}{'gates':>7}{'depth':>6}{'K >=':>6}"
    )
    return "\n".join([head, *(_line(result) for result in results)])


def _line(result: Result) -> str:
    macs = _number(result, "rows") * _number(result, "cols")

    def cell(value: float | None, width: int, digits: int = 0) -> str:
        return f"{'-':>{width}}" if value is None else f"{value:>{width}.{digits}f}"

    def share(part: str, key: str) -> float | None:
        count, value = _number(result, "ecp5", "parts", part, "count"), _number(result, "ecp5", "parts", part, key)
        return None if value is None else value * count / macs

    lut6 = _number(result, "xilinx7", "array", "lut6")
    ram = _number(result, "xilinx7", "array", "lut_ram") or 0
    return (
        f"{result['name']:<26}"
        f"{cell(share('array', 'lut4'), 7, 1)}{cell(share('array', 'ff'), 7, 1)}{cell(share('array', 'carry'), 7, 1)}"
        f"{cell(share('array', 'ram'), 6, 1)}{cell(share('array', 'dsp'), 5)}{cell(_number(result, 'ecp5', 'fmax_mhz'), 7, 1)}"
        f"{cell(_number(result, 'ecp5', 'area_delay'), 9)}{cell(share('column', 'lut4'), 8, 1)}{cell(share('lane', 'lut4'), 7, 1)}"
        f"{cell(_number(result, 'ecp5', 'parts', 'pe', 'lut4'), 6)}{cell(None if lut6 is None else (lut6 + ram) / macs, 7, 1)}"
        f"{cell(_number(result, 'gates', 'pe', 'gates'), 7)}{cell(_number(result, 'gates', 'pe', 'depth'), 6)}"
        f"{cell(_number(result, 'min_overlap_k'), 6)}"
    )


def _number(result: Result, *path: str) -> float:
    value: object = result
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value  # pyright: ignore[reportReturnType]


def size_of(text: str) -> tuple[int, int]:
    """Rows and columns of ``--size``."""
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if found is None:
        raise InputError(f"--size must be ROWSxCOLS, not {text!r}")
    return int(found[1]), int(found[2])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.area", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="8x8", metavar="ROWSxCOLS", help="the array (default: %(default)s)")
    parser.add_argument("--max-k", type=int, default=1024, help="longest dot product (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="placements; the median is told (0: none)")
    parser.add_argument("--placers", default=",".join(PLACERS), help="of %(default)s (default: all, the best counts)")
    parser.add_argument("--only", default="", metavar="REGEX", help="rows whose name matches")
    parser.add_argument("--targets", default=",".join(TARGETS), help="of %(default)s (default: all)")
    parser.add_argument("--liberty", type=Path, metavar="FILE", help="count the gates in this library's cells")
    parser.add_argument("--cache", type=Path, default=Path(DEFAULT_CACHE), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the JSON here")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw area against clock")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--list", action="store_true", help="print the names of the rows and stop")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    try:
        return _run(_parser().parse_args(argv))
    except ShiftForgeError as error:
        print(f"bench.area: error: {error}", file=sys.stderr)
        return error.exit_code


def _run(options: argparse.Namespace) -> int:
    targets = tuple(options.targets.split(","))
    if not set(targets) <= set(TARGETS):
        raise InputError(f"--targets must be some of {', '.join(TARGETS)}, not {options.targets!r}")
    placers = tuple(options.placers.split(","))
    if not set(placers) <= set(PLACERS):
        raise InputError(f"--placers must be some of {', '.join(PLACERS)}, not {options.placers!r}")
    if options.seeds < 0:
        raise InputError(f"--seeds must be 0 or more, not {options.seeds}")
    rows, cols = size_of(options.size)
    chosen, refused = all_rows(rows=rows, cols=cols, max_k=options.max_k)
    chosen = [row for row in chosen if re.search(options.only, row.name)]
    progress = Progress()
    for reason in refused:
        progress.say(f"left out: {reason}")
    if options.list:
        print("\n".join(row.name for row in chosen))
        return 0
    if not chosen:
        raise InputError(f"--only must match a row's name (--list prints them), not {options.only!r}")
    measure = Measure(options.cache, progress)
    results: list[Result] = []
    placements = options.seeds * len(placers)
    with progress.bar("area", sum(_effort(row, placements) for row in chosen)) as advance:
        for row in chosen:
            results.append(
                measure_row(
                    measure, row, seeds=options.seeds, targets=targets, liberty=options.liberty, placers=placers
                ),
            )
            advance(_effort(row, placements))
    report = {"device": f"LFE5U-{DEFAULT_DEVICE}, speed 6", "aim_mhz": AIM_MHZ, "seeds": options.seeds, "rows": results}
    if options.out is not None:
        write_atomically(options.out, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    if options.plot is not None:
        write_atomically(options.plot, plot(results))
    print(json.dumps(report, indent=1, ensure_ascii=False) if options.json else table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
