"""Networks that were not trained for shifts: accuracy on the machine's golden model against its cycles, for 1 to 3 terms a weight.

    python -m bench.post_training [--tasks digits-cnn keywords] [--seeds 1] [--out docs/post-training.json]

For every task the full-precision network is trained, turned into sums of power-of-two terms (by least squared error of the
weights, or calibrated with training inputs), and run as a compiled program on the golden model of the machine, whose bits are those
of the hardware; cycles are those of its exact cycle model. "chosen" has terms per layer by an accuracy budget of one point on 512
training inputs. The page and the plot are written beside the file. What is in the file already is not measured again.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import nn

from golden.emulator import EmulatorTransport
from golden.train.choose import choose_terms, products_per_input
from golden.train.loop import accuracy, threads
from golden.train.post_training import TermSumLayer, convert_pretrained
from golden.train.runner import export
from golden.train.single import Options, train_network, with_epochs
from golden.train.task import Data, Split, Task
from golden.train.tasks import TASKS
from shiftforge.config import Config, from_dict
from shiftforge.errors import InputError, ShiftForgeError
from shiftforge.files import read_text, write_atomically
from shiftforge.progress import Progress
from sim.golden_run import run_golden_network
from sw_driver.accelerator import Accelerator
from sw_driver.compiler.pipeline import compile_graph
from sw_driver.importers.pt2 import import_program

BITS = 3
ROWS = COLS = 8
CALIBRATION = 256
CHOICE_ROWS = 512
DROP = 0.01
TIMED = 8
"""Inputs of the timed batch; the schedule does not depend on their values."""
MACHINES = {"digits-cnn": (1024, False), "digits-mlp": (256, False), "keywords": (16384, True)}
"""max_k of the machine, and whether it has masks, which depthwise layers and averages need."""

Variant = tuple[str, int]
"""How the weights are fitted, and the terms (0: chosen per layer)."""


class Row(TypedDict):
    """One converted network; ``fit`` is "full" for the network itself, in torch alone. Accuracies 0..1 on the test set.

    ``cycles`` per input are None where the compiler does not place the network on the machine (``why`` says so).
    """

    task: str
    seed: int
    fit: str
    terms: int
    per_layer: dict[str, int]
    products: int
    torch_accuracy: float
    machine_accuracy: float | None
    cycles: float | None
    why: str | None


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network, its test set, and training inputs."""

    task: Task
    model: nn.Module
    train: Data
    test: Split


def machine(task: str) -> Config:
    """An 8x8 array of fp16 activations and 3-bit weights, with memories that hold the task's network."""
    max_k, mask = MACHINES[task]
    return from_dict(
        {
            "array": {
                "rows": ROWS,
                "cols": COLS,
                "activation": "fp16",
                "output": "fp16",
                "weight_bits": BITS,
                "max_k": max_k,
                "mask": mask,
            },
            "memory": {"activation_words": 32768, "weight_words": 65536, "parameter_words": 1024},
            "interface": {"stream_bits": 64},
        }
    )


def on_machine(model: nn.Module, test: Split, config: Config) -> tuple[float, float | None, str | None]:
    """Accuracy on the golden model of the machine, cycles per input, and why there are none."""
    graph = import_program(export(model, torch.from_numpy(test.x)), config.weights.bits, mask=config.weights.mask)
    program = compile_graph(graph, config)
    values = run_golden_network(program, test.x).values
    right = float((values.reshape(len(values), -1).argmax(1) == test.y).mean())
    if program.placed is None:
        return right, None, program.unplaced
    accelerator = Accelerator(EmulatorTransport(config), config)
    codes = accelerator.run(program, test.x[:TIMED])
    if not np.array_equal(accelerator.values(program, codes).reshape(TIMED, -1), values[:TIMED].reshape(TIMED, -1)):
        raise AssertionError("the machine and the golden network must agree bit for bit, and do not")
    return right, accelerator.last_cycles / TIMED, None


