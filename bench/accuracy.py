"""Accuracy of every training method beside full precision: task x method x bits x seed, mean and spread.

    python -m bench.accuracy                                  # the default grid, into out/accuracy
    python -m bench.accuracy --tasks keywords --bits 2 3 4    # a part of the full one
    python -m bench.accuracy --collect docs/results.json      # what is done so far, one file for all
    python -m bench.accuracy --report docs/results.json       # docs/results.md and docs/results.svg from that file

Every finished run is one file, and a later call does only what is missing; delete a file to repeat its run. A call that is
interrupted (Ctrl-C) loses the run it was in.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from bench.accuracy_report import Run, checked, markdown, plot, table
from golden.train.loop import threads
from golden.train.methods import METHODS
from golden.train.single import Options, train_network, with_epochs
from golden.train.task import Data, Task
from golden.train.tasks import TASKS
from shiftforge.errors import InputError, ShiftForgeError
from shiftforge.files import read_text, write_atomically
from shiftforge.formats import FORMATS
from shiftforge.progress import Progress

TRAINED = tuple(name for name, method in METHODS.items() if method.linear is not None)
DEFAULT_BITS = {"digits-mlp": (2, 3, 4), "digits-cnn": (2, 3, 4), "digits-transfer": (3,), "keywords": (3,)}
"""The default grid: a task not named here runs when it is asked for with --tasks."""

Cell = tuple[str, str, int, int]
"""Task, method, bits (32 for full precision) and seed."""


def cells(tasks: Sequence[str], methods: Sequence[str], bits: Sequence[int] | None, seeds: int) -> list[Cell]:
    """The runs of a grid, seed by seed, so that an unfinished one has every method."""
    found: list[Cell] = []
    for seed in range(seeds):
        for task in tasks:
            found.append((task, "full", 32, seed))
            widths = DEFAULT_BITS.get(task, (3,)) if bits is None else bits
            found += [(task, method, width, seed) for width in widths for method in methods]
    return found


def path_of(folder: Path, cell: Cell) -> Path:
    """``FOLDER/TASK/METHOD-BITS-SEED.json``."""
    task, method, bits, seed = cell
    return folder / task / f"{method}-{bits}-{seed}.json"


class Trainer:
    """Runs cells; the data of a task and the twin of a seed are kept for the next one."""

    def __init__(self, activation: str, epochs: int | None) -> None:
        if activation not in FORMATS:
            raise InputError(f"activation must be one of {', '.join(FORMATS)}, not {activation!r}")
        self._activation, self._epochs = activation, epochs
        self._data: dict[str, tuple[Data, Data]] = {}
        self._twin: tuple[str, int, nn.Module] | None = None

    def run(self, cell: Cell) -> Run:
        name, method, bits, seed = cell
        task = with_epochs(TASKS[name], self._epochs)
        if name not in self._data:
            self._data = {name: task.load()}
        if method == "inq" and (self._twin is None or self._twin[:2] != (name, seed)):
            self._train(task, "full", 3, seed)
        start = time.process_time()
        accuracy, loss, frozen = self._train(task, method, bits, seed)
        return {
            "task": name,
            "method": method,
            "bits": bits,
            "seed": seed,
            "epochs": task.recipe.epochs,
            "activation": "fp32" if method == "full" else self._activation,
            "accuracy": accuracy,
            "loss": loss,
            "frozen_at_half": None if not frozen else round(frozen[max(0, len(frozen) // 2 - 1)], 4),
            "cpu_seconds": round(time.process_time() - start, 2),
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        }

    def _train(self, task: Task, method: str, bits: int, seed: int) -> tuple[float, float, tuple[float, ...]]:
        data, test = self._data[task.name]
        twin = None if self._twin is None else self._twin[2]
        with threads(1), torch.random.fork_rng(devices=[]):
            trained = train_network(task, method, bits, data, test, Options(seed, self._activation), twin=twin)
        if method == "full":
            self._twin = (task.name, seed, trained.model)
        return trained.accuracy, trained.losses[-1], trained.frozen


def finished(folder: Path) -> Iterator[Run]:
    """Every run that lies in the folder; ``InputError`` for a file that is none."""
    for path in sorted(folder.glob("*/*.json")):
        yield read_run(path)


def read_run(path: Path) -> Run:
    """One run's file."""
    try:
        return checked(json.loads(read_text(path, "run")))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} must hold a run of this command, and does not ({error}); delete it") from None


def read_runs(path: Path) -> list[Run]:
    """The runs of a collected file."""
    try:
        return [checked(run) for run in json.loads(read_text(path, "results"))["runs"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} must hold collected runs, and does not ({error})") from None


def collect(folder: Path, target: Path, command: str) -> None:
    """Write all runs into one file, a line each, together with the command that made them."""
    runs = list(finished(folder))
    if not runs:
        raise InputError(f"{str(folder)!r} must hold finished runs, and has none; run python -m bench.accuracy first")
    lines = ",\n".join(f"  {json.dumps(run)}" for run in runs)
    write_atomically(target, f'{{\n "command": {json.dumps(command)},\n "runs": [\n{lines}\n ]\n}}\n')


def report(source: Path) -> None:
    """Write ``SOURCE.md`` and ``SOURCE.svg`` beside a collected file."""
    runs = read_runs(source)
    command = str(json.loads(read_text(source, "results"))["command"])
    write_atomically(source.with_suffix(".svg"), plot(runs))
    write_atomically(source.with_suffix(".md"), markdown(runs, command, source.name, source.with_suffix(".svg").name))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(DEFAULT_BITS), choices=list(TASKS), metavar="TASK")
    parser.add_argument("--methods", nargs="+", default=list(TRAINED), choices=TRAINED, metavar="METHOD")
    parser.add_argument("--bits", nargs="+", type=int, choices=[2, 3, 4], help="(default: per task, see DEFAULT_BITS)")
    parser.add_argument("--seeds", type=int, default=5, help="0 .. SEEDS-1 (default: 5)")
    parser.add_argument("--epochs", type=int, help="epochs instead of the recipe's own")
    parser.add_argument("--activation", default="fp16", help="format that training rounds to (default: fp16)")
    parser.add_argument("--out", type=Path, default=Path("out/accuracy"), help="(default: out/accuracy)")
    parser.add_argument("--json", action="store_true", help="print the runs instead of the table")
    parser.add_argument("--collect", type=Path, metavar="FILE.json", help="gather the finished runs, and train nothing")
    parser.add_argument("--command", default="python -m bench.accuracy", help="what --collect says made them")
    parser.add_argument(
        "--report", type=Path, metavar="FILE.json", help="write the page and the plot, and train nothing"
    )
    options = parser.parse_args(arguments)
    if options.collect is not None:
        collect(options.out, options.collect, options.command)
    if options.report is not None:
        report(options.report)
    if options.collect is not None or options.report is not None:
        return
    wanted = cells(options.tasks, options.methods, options.bits, options.seeds)
    for task in options.tasks:
        (options.out / task).mkdir(parents=True, exist_ok=True)
    missing = [cell for cell in wanted if not path_of(options.out, cell).exists()]
    trainer = Trainer(options.activation, options.epochs)
    with Progress().bar("training", total=len(missing)) as advance:
        for cell in missing:
            write_atomically(path_of(options.out, cell), json.dumps(trainer.run(cell)) + "\n")
            advance(1)
    runs = [read_run(path_of(options.out, cell)) for cell in wanted]
    print(json.dumps({"runs": runs}, indent=1) if options.json else table(runs))


if __name__ == "__main__":
    try:
        main()
    except ShiftForgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with what is missing", file=sys.stderr)
        sys.exit(130)
