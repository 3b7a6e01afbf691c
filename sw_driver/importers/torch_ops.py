"""The torch operations that a network may consist of, each as a function from its arguments to the graph's builder.

Nothing here imports torch: tensors that depend on the input come as `Tensor`, constant ones as float64 arrays.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftforge.activation import Activation
from shiftforge.errors import InputError
from shiftforge.graph import Window
from shiftforge.graph.build import Builder, Place
from shiftforge.graph.views import Tensor

Argument: TypeAlias = "Tensor | NDArray[np.float64] | float | int | str | list[Argument] | None"


@dataclass(frozen=True)
class Call:
    """One operation: its name, its arguments, the shape of one example of its result (None: axis 0 is not the batch)."""

    op: str
    arguments: Mapping[str, Argument]
    shape: tuple[int, ...] | None
    at: Place

    def tensor(self, name: str = "input") -> Tensor:
        value = self.arguments.get(name)
        if not isinstance(value, Tensor):
            raise unsupported(self)
        return value

    def array(self, name: str) -> NDArray[np.float64]:
        value = self.arguments.get(name)
        if not isinstance(value, np.ndarray):
            raise unsupported(self)
        return value

    def optional(self, name: str) -> NDArray[np.float64] | None:
        return None if self.arguments.get(name) is None else self.array(name)

    def number(self, name: str, default: float | None = None) -> float:
        value = self.arguments.get(name, default)
        if not isinstance(value, int | float):
            raise unsupported(self)
        return float(value)

    def integers(self, name: str) -> tuple[int, ...]:
        """A list of integers, or one integer as a list; empty when it is missing."""
        value = self.arguments.get(name)
        if value is None:
            return ()
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(v, int) for v in values):
            raise unsupported(self)
        return tuple(v for v in values if isinstance(v, int))

    def maybe_number(self, name: str) -> float | None:
        return None if self.arguments.get(name) is None else self.number(name)


HINTS = (
    ("conv_transpose", "use nearest upsampling on the host, or a convolution with stride 1"),
    ("convolution", "export the model without run_decompositions, so that conv1d and conv2d stay"),
    ("conv3d", "use conv1d or conv2d"),
    ("adaptive_max", "use max_pool with a fixed kernel"),
    ("pool3d", "use pooling over one or two axes"),
    ("group_norm", "use BatchNorm, which folds into the layer before it"),
    ("norm", "use BatchNorm, which folds into the layer before it"),
    ("softmax", "leave softmax at the end to the host: the largest logit is the largest probability"),
    ("sigmoid", "use ReLU, ReLU6 or Hardtanh, and leave a sigmoid at the end to the host"),
    ("tanh", "use Hardtanh"),
    ("elu", "use ReLU or LeakyReLU with a power-of-two slope"),
    ("silu", "use ReLU or ReLU6"),
    ("hardswish", "use ReLU6"),
    ("upsample", "leave upsampling to the host"),
    ("matmul", "one operand must be a constant of two axes: attention scores are for the host"),
    ("bmm", "one operand must be constant: attention scores are for the host"),
    ("mul.", "a factor must be constant"),
    ("sub.", "add the negated tensor: a residual addition is supported, a difference is not"),
    ("lstm", "write recurrent networks as one step, a chain of layers"),
    ("gru", "write recurrent networks as one step, a chain of layers"),
)
"""Part of an operation's name, and the nearest supported form; the first that fits is told."""


def unsupported(call: Call) -> InputError:
    """The refusal of an operation, with the nearest form that is supported."""
    hint = next((text for key, text in HINTS if key in call.op), "docs/support.md lists what is supported")
    return InputError(f"{call.at} must be an operation that the accelerator runs, not {call.op}; {hint}")


def _linear(build: Builder, call: Call) -> Tensor:
    """A fully connected layer over the last axis; the weight is constant."""
    return build.linear(call.tensor(), call.array("weight"), call.optional("bias"), call.at)


def _mm(build: Builder, call: Call) -> Tensor:
    """A fully connected layer over the last axis; the second operand is a constant matrix."""
    other = "mat2" if "mat2" in call.arguments else "other"
    x = call.tensor("input" if "input" in call.arguments else "self")
    weight = call.array(other)
    if weight.ndim != 2:
        raise unsupported(call)
    return build.linear(x, np.ascontiguousarray(weight.T), None, call.at)


