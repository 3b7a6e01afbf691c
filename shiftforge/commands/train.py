"""`shiftforge train`: a DenseShift network, trained on real data together with its float32 twin."""

import argparse

from shiftforge.commands.frame import Subparsers, add_command, add_json, print_json, print_table

_TEXT = """\
Trains a network whose weights are zero-free powers of two, and its float32 twin with the same recipe and seed. Writes the
torch.export program, and beside it MODEL.test.npz with the test split (x, y) and both accuracies."""
_EXAMPLE = """\
shiftforge train digits-mlp --out digits.pt2
shiftforge train digits-mlp --bits 4 --activation fp8_e4m3 --out digits4.pt2"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, "train", "train a DenseShift network", run, text=_TEXT, example=_EXAMPLE)
    parser.add_argument("task", metavar="TASK", help="digits-mlp: handwritten digits, perceptron 64-64-10")
    parser.add_argument("--out", required=True, metavar="MODEL.pt2", help="the program to write")
    parser.add_argument("--bits", type=int, default=3, help="width of the weight codes: 2, 3 or 4 (default: 3)")
    parser.add_argument(
        "--method",
        default="denseshift",
        help="denseshift, or a published relative of it to compare with: s3, deepshift-q, deepshift-ps, inq, apot, pot "
        "(default: denseshift)",
    )
    parser.add_argument(
        "--activation", default="fp16", help="format that training rounds activations to (default: fp16)"
    )
    parser.add_argument("--epochs", type=int, help="epochs instead of the recipe's own")
    parser.add_argument("--seed", type=int, default=0, help="initial weights and order of the data (default: 0)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Train, write, print the accuracies; 0."""
    from shiftforge.errors import ToolError

    try:
        from golden.train import runner
    except ImportError as error:
        raise ToolError(f"{error.name} must be installed to train: pip install 'shiftforge[train]'") from None

    target = runner.check_target(args.out)
    with runner.rich_progress() as show:
        result = runner.train(
            args.task,
            bits=args.bits,
            activation=args.activation,
            epochs=args.epochs,
            seed=args.seed,
            method=args.method,
            progress=show,
        )
    model, split = runner.save(result, target)
    if args.json:
        print_json(
            {
                "task": result.task,
                "method": result.method,
                "bits": result.bits,
                "activation": result.activation,
                "seed": result.seed,
                "torch_accuracy": result.torch_accuracy,
                "float32_accuracy": result.float32_accuracy,
                "test_rows": len(result.test.y),
                "seconds": round(result.seconds, 3),
                "model": str(model),
                "test": str(split),
            }
        )
        return 0
    rows = [
        [
            f"{result.bits}-bit {result.method} weights, {result.activation} activations",
            f"{100 * result.torch_accuracy:.1f} %",
        ],
        ["float32 twin", f"{100 * result.float32_accuracy:.1f} %"],
    ]
    print_table(f"{result.task}: accuracy on {len(result.test.y)} test rows, by torch", ["network", "accuracy"], rows)
    print(f"{model}: the network\n{split}: the test split")
    return 0
