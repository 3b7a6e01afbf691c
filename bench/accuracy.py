"""Accuracy of every training method beside full precision: method x bits x seeds, mean and spread.

    python -m bench.accuracy [--methods denseshift s3 ...] [--bits 2 3 4] [--seeds 5] [--epochs N] [--out accuracy.json] [--json]

Every finished run is written to the file at once, and a later call with the same file does only what is missing; delete the
file to start anew. A run takes about 4 s on one free core, the whole grid about 7 minutes.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import torch

from golden.train.methods import METHODS
from golden.train.runner import TASKS, train
from shiftforge.errors import InputError
from shiftforge.files import read_text, write_atomically
from shiftforge.progress import Progress

TRAINED = tuple(name for name, method in METHODS.items() if method.linear is not None)


class Run(TypedDict):
    """One finished training: accuracies 0..1 on the test split, those of the float32 twin and of the method."""

    method: str
    bits: int
    seed: int
    epochs: int | None
    float32_accuracy: float
    accuracy: float
    seconds: float


class Results(TypedDict):
    """The file: what all runs share, and the runs."""

    task: str
    activation: str
    torch: str
    runs: list[Run]


def load(path: Path, task: str, activation: str) -> Results:
    """The runs that are done, or none; ``InputError`` for a file of other runs than these."""
    new: Results = {"task": task, "activation": activation, "torch": torch.__version__, "runs": []}
    if not path.exists():
        return new
    try:
        found: Results = json.loads(read_text(path, "results"))
        same = {key: found[key] for key in ("task", "activation", "torch")} == {
            k: v for k, v in new.items() if k != "runs"
        }
        _ = [(run["method"], run["bits"], run["seed"], run["epochs"], run["accuracy"]) for run in found["runs"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} must hold results of this command, and does not ({error}); move it away") from None
    if not same:
        raise InputError(
            f"{path} must hold runs of {task}, {activation}, torch {torch.__version__}, and does not; move it away"
        )
    return found


def row(runs: Sequence[Run], key: str) -> str:
    """Mean, spread (standard deviation) and least, in percent."""
    values = [100 * float(run["accuracy"] if key == "accuracy" else run["float32_accuracy"]) for run in runs]
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):6.2f} ± {spread:4.2f}  {min(values):6.2f}"


def table(runs: Sequence[Run]) -> str:
    """Full precision first, then each method and width, one line each."""
    lines = [f"{'method':14s}{'bits':>5s}{'seeds':>7s}   mean ± spread    least   (% of the test split)"]
    twins = {run["seed"]: run for run in runs}
    if twins:
        lines.append(f"{'full':14s}{'32':>5s}{len(twins):7d}  {row(list(twins.values()), 'float32_accuracy')}")
    for method, bits in sorted({(r["method"], r["bits"]) for r in runs}, key=lambda c: (c[1], TRAINED.index(c[0]))):
        cell = [run for run in runs if (run["method"], run["bits"]) == (method, bits)]
        lines.append(f"{method:14s}{bits:5d}{len(cell):7d}  {row(cell, 'accuracy')}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="digits-mlp", choices=list(TASKS))
    parser.add_argument("--methods", nargs="+", default=list(TRAINED), choices=TRAINED, metavar="METHOD")
    parser.add_argument("--bits", nargs="+", type=int, default=[2, 3, 4], choices=[2, 3, 4])
    parser.add_argument("--seeds", type=int, default=5, help="0 .. SEEDS-1 (default: 5)")
    parser.add_argument("--epochs", type=int, help="epochs instead of the recipe's own")
    parser.add_argument(
        "--activation", default="fp16", help="format that training rounds activations to (default: fp16)"
    )
    parser.add_argument("--out", type=Path, default=Path("accuracy.json"))
    parser.add_argument("--json", action="store_true", help="print the file's runs instead of the table")
    options = parser.parse_args(arguments)
    results = load(options.out, options.task, options.activation)
    wanted = [(m, b, s) for s in range(options.seeds) for b in options.bits for m in options.methods]

    def mine(run: Run) -> bool:
        return run["epochs"] == options.epochs and (run["method"], run["bits"], run["seed"]) in wanted

    done = {(run["method"], run["bits"], run["seed"]) for run in results["runs"] if mine(run)}
    with Progress().bar("training", total=len(wanted) - len(done)) as advance:
        for method, bits, seed in wanted:
            if (method, bits, seed) in done:
                continue
            result = train(
                options.task,
                bits=bits,
                activation=options.activation,
                epochs=options.epochs,
                seed=seed,
                method=method,
            )
            results["runs"].append(
                {
                    "method": method,
                    "bits": bits,
                    "seed": seed,
                    "epochs": options.epochs,
                    "float32_accuracy": result.float32_accuracy,
                    "accuracy": result.torch_accuracy,
                    "seconds": round(result.seconds, 3),
                }
            )
            write_atomically(options.out, json.dumps(results, indent=1) + "\n")
            advance(1)
    chosen = [run for run in results["runs"] if mine(run)]
    print(json.dumps({**results, "runs": chosen}, indent=1) if options.json else table(chosen))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
