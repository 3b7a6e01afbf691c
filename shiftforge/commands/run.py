"""`shiftforge run`: inference with a compiled program."""

import argparse
from time import perf_counter

from shiftforge.commands.frame import Subparsers, add_command, add_json, print_json, print_table
from shiftforge.commands.shared import add_backend, check_output, flag_names, load_values, transfer_progress

_TEXT = """\
Runs a batch through a compiled program. X has the batch on axis 0, of any size. Y holds float32 values (widened exactly), or
with --raw the bits of the output format. An archive MODEL.test.npz as `train` writes it may be given for X: then the share
of right answers is printed too. A program that the machine does not run runs on the golden network, without cycles."""
_EXAMPLE = """\
shiftforge run digits.sfp --input digits.test.npz --out logits.npy --backend golden
shiftforge run digits.sfp --input digits.test.npz --out logits.npy --backend rtl --stalls 1 --json"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, "run", "inference with a compiled program", run, text=_TEXT, example=_EXAMPLE)
    parser.add_argument("program", metavar="PROGRAM", help="what `compile` wrote")
    parser.add_argument("--input", required=True, metavar="X.npy", help="inputs, (batch, ...)")
    parser.add_argument("--out", required=True, metavar="Y.npy", help="the outputs to write, (batch, outputs)")
    parser.add_argument("--raw", action="store_true", help="write raw bits instead of float32 values")
    add_backend(parser, required=True)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run the batch, write the outputs, print cycles and flags; 0."""
    import numpy as np

    from shiftforge import program as programs
    from shiftforge.arrays import save_npy
    from shiftforge.progress import Progress
    from sim.backends import check_backend, open_transport
    from sim.golden_run import run_golden_network
    from sw_driver.accelerator import Accelerator

    check_backend(args.backend, args.rtl_dir, args.stalls)
    program = programs.load(args.program)
    x, labels = load_values(args.input, "input")
    check_output(args.out)
    progress, config = Progress(), program.config
    cycles: int | None = None
    counters: dict[str, int] = {}
    start = perf_counter()
    if program.placed is None and args.backend == "golden":
        with transfer_progress(progress, f"{program.name} on the golden network") as show:
            result = run_golden_network(program, x, show)
        codes, values, flags = result.codes, result.values, result.flags
    else:
        programs.require_placed(program)  # before anything slow
        with (
            open_transport(
                args.backend, config, rtl_dir=args.rtl_dir, stalls=args.stalls, progress=progress
            ) as transport,
            transfer_progress(progress, f"{program.name} on {args.backend}") as show,
        ):
            accelerator = Accelerator(transport, config)
            start = perf_counter()
            codes = accelerator.run(program, x, progress=show)
        values, flags = accelerator.values(program, codes), accelerator.flags
        cycles, counters = accelerator.last_cycles, accelerator.counters
    seconds = perf_counter() - start
    save_npy(args.out, codes if args.raw else values)
    right = None
    if labels is not None and labels.shape == codes.shape[:1] and len(labels):
        right = float((values.reshape(len(values), -1).argmax(axis=1) == labels).mean())
    if args.json:
        print_json(
            {
                "program": program.name,
                "backend": args.backend,
                "batch": len(codes),
                "outputs": int(np.prod(codes.shape[1:])),
                "format": config.output.name,
                "flags": flag_names(flags),
                "cycles": cycles,
                "counters": counters,
                "accuracy": right,
                "seconds": round(seconds, 3),
                "out": args.out,
            }
        )
        return 0
    rows = [
        ["batch", f"{len(codes)} x {' x '.join(map(str, codes.shape[1:]))} outputs"],
        ["written", f"{args.out}, {f'{codes.dtype} bits of {config.output.name}' if args.raw else 'float32 values'}"],
        ["flags", " ".join(flag_names(flags)) or "none"],
        [
            "cycles",
            "none" if cycles is None else f"{cycles:,}, {'predicted' if args.backend == 'golden' else 'counted'}",
        ],
        ["seconds", f"{seconds:.2f}"],
    ]
    if right is not None:
        rows.append(["right answers", f"{100 * right:.1f} %"])
    print_table(f"{program.name} on {args.backend}", ["what", "value"], rows)
    return 0
