"""`shiftforge estimate`: cycles, exactly, and area, calibrated, before anything is built."""

import argparse
from typing import TYPE_CHECKING

from shiftforge.commands.frame import Subparsers, add_command, add_json, print_json, print_table

if TYPE_CHECKING:
    from shiftforge.area import Area
    from shiftforge.config import Config
    from shiftforge.program import Program
    from sim.profile import Profile

_TEXT = """\
Tells what an accelerator costs and, with a program, how long it takes. Cycles are exact: per layer, in products, stalls by
cause and the rest (pipelines that fill and empty), with utilization (useful products per cycle and element) and the bytes on
both streams. Area is a sum over units that was fitted to yosys for ECP5; its error on machines that the fit did not see is
printed with it."""
_EXAMPLE = """\
shiftforge estimate examples/demo.toml
shiftforge estimate examples/demo.toml digits.sfp --batch 360"""

LAYER_COLUMNS = ("layer", "cycles", "products", "drain", "load", "rest", "before", "utilization", "bytes in", "out")


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    summary = "cycles of a program (exact) and area (calibrated)"
    parser = add_command(subparsers, "estimate", summary, run, text=_TEXT, example=_EXAMPLE)
    parser.add_argument("config", metavar="CONFIG.toml", help="the accelerator")
    parser.add_argument("program", metavar="PROGRAM", nargs="?", help="what `compile` wrote for it")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="examples of one run (default: 1)")
    parser.add_argument("--stalls", type=int, metavar="SEED", help="random pauses on both streams")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print both; 0."""
    from shiftforge import area, manifest
    from shiftforge import program as programs
    from shiftforge.config import load
    from shiftforge.errors import NotBuiltError

    config = load(args.config)
    program = None if args.program is None else programs.load(args.program)
    profile = None
    if program is not None:
        from sim.profile import profile as profiled

        programs.require_config(program, config)
        profile = profiled(program, args.batch, stalls=args.stalls)
    found: Area | None = None
    unbuilt = ""
    try:
        found = area.estimate(config)
    except NotBuiltError as error:
        unbuilt = str(error)
    overlap = manifest.min_overlap_k(config)
    if args.json:
        from sim.profile import describe

        described: dict[str, object] = {
            "hash": f"{config.hash:#010x}",
            "rows": config.rows,
            "cols": config.cols,
            "min_overlap_k": overlap,
            "area": None if found is None else area.describe(found),
        }
        if program is not None and profile is not None:
            described["program"] = describe(program, profile)
        print_json(described)
        return 0
    if program is not None and profile is not None:
        print_table(
            f"{program.name}: {profile.batch} examples, exact", list(LAYER_COLUMNS), _layer_rows(config, profile)
        )
        print(f"{profile.cycles:,} cycles in all; {_marks(program)}")
    print(f"a tile's drain hides behind the next tile from K = {overlap} on")
    if found is None:
        print(f"no area: {unbuilt}")
    else:
        _print_area(found)
    return 0


def _layer_rows(config: "Config", profile: "Profile") -> list[list[str]]:
    rows = [
        [
            layer.layer,
            *(
                f"{value:,}"
                for value in (layer.cycles, layer.slots, layer.stall_drain, layer.stall_load, layer.rest, layer.lead)
            ),
            f"{100 * layer.utilization(config):.1f} %",
            f"{layer.bytes_in:,}",
            f"{layer.bytes_out:,}",
        ]
        for layer in profile.layers
    ]
    sums = [
        sum(getattr(layer, name) for layer in profile.layers)
        for name in ("cycles", "slots", "stall_drain", "stall_load", "rest", "lead")
    ]
    total_in = profile.setup_bytes + sum(layer.bytes_in for layer in profile.layers)
    total_out = profile.status_bytes + sum(layer.bytes_out for layer in profile.layers)
    numbers = [f"{value:,}" for value in sums]
    share = f"{100 * profile.utilization(config):.1f} %"
    return [*rows, ["in all", *numbers, share, f"{total_in:,}", f"{total_out:,}"]]


def _marks(program: "Program") -> str:
    config, marks = program.config, program.marks
    parts = [
        f"{name} {used:,} of {words:,}"
        for name, used, words in (
            ("activations", marks.activation_words, config.activation_words),
            ("weights", marks.weight_words, config.weight_words),
            ("parameters", marks.parameter_words, config.parameter_words),
        )
    ]
    return f"memory words used: {', '.join(parts)}"


def _print_area(area: "Area") -> None:
    rows = [
        [
            part.name,
            f"{part.count:,}",
            *(f"{round(part.count * value):,}" for value in (part.lut, part.ff)),
            f"{part.count * part.ram:,}",
            f"{part.count * part.dsp:,}",
        ]
        for part in area.parts
    ]
    rows.append(["in all", "", f"{area.lut:,}", f"{area.ff:,}", f"{area.ram:,}", f"{area.dsp:,}"])
    print_table("ECP5 area, estimated", ["what", "number", "LUT4", "FF", "18 Kbit RAM", "18x18"], rows)
    print(f"calibrated with {area.tool}; at most {area.error_percent:.1f} % off on machines that it had not seen")
    if area.beyond:
        print(f"beyond the calibration, so that this error says nothing: {', '.join(area.beyond)}")
