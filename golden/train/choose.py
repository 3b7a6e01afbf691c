"""Terms per layer by an accuracy budget: the fewest products that keep a pretrained network's accuracy.

Every layer starts with one term. While the accuracy is too low, one more term goes to the layer that gains most for what it
costs; ties go to the cheaper layer. Accuracy is measured on data that the caller gives: not on the test set.
"""

from collections.abc import Collection
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

import torch
from torch import Tensor, nn

from golden.train.loop import accuracy
from golden.train.post_training import convert_pretrained
from golden.train.task import Data
from golden.train.term_sums import MAX_TERMS
from shiftforge.errors import InputError


@dataclass(frozen=True)
class Choice:
    """One step of the search.

    Members
    -------
    terms : mapping from layer name to int
    products : int
        Products of weights and activations per input, terms counted: what the array's time grows with.
    accuracy : float
        On the given data, 0..1.
    """

    terms: MappingProxyType[str, int]
    products: int
    accuracy: float


def products_per_input(model: nn.Module, example: Tensor) -> dict[str, int]:
    """Products of one input (row 0 of ``example``) in every Linear and convolution, by name."""
    counts: dict[str, int] = {}

    def watch(name: str):  # noqa: ANN202 - the type of a hook
        def hook(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
            weight = layer.get_parameter("weight")
            channels = output.shape[-1] if isinstance(layer, nn.Linear) else output.shape[1]
            counts[name] = counts.get(name, 0) + output[0].numel() // channels * prod(weight.shape)

        return hook

    handles = [
        module.register_forward_hook(watch(name))
        for name, module in model.named_modules()
        if type(module) in (nn.Linear, nn.Conv1d, nn.Conv2d)
    ]
    try:
        with torch.no_grad():
            model(example[:1])
    finally:
        for handle in handles:
            handle.remove()
    return counts


def choose_terms(
    model: nn.Module,
    data: Data,
    bits: int = 3,
    *,
    drop: float = 0.01,
    most: int = 3,
    calibration: Tensor | None = None,
    keep: Collection[str] = (),
) -> tuple[Choice, ...]:
    """Every step of the search for the fewest terms whose accuracy is at most ``drop`` below the model's; the last is the answer.

    Parameters
    ----------
    model : nn.Module
        Trained, in eval mode.
    data : Data
        On which the accuracy is measured.
    drop : float
        0..1.
    most : int
        Terms that a layer may have, 1 to 4.
    calibration, keep
        As in ``convert_pretrained``.

    Raises
    ------
    InputError
        For wrong values, or when ``most`` terms in every layer are not enough; the message tells the accuracy that they reach.
    """
    if not 0 <= drop <= 1:
        raise InputError(f"drop must be 0..1, not {drop!r}")
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= MAX_TERMS:
        raise InputError(f"most must be an integer from 1 to {MAX_TERMS}, not {most!r}")
    if model.training:
        raise InputError("the model must be in eval mode, not in training mode")
    example = data.batch(torch.arange(1), None)[0]
    costs = {name: count for name, count in products_per_input(model, example).items() if name not in keep}
    if not costs:
        raise InputError("the model must have a layer to convert, and has none")
    wanted = accuracy(model, data) - drop

    def measured(terms: dict[str, int]) -> Choice:
        small = convert_pretrained(model, bits, terms, calibration=calibration, keep=keep)
        return Choice(MappingProxyType(terms), sum(costs[n] * t for n, t in terms.items()), accuracy(small, data))

    steps = [measured(dict.fromkeys(costs, 1))]
    while steps[-1].accuracy < wanted:
        now = steps[-1]
        more = [measured({**now.terms, name: count + 1}) for name, count in now.terms.items() if count < most]
        if not more:
            raise InputError(
                f"drop must be {wanted + drop - now.accuracy:.4f} or more for {most} terms in every layer, not {drop!r}"
            )
        steps.append(max(more, key=lambda c: ((c.accuracy - now.accuracy) / (c.products - now.products), -c.products)))
    return tuple(steps)
