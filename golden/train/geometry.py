"""What every trained layer shares whatever its weights are: shapes, padding, bias, and torch's own linear or convolution.

A layer is a geometry (``ShiftLinear``, ``ShiftConv1d``, ``ShiftConv2d``) and a method, a mixin below ``ShiftLayer`` that makes
the latents and the weight that they stand for: ``class DenseShiftLinear(DenseShiftLayer, ShiftLinear)``.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from shiftforge.errors import InputError
from shiftforge.formats import WeightCode

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def _positive(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} must be a positive integer, not {value!r}")
    return value


def _sizes(name: str, value: int | tuple[int, ...], axes: int, least: int = 1) -> tuple[int, ...]:
    sizes = value if isinstance(value, tuple) else (value,) * axes
    if len(sizes) != axes or any(isinstance(v, bool) or not isinstance(v, int) or v < least for v in sizes):
        several = "a tuple of one" if axes == 1 else "a pair of them"
        raise InputError(f"{name} must be an integer of {least} or more, or {several}, not {value!r}")
    return sizes


class ShiftLayer(nn.Module):
    """Base of all trained layers: bits, bias, and the hooks that a method fills.

    Parameters
    ----------
    shape : tuple of int
        Shape of the weight.
    bits : int
        2, 3 or 4: the width of a weight, the sign and a zero (where the method has one) included.
    outputs : int or None
        Length of the bias; None for no bias.
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
        self.make_latents(torch.empty(shape, device=device, dtype=dtype))
        if outputs is None:
            self.register_parameter("bias", None)
        else:
            self.bias = nn.Parameter(torch.empty(outputs, device=device, dtype=dtype))
        self.reset_parameters()

    def make_latents(self, like: Tensor) -> None:
        """Register the method's parameters and buffers; ``like`` has the weight's shape, device and element type."""
        raise NotImplementedError

    def reset_latents(self) -> None:
        """Draw the method's latents anew."""
        raise NotImplementedError

    def take_weight(self, weight: Tensor) -> None:
        """Start from the weights of a plain layer, where the method does; those that train from scratch do nothing."""

    def settle(self) -> None:
        """What the method does to its latents before each forward pass of training; by default nothing."""

    @property
    def weight(self) -> Tensor:
        """The effective weight in the shape of the plain layer's, differentiable by the latents as published."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Draw every latent anew; the bias starts at 0."""
        self.reset_latents()
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def plain(self) -> nn.Module:
        """The torch layer of the same geometry (its weight and bias not yet set)."""
        raise NotImplementedError

    def apply_weight(self, x: Tensor) -> Tensor:
        """The linear map of the input by the effective weight, bias included."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.settle()
        return self.apply_weight(x)


class ShiftLinear(ShiftLayer):
    """``nn.Linear`` with the method's weights: ``(..., in_features) -> (..., out_features)``.

    Parameters
    ----------
    in_features, out_features : int
    bits : int
        2, 3 or 4.
    bias : bool
        False by default; the BatchNorm that follows has one.
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

    def apply_weight(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)

    def plain(self) -> nn.Linear:
        weight = self.weight
        return nn.Linear(
            self.in_features, self.out_features, self.bias is not None, device=weight.device, dtype=weight.dtype
        )

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bits={self.bits}, bias={self.bias is not None}"


