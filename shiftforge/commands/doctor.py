"""`shiftforge doctor`: what this machine lacks, and how to get it."""

import argparse
from textwrap import shorten

from shiftforge.commands.frame import Subparsers, add_command, add_json, print_json, print_table

_TEXT = """\
Checks Python, its packages, the C++ compiler, make, the simulator, synthesis, and place and route by starting each one.
The first start of the WebAssembly tools (yosys, nextpnr) compiles them for about 35 s; later starts take a second.
Exit code 3 when something needed is missing."""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(
        subparsers, "doctor", "check that the tools are there", run, text=_TEXT, example="shiftforge doctor"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the checks; 0 when nothing needed is missing, else 3."""
    from shiftforge.doctor import examine
    from shiftforge.errors import ToolError
    from shiftforge.progress import Progress

    checks = examine(Progress())
    missing = [check for check in checks if check.needed and not check.ok]
    if args.json:
        print_json({"ok": not missing, "checks": [check.to_json() for check in checks]})
    else:
        rows = []
        for check in checks:
            state = "ok" if check.ok else ("MISSING" if check.needed else "absent, optional")
            found = shorten(check.found, 60) if check.ok else f"{check.found}\nmend: {check.mend}"
            rows.append([check.name, state, found])
        print_table("shiftforge doctor", ["what", "state", "found"], rows)
        print("all that is needed is there" if not missing else f"missing: {', '.join(c.name for c in missing)}")
    return ToolError.exit_code if missing else 0
