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
    from sim.synth import SynthResult

TOP = "shiftforge_top"
_BUILT = ("ecp5",)
_PLANNED = ("ice40", "gowin", "nexus", "xilinx7", "asic")
_MANIFEST = "synth.json"

_TEXT = """\
Writes the Verilog of a configuration, maps it to ECP5 cells with yosys, checks the netlist, and places and routes it with
nextpnr for the slowest speed grade. Prints 4-input LUTs, flip-flops, block memories, multipliers and the clock's highest
frequency after routing. With --out the sources, the netlist, the logs and the result (synth.json) are kept."""
_EXAMPLE = """\
shiftforge synth examples/demo.toml --target ecp5
shiftforge synth examples/demo.toml --target ecp5 --seeds 5 --json"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    summary = "synthesize, place and route; LUT, FF, RAM, DSP, fmax"
    parser = add_command(subparsers, "synth", summary, run, text=_TEXT, example=_EXAMPLE)
    parser.add_argument("config", metavar="CONFIG.toml", help="the accelerator")
    parser.add_argument("--target", required=True, help="FPGA family: ecp5")
    parser.add_argument("--device", default="85k", help="25k, 45k or 85k (default: %(default)s)")
    parser.add_argument("--no-dsp", action="store_true", help="build multipliers from LUTs")
    parser.add_argument("--no-place", action="store_true", help="stop after synthesis: counts, but no frequency")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="place N times, report the median frequency")
    parser.add_argument("--freq", type=float, default=100.0, metavar="MHZ", help="aim of the placer (default: 100)")
    parser.add_argument("--out", metavar="DIR", help="keep everything in this folder")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Synthesize and print the result; 0."""
    if args.target in _PLANNED:
        raise NotBuiltError(f"target must be one of {', '.join(_BUILT)} in this version, not {args.target!r}")
    if args.target not in _BUILT:
        raise InputError(f"target must be one of {', '.join(_BUILT)}, not {args.target!r}")
    if args.seeds < 1:
        raise InputError(f"--seeds must be at least 1, not {args.seeds!r}")

    import json

    from hw.verilog import emit
    from shiftforge.config import load
    from shiftforge.files import replace_directory
    from shiftforge.progress import Progress
    from sim.synth import synthesize

    config = load(args.config)
    progress = Progress()
    with ExitStack() as stack:
        # Entered first: a folder that cannot be written is refused before minutes of work, not after.
        out = stack.enter_context(replace_directory(args.out, _MANIFEST)) if args.out else None
        verilog = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shiftforge-verilog-")))
        with progress.step("Verilog"):
            sources = emit(config, verilog)
        work = Path(tempfile.mkdtemp(prefix="shiftforge-synth-"))  # stays when a tool fails: its log lies there
        result = synthesize(
            sources,
            TOP,
            device=args.device,
            dsp=not args.no_dsp,
            seeds=range(1, args.seeds + 1),
            place=not args.no_place,
            frequency_mhz=args.freq,
            work_dir=work,
            progress=progress,
        )
        if out is not None:
            shutil.copytree(work, out, dirs_exist_ok=True)
            (out / _MANIFEST).write_text(json.dumps(result.to_json(), indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(work, ignore_errors=True)
    if args.json:
        print_json(result.to_json())
    else:
        _print(result)
    return 0


def _print(result: "SynthResult") -> None:
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
    print_table(f"ECP5-{result.device}, speed grade 6", ["resource", "used"], rows)
