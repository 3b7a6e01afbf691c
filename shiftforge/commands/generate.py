"""`shiftforge generate`: the accelerator's Verilog, with everything that describes it."""

import argparse
from pathlib import Path

from shiftforge.commands.frame import Subparsers, add_command, add_json, print_json, print_table
from shiftforge.errors import InputError

_TARGETS = ("generic", "ecp5")

_TEXT = """\
Writes the Verilog of a configuration (one file per distinct module, the top module is shiftforge_top), manifest.json
(resolved configuration, hash, widths, ports, SHA-256 of every file), packets.json, registers.json and the C header
shiftforge.h. The folder appears whole or not at all; one that `generate` wrote before is replaced."""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(
        subparsers,
        "generate",
        "write the accelerator's Verilog",
        run,
        text=_TEXT,
        example="shiftforge generate examples/demo.toml --out out/demo",
    )
    parser.add_argument("config", metavar="CONFIG.toml", help="the accelerator")
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to write")
    parser.add_argument(
        "--target",
        default="generic",
        help="generic: plain Verilog; ecp5: adders in carry cells, which simulators know only by Lattice's models",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write the folder and print the ledger of widths; 0."""
    if args.target not in _TARGETS:
        raise InputError(f"--target must be one of {', '.join(_TARGETS)}, not {args.target!r}")
    from shiftforge.config import load
    from shiftforge.files import replace_directory
    from shiftforge.manifest import MANIFEST, widths
    from shiftforge.progress import Progress
    from sim.design import write_design

    config = load(args.config)
    config.require_hardware()
    with replace_directory(args.out, MANIFEST) as folder:
        sources = write_design(config, folder, Progress(), target=args.target)
        names = sorted(path.name for path in folder.iterdir())
    ledger = widths(config)
    if args.json:
        print_json(
            {
                "out": str(Path(args.out)),
                "hash": f"{config.hash:#010x}",
                "files": names,
                "verilog": [path.name for path in sources],
                "widths": ledger,
            }
        )
        return 0
    rows = [[str(row["name"]), f"{row['value']} {row['unit']}", str(row["rule"])] for row in ledger]
    print_table(f"{config.rows}x{config.cols}, configuration hash {config.hash:#010x}", ["what", "size", "why"], rows)
    print(f"{args.out}: {len(sources)} Verilog files, {', '.join(n for n in names if not n.endswith('.v'))}")
    return 0
