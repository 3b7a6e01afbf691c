"""What the layers of a network read for a batch, as the matrices that their weight matrices are multiplied with."""

import copy
from collections.abc import Callable, Collection

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from shiftforge.errors import InputError

LARGEST_ROWS = 1 << 14
"""Rows that are kept of a layer's matrix: evenly spread over images and positions."""

Plain = nn.Linear | nn.Conv1d | nn.Conv2d
PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""Exactly these: what a subclass does with its weight is unknown."""


def patches(layer: Plain, x: Tensor) -> Tensor:
    """What each group of the layer multiplies: ``(groups, rows, K)``, in the order of the weight's flattened axes.

    For a Linear layer one group, and a row per vector; for a convolution a row per output position.
    """
    if isinstance(layer, nn.Linear):
        return x.flatten(0, -2).unsqueeze(0)
    axes = 1 if isinstance(layer, nn.Conv1d) else 2
    if isinstance(layer.padding, str):
        totals = [
            d * (k - 1) if layer.padding == "same" else 0
            for d, k in zip(layer.dilation, layer.kernel_size, strict=True)
        ]
        edges = [(total // 2, total - total // 2) for total in totals]
    else:
        edges = [(p, p) for p in layer.padding]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = functional.pad(x, [size for edge in reversed(edges) for size in edge], mode=mode)
    kernel, dilation, stride = layer.kernel_size, layer.dilation, layer.stride
    if axes == 1:
        x = x.unsqueeze(2)
        kernel, dilation, stride = (1, *kernel), (1, *dilation), (1, *stride)
    # (images, channels * taps, positions), channels outermost: each group is a range of them.
    unfolded = functional.unfold(x, kernel, dilation, 0, stride)
    return unfolded.unflatten(1, (layer.groups, -1)).permute(1, 0, 3, 2).flatten(1, 2)


def layer_inputs(
    model: nn.Module, batch: Tensor, names: Collection[str] | None = None
) -> dict[str, NDArray[np.float64]]:
    """What Linear layers and convolutions of the model read for the batch, in the order in which they first run.

    Parameters
    ----------
    names : collection of str
        Of layers; None for all that are no subclass.

    Returns
    -------
    (groups, rows, K) by the layer's name; of a layer that runs twice the rows of both runs, of one that does not run nothing.
    """
    seen: dict[str, list[NDArray[np.float64]]] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
            if not isinstance(layer, Plain):
                raise InputError(f"layer {name!r} must be a Linear or a convolution, not {type(layer).__name__}")
            rows = patches(layer, args[0].detach()).double().cpu()
            chosen = torch.linspace(0, rows.shape[1] - 1, min(rows.shape[1], LARGEST_ROWS)).long()
            seen.setdefault(name, []).append(rows[:, chosen].numpy())

        return hook

    model = copy.deepcopy(model).eval()
    for name, module in model.named_modules():
        if type(module) in PLAIN if names is None else name in names:
            module.register_forward_pre_hook(watch(name))
    with torch.no_grad():
        model(batch)
    return {name: np.concatenate(parts, 1) for name, parts in seen.items()}