class ShiftConv(ShiftLayer):
    """A convolution over ``axes`` axes; see ``ShiftConv1d`` and ``ShiftConv2d``."""

    axes: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        bits: int = 3,
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = False,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        padding_mode: str = "zeros",
    ) -> None:
        inputs, outputs = _positive("in_channels", in_channels), _positive("out_channels", out_channels)
        _positive("groups", groups)
        for name, channels in (("in_channels", inputs), ("out_channels", outputs)):
            if channels % groups:
                raise InputError(f"{name} must be divisible by groups={groups}, not {channels!r}")
        kernel = _sizes("kernel_size", kernel_size, self.axes)
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise InputError(f"padding must be a size, 'same' or 'valid', not {padding!r}")
        if padding_mode not in PADDING_MODES:
            raise InputError(f"padding_mode must be one of {', '.join(PADDING_MODES)}, not {padding_mode!r}")
        super().__init__((outputs, inputs // groups, *kernel), bits, outputs if bias else None, device, dtype)
        self.in_channels, self.out_channels, self.kernel_size = inputs, outputs, kernel
        self.stride = _sizes("stride", stride, self.axes)
        self.dilation = _sizes("dilation", dilation, self.axes)
        self.groups, self.padding_mode = groups, padding_mode
        self.padding = padding if isinstance(padding, str) else _sizes("padding", padding, self.axes, least=0)
        if self.padding == "same" and max(self.stride) > 1:
            raise InputError(f"stride must be 1 with padding 'same', not {self.stride!r}")

    def _edges(self) -> list[int]:
        """Rows to add before and after each axis, the last axis first, as ``functional.pad`` wants them."""
        edges: list[int] = []
        for axis in reversed(range(self.axes)):
            if isinstance(self.padding, str):
                total = self.dilation[axis] * (self.kernel_size[axis] - 1) if self.padding == "same" else 0
                edges += [total // 2, total - total // 2]  # torch adds the odd row at the end
            else:
                edges += [self.padding[axis]] * 2
        return edges

    def apply_weight(self, x: Tensor) -> Tensor:
        convolve = functional.conv1d if self.axes == 1 else functional.conv2d
        padding = self.padding
        if self.padding_mode != "zeros":
            x, padding = functional.pad(x, self._edges(), mode=self.padding_mode), 0
        return convolve(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def plain(self) -> nn.Conv1d | nn.Conv2d:
        weight = self.weight
        kind = nn.Conv1d if self.axes == 1 else nn.Conv2d
        return kind(
            self.in_channels,
            self.out_channels,
            self.kernel_size,  # pyright: ignore[reportArgumentType]  # as many sizes as axes: checked in __init__
            stride=self.stride,  # pyright: ignore[reportArgumentType]
            padding=self.padding,  # pyright: ignore[reportArgumentType]
            dilation=self.dilation,  # pyright: ignore[reportArgumentType]
            groups=self.groups,
            bias=self.bias is not None,
            padding_mode=self.padding_mode,  # pyright: ignore[reportArgumentType]  # one of PADDING_MODES
            device=weight.device,
            dtype=weight.dtype,
        )

    def extra_repr(self) -> str:
        mode = "" if self.padding_mode == "zeros" else f", padding_mode={self.padding_mode!r}"
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, bits={self.bits}, "
            f"stride={self.stride}, padding={self.padding!r}, dilation={self.dilation}, groups={self.groups}, "
            f"bias={self.bias is not None}{mode}"
        )


class ShiftConv1d(ShiftConv):
    """``nn.Conv1d`` with the method's weights: ``(N, in, L) -> (N, out, L')``.

    Parameters
    ----------
    in_channels, out_channels : int
        Both divisible by ``groups``.
    kernel_size, stride, dilation : int or tuple of one
    padding : int, tuple of one, "same" or "valid"
    padding_mode : "zeros", "reflect", "replicate" or "circular"
    groups, bits, bias
        As in ``ShiftConv2d``.
    """

    axes = 1


class ShiftConv2d(ShiftConv):
    """``nn.Conv2d`` with the method's weights: ``(N, in, H, W) -> (N, out, H', W')``.

    Parameters
    ----------
    in_channels, out_channels : int
        Both divisible by ``groups``.
    kernel_size, stride, dilation : int or pair of int
    padding : int, pair of int, "same" or "valid"
    padding_mode : "zeros", "reflect", "replicate" or "circular"
    groups : int
    bits : int
        2, 3 or 4.
    bias : bool
        False by default; the BatchNorm that follows has one.
    """

    axes = 2
