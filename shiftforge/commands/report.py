"""`shiftforge report`: one self-contained HTML page about programs and machines."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from shiftforge.commands.frame import Subparsers, add_command, own_version
from shiftforge.commands.shared import check_output, load_values
from shiftforge.errors import InputError

if TYPE_CHECKING:
    from shiftforge.config import Config
    from shiftforge.program import Program
    from sim.page import Machine, Run

_TEXT = """\
Writes one HTML file that needs nothing else: cycles of every layer by cause, utilization, stream bytes, roofline, memory marks,
widths, and area (estimated, or what `synth --out` measured). PATH is a program; or a folder, of which every program (*.sfp), the
manifest that `generate` wrote and the synth.json that `synth` wrote are shown. With --input, an archive with labels as `train`
writes it, the page also tells the share of right answers of the golden model."""
_EXAMPLE = """\
shiftforge report digits.sfp --out digits.html --input digits.test.npz
shiftforge report out --out report.html --batch 16"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(
        subparsers, "report", "one HTML page: cycles, area, roofline", run, text=_TEXT, example=_EXAMPLE
    )
    parser.add_argument("path", metavar="PROGRAM|DIR", type=Path, help="what `compile` wrote, or a folder")
    parser.add_argument("--out", required=True, metavar="PAGE.html", help="the page to write")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="examples of one run (default: 1)")
    parser.add_argument("--input", metavar="X.npz", help="inputs and labels, for the golden model's accuracy")


def run(args: argparse.Namespace) -> int:
    """Write the page; 0."""
    from shiftforge.files import write_atomically
    from sim.page import page

    check_output(args.out)
    programs, config, measured = _found(args.path)
    if args.input is not None and len(programs) != 1:
        raise InputError(f"--input must be given with one program, not with {len(programs)} in {str(args.path)!r}")
    runs = [_run(program, args.batch, args.input) for program in programs]
    configs = {program.hash: program.config for program in programs}
    if config is not None:
        configs[config.hash] = config
    if measured is not None and len(configs) != 1:
        raise InputError(
            f"{str(args.path)!r} must hold one machine where it holds a synth.json, not {len(configs)}; move them into folders of "
            "their own"
        )
    machines = [_machine(one, measured) for one in configs.values()]
    title = programs[0].name if len(programs) == 1 else args.path.resolve().name
    write_atomically(args.out, page(title, machines, runs, version=own_version()))
    print(f"{args.out}: {len(runs)} programs, {len(machines)} machines")
    return 0


def _found(path: Path) -> "tuple[list[Program], Config | None, dict[str, object] | None]":
    """Programs, the manifest's configuration, and what `synth` measured."""
    from shiftforge import program as programs
    from shiftforge.config import from_dict
    from shiftforge.files import read_text
    from shiftforge.manifest import read_manifest

    if not path.is_dir():
        return [programs.load(path)], None, None
    loaded = [programs.load(file) for file in sorted(path.glob("*.sfp"))]
    manifest = read_manifest(path)
    config = None
    if manifest is not None:
        try:
            config = from_dict(manifest["config"])  # pyright: ignore[reportArgumentType]
        except (KeyError, InputError) as error:
            raise InputError(
                f"the manifest in {str(path)!r} must have a whole configuration, and has not ({error})"
            ) from None
    measured = None
    synth = path / "synth.json"
    if synth.is_file():
        try:
            measured = json.loads(read_text(synth, "synth.json"))
            _ = [int(measured[key]) for key in ("lut", "ff", "ebr", "dsp")]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"synth.json must be as `synth --out` wrote it, and {str(synth)!r} is not") from None
    if not loaded and config is None:
        raise InputError(
            f"the folder must hold programs (*.sfp) or a manifest, and {str(path)!r} holds neither; "
            "compile or generate first"
        )
    return loaded, config, measured


def _run(program: "Program", batch: int, archive: str | None) -> "Run":
    from sim.page import Run
    from sim.profile import profile

    profiled = None if program.placed is None else profile(program, batch)
    if archive is None:
        return Run(program, profiled)
    from sim.golden_run import run_golden_network

    x, labels = load_values(archive, "input")
    if labels is None or labels.ndim != 1 or len(labels) != len(x) or not len(x):
        raise InputError(
            f"--input must be an archive with x and labels y for each, as `train` writes it, not {archive!r}"
        )
    values = run_golden_network(program, x).values
    right = float((values.reshape(len(values), -1).argmax(axis=1) == labels).mean())
    return Run(program, profiled, right, len(x))


def _machine(config: "Config", measured: "dict[str, object] | None") -> "Machine":
    from shiftforge.area import estimate
    from shiftforge.errors import NotBuiltError
    from sim.page import Machine

    try:
        return Machine(config, estimate(config), measured=measured)
    except NotBuiltError as error:
        return Machine(config, None, str(error), measured)
