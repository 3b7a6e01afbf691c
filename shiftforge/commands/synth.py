"""`shiftforge synth`: what an accelerator costs on an FPGA, and how fast it runs there."""

import argparse
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from shiftforge.commands.frame import Subparsers, add_command, add_json, print_json, print_table
from shiftforge.errors import InputError, NotBuiltError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shiftforge.progress import Progress
    from sim.synth import SynthResult

TOP = "shiftforge_top"
_BUILT = ("ecp5", "xilinx7", "asic")
_PLANNED = ("ice40", "gowin", "nexus")
_OF_TARGET = {
    "ecp5": ("device", "no_dsp", "no_place", "seeds", "freq", "placer", "router", "resets"),
    "xilinx7": ("no_dsp",),
    "asic": ("liberty",),
}
"""The options that a target takes."""
_MANIFEST = "synth.json"

_TEXT = """\
Writes the Verilog of a configuration, maps it to ECP5 cells with yosys, checks the netlist, and places and routes it with
nextpnr for the slowest speed grade. Prints 4-input LUTs, flip-flops, block memories, multipliers and the clock's highest
frequency after routing. heap and static are nextpnr's placers; elements places one processing element and copies it, which is
faster and gives large arrays a higher clock. router2 comes to an end where router1 does not, at a lower clock. With --out the
sources, the netlist, the logs and the result (synth.json) are kept.
For xilinx7 and asic yosys counts alone, without placing: LUTs, carry cells and memories of the 7-series, or generic two-input
gates (with memories as flip-flops) and the longest path in gates. With --liberty asic maps to the cells of that library."""
_EXAMPLE = """\
shiftforge synth examples/demo.toml --target ecp5
shiftforge synth examples/demo.toml --target ecp5 --seeds 5 --json
shiftforge synth examples/demo.toml --target xilinx7"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    summary = "synthesize, place and route; LUT, FF, RAM, DSP, fmax"
    parser = add_command(subparsers, "synth", summary, run, text=_TEXT, example=_EXAMPLE)
    parser.add_argument("config", metavar="CONFIG.toml", help="the accelerator")
    parser.add_argument("--target", required=True, help="ecp5, xilinx7 or asic")
    parser.add_argument("--device", help="ecp5: 25k, 45k or 85k (default: 85k)")
    parser.add_argument("--no-dsp", action="store_true", help="ecp5, xilinx7: build multipliers from LUTs")
    parser.add_argument("--no-place", action="store_true", help="ecp5: stop after synthesis: counts, but no frequency")
    parser.add_argument("--seeds", type=int, metavar="N", help="ecp5: place N times, report the median frequency")
    parser.add_argument("--freq", type=float, metavar="MHZ", help="ecp5: aim of the placer (default: 100)")
    parser.add_argument("--placer", help="ecp5: heap, static or elements (default: heap)")
    parser.add_argument("--router", help="ecp5: router1 or router2 (default: router1)")
    help_resets = "ecp5: a synchronous reset of fewer than N flip-flops becomes logic (default: 0)"
    parser.add_argument("--resets", type=int, metavar="N", help=help_resets)
    parser.add_argument("--liberty", type=Path, metavar="CELLS.lib", help="asic: a library of standard cells")
    parser.add_argument("--out", metavar="DIR", help="keep everything in this folder")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Synthesize and print the result; 0."""
    if args.target in _PLANNED:
        raise NotBuiltError(f"target must be one of {', '.join(_BUILT)} in this version, not {args.target!r}")
    if args.target not in _BUILT:
        raise InputError(f"target must be one of {', '.join(_BUILT)}, not {args.target!r}")
    for name in sorted({option for options in _OF_TARGET.values() for option in options} - {*_OF_TARGET[args.target]}):
        if getattr(args, name):
            takes = " and ".join(target for target, options in _OF_TARGET.items() if name in options)
            raise InputError(
                f"--{name.replace('_', '-')} must be given with the target {takes}, not with {args.target!r}"
            )
    if args.seeds is not None and args.seeds < 1:
        raise InputError(f"--seeds must be at least 1, not {args.seeds!r}")
    if args.resets is not None and args.resets < 0:
        raise InputError(f"--resets must be 0 or more, not {args.resets!r}")

    import json

    from hw.verilog import emit
    from shiftforge.config import load
    from shiftforge.files import replace_directory
    from shiftforge.progress import Progress
    from sim.route import DEFAULT_DEVICE, DEFAULT_PLACER, DEFAULT_ROUTER, Flow
    from sim.synth import synthesize

    config = load(args.config)
    flow = Flow(args.device or DEFAULT_DEVICE, args.placer or DEFAULT_PLACER, args.router or DEFAULT_ROUTER)
    progress = Progress()
    with ExitStack() as stack:
        # Entered first: a folder that cannot be written is refused before minutes of work, not after.
        out = stack.enter_context(replace_directory(args.out, _MANIFEST)) if args.out else None
        verilog = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shiftforge-verilog-")))
        with progress.step("Verilog"):
            sources = emit(config, verilog)
        work = Path(tempfile.mkdtemp(prefix="shiftforge-synth-"))  # stays when a tool fails: its log lies there
        if args.target == "ecp5":
            result = synthesize(
                sources,
                TOP,
                dsp=not args.no_dsp,
                seeds=range(1, (args.seeds or 1) + 1),
                place=not args.no_place,
                frequency_mhz=100.0 if args.freq is None else args.freq,
                flow=flow,
                shared_resets=args.resets or 0,
                work_dir=work,
                progress=progress,
            )
            described, title, rows = result.to_json(), f"ECP5-{result.device}, speed grade 6", _rows(result)
        else:
            with progress.step(f"yosys: {TOP} for {args.target}"):
                described, title, rows = _counted(args, sources, work, progress)
        if out is not None:
            shutil.copytree(work, out, dirs_exist_ok=True)
            (out / _MANIFEST).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(work, ignore_errors=True)
    if args.json:
        print_json(described)
    else:
        print_table(title, ["resource", "used"], rows)
    return 0