def measure(name: str, seed: int, trained: Trained, variant: Variant) -> Row:
    """Convert and run one network."""
    fit, terms = variant
    model, test = trained.model, trained.test
    calibration = trained.train.batch(_some(trained.train, CALIBRATION), None)[0] if fit == "calibrated" else None
    costs = products_per_input(model, torch.from_numpy(test.x[:1]))
    row: Row = {
        "task": name,
        "seed": seed,
        "fit": fit,
        "terms": terms,
        "per_layer": {},
        "products": sum(costs.values()),
        "torch_accuracy": accuracy(model, test),
        "machine_accuracy": None,
        "cycles": None,
        "why": None,
    }
    if fit == "full":
        return row
    chosen: int | Mapping[str, int] = terms
    if terms == 0:
        x, y = trained.train.batch(_some(trained.train, CHOICE_ROWS), None)
        steps = choose_terms(model, Split(x.numpy(), y.numpy()), BITS, drop=DROP, calibration=calibration)
        chosen = steps[-1].terms
    small = convert_pretrained(model, BITS, chosen, calibration=calibration)
    row["per_layer"] = {n: m.fit.terms for n, m in small.named_modules() if isinstance(m, TermSumLayer)}
    row["products"] = sum(costs[n] * t for n, t in row["per_layer"].items())
    row["torch_accuracy"] = accuracy(small, test)
    row["machine_accuracy"], row["cycles"], row["why"] = on_machine(small, test, machine(name))
    return row


def _some(data: Data, count: int) -> torch.Tensor:
    """Rows drawn from all of the data, the same at every call: sets may be in the order of their classes."""
    return torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:count]


def variants() -> Iterator[Variant]:
    yield "full", 0
    for fit in ("least squares", "calibrated"):
        for terms in (1, 2, 3, 0):
            yield fit, terms


def _trained(name: str, seed: int, epochs: int | None) -> Trained:
    task = with_epochs(TASKS[name], epochs)
    data, test = task.load()
    if not isinstance(test, Split):
        raise InputError(f"the test set of {name} must be in memory, and is not")
    with threads(1), torch.random.fork_rng(devices=[]):
        made = train_network(task, "full", BITS, data, test, Options(seed))
    return Trained(task, made.model, data, test)


