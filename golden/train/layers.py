"""DenseShift layers: drop-in twins of ``nn.Linear``, ``nn.Conv1d`` and ``nn.Conv2d`` whose weights are signs times powers of two.

Source: Li et al., "DenseShift: Towards Accurate and Efficient Low-Bit Power-of-Two Quantization", ICCV 2023
(arXiv 2208.09708), section 3, and the authors' published layer. With T = 2**(bits-1) - 1::

    b(x) = 1 if x > 0 else 0              sgn(x) = +1 if x >= 0 else -1
    S_1  = b(t_1)                         S_i = (S_{i-1} + 1) * b(t_i),  i = 2..T
    w    = sgn(weight_sign) * 2**S_T      (forward)
    dw  := d( sgn(weight_sign) * sqrt(S_T + 1) ), with b' = sgn' = 1   (backward)

There is no scale inside a layer: the BatchNorm that follows absorbs it.
"""

from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from golden.train.geometry import ShiftConv1d, ShiftConv2d, ShiftLayer, ShiftLinear
from shiftforge.errors import InputError
from shiftforge.formats import WeightCode

INITIAL_STD = 1e-3
"""Standard deviation of every latent at the start (the paper's low-variance initialisation)."""


class _Saved(Protocol):
    """What torch's stub of the backward context leaves out."""

    saved_tensors: tuple[Tensor, Tensor]


class _SignTimesPowerOfTwo(torch.autograd.Function):
    """The forward value and the surrogate gradient of the module docstring, in closed form."""

    @staticmethod
    def forward(weight_sign: Tensor, weight_scale: Tensor) -> Tensor:
        # 2**S_i is doubled or reset to 1, never computed by exp2 or pow, whose last bit differs between machines.
        one = torch.ones_like(weight_sign)
        power = one
        for latent in weight_scale.unbind(0):
            power = torch.where(latent > 0, 2 * power, one)
        return torch.where(weight_sign >= 0, power, -power)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor, Tensor]:
        (grad,) = grad_outputs
        weight_sign, weight_scale = cast(_Saved, ctx).saved_tensors
        ones = (weight_scale > 0).to(grad.dtype)
        # counts[i] = S_{i-1} + 1 with S_0 = 0, the factor that multiplies b(t_i).
        counts = [torch.ones_like(weight_sign)]
        for one in ones.unbind(0):
            counts.append(counts[-1] * one + 1)
        root = counts.pop().sqrt()
        signed = torch.where(weight_sign >= 0, grad, -grad)
        chain = signed * 0.5 / root
        grad_scale = torch.empty_like(weight_scale)
        for i in reversed(range(len(counts))):
            grad_scale[i] = chain * counts[i]
            chain = chain * ones[i]
        return grad * root, grad_scale


def shift_weight(weight_sign: Tensor, weight_scale: Tensor) -> Tensor:
    """The weights ``sgn * 2**S_T`` (exact), differentiable as the published surrogate.

    Parameters
    ----------
    weight_sign : Tensor
        Any shape.
    weight_scale : Tensor
        Shape ``(T, *weight_sign.shape)``.
    """
    if weight_scale.shape[1:] != weight_sign.shape:
        raise InputError(
            f"the shape of weight_scale must be (T, *{tuple(weight_sign.shape)}), not {tuple(weight_scale.shape)!r}"
        )
    return cast(Tensor, _SignTimesPowerOfTwo.apply(weight_sign, weight_scale))


class DenseShiftLayer(ShiftLayer):
    """The method of the DenseShift layers: their latents, and the weight that those stand for. It trains from scratch.

    Members
    -------
    weight_sign : Parameter, the weight's shape
    weight_scale : Parameter, shape ``(2**(bits-1) - 1, *shape)``
    bias : Parameter, shape ``(outputs,)``, or None (as published)
    """

    def make_latents(self, like: Tensor) -> None:
        self.weight_sign = nn.Parameter(like)
        self.weight_scale = nn.Parameter(like.new_empty((WeightCode(self.bits).max_exponent, *like.shape)))

    def reset_latents(self) -> None:
        """Draw every latent from N(0, 1e-3) (the standard deviation)."""
        nn.init.normal_(self.weight_sign, std=INITIAL_STD)
        nn.init.normal_(self.weight_scale, std=INITIAL_STD)

    @property
    def weight(self) -> Tensor:
        """The effective weight, ``+-2**e`` exactly, in the shape of the plain layer's weight."""
        return shift_weight(self.weight_sign, self.weight_scale)


class DenseShiftLinear(DenseShiftLayer, ShiftLinear):
    """``nn.Linear`` with weights ``+-2**e``, e in ``0 .. 2**(bits-1) - 1``; parameters as in ``ShiftLinear``."""


class DenseShiftConv1d(DenseShiftLayer, ShiftConv1d):
    """``nn.Conv1d`` with weights ``+-2**e``, e in ``0 .. 2**(bits-1) - 1``; parameters as in ``ShiftConv1d``."""


class DenseShiftConv2d(DenseShiftLayer, ShiftConv2d):
    """``nn.Conv2d`` with weights ``+-2**e``, e in ``0 .. 2**(bits-1) - 1``; parameters as in ``ShiftConv2d``."""
