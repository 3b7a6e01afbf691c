"""The training loop of one network, and its accuracy."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from golden.train.task import Recipe, Split
from shiftforge.errors import CheckFailed


def accuracy(model: nn.Module, split: Split) -> float:
    """The share of the split, 0..1, whose largest output is the right class; ``model`` must be in eval mode."""
    with torch.no_grad():
        answers = model(torch.from_numpy(split.x)).argmax(1)
    return float((answers == torch.from_numpy(split.y)).double().mean())


def fit(
    model: nn.Module,
    network: str,
    data: Split,
    recipe: Recipe,
    seed: int,
    penalty: Callable[[nn.Module], Tensor] | None = None,
) -> Iterator[float]:
    """Train ``model`` in place, and give the mean loss after each epoch.

    Parameters
    ----------
    network : str
        What an error calls the model.
    seed : int
        The order of the batches.
    penalty : callable
        Gives what a method adds to the loss of every batch.

    Raises
    ------
    CheckFailed
        When the loss or a parameter stops being finite.
    """
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    # An incomplete last batch is left out: BatchNorm's statistics want equal batches, and the order changes each epoch.
    batches = len(x) // recipe.batch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs * batches)
    model.train()
    for epoch in range(1, recipe.epochs + 1):
        total = 0.0
        shuffled = torch.randperm(len(x), generator=order)
        for chosen in shuffled[: batches * recipe.batch].split(recipe.batch):
            optimizer.zero_grad()
            loss: Tensor = functional.cross_entropy(model(x[chosen]), y[chosen])
            if penalty is not None:
                loss = loss + penalty(model)
            value = loss.item()
            if not math.isfinite(value):
                raise CheckFailed(_diverged(model, network, epoch, value, recipe))
            loss.backward()
            optimizer.step()
            schedule.step()
            total += value
        # A shift layer's weights are finite even where its latents are not, so the loss alone would not show it.
        if any(not bool(p.isfinite().all()) for p in model.parameters()):
            raise CheckFailed(_diverged(model, network, epoch, total / batches, recipe))
        yield total / batches


def _diverged(model: nn.Module, network: str, epoch: int, loss: float, recipe: Recipe) -> str:
    broken = next((name for name, p in model.named_parameters() if not bool(p.isfinite().all())), None)
    cause = "the outputs overflowed" if broken is None else f"{broken} is no longer finite"
    return (
        f"loss and parameters of the {network} network must stay finite, not {loss!r} in epoch {epoch} ({cause}); "
        f"lower the learning rate of {recipe.learning_rate!r}"
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread: small layers run faster, and sums do not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
