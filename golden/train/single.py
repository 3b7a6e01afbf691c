"""The training of one network by one method, from its fresh weights to its accuracy, interruptible after every epoch."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from golden.train.baselines import advance, sparsity_penalty
from golden.train.convert import convert
from golden.train.loop import Fitting, accuracy
from golden.train.metrics import FreezingMeter, TrainingState
from golden.train.rounding import rounded_inputs
from golden.train.task import Data, Recipe, Task
from golden.train.workers import ALONE, Workers
from shiftforge.errors import InputError

INQ_PORTIONS = (0.5, 0.75, 0.875, 1.0)
"""Portions of the weights that INQ fixes, at the start of the first, second, third and last quarter of the epochs."""


@dataclass(frozen=True)
class Epoch:
    """One finished epoch: the network, what it learns ("pretraining" or "training"), its loss and unchanged share of codes."""

    network: str
    phase: str
    epoch: int
    loss: float
    unchanged: float | None


@dataclass(frozen=True)
class Options:
    """What one run is, besides its task.

    Parameters
    ----------
    seed : int
        0 .. 2**32 - 1: initial weights and order of the batches.
    activation : str
        Format to which the inputs of every layer are rounded while a trained network of shifts trains.
    device : str
        A torch device.
    mixed : bool
        Products in bfloat16 while training.
    """

    seed: int = 0
    activation: str = "fp16"
    device: str = "cpu"
    mixed: bool = False
    workers: Workers = ALONE

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 1 << 32:
            raise InputError(f"seed must be an integer from 0 to 2**32 - 1, not {self.seed!r}")
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(
                f"device must be one that torch finds here, not {self.device!r} ({str(error).splitlines()[0]})"
            ) from None


@dataclass(frozen=True, eq=False)
class Trained:
    """One trained network.

    Members
    -------
    model : nn.Module
        In eval mode, on the CPU.
    accuracy : float
        The share of right answers on the test set, 0..1, by torch in float32.
    losses : tuple of float
        The mean loss of every epoch, those of the pretraining first.
    unchanged, frozen : tuple of float
        For every epoch of the training: the share of weights whose code is that of the epoch before, and the share whose code
        changes in no later epoch. Empty for full precision.
    """

    model: nn.Module
    accuracy: float
    losses: tuple[float, ...]
    unchanged: tuple[float, ...]
    frozen: tuple[float, ...]


def network_name(method: str, bits: int) -> str:
    """What messages call the network."""
    if method == "full":
        return "float32"
    return f"{bits}-bit" if method == "denseshift" else f"{method} {bits}-bit"


def portion(done: int, epochs: int) -> float:
    """What INQ must have fixed after ``done`` of the epochs."""
    return INQ_PORTIONS[-1] if done >= epochs else INQ_PORTIONS[done * len(INQ_PORTIONS) // epochs]


def with_epochs(task: Task, epochs: int | None) -> Task:
    """The task with so many epochs; its pretraining keeps its own, but never more than these."""
    if epochs is None:
        return task
    before = task.pretraining
    if before is not None:
        recipe = replace(task.recipe, epochs=epochs)
        before = replace(before, recipe=replace(before.recipe, epochs=min(before.recipe.epochs, recipe.epochs)))
    return replace(task, recipe=replace(task.recipe, epochs=epochs), pretraining=before)


def phases_of(task: Task, method: str) -> tuple[str, ...]:
    """What a network learns, in order. INQ starts from the trained float32 network, which has had the pretraining."""
    return ("training",) if task.pretraining is None or method == "inq" else ("pretraining", "training")


def epochs_of(task: Task, method: str) -> int:
    """Epochs of all phases together."""
    before = 0 if task.pretraining is None or method == "inq" else task.pretraining.recipe.epochs
    return before + task.recipe.epochs


def train_network(
    task: Task,
    method: str,
    bits: int,
    data: Data,
    test: Data,
    options: Options,
    *,
    twin: nn.Module | None = None,
    show: Callable[[Epoch], None] | None = None,
    keep: Callable[[TrainingState], None] | None = None,
    state: TrainingState | None = None,
) -> Trained:
    """Train the task's network by ``method`` ("full" for plain weights).

    Parameters
    ----------
    data, test : Data
        What ``task.load`` gives.
    twin : nn.Module
        The trained float32 network, from which INQ starts; others do not use it.
    show : callable
        Called after every epoch.
    keep : callable
        Called after every epoch with a state from which the same call goes on, given as ``state``, to the same result.
    """
    if method == "inq" and twin is None:
        raise InputError("a trained float32 twin must be given for the method 'inq', not None")
    name, phases = network_name(method, bits), phases_of(task, method)
    torch.manual_seed(options.seed)
    model = task.build()
    if method != "full":
        start = copy.deepcopy(twin).train() if method == "inq" and twin is not None else model
        model = convert(start, bits, task.keep, method)
    model.to(options.device)
    progress = _Progress(state)
    first = phases.index(progress.phase) if state is not None else 0
    for phase in phases[first:]:
        resumed = state if phase == progress.phase else None
        recipe = task.recipe
        phase_data = data
        if task.pretraining is not None:
            if phase == "pretraining":
                recipe, phase_data = task.pretraining.recipe, task.pretraining.load()
            elif method != "inq":
                _start_anew(model, task.pretraining.fresh, options.seed)
        _run_phase(model, name, phase, phase_data, recipe, method, options, progress, resumed, show, keep)
    model.to("cpu").eval()
    return Trained(model, accuracy(model, test), tuple(progress.losses), tuple(progress.unchanged), progress.frozen)


class _Progress:
    """What a run has measured so far."""

    def __init__(self, state: TrainingState | None) -> None:
        self.phase = "" if state is None else str(state["phase"])
        self.losses: list[float] = [] if state is None else _floats(state, "losses")
        self.unchanged: list[float] = [] if state is None else _floats(state, "unchanged")
        self.frozen: tuple[float, ...] = ()


def _floats(state: TrainingState, key: str) -> list[float]:
    values = state[key]
    if not isinstance(values, list) or not all(isinstance(v, float) for v in values):
        raise InputError(f"{key} of the checkpoint must be a list of numbers, not {values!r}")
    return list(values)


def _part(state: TrainingState, key: str) -> TrainingState:
    part = state[key]
    if not isinstance(part, dict):
        raise InputError(f"{key} of the checkpoint must be a table, not {type(part).__name__}")
    return part


def _run_phase(
    model: nn.Module,
    name: str,
    phase: str,
    data: Data,
    recipe: Recipe,
    method: str,
    options: Options,
    progress: _Progress,
    state: TrainingState | None,
    show: Callable[[Epoch], None] | None,
    keep: Callable[[TrainingState], None] | None,
) -> None:
    training = phase == "training"
    penalty = sparsity_penalty if method == "s3" else None
    fitting = Fitting(model, name, data, recipe, options.seed, penalty, workers=options.workers, mixed=options.mixed)
    if training:
        advance(model, INQ_PORTIONS[0])
    meter = FreezingMeter(model)
    if state is not None:
        fitting.load(_part(state, "fitting"))
        meter.load(_part(state, "meter"))
    with rounded_inputs(model, "fp32" if method == "full" else options.activation):
        while fitting.epoch < recipe.epochs:
            loss = fitting.run_epoch()
            if training:
                advance(model, portion(fitting.epoch, recipe.epochs))
            unchanged = meter.update(model)
            progress.losses.append(loss)
            if training and unchanged is not None:
                progress.unchanged.append(unchanged)
            if keep is not None:
                keep(
                    {
                        "phase": phase,
                        "losses": list(progress.losses),
                        "unchanged": list(progress.unchanged),
                        "fitting": fitting.state(),
                        "meter": meter.state(),
                    }
                )
            if show is not None:
                show(Epoch(name, phase, fitting.epoch, loss, unchanged))
    progress.frozen = meter.frozen()


def _start_anew(model: nn.Module, names: tuple[str, ...], seed: int) -> None:
    """Draw the weights of these layers anew, from a seed of their own, so that a resumed run draws the same."""
    torch.manual_seed(seed)
    for name in names:
        for layer in model.get_submodule(name).modules():
            reset = getattr(layer, "reset_parameters", None)
            if reset is not None:
                reset()
