"""DenseShift layers: drop-in twins of ``nn.Linear`` and ``nn.Conv2d`` whose weights are signs times powers of two.

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
from torch.nn import functional

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


def _positive(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} must be a positive integer, not {value!r}")
    return value


def _pair(name: str, value: int | tuple[int, int], least: int = 1) -> tuple[int, int]:
    pair = value if isinstance(value, tuple) else (value, value)
    if len(pair) != 2 or any(isinstance(v, bool) or not isinstance(v, int) or v < least for v in pair):
        raise InputError(f"{name} must be an integer of {least} or more, or a pair of them, not {value!r}")
    return pair


class DenseShiftLayer(nn.Module):
    """Base of the shift layers: the latents, and the weight that they stand for.

    Parameters
    ----------
    shape : tuple of int
        Shape of the weight.
    bits : int
        2, 3 or 4; exponents are ``0 .. 2**(bits-1) - 1``.
    outputs : int or None
        Length of the bias; None for no bias (as published).

    Members
    -------
    weight_sign : Parameter, shape ``shape``
    weight_scale : Parameter, shape ``(2**(bits-1) - 1, *shape)``
    bias : Parameter, shape ``(outputs,)``, or None
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        shape: tuple[int, ...],
        bits: int,
        outputs: int | None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.bits = WeightCode(bits).bits
        steps = WeightCode(bits).max_exponent
        self.weight_sign = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.weight_scale = nn.Parameter(torch.empty((steps, *shape), device=device, dtype=dtype))
        if outputs is None:
            self.register_parameter("bias", None)
        else:
            self.bias = nn.Parameter(torch.empty(outputs, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every latent from N(0, 1e-3) (the standard deviation); the bias starts at 0."""
        nn.init.normal_(self.weight_sign, std=INITIAL_STD)
        nn.init.normal_(self.weight_scale, std=INITIAL_STD)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @property
    def weight(self) -> Tensor:
        """The effective weight, ``+-2**e`` exactly, in the shape of the plain layer's weight."""
        return shift_weight(self.weight_sign, self.weight_scale)


class DenseShiftLinear(DenseShiftLayer):
    """``nn.Linear`` with weights ``+-2**e``: ``(..., in_features) -> (..., out_features)``.

    Parameters
    ----------
    in_features, out_features : int
    bits : int
        2, 3 or 4.
    bias : bool
        False as published; the BatchNorm that follows has one.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bits: int = 3,
        bias: bool = False,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        inputs, outputs = _positive("in_features", in_features), _positive("out_features", out_features)
        super().__init__((outputs, inputs), bits, outputs if bias else None, device, dtype)
        self.in_features, self.out_features = inputs, outputs

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bits={self.bits}, bias={self.bias is not None}"


class DenseShiftConv2d(DenseShiftLayer):
    """``nn.Conv2d`` with weights ``+-2**e`` and zero padding: ``(N, in, H, W) -> (N, out, H', W')``.

    Parameters
    ----------
    in_channels, out_channels : int
        Both divisible by ``groups``.
    kernel_size, stride, dilation : int or pair of int
    padding : int, pair of int, "same" or "valid"
    groups : int
    bits : int
        2, 3 or 4.
    bias : bool
        False as published; the BatchNorm that follows has one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        bits: int = 3,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = False,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        inputs, outputs = _positive("in_channels", in_channels), _positive("out_channels", out_channels)
        _positive("groups", groups)
        for name, channels in (("in_channels", inputs), ("out_channels", outputs)):
            if channels % groups:
                raise InputError(f"{name} must be divisible by groups={groups}, not {channels!r}")
        kernel = _pair("kernel_size", kernel_size)
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise InputError(f"padding must be a size, 'same' or 'valid', not {padding!r}")
        super().__init__((outputs, inputs // groups, *kernel), bits, outputs if bias else None, device, dtype)
        self.in_channels, self.out_channels, self.kernel_size = inputs, outputs, kernel
        self.stride, self.dilation, self.groups = _pair("stride", stride), _pair("dilation", dilation), groups
        self.padding = padding if isinstance(padding, str) else _pair("padding", padding, least=0)
        if self.padding == "same" and self.stride != (1, 1):
            raise InputError(f"stride must be 1 with padding 'same', not {self.stride!r}")

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, bits={self.bits}, "
            f"stride={self.stride}, padding={self.padding!r}, dilation={self.dilation}, groups={self.groups}, "
            f"bias={self.bias is not None}"
        )
