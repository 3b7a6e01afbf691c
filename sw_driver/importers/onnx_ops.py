"""The ONNX operators that a network may consist of, each as a function from its inputs to the graph's builder.

Nothing here imports onnx: tensors that depend on the input come as `Tensor`, constant ones as arrays.
"""

from collections.abc import Callable, Mapping, Sequence
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

Value: TypeAlias = Tensor | NDArray[np.generic]
Attribute: TypeAlias = float | int | bytes | Sequence[int] | Sequence[float]

_FLOAT_TYPES = (1, 10, 11, 16)  # onnx.TensorProto: FLOAT, FLOAT16, DOUBLE, BFLOAT16

BATCH = -1
"""What stands for a batch of any size in computed shapes."""


@dataclass(frozen=True)
class Call:
    """One operator: its inputs (None: left out), its attributes, the model's batch (0: any)."""

    op: str
    inputs: Sequence[Value | None]
    attributes: Mapping[str, Attribute]
    batch: int
    at: Place

    def tensor(self, index: int = 0) -> Tensor:
        value = self.inputs[index]
        if not isinstance(value, Tensor):
            raise unsupported(self)
        return value

    def maybe(self, index: int) -> NDArray[np.float64] | None:
        """A constant input in float64; None when it is left out."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if isinstance(value, Tensor):
            raise unsupported(self)
        return None if value is None else np.asarray(value).astype(np.float64)

    def array(self, index: int) -> NDArray[np.float64]:
        value = self.maybe(index)
        if value is None:
            raise unsupported(self)
        return value

    def number(self, name: str, default: float) -> float:
        value = self.attributes.get(name, default)
        if not isinstance(value, int | float):
            raise unsupported(self)
        return float(value)

    def integers(self, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
        value = self.attributes.get(name, default)
        if isinstance(value, int | float | bytes):
            raise unsupported(self)
        return tuple(int(v) for v in value)

    def text(self, name: str, default: str) -> str:
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def axes(self, index: int) -> tuple[int, ...] | None:
        """Axes as an attribute (older operator sets) or as an input; None when there are none."""
        given = self.maybe(index)
        if given is not None:
            return tuple(int(v) for v in given.reshape(-1))
        return self.integers("axes") if "axes" in self.attributes else None


HINTS = (
    ("ConvTranspose", "use nearest upsampling on the host, or a convolution with stride 1"),
    ("Softmax", "leave softmax at the end to the host: the largest logit is the largest probability"),
    ("HardSigmoid", "use Clip"),
    ("Sigmoid", "use Relu or Clip, and leave a sigmoid at the end to the host"),
    ("HardSwish", "use Clip(0, 6)"),
    ("Tanh", "use Clip(-1, 1)"),
    ("Gelu", "use Relu or LeakyRelu with a power-of-two slope"),
    ("Elu", "use Relu or LeakyRelu with a power-of-two slope"),
    ("PRelu", "use LeakyRelu with one power-of-two slope"),
    ("Normalization", "use BatchNormalization, which folds into the layer before it"),
    ("Resize", "leave resizing to the host"),
    ("QLinear", "give float weights that are powers of two, and --calibrate for integer activations"),
    ("QuantizeLinear", "give the float model, and --calibrate for integer activations"),
    ("Pad", "give the padding to Conv or to the pooling"),
    ("MatMul", "one input must be a constant of two axes: attention scores are for the host"),
    ("Mul", "a factor must be constant"),
    ("LSTM", "write recurrent networks as one step, a chain of layers"),
    ("GRU", "write recurrent networks as one step, a chain of layers"),
)
"""Part of an operator's name, and the nearest supported form; the first that fits is told."""


def unsupported(call: Call) -> InputError:
    """The refusal of an operator, with the nearest form that is supported."""
    hint = next((text for key, text in HINTS if key in call.op), "docs/support.md lists what is supported")
    return InputError(f"{call.at} must be an operator that the accelerator runs, not {call.op}; {hint}")