def _addmm(build: Builder, call: Call) -> Tensor:
    """A fully connected layer with its bias; beta and alpha are 1."""
    if call.number("beta", 1.0) != 1.0 or call.number("alpha", 1.0) != 1.0:
        raise unsupported(call)
    weight = np.ascontiguousarray(call.array("mat2").T)
    return build.linear(call.tensor("mat1"), weight, np.broadcast_to(call.array("self"), weight.shape[:1]), call.at)


def _batch_norm(build: Builder, call: Call) -> Tensor:
    """Folded into the layer before it; evaluation mode."""
    if call.arguments.get("training"):
        raise InputError(
            f"{call.at} must be in evaluation mode, not in training mode; call model.eval() before the export"
        )
    return build.batch_norm(
        call.tensor(),
        call.optional("weight"),
        call.optional("bias"),
        call.array("running_mean"),
        call.array("running_var"),
        call.number("eps"),
        call.at,
    )


def _dropout(build: Builder, call: Call) -> Tensor:
    """Nothing; evaluation mode."""
    if call.arguments.get("train"):
        raise InputError(
            f"{call.at} must be in evaluation mode, not in training mode; call model.eval() before the export"
        )
    return call.tensor()


def _same(build: Builder, call: Call) -> Tensor:
    """Nothing."""
    return call.tensor("self")


