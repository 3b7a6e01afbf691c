"""`shiftforge sim`: the cocotb benches, unit by unit against the golden model."""

import argparse
import shutil
import tempfile
from pathlib import Path
from time import perf_counter

from shiftforge.commands.frame import Subparsers, add_command, add_json, print_json, print_table

_TEXT = """\
Simulates the units of the gateware against the golden model, from row_edge to top, or those that are named. The array is
compared on every cycle and every PE, the top byte for byte under random pauses of both streams.
With --waves a dump and the log of each unit are kept in a folder. Exit code 1 when a bench finds a difference."""
_EXAMPLE = """\
shiftforge sim row_edge pe
shiftforge sim top --waves out/waves"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, "sim", "unit benches against the golden model", run, text=_TEXT, example=_EXAMPLE)
    parser.add_argument(
        "units",
        nargs="*",
        metavar="UNIT",
        help="row_edge, pe, array, lane, top, ... (a wrong name lists all; default: all)",
    )
    parser.add_argument("--simulator", choices=("verilator", "icarus"), default="verilator", help="default: verilator")
    parser.add_argument("--waves", metavar="DIR", help="keep waves and logs in this folder")
    parser.add_argument("--seed", type=int, default=1, help="of the stimulus (default: 1)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run the benches and print a line for each; 0 when all hold, else 1."""
    from contextlib import ExitStack

    from shiftforge.errors import CheckFailed, InputError
    from shiftforge.files import replace_directory
    from shiftforge.progress import Progress
    from sim.units import UNITS, run_unit, unit_named

    chosen = [unit_named(name) for name in dict.fromkeys(args.units or UNITS)]
    if args.seed < 0:
        raise InputError(f"--seed must be 0 or more, not {args.seed}")
    progress = Progress()
    results: list[dict[str, object]] = []
    with ExitStack() as stack:
        kept = stack.enter_context(replace_directory(args.waves, "units.txt")) if args.waves else None
        for unit in chosen:
            work = Path(tempfile.mkdtemp(prefix=f"shiftforge-{unit.name}-"))
            start = perf_counter()
            problem = ""
            with progress.step(f"{unit.name}: {unit.text}"):
                try:
                    run_unit(unit, work, simulator=args.simulator, waves=kept is not None, seed=args.seed)
                except CheckFailed as error:
                    problem = str(error)
            seconds = perf_counter() - start
            results.append({"unit": unit.name, "ok": not problem, "found": problem, "seconds": round(seconds, 1)})
            if kept is not None:
                shutil.copytree(work / "build" / "bench", kept / unit.name)
            if not problem:  # the message of a failed bench names its log, which then stays
                shutil.rmtree(work, ignore_errors=True)
        if kept is not None:
            (kept / "units.txt").write_text("".join(f"{r['unit']}: {r['found'] or 'ok'}\n" for r in results))
    good = all(result["ok"] for result in results)
    if args.json:
        print_json({"ok": good, "simulator": args.simulator, "units": results})
    else:
        rows = [[str(r["unit"]), str(r["found"] or "equal"), f"{r['seconds']} s"] for r in results]
        print_table(f"benches on {args.simulator}", ["unit", "found", "time"], rows)
    return 0 if good else CheckFailed.exit_code