def load(path: Path) -> list[Row]:
    """The rows of a file, or none where there is no file."""
    if not path.exists():
        return []
    try:
        rows = json.loads(read_text(path, "results"))["rows"]
        return [row for row in rows if row.keys() == Row.__annotations__.keys() or row["not a row"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} must hold rows of this command, and does not ({error}); move it away") from None


def save(path: Path, rows: Sequence[Row]) -> None:
    """The file, a row a line, and the page and the plot beside it."""
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    write_atomically(path, f'{{\n "rows": [\n{lines}\n ]\n}}\n')
    write_atomically(path.with_suffix(".svg"), plot(rows))
    write_atomically(path.with_suffix(".md"), markdown(rows, path))


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def markdown(rows: Sequence[Row], path: Path) -> str:
    """The page."""
    parts = [
        "# Networks that were not trained for shifts",
        "",
        f"Written by `python -m bench.post_training --out {path.name}` from [{path.name}]({path.name}). Do not edit by hand.",
        "",
        "Full-precision networks become sums of T power-of-two terms per weight, without training. Accuracy in percent of the test",
        f"set: by torch in float32, and on the golden model of a machine of {ROWS}x{COLS}, fp16 and {BITS}-bit weights, whose",
        "bits are those of the hardware. Cycles are those of one input in a batch, by the exact cycle model. Calibrated fits use",
        f'{CALIBRATION} training inputs. T "chosen": the fewest terms per layer that lose at most {100 * DROP:.0f} point on',
        f"{CHOICE_ROWS} training inputs.",
        "",
        f"![accuracy against cycles]({path.with_suffix('.svg').name})",
    ]
    for task, seed in dict.fromkeys((row["task"], row["seed"]) for row in rows):
        parts += [
            "",
            f"## {task}, seed {seed}",
            "",
            "| Fit | T | Terms by layer | Torch | Machine | Cycles per input |",
            "|---" * 6 + "|",
        ]
        for row in rows:
            if (row["task"], row["seed"]) != (task, seed):
                continue
            layers = " ".join(str(t) for t in row["per_layer"].values())
            terms = "" if row["fit"] == "full" else str(row["terms"] or "chosen")
            cycles = "" if row["cycles"] is None else f"{row['cycles']:,.0f}"
            fit = "full precision" if row["fit"] == "full" else row["fit"]
            values = f"{_percent(row['torch_accuracy'])} | {_percent(row['machine_accuracy'])}"
            parts.append(f"| {fit} | {terms} | {layers} | {values} | {cycles} |")
        why = {row["why"] for row in rows if row["task"] == task and row["why"]}
        if why:
            parts += [
                "",
                f"The compiler does not place this network on the machine: {'; '.join(sorted(w for w in why if w))}.",
            ]
    return "\n".join(parts) + "\n"


def plot(rows: Sequence[Row]) -> str:
    """An SVG: a panel per task, accuracy on the machine upwards, cycles per input (products, where there are none) to the right."""
    width, height, left, body, top = 460, 150, 60, [], 24
    for task in dict.fromkeys(row["task"] for row in rows):
        mine = [row for row in rows if row["task"] == task and row["machine_accuracy"] is not None]
        full = [100 * row["torch_accuracy"] for row in rows if row["task"] == task and row["fit"] == "full"]
        if not mine:
            continue
        timed = all(row["cycles"] is not None for row in mine)
        across = [float(row["cycles"] if timed and row["cycles"] is not None else row["products"]) for row in mine]
        up = [100 * (row["machine_accuracy"] or 0.0) for row in mine]
        low, high, most = min(up + full) - 0.5, min(100.0, max(up + full) + 0.5), 1.1 * max(across)
        body.append(f'<text x="{left}" y="{top - 8}" font-weight="bold">{task}: % on the machine against '
                    f'{"cycles" if timed else "products"} per input</text>')  # fmt: skip

        def y_of(value: float, low: float = low, high: float = high, top: int = top) -> float:
            return top + height * (high - value) / (high - low)

        for i in range(5):
            value = low + (high - low) * i / 4
            body.append(
                f'<line x1="{left}" y1="{y_of(value):.1f}" x2="{left + width}" y2="{y_of(value):.1f}" stroke="#ddd"/>'
            )
            body.append(f'<text x="{left - 6}" y="{y_of(value) + 4:.1f}" text-anchor="end">{value:.1f}</text>')
            body.append(
                f'<text x="{left + width * i / 4:.1f}" y="{top + height + 14}" text-anchor="middle">{most * i / 4:,.0f}</text>'
            )
        for value in full:
            body.append(
                f'<line x1="{left}" y1="{y_of(value):.1f}" x2="{left + width}" y2="{y_of(value):.1f}" stroke="#444"/>'
            )
        for row, x, y in zip(mine, across, up, strict=True):
            color = "#2166ac" if row["fit"] == "calibrated" else "#b35806"
            at = f'cx="{left + width * x / most:.1f}" cy="{y_of(y):.1f}"'
            fill = "none" if row["terms"] == 0 else color
            body.append(f'<circle {at} r="4" fill="{fill}" stroke="{color}"/>')
        top += height + 50
    body.append(
        f'<text x="{left}" y="{top - 12}">orange: least squares; blue: calibrated; ring: T chosen; line: full precision</text>'
    )
    size = f'width="{left + width + 40}" height="{top}" font-family="sans-serif" font-size="11"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tasks", nargs="+", default=["digits-cnn", "keywords"], choices=list(MACHINES), metavar="TASK"
    )
    parser.add_argument("--seeds", type=int, default=1, help="0 .. SEEDS-1 (default: 1)")
    parser.add_argument("--epochs", type=int, help="epochs instead of the recipe's own")
    parser.add_argument("--out", type=Path, default=Path("docs/post-training.json"))
    options = parser.parse_args(arguments)
    rows = load(options.out)
    done = {(row["task"], row["seed"], row["fit"], row["terms"]) for row in rows}
    wanted = [
        (t, s) for t in options.tasks for s in range(options.seeds) if any((t, s, *v) not in done for v in variants())
    ]
    with Progress().bar("converting", total=len(wanted) * len(list(variants()))) as advance:
        for task, seed in wanted:
            trained = _trained(task, seed, options.epochs)
            for variant in variants():
                if (task, seed, *variant) not in done:
                    rows.append(measure(task, seed, trained, variant))
                    save(options.out, rows)
                advance(1)
    print(markdown(rows, options.out))


if __name__ == "__main__":
    try:
        main()
    except ShiftForgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
