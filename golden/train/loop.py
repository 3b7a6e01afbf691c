"""The training loop of one network, and its accuracy."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from golden.train.baselines import APoT
from golden.train.geometry import ShiftLayer
from golden.train.metrics import TrainingState
from golden.train.task import Data, Recipe
from golden.train.workers import ALONE, Workers
from shiftforge.errors import CheckFailed, InputError

Penalty = Callable[[nn.Module], Tensor]

_EVALUATION_ROWS = 1000  # bounds the memory of an evaluation


def accuracy(model: nn.Module, data: Data) -> float:
    """The share of the labels, 0..1, whose class has the largest output; ``model`` must be in eval mode."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    right = total = 0
    with torch.no_grad():
        for rows in torch.arange(len(data)).split(_EVALUATION_ROWS):
            x, y = data.batch(rows, None)
            right += int((model(x.to(device)).argmax(1).cpu() == y).sum())
            total += y.numel()
    return right / total


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, list[nn.Parameter] | float]]:
    """The weights (latents of trained layers, and plain weights), and everything else: biases, BatchNorm, learned scales.

    The first group decays by ``recipe.weight_decay``, the second by ``recipe.other_decay``.
    """
    weights: dict[int, nn.Parameter] = {}
    other: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            latent = (
                isinstance(module, ShiftLayer) and name != "bias" and not (isinstance(module, APoT) and name == "alpha")
            )
            (weights if latent or parameter.ndim > 1 else other).setdefault(id(parameter), parameter)
    decay = recipe.weight_decay if recipe.other_decay is None else recipe.other_decay
    groups = (
        (list(weights.values()), recipe.weight_decay),
        ([p for key, p in other.items() if key not in weights], decay),
    )
    return [{"params": parameters, "weight_decay": value} for parameters, value in groups if parameters]


class Fitting:
    """The training of one network, epoch by epoch, with a state that can be kept and gone on from.

    Parameters
    ----------
    model : nn.Module
        Trained in place.
    network : str
        What an error calls the model.
    seed : int
        The order of the batches, and what augments them.
    penalty : callable
        Gives what a method adds to the loss of every batch.
    workers : Workers
        The processes that share each batch.
    mixed : bool
        Whether products are computed in bfloat16 (torch.autocast); latents, gradients and the loss stay float32.
    """

    def __init__(
        self,
        model: nn.Module,
        network: str,
        data: Data,
        recipe: Recipe,
        seed: int,
        penalty: Penalty | None = None,
        *,
        workers: Workers = ALONE,
        mixed: bool = False,
    ) -> None:
        if recipe.batch % workers.count:
            raise InputError(f"the batch of {recipe.batch} must be divisible by the {workers.count} processes")
        if len(data) < recipe.batch:
            raise InputError(f"the training split must hold a batch of {recipe.batch} or more, not {len(data)!r}")
        self.model, self.network, self.data, self.recipe = model, network, data, recipe
        self.epoch = 0
        self._penalty, self._workers, self._mixed = penalty, workers, mixed
        self._order = torch.Generator().manual_seed(seed)
        self._augment, self._seed = torch.Generator(), seed
        self._device = next(model.parameters()).device
        # An incomplete last batch is left out: BatchNorm's statistics want equal batches, and the order changes each epoch.
        self._batches = len(data) // recipe.batch
        groups = parameter_groups(model, recipe)
        if recipe.optimizer == "adamw":
            self._optimizer: torch.optim.Optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate)
        else:
            self._optimizer = torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9)
        self._forward: nn.Module = DistributedDataParallel(model) if workers.count > 1 else model

    def run_epoch(self) -> float:
        """Train one epoch, and give its mean loss; ``CheckFailed`` when the loss or a parameter stops being finite."""
        self.model.train()
        total, recipe, step = 0.0, self.recipe, self.epoch * self._batches
        epoch = self.epoch + 1
        # A seed of its own for every epoch and worker: no two of them augment alike, and a checkpoint of one serves all.
        self._augment.manual_seed(((self._seed << 24) + epoch) * 1021 + self._workers.rank)
        for chosen in torch.randperm(len(self.data), generator=self._order)[: self._batches * recipe.batch].split(
            recipe.batch
        ):
            for group in self._optimizer.param_groups:
                group["lr"] = recipe.rate(step, self._batches)
            mine = chosen[self._workers.rank :: self._workers.count]
            x, y = (part.to(self._device) for part in self.data.batch(mine, self._augment))
            self._optimizer.zero_grad()
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._mixed):
                outputs = self._forward(x)
            loss: Tensor = functional.cross_entropy(outputs.float(), y)
            if self._penalty is not None:
                loss = loss + self._penalty(self.model)
            value = self._workers.mean(loss).item()
            if not math.isfinite(value):
                raise CheckFailed(self._diverged(epoch, value))
            loss.backward()
            self._optimizer.step()
            step += 1
            total += value
        # A shift layer's weights are finite even where its latents are not, so the loss alone would not show it.
        if any(not bool(p.isfinite().all()) for p in self.model.parameters()):
            raise CheckFailed(self._diverged(epoch, total / self._batches))
        self.epoch = epoch
        return total / self._batches

    def state(self) -> TrainingState:
        """Everything that the next epochs depend on, for a checkpoint after a whole epoch."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "order": self._order.get_state(),
            "global": torch.get_rng_state(),
            "epoch": self.epoch,
        }

    def load(self, state: TrainingState) -> None:
        """Go on from a state: the epochs that follow are those of the run that was not interrupted, bit for bit."""
        model, optimizer, epoch = state["model"], state["optimizer"], state["epoch"]
        order, everywhere = state["order"], state["global"]
        if not (isinstance(model, dict) and isinstance(optimizer, dict) and isinstance(epoch, int)):
            raise InputError("the checkpoint must hold a network, its optimiser and an epoch, and does not")
        if not (isinstance(order, Tensor) and isinstance(everywhere, Tensor)):
            raise InputError("the checkpoint must hold the states of the random numbers, and does not")
        self.model.load_state_dict(model)
        self._optimizer.load_state_dict(optimizer)
        self._order.set_state(order)
        torch.set_rng_state(everywhere)
        self.epoch = epoch

    def _diverged(self, epoch: int, loss: float) -> str:
        broken = next((name for name, p in self.model.named_parameters() if not bool(p.isfinite().all())), None)
        cause = "the outputs overflowed" if broken is None else f"{broken} is no longer finite"
        return (
            f"loss and parameters of the {self.network} network must stay finite, not {loss!r} in epoch {epoch} ({cause}); "
            f"lower the learning rate of {self.recipe.learning_rate!r}"
        )


def fit(
    model: nn.Module, network: str, data: Data, recipe: Recipe, seed: int, penalty: Penalty | None = None
) -> Iterator[float]:
    """Train ``model`` in place, and give the mean loss after each epoch; see ``Fitting``."""
    fitting = Fitting(model, network, data, recipe, seed, penalty)
    for _ in range(recipe.epochs):
        yield fitting.run_epoch()


@contextmanager
def threads(count: int = 1) -> Iterator[None]:
    """So many torch threads; with one, small layers run faster, and sums do not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_thread() -> AbstractContextManager[None]:
    """One torch thread while it lasts."""
    return threads(1)
