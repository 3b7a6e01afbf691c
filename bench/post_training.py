"""Networks that were not trained for shifts: accuracy on the machine's golden model against its cycles, for 1 to 3 terms a weight.

    python -m bench.post_training [--tasks digits-cnn keywords] [--seeds 3] [--out docs/post-training.json]

For every task the full-precision network is trained, turned into sums of power-of-two terms (by least squared error of the
weights, or calibrated with training inputs, also with exponents per K index), and run as a compiled program on the golden model of
the machine, whose bits are those of the hardware; cycles are those of its exact cycle model. "chosen" has terms per layer by an
accuracy budget of one point on 512 training inputs. The page and the plot are written beside the file. What is in the file already
is not measured again.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bench.post_training_report import (
    BITS,
    CALIBRATION,
    CHOICE_ROWS,
    COLS,
    DROP,
    EXPONENTS,
    K_BIAS_BITS,
    ROWS,
    Row,
    load,
    markdown,
    save,
)
from golden.emulator import EmulatorTransport
from golden.train.choose import choose_terms, products_per_input
from golden.train.loop import accuracy, threads
from golden.train.post_training import TermSumLayer, convert_pretrained
from golden.train.runner import export
from golden.train.single import Options, train_network, with_epochs
from golden.train.task import Data, Split, Task
from golden.train.tasks import TASKS
from golden.train.trace import trace
from shiftforge.config import Config, from_dict
from shiftforge.errors import InputError, ShiftForgeError
from shiftforge.progress import Progress
from sim.golden_run import run_golden_network
from sw_driver.accelerator import Accelerator
from sw_driver.compiler.pipeline import compile_graph
from sw_driver.importers.pt2 import import_program

TIMED = 8
"""Inputs of the timed batch; the schedule does not depend on their values."""
MACHINES = {"digits-cnn": (1024, False), "digits-mlp": (256, False), "keywords": (16384, True)}
"""max_k of the machine, and whether it has masks, which depthwise layers and averages need."""

Variant = tuple[str, int]
"""How the weights are fitted, and the terms (0: chosen per layer)."""


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
                "accumulator": "aligned",  # depthwise layers: no cycles for reading banks
            },
            "memory": {"activation_words": 32768, "weight_words": 65536, "parameter_words": 1024},
            "interface": {"stream_bits": 64},
        }
    )


def on_machine(model: nn.Module, test: Split, config: Config) -> tuple[float, float | None, str | None]:
    """Accuracy on the golden model of the machine, cycles per input, and why there are none."""
    if any(isinstance(module, TermSumLayer) and module.fit.k_bias is not None for module in model.modules()):
        # An exported program has plain weights alone, without what of them belongs to the K index.
        graph = trace(model, test.x.shape[1:], mask=config.weights.mask)
    else:
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
    calibrated, k_bias_bits = fit.startswith("calibrated"), K_BIAS_BITS if fit.endswith(EXPONENTS) else 0
    calibration = trained.train.batch(_some(trained.train, CALIBRATION), None)[0] if calibrated else None
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
    small = convert_pretrained(model, BITS, chosen, calibration=calibration, k_bias_bits=k_bias_bits)
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
    for terms in (1, 2):
        yield f"calibrated{EXPONENTS}", terms


def _trained(name: str, seed: int, epochs: int | None) -> Trained:
    task = with_epochs(TASKS[name], epochs)
    data, test = task.load()
    if not isinstance(test, Split):
        raise InputError(f"the test set of {name} must be in memory, and is not")
    with threads(1), torch.random.fork_rng(devices=[]):
        made = train_network(task, "full", BITS, data, test, Options(seed))
    return Trained(task, made.model, data, test)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tasks", nargs="+", default=["digits-cnn", "keywords"], choices=list(MACHINES), metavar="TASK"
    )
    parser.add_argument("--seeds", type=int, default=3, help="0 .. SEEDS-1 (default: 3)")
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
