"""Training runs: a network of shifts and its float32 twin with one recipe and one seed, their checkpoint and their export."""

import io
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from golden.train.checkpoint import Checkpoint, digest
from golden.train.loop import threads
from golden.train.methods import METHODS, method_named
from golden.train.metrics import TrainingState
from golden.train.single import Epoch, Options, Trained, epochs_of, train_network, with_epochs
from golden.train.task import Data, Split, Task
from golden.train.tasks import task_named
from golden.train.workers import joined
from shiftforge.errors import CheckFailed, InputError
from shiftforge.formats import WeightCode, format_named

_EXPORTED_ROWS = 256  # of a test set that is read from files


@dataclass(frozen=True)
class Step:
    """One finished epoch, for a progress display.

    ``done`` of ``total`` epochs are finished, those of both networks counted. ``unchanged`` is the share of weights whose code is
    that of the epoch before; None for full precision.
    """

    network: str
    epoch: int
    loss: float
    done: int
    total: int
    phase: str = "training"
    unchanged: float | None = None


@dataclass(frozen=True)
class TrainResult:
    """What a run gave.

    Members
    -------
    model, float32_model : nn.Module
        The network of shifts and its twin, in eval mode.
    torch_accuracy, float32_accuracy : float
        The share of right answers on the test split, 0..1, both computed by torch in float32.
    losses, float32_losses : tuple of float
        The mean training loss of each epoch.
    test : Split
        The test set; of one that is read from files, the first 256 rows.
    test_rows : int
        Rows of the test set on which both accuracies were measured.
    seconds : float
        The time both trainings took; of a resumed run, from the call that resumed it.
    unchanged, frozen : tuple of float
        See ``golden.train.single.Trained``.
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
    test_rows: int
    seconds: float
    method: str = "denseshift"
    unchanged: tuple[float, ...] = ()
    frozen: tuple[float, ...] = ()


def train(
    task: str | Task,
    *,
    bits: int = 3,
    activation: str = "fp16",
    epochs: int | None = None,
    seed: int = 0,
    method: str = "denseshift",
    progress: Callable[[Step], None] | None = None,
    checkpoint: Path | str | None = None,
    resume: bool = False,
    device: str = "cpu",
    mixed: bool = False,
    thread_count: int = 1,
) -> TrainResult:
    """Train the task's network with weights of ``bits`` bits, and its float32 twin with the same recipe and seed.

    All methods have the same recipe and start from the same fresh weights (or from latents of their own), but for INQ, which is
    defined on a trained network: it starts from the twin's weights, and so has trained twice as long in all.

    The same arguments give the same result on one machine; torch's global generator and thread count are left as
    they were. Under torchrun the processes share every batch, and all return the result.

    Parameters
    ----------
    task : str or Task
        The name of a task without a folder, or a task of your own (``golden.train.tasks.task_named``).
    activation : str
        Format to which the inputs of every layer are rounded while the network of shifts trains.
    epochs : int or None
        None for the recipe's own.
    seed : int
        0 .. 2**32 - 1: initial weights and order of the batches.
    method : str
        A name in ``METHODS`` other than "full".
    progress : callable
        Called after each epoch; see ``rich_progress``.
    checkpoint : Path or str
        A file that is replaced after every epoch, and stays when the run is interrupted or fails.
    resume : bool
        Go on from that file where it exists, to the same result as a run without interruption.
    device, mixed
        See ``golden.train.single.Options``.
    thread_count : int
        Threads of torch.

    Raises
    ------
    InputError
        For a wrong argument, data that are not finite, or a checkpoint of another run or that cannot be written.
    CheckFailed
        When the loss stops being finite.
    """
    chosen = with_epochs(task_named(task) if isinstance(task, str) else task, epochs)
    WeightCode(bits)
    if method_named(method).linear is None:
        others = ", ".join(each.name for each in METHODS.values() if each.linear is not None)
        raise InputError(f"method must be one of {others} to train beside the float32 twin, not {method!r}")
    format_named(activation)
    if isinstance(thread_count, bool) or not isinstance(thread_count, int) or thread_count < 1:
        raise InputError(f"threads must be a positive integer, not {thread_count!r}")
    if resume and checkpoint is None:
        raise InputError("a checkpoint must be named to resume from, not None")
    Options(seed, activation, device, mixed)
    data, test = chosen.load()
    start = perf_counter()
    with threads(thread_count), torch.random.fork_rng(devices=[]), joined(device) as workers:
        options = Options(seed, activation, device, mixed, workers)
        run = {
            "task": chosen.name,
            "method": method,
            "bits": bits,
            "seed": seed,
            "activation": activation,
            "epochs": chosen.recipe.epochs,
            "recipe": f"{chosen.recipe} {chosen.pretraining.recipe if chosen.pretraining else None}",
            "data": digest(data.digest()),
            "torch": str(torch.__version__),
            "device": device,
            "mixed": mixed,
            "threads": thread_count,
            "processes": workers.count,
        }
        both = _Both(chosen, bits, method, data, test, options, progress if workers.first else None)
        file = None if checkpoint is None else Checkpoint(checkpoint, run)
        if file is not None and resume and file.path.exists():
            both.load(file.read())
        try:
            twin, trained = both.run(file if workers.first else None)
        except CheckFailed as error:
            if file is None or not file.path.exists():
                raise
            raise CheckFailed(f"{error}; {str(file.path)!r} holds the last good epoch") from None
    return TrainResult(
        task=chosen.name,
        bits=bits,
        activation=activation,
        seed=seed,
        model=trained.model,
        float32_model=twin.model,
        torch_accuracy=trained.accuracy,
        float32_accuracy=twin.accuracy,
        losses=trained.losses,
        float32_losses=twin.losses,
        test=_in_memory(test),
        test_rows=len(test),
        seconds=perf_counter() - start,
        method=method,
        unchanged=trained.unchanged,
        frozen=trained.frozen,
    )


class _Both:
    """The twin and the network of shifts, one after the other, with one checkpoint."""

    def __init__(
        self,
        task: Task,
        bits: int,
        method: str,
        data: Data,
        test: Data,
        options: Options,
        progress: Callable[[Step], None] | None,
    ) -> None:
        self._task, self._bits, self._method, self._options = task, bits, method, options
        self._data, self._test, self._progress = data, test, progress
        self._states: dict[str, TrainingState] = {}

    def load(self, state: TrainingState) -> None:
        """Go on from a checkpoint."""
        for network, each in state.items():
            if not isinstance(each, dict):
                raise InputError(f"the checkpoint's network {network!r} must be a table, not {type(each).__name__}")
            self._states[network] = each

    def run(self, file: Checkpoint | None) -> tuple[Trained, Trained]:
        twin = self._one("full", None, file)
        return twin, self._one(self._method, twin.model, file)

    def _one(self, method: str, twin: nn.Module | None, file: Checkpoint | None) -> Trained:
        before = 0 if method == "full" else epochs_of(self._task, "full")
        total = epochs_of(self._task, "full") + epochs_of(self._task, self._method)
        state = self._states.get(method)
        done = before if state is None else before + len(_list(state["losses"]))

        def show(epoch: Epoch) -> None:
            nonlocal done
            done += 1
            if self._progress is not None:
                self._progress(Step(epoch.network, epoch.epoch, epoch.loss, done, total, epoch.phase, epoch.unchanged))

        def keep(state: TrainingState) -> None:
            self._states[method] = state
            if file is not None:
                file.write(dict(self._states))

        return train_network(
            self._task,
            method,
            self._bits,
            self._data,
            self._test,
            self._options,
            twin=twin,
            show=show,
            keep=keep,
            state=state,
        )


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise InputError(f"the checkpoint's losses must be a list, not {type(value).__name__}")
    return value


@contextmanager
def rich_progress(console: Console | None = None) -> Iterator[Callable[[Step], None]]:
    """A progress bar with the time left, to pass to ``train`` (on standard error unless a console is given)."""
    columns = (
        TextColumn("{task.fields[phase]} {task.fields[network]}"),
        BarColumn(),
        TextColumn("epoch {task.fields[epoch]}, loss {task.fields[loss]:.4f}{task.fields[unchanged]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=console or Console(stderr=True))
    bar_id = bar.add_task("train", total=None, network="", epoch=0, loss=math.nan, phase="training", unchanged="")
    try:

        def show(step: Step) -> None:
            bar.start()  # with the first epoch: an error before it is not preceded by an empty bar
            bar.update(
                bar_id,
                completed=step.done,
                total=step.total,
                network=step.network,
                epoch=step.epoch,
                loss=step.loss,
                phase=step.phase,
                unchanged="" if step.unchanged is None else f", {100 * step.unchanged:.1f} % of codes unchanged",
            )

        yield show
    finally:
        if bar.live.is_started:
            bar.stop()


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


def _in_memory(data: Data) -> Split:
    """The set, or the first rows of one that is read from files."""
    if isinstance(data, Split):
        return data
    x, y = data.batch(torch.arange(min(len(data), _EXPORTED_ROWS)), None)
    return Split(x.numpy(), y.numpy())


def save(result: TrainResult, path: Path | str) -> tuple[Path, Path]:
    """Write ``MODEL.pt2`` and ``MODEL.test.npz``; each appears complete or not at all.

    The second file holds ``x`` (float32, or int64 for characters), ``y`` (int64), and ``float32_accuracy``,
    ``torch_accuracy`` (0..1, float64), ``bits``, ``seed`` (int64) and ``activation`` (a string) as arrays without axes.
    """
    target = check_target(path)
    arrays = split_path(target)
    program = export(result.model, torch.from_numpy(result.test.x))
    # In memory first: torch ends the whole process when a file that it writes does not fit on the disk.
    contents = io.BytesIO(), io.BytesIO()
    torch.export.save(program, contents[0])
    np.savez(
        contents[1],
        x=result.test.x,
        y=result.test.y,
        float32_accuracy=np.float64(result.float32_accuracy),
        torch_accuracy=np.float64(result.torch_accuracy),
        bits=np.int64(result.bits),
        seed=np.int64(result.seed),
        activation=np.str_(result.activation),
    )
    # Written beside the targets, since only a rename within one file system is atomic; renamed when both are whole.
    partial = [p.with_name(f".{p.stem}.{os.getpid()}.partial{p.suffix}") for p in (target, arrays)]
    try:
        for each, data in zip(partial, contents, strict=True):
            each.write_bytes(data.getbuffer())
        for done, final in zip(partial, (target, arrays), strict=True):
            done.replace(final)
    except OSError as error:
        raise InputError(f"the model's file must be writable, not {str(target)!r} ({error.strerror})") from error
    finally:
        for leftover in partial:
            leftover.unlink(missing_ok=True)
    return target, arrays
