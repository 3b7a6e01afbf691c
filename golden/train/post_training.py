"""Trained plain networks as sums of power-of-two weights, without training: layer by layer, by weights or by outputs."""

import copy
from collections.abc import Collection, Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from golden.train.calibrated import Calibrated, fit_groups
from golden.train.calibration import PLAIN, Plain, layer_inputs
from golden.train.convert import replaced
from golden.train.term_sums import TermSum, fit_greedy, fit_optimal, terms_within
from shiftforge.errors import InputError

Fit = Literal["optimal", "greedy"]


class TermSumLayer(nn.Module):
    """A plain Linear or convolution whose weight is the sums, and one scale per output channel after it.

    Members
    -------
    layer : nn.Linear, nn.Conv1d or nn.Conv2d, without a bias
        Its weight holds ``fit.sums()``.
    scale, bias : buffer (N,)
    """

    scale: Tensor
    bias: Tensor

    def __init__(self, layer: nn.Linear | nn.Conv1d | nn.Conv2d, fit: TermSum, bias: Tensor | None) -> None:
        super().__init__()
        self.layer, self.fit = layer, fit
        like = layer.weight.detach()
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(fit.sums()).reshape(like.shape))
        layer.weight.requires_grad_(False)
        self.register_buffer("scale", torch.from_numpy(fit.scale).to(like))
        self.register_buffer("bias", torch.zeros_like(self.scale) if bias is None else bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        axes = 0 if isinstance(self.layer, nn.Linear) else self.layer.weight.ndim - 2
        shape = (-1, *[1] * axes)
        return self.layer(x) * self.scale.view(shape) + self.bias.view(shape)

    def extra_repr(self) -> str:
        return f"terms={self.fit.terms}, bits={self.fit.bits}"


def convert_pretrained(
    model: nn.Module,
    bits: int = 3,
    terms: int | Mapping[str, int] | None = 2,
    *,
    budget: float | None = None,
    fit: Fit = "optimal",
    calibration: Tensor | None = None,
    keep: Collection[str] = (),
    k_bias_bits: int = 0,
) -> nn.Module:
    """A copy of a trained model, in eval mode, whose Linear, Conv1d and Conv2d layers are sums of powers of two.

    Parameters
    ----------
    terms : int, or a mapping from layer name to int
        1 to 4. None to choose the fewest per layer within ``budget``.
    budget : float
        Largest squared error of a layer's weight by its squared norm.
    fit : "optimal" or "greedy"
    calibration : Tensor
        A batch for the model. Layers are then fitted one after another, in the order in which they run, by the error of their
        outputs, each for what the converted layers before it give (``fit_calibrated``); biases take up what is left of the mean.
    keep : collection of str
        Names of layers that stay as they are.
    k_bias_bits : int
        Width of an exponent bias per K index (``fit_optimal``). The golden model runs them, no machine of this version does.

    Raises
    ------
    InputError
        When neither or both of terms and budget are given, for a name that is no layer, or a layer without its number.
    """
    if (terms is None) == (budget is None):
        raise InputError("either terms or budget must be given, and the other be None")
    if fit not in ("optimal", "greedy"):
        raise InputError(f"fit must be 'optimal' or 'greedy', not {fit!r}")
    if fit == "greedy" and (calibration is not None or k_bias_bits):
        raise InputError("calibration and k_bias_bits must be left out for the greedy fit, which does not use them")
    if isinstance(keep, str):
        raise InputError(f"keep must be a collection of layer names, not {keep!r}")
    layers = {name: m for name, m in model.named_modules() if isinstance(m, Plain) and type(m) in PLAIN}
    for name in [*keep, *(terms if isinstance(terms, Mapping) else ())]:
        if name not in layers:
            raise InputError(f"every name must be a Linear or a convolution of the model, not {name!r}")
    names = [name for name in layers if name not in keep]
    if isinstance(terms, Mapping):
        for name in names:
            if name not in terms:
                raise InputError(f"terms must name every layer that is not kept, also {name!r}")
    original: Mapping[str, NDArray[np.float64]] = {}
    if calibration is not None:
        original = layer_inputs(model, calibration, names)
        names = [*original, *(name for name in names if name not in original)]  # as they run
    made: dict[int, nn.Module] = {}
    for name in names:
        layer = layers[name]
        weight = layer.weight.detach().double().flatten(1).cpu().numpy()
        if terms is None:
            count = terms_within(weight, bits, budget or 0.0)
        else:
            count = terms[name] if isinstance(terms, Mapping) else terms
        if name in original and calibration is not None:
            partly = replaced(model, lambda module: made.get(id(module)))
            inputs = layer_inputs(partly, calibration, [name])[name]
            found = fit_groups(weight, bits, count, inputs, original[name], k_bias_bits)
        elif fit == "greedy":
            found = Calibrated(fit_greedy(weight, bits, count), np.zeros(len(weight)))
        else:
            found = Calibrated(fit_optimal(weight, bits, count, k_bias_bits), np.zeros(len(weight)))
        plain = copy.deepcopy(layer)
        plain.register_parameter("bias", None)
        bias = torch.from_numpy(found.bias).to(layer.weight)
        made[id(layer)] = TermSumLayer(plain, found.fit, bias if layer.bias is None else bias + layer.bias.detach())
    return replaced(model, lambda module: made.get(id(module))).eval()
