"""Activations rounded to a format of the table while torch trains (quantisation-aware training).

This serves training alone. What the hardware computes is defined by the NumPy model, not by these casts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType

import torch
from torch import Tensor, nn

from golden.train.geometry import ShiftLayer
from shiftforge.formats import FORMATS, Format

_TORCH_TYPES = MappingProxyType(
    {
        "fp32": torch.float32,
        "fp16": torch.float16,
        "bf16": torch.bfloat16,
        "fp8_e5m2": torch.float8_e5m2,
        "fp8_e4m3": torch.float8_e4m3fn,
    }
)
_UNSCALED = ("fp32", "fp16", "bf16")


def _largest(fmt: Format) -> float:
    return (fmt.max_fixed - (not fmt.is_float)) * 2.0**fmt.lsb_exponent


def round_to_format(x: Tensor, fmt: Format) -> Tensor:
    """``x`` rounded to the values of ``fmt``, to nearest, ties to even, saturating; the gradient passes unchanged.

    int8, int16 and both fp8 formats are scaled per tensor, the largest magnitude to the largest finite value, as the
    compiler's calibration does; the wider formats are not.
    """
    with torch.no_grad():
        largest = _largest(fmt)
        # Under autocast x may be bfloat16, in which the largest values of most formats are none.
        wide = x if x.dtype == torch.float64 else x.float()
        scale = wide.new_ones(())
        if fmt.name not in _UNSCALED:
            peak = wide.abs().amax()
            scale = torch.where(peak > 0, peak / largest, scale)
        scaled = (wide / scale).clamp(-largest, largest)
        rounded = scaled.to(_TORCH_TYPES[fmt.name]).to(wide.dtype) if fmt.is_float else scaled.round()
        rounded = (rounded * scale).to(x.dtype)
    # x - x.detach() is exactly zero: the value is the rounded one, the gradient that of x.
    return rounded + (x - x.detach())


@contextmanager
def rounded_inputs(model: nn.Module, activation: str) -> Iterator[None]:
    """While it lasts, the input of every Linear, convolution and trained power-of-two layer is rounded to ``activation``."""
    fmt = FORMATS[activation]

    def hook(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (round_to_format(args[0], fmt), *args[1:])

    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d | ShiftLayer)]
    handles = [m.register_forward_pre_hook(hook) for m in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
