"""`shiftforge train`: a network of shifts, trained on real data together with its float32 twin."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from shiftforge.commands.frame import Subparsers, add_command, add_json, print_json, print_table

if TYPE_CHECKING:
    from golden.train.runner import TrainResult

_TEXT = """\
Trains a network whose weights are zero-free powers of two, and its float32 twin with the same recipe and seed. Writes the
torch.export program, and beside it MODEL.test.npz with the test split (x, y) and both accuracies.

Tasks: digits-mlp, digits-cnn, digits-transfer (scikit-learn's handwritten digits), keywords (spoken words, made here by
espeak-ng, or a folder of Google Speech Commands), chars (the next character of Python's help topics), cifar10 and imagenet
(local folders).

After every epoch MODEL.checkpoint is replaced; it is deleted at the end. When a run is interrupted, the same command with
--resume goes on from it to the same result, bit for bit."""
_EXAMPLE = """\
shiftforge train digits-mlp --out digits.pt2
shiftforge train keywords --method s3 --bits 3 --seed 1 --out keywords.pt2
shiftforge train imagenet --data /data/imagenet --device cuda --mixed --out resnet18.pt2 --resume"""

INTERRUPTED = 130


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, "train", "train a DenseShift network", run, text=_TEXT, example=_EXAMPLE)
    parser.add_argument("task", metavar="TASK", help="what to train; see above")
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
    parser.add_argument("--data", metavar="FOLDER", help="the data of keywords, cifar10 or imagenet")
    parser.add_argument("--classes", type=int, help="number of classes in that folder, where it is not the usual one")
    parser.add_argument("--resume", action="store_true", help="go on from MODEL.checkpoint where there is one")
    parser.add_argument("--device", default="cpu", help="a device of torch (default: cpu)")
    parser.add_argument("--mixed", action="store_true", help="products in bfloat16 while training")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Train, write, print the accuracies; 0, or 130 when interrupted."""
    from shiftforge.errors import InputError, ToolError

    try:
        from golden.train import runner, tasks, workers
    except ImportError as error:
        raise ToolError(f"{error.name} must be installed to train: pip install 'shiftforge[train]'") from None

    target = runner.check_target(args.out)
    task = tasks.task_named(args.task, args.data, args.classes)
    checkpoint = target.with_suffix(".checkpoint")
    if checkpoint.exists() and not args.resume:
        raise InputError(
            f"{str(checkpoint)!r} must not be there when a run starts: it is what an interrupted one left; add --resume to go on "
            "from it, or delete it"
        )
    first = workers.from_environment().first
    try:
        with runner.rich_progress() as show:
            result = runner.train(
                task,
                bits=args.bits,
                activation=args.activation,
                epochs=args.epochs,
                seed=args.seed,
                method=args.method,
                progress=show,
                checkpoint=checkpoint,
                resume=args.resume,
                device=args.device,
                mixed=args.mixed,
                thread_count=args.threads,
            )
    except KeyboardInterrupt:
        print(f"shiftforge: {_interrupted(checkpoint)}", file=sys.stderr)
        return INTERRUPTED
    if not first:
        return 0
    model, split = runner.save(result, target)
    checkpoint.unlink(missing_ok=True)
    _report(args, result, model, split)
    return 0


def _interrupted(checkpoint: Path) -> str:
    if checkpoint.exists():
        return f"interrupted; {str(checkpoint)!r} holds the last whole epoch, and the same command with --resume goes on from it"
    return "interrupted in the first epoch, before there was a checkpoint"


def _report(args: argparse.Namespace, result: "TrainResult", model: Path, split: Path) -> None:
    rows = result.test_rows
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
                "test_rows": rows,
                "losses": list(result.losses),
                "float32_losses": list(result.float32_losses),
                "frozen": list(result.frozen),
                "seconds": round(result.seconds, 3),
                "model": str(model),
                "test": str(split),
            }
        )
        return
    table = [
        [
            f"{result.bits}-bit {result.method} weights, {result.activation} activations",
            f"{100 * result.torch_accuracy:.1f} %",
        ],
        ["float32 twin", f"{100 * result.float32_accuracy:.1f} %"],
    ]
    print_table(f"{result.task}: accuracy on {rows} test rows, by torch", ["network", "accuracy"], table)
    print(f"{model}: the network\n{split}: the test split")
