"""`shiftforge compare`: the golden model against the simulated Verilog, with zero tolerance."""

import argparse
from dataclasses import asdict
from pathlib import Path

from shiftforge.commands.frame import Subparsers, add_command, add_json, print_json, print_table
from shiftforge.commands.shared import add_backend, check_output, flag_names, load_values, transfer_progress

_TEXT = """\
Runs a batch on the golden model and on the Verilog and compares every layer's results bit for bit, and the clock cycle of
every beat with its prediction. At a difference it names the first differing layer, the index, both bit patterns and the
cycle in which that result left. Exit code 1 then. With --bisect it also names the packet, tile and processing element that made
the result and the cycle of its sum, and writes waves (VCD, cycle n at n ns) from the products to the beat.
With --rtl-dir what lies in that folder is simulated, also after a change by hand."""
_EXAMPLE = """\
shiftforge compare digits.sfp --input digits.test.npz
shiftforge compare digits.sfp --input digits.test.npz --rtl-dir out/demo --stalls 1
shiftforge compare digits.sfp --input digits.test.npz --rtl-dir out/demo --bisect first.vcd"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(
        subparsers, "compare", "golden model against Verilog, bit for bit", run, text=_TEXT, example=_EXAMPLE
    )
    parser.add_argument("program", metavar="PROGRAM", help="what `compile` wrote")
    parser.add_argument("--input", required=True, metavar="X.npy", help="inputs, (batch, ...)")
    parser.add_argument("--bisect", metavar="WAVES.vcd", help="name where the first difference is made, and draw it")
    add_backend(parser, required=False)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Compare and print a line per layer; 0 when every bit is equal, else 1."""
    from shiftforge import program as programs
    from shiftforge.errors import CheckFailed, DeviceError
    from shiftforge.manifest import changed_files
    from shiftforge.progress import Progress
    from sim.backends import check_backend, open_golden, open_transport
    from sim.bisect import draw
    from sim.compare import compare_program
    from sw_driver.accelerator import Accelerator

    check_backend("rtl", args.rtl_dir, args.stalls)
    program = programs.load(args.program)
    programs.require_placed(program)
    x, _ = load_values(args.input, "input")
    if args.bisect:
        check_output(args.bisect)
    progress, config = Progress(), program.config
    changed = [] if args.rtl_dir is None else changed_files(args.rtl_dir)
    if changed:
        progress.say(f"changed since `generate` wrote it: {', '.join(changed)}")
    golden = open_golden(config, args.stalls)
    x_codes = Accelerator(golden, config).encode_input(program, x)
    try:
        with (
            open_transport("rtl", config, rtl_dir=args.rtl_dir, stalls=args.stalls, progress=progress) as rtl,
            transfer_progress(progress, f"{program.name} on rtl") as show,
        ):
            layers = compare_program(program, x_codes, golden, rtl, progress=show)
    except DeviceError as error:
        raise CheckFailed(f"the RTL must answer as the golden model does, but: {error}") from None
    bad = [layer for layer in layers if not layer.equal]
    window = None
    if bad and args.bisect:
        window = draw(
            program,
            x_codes,
            bad[0],
            Path(args.bisect),
            rtl_dir=args.rtl_dir,
            stalls=args.stalls,
            progress=progress,
        )
    if args.json:
        print_json(
            {
                "program": program.name,
                "equal": not bad,
                "batch": len(x_codes),
                "format": config.output.name,
                "changed_files": changed,
                "layers": [
                    {
                        "layer": layer.layer,
                        "equal": layer.equal,
                        "results": layer.results,
                        "differing": layer.differing,
                        "predicted_cycles": layer.predicted,
                        "cycles": layer.cycles,
                        "same_beats": layer.same_beats,
                        "status": {name: [predicted, told] for name, predicted, told in layer.status},
                        "golden_flags": flag_names(layer.golden_flags),
                        "rtl_flags": flag_names(layer.rtl_flags),
                        "first": None
                        if layer.first is None
                        else {
                            "index": [layer.first.row, layer.first.channel],
                            "golden": f"{layer.first.golden:#x}",
                            "rtl": f"{layer.first.rtl:#x}",
                            "cycle": layer.first.cycle,
                            "place": None if layer.first.place is None else asdict(layer.first.place),
                        },
                        "first_beat": None if layer.beat is None else asdict(layer.beat),
                    }
                    for layer in layers
                ],
                "waves": None
                if window is None
                else {"file": args.bisect, "first_cycle": window.first, "end_cycle": window.end},
            }
        )
        return CheckFailed.exit_code if bad else 0
    rows = [
        [
            layer.layer,
            f"{layer.results:,}",
            "every bit equal" if layer.first is None else f"{layer.differing:,} differ",
            f"{layer.predicted:,}",
            f"{layer.cycles:,}{'' if layer.same_beats else ', beats differ'}",
        ]
        for layer in layers
    ]
    print_table(
        f"{program.name}: golden model against RTL, {len(x_codes)} inputs",
        ["up to layer", "results", "found", "cycles predicted", "counted"],
        rows,
    )
    if window is not None:
        print(f"{bad[0].where()}; cycles {window.first} to {window.end - 1} are drawn in {args.bisect}")
    if bad:
        raise CheckFailed(bad[0].sentence())
    return 0
