"""`shiftforge compile`: a trained network to a program for one accelerator."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from shiftforge.commands.frame import Subparsers, add_command, add_json, print_json, print_table
from shiftforge.commands.shared import add_overflow, check_output, load_values
from shiftforge.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from shiftforge.graph import Graph
    from shiftforge.program import LayerReport, Program

_TEXT = """\
Reads a network, folds batch normalisation and activations into its shift layers, places them on the accelerator and writes
the stream program. --check runs real inputs after every pass and compares; --calibrate sets the tensor scales that int8,
int16 and fp8 need. Prints one line per layer and how full the memories get. Tensors that do not fit on chip leave it and come
back, in strips where they must. A network that the machine does not run becomes a program for the golden model alone, and the
reason is printed, with the key of the configuration that mends it."""
_EXAMPLE = """\
shiftforge compile digits.pt2 --config examples/demo.toml --out digits.sfp
shiftforge compile digits.pt2 --config examples/demo.toml --out digits.sfp --check digits.test.npz
shiftforge compile resnet.pt2 --config examples/resnet20.toml --out resnet.sfp --host stem.0 --host classifier
shiftforge compile network.onnx --config examples/demo.toml --out network.sfp --calibrate samples.npy"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, "compile", "a network to a stream program", run, text=_TEXT, example=_EXAMPLE)
    parser.add_argument("model", metavar="MODEL", help="the torch.export program (.pt2) or ONNX model (.onnx)")
    parser.add_argument("--config", required=True, metavar="C.toml", help="the accelerator")
    parser.add_argument("--out", required=True, metavar="PROGRAM", help="the program to write")
    parser.add_argument("--check", metavar="X.npy", help="compare after every pass on these inputs")
    parser.add_argument("--calibrate", metavar="X.npy", help="set tensor scales from these inputs")
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="LAYER",
        help="keep a layer in full precision, on the host (repeatable)",
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="cut the network for batches of N examples")
    add_overflow(parser, "default: saturate")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Compile, check, write, print the report; 0."""
    from shiftforge.config import load
    from shiftforge.progress import Progress
    from sw_driver.compiler.pipeline import compile_graph

    suffix = Path(args.model).suffix
    if suffix not in (".pt2", ".onnx"):
        raise InputError(f"model must be a .pt2 program or an .onnx model, not {args.model!r}")
    if args.batch < 1:
        raise InputError(f"--batch must be 1 or more, not {args.batch}")
    config = load(args.config)
    check_output(args.out)
    progress = Progress()
    with progress.step("import"):
        if suffix == ".onnx":
            from sw_driver.importers.onnx import read_onnx as read
        else:
            from sw_driver.importers.pt2 import read_pt2 as read

        graph = read(args.model, config.weights.bits, mask=config.weights.mask, host=args.host)
    calibration = None if args.calibrate is None else _batch(args.calibrate, "calibrate", graph)
    name, overflow = Path(args.model).stem, args.overflow or "saturate"
    program = compile_graph(graph, config, name=name, overflow=overflow, calibration=calibration, batch=args.batch)
    checks = []
    if args.check is not None:
        from golden import network
        from golden.emulator import EmulatorTransport
        from sw_driver.compiler.check import check_passes

        x = _batch(args.check, "check", graph)
        with progress.step(f"checks on {len(x)} inputs"):
            checks = check_passes(
                graph,
                program,
                x,
                lambda g, codes: network.run(g, config, codes, overflow).output,
                EmulatorTransport(config),
                calibration,
            )
    program.save(args.out)
    if args.json:
        print_json(
            {
                "out": args.out,
                "name": program.name,
                "hash": f"{program.hash:#010x}",
                "overflow": program.overflow,
                "input_shape": list(program.input_shape),
                "unplaced": program.unplaced,
                "marks": asdict(program.marks),
                "resident": program.placed is not None and program.recipe.resident,
                "layers": [asdict(line) for line in program.report],
                "checks": [asdict(check) for check in checks],
            }
        )
        return 0
    rows = [
        [line.name, _kind(line), line.activation, line.place, str(line.tiles), str(line.pieces), f"{line.macs * line.pixels:,}",
         str(line.weight_words), str(line.parameter_words)]
        for line in program.report
    ]  # fmt: skip
    columns = ["layer", "K -> N", "function", "where", "tiles", "pieces", "MACs", "W words", "P words"]
    print_table(f"{program.name} for configuration {program.hash:#010x}", columns, rows)
    if program.placed is not None:
        _print_memory(program)
    for check in checks:
        exact = "every bit equal" if check.rule == "==" else f"{check.rule}, at most {check.difference:.1e}"
        print(f"checked {check.name}: {exact}")
    if program.unplaced:
        print(f"its machine does not run it: {program.unplaced}; run --backend golden does")
    print(f"{args.out}: written")
    return 0


def _print_memory(program: "Program") -> None:
    """High-water marks, and what leaves the chip and comes back."""
    config, marks = program.config, program.marks
    used = (
        ("activations", marks.activation_words, config.activation_words),
        ("weights", marks.weight_words, config.weight_words),
        ("parameters", marks.parameter_words, config.parameter_words),
    )
    print("memory words: " + ", ".join(f"{name} {most:,} of {words:,}" for name, most, words in used))
    spilled = [tensor.name for tensor in program.recipe.tensors[1:-1]]
    if spilled:
        print(f"on the host between layers: {', '.join(spilled)}")


def _batch(path: str, what: str, graph: "Graph") -> "NDArray[np.float64]":
    """Real inputs (batch, ...) from a file, float64."""
    from sw_driver.values import as_float64

    values = as_float64(load_values(path, what)[0], what)
    shape, features = graph.input.shape, graph.input.features
    if values.ndim < 2 or values.shape[1:] not in (shape, (features,)) or not len(values):
        raise InputError(f"{what} must have the shape (batch, {', '.join(map(str, shape))}), not {values.shape}")
    return values


def _kind(line: "LayerReport") -> str:
    """K -> N, and what multiplies it."""
    times = [f"x {line.pixels} pixels"] if line.pixels > 1 else []
    times += [f"{line.groups} groups"] if line.groups > 1 else []
    times += [f"{line.terms} terms"] if line.terms > 1 else []
    return " ".join([f"{line.k} -> {line.n}", ", ".join(times)]).strip()