def _window(call: Call, kernel: tuple[int, ...], sizes: tuple[int, ...]) -> Window:
    """The window of a convolution or a pooling, with its padding resolved."""
    axes = len(kernel)
    if axes not in (1, 2) or len(sizes) != axes:
        raise unsupported(call)
    stride, dilation = call.integers("strides", (1,) * axes), call.integers("dilations", (1,) * axes)
    mode = call.text("auto_pad", "NOTSET")
    pads = call.integers("pads", (0,) * (2 * axes))
    padding = tuple((pads[axis], pads[axis + axes]) for axis in range(axes))
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        sides = []
        for size, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
            total = max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
            less, more = total // 2, total - total // 2
            sides.append((less, more) if mode == "SAME_UPPER" else (more, less))
        padding = tuple(sides)
    elif mode not in ("NOTSET", "VALID"):
        raise unsupported(call)
    window = Window.of(kernel, stride, padding, dilation)
    if call.number("ceil_mode", 0):
        here = window.sizes(call.at.name, sizes)
        reach = [n + b + a - r for n, r, (b, a) in zip(sizes, window.reach, window.padding, strict=True)]
        there = tuple(-(-span // s) + 1 for span, s in zip(reach, window.stride, strict=True))
        if here != there:
            raise InputError(
                f"{call.at} must have ceil_mode=0 where the windows do not fit, and would make {there} of {here} pixels; "
                "pad the input"
            )
    return window


def _conv(build: Builder, call: Call) -> Tensor:
    """A convolution; auto_pad is resolved; the weight is constant."""
    x, weight = call.tensor(), call.array(1)
    window = _window(call, weight.shape[2:], x.shape[1:])
    return build.conv(x, weight, call.maybe(2), window, int(call.number("group", 1)), call.at)


def _gemm(build: Builder, call: Call) -> Tensor:
    """A fully connected layer; transA is 0, the weight and the bias are constant."""
    if call.number("transA", 0):
        raise unsupported(call)
    weight = call.array(1) * call.number("alpha", 1.0)
    weight = weight if call.number("transB", 0) else np.ascontiguousarray(weight.T)
    bias = call.maybe(2)
    if bias is not None:
        bias = np.broadcast_to(bias.reshape(-1) * call.number("beta", 1.0), weight.shape[:1])
    return build.linear(call.tensor(), weight, bias, call.at)


def _matmul(build: Builder, call: Call) -> Tensor:
    """A fully connected layer over the last axis; the second input is a constant matrix."""
    x = call.inputs[0]
    weight = call.maybe(1) if isinstance(x, Tensor) else None
    if weight is None or weight.ndim != 2:
        raise unsupported(call)
    return build.linear(call.tensor(), np.ascontiguousarray(weight.T), None, call.at)


def _batch_norm(build: Builder, call: Call) -> Tensor:
    """Folded into the layer before it; evaluation mode."""
    if call.number("training_mode", 0):
        raise InputError(
            f"{call.at} must be in evaluation mode, not in training mode; export the model in evaluation mode"
        )
    gamma, beta, mean, variance = (call.array(i) for i in range(1, 5))
    return build.batch_norm(call.tensor(), gamma, beta, mean, variance, call.number("epsilon", 1e-5), call.at)


def _relu(build: Builder, call: Call) -> Tensor:
    """Fused into the layer before it."""
    return build.activation(call.tensor(), Activation.relu(), call.at)


def _leaky_relu(build: Builder, call: Call) -> Tensor:
    """Fused into the layer before it; the slope is 2**-n with n in 0..15."""
    return build.leaky_relu(call.tensor(), call.number("alpha", 0.01), call.at)


def _neg(build: Builder, call: Call) -> Tensor:
    """Folded into the layer before it."""
    return build.affine(call.tensor(), -1.0, 0.0, call.at)


def _clip(build: Builder, call: Call) -> Tensor:
    """Fused into the layer before it; the bounds are constant."""
    bounds = []
    for index, name in ((1, "min"), (2, "max")):
        given = call.maybe(index)
        if given is not None and given.size != 1:
            raise unsupported(call)
        value = call.attributes.get(name) if given is None else float(given.reshape(-1)[0])
        bounds.append(float(value) if isinstance(value, int | float) else None)
    return build.clamp(call.tensor(), bounds[0], bounds[1], call.at)


def _operands(call: Call) -> tuple[Tensor, NDArray[np.float64], bool]:
    """The computed operand, the constant one, and whether the computed one comes first."""
    first, second = call.inputs[0], call.inputs[1]
    if isinstance(first, Tensor) and not isinstance(second, Tensor):
        return first, call.array(1), True
    if isinstance(second, Tensor) and not isinstance(first, Tensor):
        return second, call.array(0), False
    raise unsupported(call)


def _add(build: Builder, call: Call) -> Tensor:
    """With a constant: folded into the layer before or after it. Of two tensors: a residual of the later layer."""
    one, two = call.inputs
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        return build.add(one, two, call.at)
    x, constant, _ = _operands(call)
    return build.affine(x, 1.0, constant, call.at)


def _sub(build: Builder, call: Call) -> Tensor:
    """Folded into the layer before or after it; one input is constant."""
    x, constant, leads = _operands(call)
    return build.affine(x, 1.0, -constant, call.at) if leads else build.affine(x, -1.0, constant, call.at)


def _mul(build: Builder, call: Call) -> Tensor:
    """Folded into the layer before or after it; one input is constant."""
    x, factor, _ = _operands(call)
    return build.affine(x, factor, 0.0, call.at)


def _div(build: Builder, call: Call) -> Tensor:
    """Folded into the layer before or after it; the divisor is constant."""
    x, divisor, leads = _operands(call)
    if not leads or (divisor == 0).any():
        raise unsupported(call)
    return build.affine(x, 1.0 / divisor, 0.0, call.at)


def _max_pool(build: Builder, call: Call) -> Tensor:
    """Max-pooling; ceil_mode only where the windows fit."""
    x = call.tensor()
    return build.max_pool(x, _window(call, call.integers("kernel_shape"), x.shape[1:]), call.at)


def _average_pool(build: Builder, call: Call) -> Tensor:
    """A depthwise layer with weights +1; padding is counted; ceil_mode only where the windows fit."""
    x = call.tensor()
    window = _window(call, call.integers("kernel_shape"), x.shape[1:])
    if window.padded and not call.number("count_include_pad", 0):
        raise InputError(f"{call.at} must count its padding, or have none; set count_include_pad=1")
    return build.average_pool(x, window, call.at)


def _global_average(build: Builder, call: Call) -> Tensor:
    """Average pooling over all pixels."""
    x = call.tensor()
    return build.average_pool(x, _whole(call, x), call.at)


def _global_max(build: Builder, call: Call) -> Tensor:
    """Max-pooling over all pixels."""
    x = call.tensor()
    return build.max_pool(x, _whole(call, x), call.at)


def _whole(call: Call, x: Tensor) -> Window:
    if len(x.shape) not in (2, 3):
        raise unsupported(call)
    return Window.of(x.shape[1:])


def _mean(build: Builder, call: Call) -> Tensor:
    """Average pooling over all pixels of (batch, channels, pixels)."""
    x = call.tensor()
    axes = sorted(axis % (len(x.shape) + 1) for axis in call.axes(1) or range(len(x.shape) + 1))
    if axes != list(range(2, len(x.shape) + 1)) or len(axes) not in (1, 2):
        raise InputError(
            f"{call.at} must be the mean over all pixels of (batch, channels, pixels), not over axes {axes}"
        )
    pooled = build.average_pool(x, Window.of(x.shape[1:]), call.at)
    return pooled if call.number("keepdims", 1) else pooled.seen_as(pooled.order.reshape(x.shape[0]))


def _concat(build: Builder, call: Call) -> Tensor:
    """Concatenation of channels or features, axis 1."""
    tensors = [value for value in call.inputs if isinstance(value, Tensor)]
    if len(tensors) != len(call.inputs):
        raise InputError(f"{call.at} must join computed tensors alone, not constants")
    axis = int(call.number("axis", 0)) % (len(tensors[0].shape) + 1)
    if axis == 0:
        raise InputError(f"{call.at} must keep axis 0 as the batch; join along axis 1, the channels")
    return build.concat(tensors, axis - 1, call.at)


def _viewed(call: Call, shape: Sequence[int]) -> Tensor:
    """The same elements in a new shape, whose axis 0 must be the batch."""
    x = call.tensor()
    sizes = [x.shape[i - 1] if size == 0 and i > 0 else size for i, size in enumerate(shape)]
    try:
        if not sizes or sizes[0] not in (0, BATCH, call.batch):
            raise ValueError
        order = x.order.reshape(sizes[1:])
    except ValueError:
        raise InputError(
            f"{call.at} must keep axis 0 as the batch, and makes {tuple(shape)} of (batch, {', '.join(map(str, x.shape))})"
        ) from None
    return x.seen_as(order)


def _reshape(build: Builder, call: Call) -> Tensor:
    """Another view of the same elements; axis 0 stays the batch."""
    if call.number("allowzero", 0):
        raise unsupported(call)
    return _viewed(call, [int(v) for v in call.array(1)])


def _flatten(build: Builder, call: Call) -> Tensor:
    """Another view of the same elements; from axis 1."""
    x = call.tensor()
    if int(call.number("axis", 1)) % (len(x.shape) + 1) != 1:
        raise InputError(f"{call.at} must keep axis 0 as the batch; flatten from axis 1")
    return x.seen_as(x.order.reshape(-1))


def _transpose(build: Builder, call: Call) -> Tensor:
    """Another view of the same elements; axis 0 stays the batch, and pixels keep their channels."""
    x = call.tensor()
    order = call.integers("perm", tuple(reversed(range(len(x.shape) + 1))))
    if order[0] != 0:
        raise InputError(f"{call.at} must keep axis 0 as the batch")
    return x.seen_as(x.order.transpose([axis - 1 for axis in order[1:]]))


def _squeeze(build: Builder, call: Call) -> Tensor:
    """Another view of the same elements; axis 0 stays the batch."""
    x = call.tensor()
    axes = call.axes(1)
    if axes is None:
        raise unsupported(call)
    return _viewed(call, [BATCH, *np.squeeze(x.order[None], tuple(axes)).shape[1:]])


def _unsqueeze(build: Builder, call: Call) -> Tensor:
    """Another view of the same elements; axis 0 stays the batch."""
    x = call.tensor()
    shape = np.expand_dims(x.order[None], call.axes(1) or ()).shape
    return _viewed(call, [BATCH, *shape[1:]])


def _cast(build: Builder, call: Call) -> Tensor:
    """Nothing; to a float type."""
    if int(call.number("to", 0)) not in _FLOAT_TYPES:
        raise unsupported(call)
    return call.tensor()


def _same(build: Builder, call: Call) -> Tensor:
    """Nothing."""
    return call.tensor()


Operation = Callable[[Builder, Call], Tensor]

OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "Conv": _conv,
        "Gemm": _gemm,
        "MatMul": _matmul,
        "BatchNormalization": _batch_norm,
        "Relu": _relu,
        "LeakyRelu": _leaky_relu,
        "Clip": _clip,
        "Add": _add,
        "Sub": _sub,
        "Mul": _mul,
        "Div": _div,
        "Neg": _neg,
        "MaxPool": _max_pool,
        "AveragePool": _average_pool,
        "GlobalAveragePool": _global_average,
        "GlobalMaxPool": _global_max,
        "ReduceMean": _mean,
        "Concat": _concat,
        "Flatten": _flatten,
        "Reshape": _reshape,
        "Transpose": _transpose,
        "Squeeze": _squeeze,
        "Unsqueeze": _unsqueeze,
        "Identity": _same,
        "Dropout": _same,
        "Cast": _cast,
    }
)