def _counted(
    args: argparse.Namespace, sources: "Sequence[Path]", work: Path, progress: "Progress"
) -> tuple[dict[str, object], str, list[list[str]]]:
    """What yosys alone counts: JSON, and the title and rows of the table."""
    from sim.counts import count_gates, count_xilinx7

    if args.target == "xilinx7":
        found = count_xilinx7(sources, TOP, dsp=not args.no_dsp, work_dir=work, progress=progress)
        rows = [
            ["LUTs of logic", str(found.lut6)],
            ["LUTs as memory", str(found.lut_ram)],
            ["CARRY4", str(found.carry4)],
            ["flip-flops", str(found.ff)],
            ["RAMB18 and RAMB36", str(found.bram)],
            ["DSP48E1", str(found.dsp)],
        ]
        return {"target": "xilinx7", "top": TOP, **found.to_json()}, "Xilinx 7-series, not placed", rows
    gates = count_gates(sources, TOP, liberty=args.liberty, work_dir=work, progress=progress)
    rows = [
        ["gates" if args.liberty is None else "cells without flip-flops", str(gates.gates)],
        ["flip-flops", str(gates.ff)],
        ["longest path in gates", str(gates.depth)],
        *([] if gates.area is None else [["area in the library's unit", f"{gates.area:,.0f}"]]),
    ]
    title = "generic gates" if args.liberty is None else f"cells of {args.liberty.name}"
    return {"target": "asic", "top": TOP, **gates.to_json()}, title, rows


def _rows(result: "SynthResult") -> list[list[str]]:
    rows = [
        ["LUT4", str(result.lut)],
        ["flip-flops", str(result.ff)],
        ["block memories (18 Kbit)", str(result.ebr)],
        ["multipliers (18x18)", str(result.dsp)],
    ]
    if result.routed is None:
        rows.append(["fmax", "not placed"])
    else:
        mhz = result.routed.fmax_mhz
        rows.append(["fmax", "no clocked path" if mhz is None else f"{mhz:.1f} MHz"])
        if len(result.routed.fmax_by_seed) > 1:
            values = ", ".join("none" if mhz is None else f"{mhz:.1f}" for _, mhz in result.routed.fmax_by_seed)
            rows.append(["fmax of each seed", values])
        rows.append(["placed", "with a pin for every port" if result.routed.pins else "out of context, without pins"])
    return rows
