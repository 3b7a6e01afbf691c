"""Training: a DenseShift network and its float32 twin with one recipe and one seed, and their export."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import MappingProxyType

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from golden.train.baselines import advance, sparsity_penalty
from golden.train.convert import convert
from golden.train.digits import DIGITS_MLP
from golden.train.loop import accuracy, fit, one_thread
from golden.train.methods import METHODS, method_named
from golden.train.rounding import rounded_inputs
from golden.train.task import Recipe, Split, Task
from shiftforge.errors import InputError
from shiftforge.formats import WeightCode, format_named

TASKS = MappingProxyType({task.name: task for task in (DIGITS_MLP,)})

INQ_PORTIONS = (0.5, 0.75, 0.875, 1.0)
"""Portions of the weights that INQ fixes, at the start of the first, second, third and last quarter of the epochs."""


@dataclass(frozen=True)
class Step:
    """One finished epoch, for a progress display.

    ``done`` of ``total`` epochs are finished, those of both networks counted.
    """

    network: str
    epoch: int
    loss: float
    done: int
    total: int


@dataclass(frozen=True)
class TrainResult:
    """What a run gave.

    Members
    -------
    model, float32_model : nn.Module
        The DenseShift network and its twin, in eval mode.
    torch_accuracy, float32_accuracy : float
        The share of right answers on the test split, 0..1, both computed by torch in float32.
    losses, float32_losses : tuple of float
        The mean training loss of each epoch.
    test : Split
    seconds : float
        The time both trainings took.
    """

    task: str
    bits: int
    activation: str
    seed: int
    model: nn.Module
    float32_model: nn.Module
    torch_accuracy: float
    float32_accuracy: float
    losses: tuple[float, ...]
    float32_losses: tuple[float, ...]
    test: Split
    seconds: float
    method: str = "denseshift"


def task_named(name: str) -> Task:
    """The task of that name; ``InputError`` lists the names otherwise."""
    try:
        return TASKS[name]
    except KeyError:
        raise InputError(f"task must be one of {', '.join(TASKS)}, not {name!r}") from None


def train(
    task: str | Task,
    *,
    bits: int = 3,
    activation: str = "fp16",
    epochs: int | None = None,
    seed: int = 0,
    method: str = "denseshift",
    progress: Callable[[Step], None] | None = None,
) -> TrainResult:
    """Train the task's network with weights of ``bits`` bits, and its float32 twin with the same recipe and seed.

    All methods have the same recipe and start from the same fresh weights (or from latents of their own), but for INQ, which is
    defined on a trained network: it starts from the twin's weights, and so has trained twice as long in all.

    The same arguments give the same result on one machine; torch's global generator and thread count are left as
    they were.

    Parameters
    ----------
    task : str or Task
        A name in ``TASKS``, or a task of your own.
    activation : str
        Format to which the inputs of every layer are rounded while the DenseShift network trains.
    epochs : int or None
        None for the recipe's own.
    seed : int
        0 .. 2**32 - 1: initial weights and order of the batches.
    method : str
        A name in ``METHODS`` other than "full".
    progress : callable
        Called after each epoch; see ``rich_progress``.

    Raises
    ------
    InputError
        For a wrong argument or data that are not finite.
    CheckFailed
        When the loss stops being finite.
    """
    chosen = task_named(task) if isinstance(task, str) else task
    WeightCode(bits)
    if method_named(method).linear is None:
        others = ", ".join(each.name for each in METHODS.values() if each.linear is not None)
        raise InputError(f"method must be one of {others} to train beside the float32 twin, not {method!r}")
    format_named(activation)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 1 << 32:
        raise InputError(f"seed must be an integer from 0 to 2**32 - 1, not {seed!r}")
    recipe = chosen.recipe
    if epochs is not None:
        recipe = Recipe(epochs, recipe.batch, recipe.learning_rate, recipe.weight_decay)
    data, test = chosen.load()
    if len(data.x) < recipe.batch:
        raise InputError(f"the training split must hold a batch of {recipe.batch} or more, not {len(data.x)!r}")

    networks = ("float32", f"{bits}-bit" if method == "denseshift" else f"{method} {bits}-bit")
    total = recipe.epochs * len(networks)
    models: list[nn.Module] = []
    losses: list[list[float]] = []
    start = perf_counter()
    with one_thread(), torch.random.fork_rng(devices=[]):
        for network in networks:
            torch.manual_seed(seed)
            model = chosen.build()
            if network != "float32":
                start_from = models[0].train() if method == "inq" else model
                model = convert(start_from, bits, chosen.keep, method)
                advance(model, INQ_PORTIONS[0])
            history: list[float] = []
            with rounded_inputs(model, "fp32" if network == "float32" else activation):
                for loss in fit(model, network, data, recipe, seed, sparsity_penalty if method == "s3" else None):
                    history.append(loss)
                    advance(model, _portion(len(history), recipe.epochs))
                    if progress is not None:
                        done = len(models) * recipe.epochs + len(history)
                        progress(Step(network, len(history), loss, done, total))
            models.append(model)
            losses.append(history)
        seconds = perf_counter() - start
        accuracies = [accuracy(model.eval(), test) for model in models]
    return TrainResult(
        task=chosen.name,
        bits=bits,
        activation=activation,
        seed=seed,
        model=models[1],
        float32_model=models[0],
        torch_accuracy=accuracies[1],
        float32_accuracy=accuracies[0],
        losses=tuple(losses[1]),
        float32_losses=tuple(losses[0]),
        test=test,
        seconds=seconds,
        method=method,
    )


def _portion(done: int, epochs: int) -> float:
    """What INQ must have fixed after ``done`` of the epochs."""
    return INQ_PORTIONS[-1] if done >= epochs else INQ_PORTIONS[done * len(INQ_PORTIONS) // epochs]


@contextmanager
def rich_progress(console: Console | None = None) -> Iterator[Callable[[Step], None]]:
    """A progress bar with the time left, to pass to ``train`` (on standard error unless a console is given)."""
    columns = (
        TextColumn("training {task.fields[network]}"),
        BarColumn(),
        TextColumn("epoch {task.fields[epoch]}, loss {task.fields[loss]:.4f}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console or Console(stderr=True)) as bar:
        bar_id = bar.add_task("train", total=None, network="", epoch=0, loss=math.nan)

        def show(step: Step) -> None:
            bar.update(
                bar_id,
                completed=step.done,
                total=step.total,
                network=step.network,
                epoch=step.epoch,
                loss=step.loss,
            )

        yield show


def split_path(path: Path) -> Path:
    """``MODEL.test.npz``, beside ``MODEL.pt2``."""
    return path.with_suffix(".test.npz")


def check_target(path: Path | str) -> Path:
    """The path, when ``save`` could write there; for a check before a long training. ``InputError`` otherwise."""
    target = Path(path)
    if target.suffix != ".pt2":
        raise InputError(f"the model's file name must end in .pt2, not {target.name!r}")
    if not target.parent.is_dir():
        raise InputError(f"the folder of the model's file must exist, not {str(target.parent)!r}")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise InputError(f"the folder of the model's file must be writable, not {str(target.parent)!r}")
    for each in (target, split_path(target)):
        if each.is_dir():
            raise InputError(f"the file to write must not be a folder, not {str(each)!r}")
    return target


def export(model: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    """The ``torch.export`` program of a model in eval mode; axis 0 of its input is the batch, of any size.

    DenseShift layers are exported with their latents: element-wise nodes that depend on parameters alone.
    """
    if model.training:
        raise InputError("the model to export must be in eval mode, not in training mode")
    # Two rows, since an example of one row would be taken for a constant batch of 1.
    rows = torch.cat([example[:1], example[:1]])
    return torch.export.export(model, (rows,), dynamic_shapes=({0: torch.export.Dim("batch")},))


def save(result: TrainResult, path: Path | str) -> tuple[Path, Path]:
    """Write ``MODEL.pt2`` and ``MODEL.test.npz``; each appears complete or not at all.

    The second file holds ``x`` (float32), ``y`` (int64), and ``float32_accuracy``, ``torch_accuracy`` (0..1, float64),
    ``bits``, ``seed`` (int64) and ``activation`` (a string) as arrays without axes.
    """
    target = check_target(path)
    arrays = split_path(target)
    program = export(result.model, torch.from_numpy(result.test.x))
    # Written beside the target, since only a rename within one file system is atomic; torch wants the suffix.
    partial = [p.with_name(f".{p.stem}.{os.getpid()}.partial{p.suffix}") for p in (target, arrays)]
    try:
        torch.export.save(program, partial[0])
        with partial[1].open("wb") as file:
            np.savez(
                file,
                x=result.test.x,
                y=result.test.y,
                float32_accuracy=np.float64(result.float32_accuracy),
                torch_accuracy=np.float64(result.torch_accuracy),
                bits=np.int64(result.bits),
                seed=np.int64(result.seed),
                activation=np.str_(result.activation),
            )
        for done, final in zip(partial, (target, arrays), strict=True):
            done.replace(final)
    except OSError as error:
        raise InputError(f"the model's file must be writable, not {str(target)!r} ({error.strerror})") from error
    finally:
        for leftover in partial:
            leftover.unlink(missing_ok=True)
    return target, arrays