def _view(call: Call, new: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> Tensor:
    """Another view of the same elements; `new` works on an example with its batch axis in front, of size 1."""
    x = call.tensor("self")
    try:
        order = new(x.order[None])
    except (ValueError, IndexError):
        order = x.order
    if call.shape is None or order.shape != (1, *call.shape):
        raise InputError(f"{call.at} must keep axis 0 as the batch; write it as flatten(x, 1)")
    return x.seen_as(order[0])


def _reshape(build: Builder, call: Call) -> Tensor:
    """Another view of the same elements; axis 0 stays the batch."""
    shape = call.shape
    return _view(call, lambda order: order if shape is None else order.reshape(1, *shape))


def _permute(build: Builder, call: Call) -> Tensor:
    """Another view of the same elements; axis 0 stays the batch, and pixels keep their channels."""
    return _view(call, lambda order: order.transpose(call.integers("dims")))


def _transpose(build: Builder, call: Call) -> Tensor:
    """Another view of the same elements; axis 0 stays the batch, and pixels keep their channels."""
    return _view(call, lambda order: order.swapaxes(int(call.number("dim0")), int(call.number("dim1"))))


def _conv(axes: int) -> "Operation":
    def operation(build: Builder, call: Call) -> Tensor:
        """A convolution; zero padding, any stride, dilation and groups; the weight is constant."""
        weight = call.array("weight")
        kernel = weight.shape[2:]
        padding = call.arguments.get("padding")
        dilation = call.integers("dilation") or (1,)
        if padding == "same":
            reach = [d * (k - 1) for k, d in zip(kernel, _each(dilation, axes), strict=True)]
            sides = tuple((total // 2, total - total // 2) for total in reach)
        else:
            sides = _each((0,) if padding == "valid" else call.integers("padding") or (0,), axes)
        window = Window.of(kernel, _each(call.integers("stride") or (1,), axes), sides, _each(dilation, axes))
        groups = int(call.number("groups", 1))
        return build.conv(call.tensor(), weight, call.optional("bias"), window, groups, call.at)

    return operation


def _each(values: tuple[int, ...], axes: int) -> tuple[int, ...]:
    return values * axes if len(values) == 1 else values


def _pool_window(call: Call, axes: int, x: Tensor) -> Window:
    """The window of a pooling; `InputError` where ceil_mode would add an output pixel."""
    kernel = _each(call.integers("kernel_size"), axes)
    stride = _each(call.integers("stride") or kernel, axes)
    padding, dilation = (
        _each(call.integers(name) or (default,), axes) for name, default in (("padding", 0), ("dilation", 1))
    )
    window = Window.of(kernel, stride, padding, dilation)
    if call.arguments.get("ceil_mode") and call.shape is not None:
        sizes = window.sizes(call.at.name, x.shape[1:])
        if sizes != call.shape[1:]:
            raise InputError(
                f"{call.at} must have ceil_mode=False where the windows do not fit, and would make {call.shape[1:]} of {sizes} "
                "pixels; pad the input"
            )
    return window


def _max_pool(axes: int) -> "Operation":
    def operation(build: Builder, call: Call) -> Tensor:
        """Max-pooling; ceil_mode only where the windows fit."""
        x = call.tensor("self")
        return build.max_pool(x, _pool_window(call, axes, x), call.at)

    return operation


def _average_pool(axes: int) -> "Operation":
    def operation(build: Builder, call: Call) -> Tensor:
        """A depthwise layer with weights +1; padding is counted; ceil_mode only where the windows fit."""
        x = call.tensor("self")
        window = _pool_window(call, axes, x)
        if window.padded and not call.arguments.get("count_include_pad", True):
            raise InputError(f"{call.at} must count its padding, or have none; set count_include_pad=True")
        if call.maybe_number("divisor_override") not in (None, window.positions):
            raise InputError(f"{call.at} must divide by its {window.positions} pixels; leave divisor_override out")
        return build.average_pool(x, window, call.at)

    return operation


def _adaptive_pool(axes: int) -> "Operation":
    def operation(build: Builder, call: Call) -> Tensor:
        """Average pooling; the output sizes divide the input's."""
        x, sizes = call.tensor("self"), call.integers("output_size")
        if len(x.shape) != axes + 1 or len(sizes) != axes:
            raise unsupported(call)
        if any(have % want for have, want in zip(x.shape[1:], sizes, strict=True)):
            raise InputError(
                f"{call.at} must make sizes that divide the input's {x.shape[1:]}, not {sizes}; global pooling makes 1"
            )
        kernel = tuple(have // want for have, want in zip(x.shape[1:], sizes, strict=True))
        return build.average_pool(x, Window.of(kernel, kernel), call.at)

    return operation


def _mean(build: Builder, call: Call) -> Tensor:
    """Global average pooling: the mean over all pixels of (batch, channels, pixels)."""
    x = call.tensor("self")
    axes = sorted(d % (len(x.shape) + 1) for d in call.integers("dim"))
    if axes != list(range(2, len(x.shape) + 1)) or len(axes) not in (1, 2):
        raise InputError(
            f"{call.at} must be the mean over all pixels of (batch, channels, pixels), not over axes {axes}"
        )
    pooled = build.average_pool(x, Window.of(x.shape[1:]), call.at)
    return pooled if call.arguments.get("keepdim") else pooled.seen_as(pooled.order.reshape(x.shape[0]))


def _cat(build: Builder, call: Call) -> Tensor:
    """Concatenation of channels or features, axis 1."""
    given = call.arguments.get("tensors")
    tensors = [part for part in given if isinstance(part, Tensor)] if isinstance(given, list) else []
    if not isinstance(given, list) or len(tensors) != len(given):
        raise InputError(f"{call.at} must join computed tensors alone, not constants")
    axis = int(call.number("dim", 0)) % (len(tensors[0].shape) + 1)
    if axis == 0:
        raise InputError(f"{call.at} must keep axis 0 as the batch; join along axis 1, the channels")
    return build.concat(tensors, axis - 1, call.at)


def _relu(build: Builder, call: Call) -> Tensor:
    """Fused into the layer before it."""
    return build.activation(call.tensor("self"), Activation.relu(), call.at)


def _relu6(build: Builder, call: Call) -> Tensor:
    """Fused into the layer before it."""
    return build.clamp(call.tensor("self"), 0.0, 6.0, call.at)


def _hardtanh(build: Builder, call: Call) -> Tensor:
    """Fused into the layer before it."""
    return build.clamp(call.tensor("self"), call.number("min_val", -1.0), call.number("max_val", 1.0), call.at)


def _clamp(build: Builder, call: Call) -> Tensor:
    """Fused into the layer before it; the bounds are constant."""
    return build.clamp(call.tensor("self"), call.maybe_number("min"), call.maybe_number("max"), call.at)


def _leaky(build: Builder, call: Call) -> Tensor:
    """Fused into the layer before it; the slope is 2**-n with n in 0..15."""
    return build.leaky_relu(call.tensor("self"), call.number("negative_slope", 0.01), call.at)


def _operands(call: Call) -> tuple[Tensor, NDArray[np.float64] | float, bool]:
    """The computed operand, the constant one, and whether the computed one comes first."""
    first, second = call.arguments.get("self"), call.arguments.get("other")
    for one, other, leads in ((first, second, True), (second, first, False)):
        if isinstance(one, Tensor) and isinstance(other, np.ndarray | float | int):
            return one, other, leads
    raise unsupported(call)


def _mul(build: Builder, call: Call) -> Tensor:
    """Folded into the layer before or after it; one operand is constant."""
    x, factor, _ = _operands(call)
    return build.affine(x, factor, 0.0, call.at)


def _div(build: Builder, call: Call) -> Tensor:
    """Folded into the layer before or after it; the divisor is constant."""
    x, divisor, leads = _operands(call)
    if not leads or np.any(np.asarray(divisor) == 0) or call.arguments.get("rounding_mode") is not None:
        raise unsupported(call)
    return build.affine(x, 1.0 / np.asarray(divisor, np.float64), 0.0, call.at)


def _add(build: Builder, call: Call) -> Tensor:
    """With a constant: folded into the layer before or after it. Of two tensors: a residual of the later layer."""
    one, two = call.arguments.get("self"), call.arguments.get("other")
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        if call.number("alpha", 1.0) != 1.0:
            raise unsupported(call)
        return build.add(one, two, call.at)
    x, constant, leads = _operands(call)
    alpha = call.number("alpha", 1.0)
    return build.affine(x, 1.0, constant * alpha, call.at) if leads else build.affine(x, alpha, constant, call.at)


def _sub(build: Builder, call: Call) -> Tensor:
    """Folded into the layer before or after it; one operand is constant."""
    x, constant, leads = _operands(call)
    alpha = call.number("alpha", 1.0)
    if leads:
        return build.affine(x, 1.0, -np.asarray(constant, np.float64) * alpha, call.at)
    return build.affine(x, -alpha, constant, call.at)


def _rsub(build: Builder, call: Call) -> Tensor:
    """Folded into the layer before or after it; one operand is constant."""
    x, constant, leads = _operands(call)
    if not leads:
        raise unsupported(call)
    return build.affine(x, -call.number("alpha", 1.0), constant, call.at)


def _neg(build: Builder, call: Call) -> Tensor:
    """Folded into the layer before it."""
    return build.affine(call.tensor("self"), -1.0, 0.0, call.at)


Operation = Callable[[Builder, Call], Tensor]

OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "aten.linear.default": _linear,
        "aten.matmul.default": _mm,
        "aten.mm.default": _mm,
        "aten.addmm.default": _addmm,
        "aten.conv1d.default": _conv(1),
        "aten.conv1d.padding": _conv(1),
        "aten.conv2d.default": _conv(2),
        "aten.conv2d.padding": _conv(2),
        "aten.max_pool1d.default": _max_pool(1),
        "aten.max_pool2d.default": _max_pool(2),
        "aten.avg_pool1d.default": _average_pool(1),
        "aten.avg_pool2d.default": _average_pool(2),
        "aten.adaptive_avg_pool1d.default": _adaptive_pool(1),
        "aten.adaptive_avg_pool2d.default": _adaptive_pool(2),
        "aten.mean.dim": _mean,
        "aten.cat.default": _cat,
        "aten.batch_norm.default": _batch_norm,
        "aten._native_batch_norm_legit_no_training.default": _batch_norm,
        "aten.dropout.default": _dropout,
        "aten.flatten.using_ints": _reshape,
        "aten.view.default": _reshape,
        "aten.reshape.default": _reshape,
        "aten.permute.default": _permute,
        "aten.transpose.int": _transpose,
        "aten.squeeze.dim": _reshape,
        "aten.squeeze.dims": _reshape,
        "aten.unsqueeze.default": _reshape,
        "aten._unsafe_view.default": _reshape,
        "aten.clone.default": _same,
        "aten.contiguous.default": _same,
        "aten.alias.default": _same,
        "aten.detach.default": _same,
        "aten.relu.default": _relu,
        "aten.relu_.default": _relu,
        "aten.relu6.default": _relu6,
        "aten.relu6_.default": _relu6,
        "aten.hardtanh.default": _hardtanh,
        "aten.hardtanh_.default": _hardtanh,
        "aten.clamp.default": _clamp,
        "aten.clamp_.default": _clamp,
        "aten.clamp_min.default": _clamp,
        "aten.clamp_max.default": _clamp,
        "aten.leaky_relu.default": _leaky,
        "aten.leaky_relu_.default": _leaky,
        "aten.mul.Tensor": _mul,
        "aten.mul.Scalar": _mul,
        "aten.div.Tensor": _div,
        "aten.div.Scalar": _div,
        "aten.add.Tensor": _add,
        "aten.add.Scalar": _add,
        "aten.add_.Tensor": _add,
        "aten.sub.Tensor": _sub,
        "aten.sub.Scalar": _sub,
        "aten.rsub.Scalar": _rsub,
        "aten.rsub.Tensor": _rsub,
        "aten.neg.default": _neg,
    }
)
