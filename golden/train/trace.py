"""A torch module to a graph, for evaluation in the hardware's arithmetic: by `torch.fx`, module by module.

The driver reads exported programs (`sw_driver.importers.pt2`); here the layers themselves are at hand, with their own bits, so
that networks with different bits per layer can be evaluated. The two are written apart and compared by the tests.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor as TorchTensor
from torch import fx, nn
from torch.fx.proxy import TraceError
from torch.nn import functional

from golden.train.convert import freeze
from golden.train.geometry import ShiftLayer
from golden.train.post_training import TermSumLayer
from shiftforge.activation import Activation
from shiftforge.errors import InputError
from shiftforge.formats import WEIGHT_BITS
from shiftforge.graph import Graph, Window
from shiftforge.graph.build import Builder, Place
from shiftforge.graph.views import Tensor
from shiftforge.graph.weights import shift_weights

Float64Array = NDArray[np.float64]

_BATCH = -1  # what stands for the batch's size
_SAME = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)


class _Tracer(fx.Tracer):
    """Stops at torch's own modules, and at layers whose weights are powers of two."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, ShiftLayer | TermSumLayer) or super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module, shape: tuple[int, ...], *, mask: bool = False) -> Graph:
    """The graph of a model in eval mode, not yet folded.

    Parameters
    ----------
    model : nn.Module
        Linear layers and convolutions of any method, frozen, or ``TermSumLayer``; BatchNorm, ReLU and its kin, pools,
        additions, concatenations, and what only moves elements.
    shape : tuple of int
        Of one example.
    mask : bool
        Whether zeros are masked weights; otherwise they are sums such as 1 - 1.

    Raises
    ------
    InputError
        For a model in training mode, weights that are no powers of two or sums of them, and other modules and functions.
    """
    if model.training:
        raise InputError("the model must be in eval mode, not in training mode")
    tracer = _Tracer()
    root = (
        model if type(model) is nn.Sequential or not tracer.is_leaf_module(model, "") else nn.Sequential(model).eval()
    )
    try:
        traced = tracer.trace(root)
    except TraceError as error:
        raise InputError(f"the model must do the same for every input to run exactly ({error})") from None
    values: dict[fx.Node, object] = {}
    build = Builder("x", shape, WEIGHT_BITS[0], mask=mask)
    for node in traced.nodes:
        if node.op == "placeholder":
            if values:
                raise InputError(f"the model must have one input, not also {node.name!r}")
            values[node] = build.input
        elif node.op == "get_attr":
            values[node] = _attribute(root, str(node.target))
        elif node.op == "output":
            result = _known(node.args[0], values)
            if not isinstance(result, Tensor):
                raise InputError(f"the model must have one output, a tensor, not {type(result).__name__}")
            return build.graph(result)
        else:
            args = cast("tuple[object, ...]", _known(node.args, values))
            kwargs = cast("dict[str, object]", _known(node.kwargs, values))
            if node.op == "call_module":
                module = root.get_submodule(str(node.target))
                values[node] = _module(build, module, _tensor(args[0], node.name), Place(str(node.target)))
            else:
                values[node] = _function(build, node, args, kwargs)
    raise InputError("the model must have an output, and has none")


def _known(given: object, values: Mapping[fx.Node, object]) -> object:
    if isinstance(given, fx.Node):
        return values[given]
    if isinstance(given, tuple | list):
        return type(given)(_known(part, values) for part in given)
    if isinstance(given, dict):
        return {key: _known(part, values) for key, part in given.items()}
    return given


def _attribute(root: nn.Module, path: str) -> Float64Array:
    owner, _, name = path.rpartition(".")
    return _double(getattr(root.get_submodule(owner), name))


def _double(tensor: TorchTensor) -> Float64Array:
    return tensor.detach().double().cpu().numpy()


def _tensor(value: object, name: str) -> Tensor:
    if not isinstance(value, Tensor):
        raise InputError(f"{name!r} must read a computed tensor to run exactly, not {type(value).__name__}")
    return value


def _bits_of(name: str, weight: Float64Array, mask: bool) -> int:
    """The fewest bits for weights that are powers of two (or masked); the most for what may be sums of them."""
    for bits in WEIGHT_BITS[:-1]:
        try:
            if shift_weights(name, weight, bits, mask=mask).terms == 1:
                return bits
        except InputError:
            continue
    return WEIGHT_BITS[-1]


def _layer(build: Builder, module: nn.Module, x: Tensor, at: Place) -> Tensor | None:
    """A linear layer or convolution; None for other modules."""
    if isinstance(module, TermSumLayer):
        y = _plain(build, module.layer, x, at, module.fit.bits, module.fit.k_bias)
        if y is None:
            return None
        channels = (-1, *[1] * (len(y.shape) - 1)) if not isinstance(module.layer, nn.Linear) else (-1,)
        return build.affine(
            y,
            _double(module.scale).reshape(channels),
            _double(module.bias).reshape(channels),
            Place(f"{at.name}.scale"),
        )
    bits = module.bits if isinstance(module, ShiftLayer) else None
    return _plain(build, freeze(module) if isinstance(module, ShiftLayer) else module, x, at, bits)


def _plain(
    build: Builder, module: nn.Module, x: Tensor, at: Place, bits: int | None, k_bias: NDArray[np.int8] | None = None
) -> Tensor | None:
    if type(module) is nn.Linear:
        weight = _double(module.weight)
        bias = None if module.bias is None else _double(module.bias)
        bits = _bits_of(at.name, weight, build.mask) if bits is None else bits
        return build.linear(x, weight, bias, at, bits, None if k_bias is None else k_bias[0])
    if type(module) not in (nn.Conv1d, nn.Conv2d) or not isinstance(module, nn.Conv1d | nn.Conv2d):
        return None
    if module.padding_mode != "zeros":
        raise InputError(f"layer {at.name!r} must pad with zeros to run exactly, not in mode {module.padding_mode!r}")
    weight = _double(module.weight)
    kernel, dilation = weight.shape[2:], cast("tuple[int, ...]", module.dilation)
    padding: tuple[int, ...] | tuple[tuple[int, int], ...]
    if module.padding == "same":
        spans = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        padding = tuple((span // 2, span - span // 2) for span in spans)
    else:
        padding = (0,) * len(kernel) if isinstance(module.padding, str) else cast("tuple[int, ...]", module.padding)
    window = Window.of(kernel, cast("tuple[int, ...]", module.stride), padding, dilation)
    bias = None if module.bias is None else _double(module.bias)
    if k_bias is not None:  # of each group, or one for all
        k_bias = np.broadcast_to(k_bias, (module.groups, k_bias.shape[1])).reshape(module.groups, *weight.shape[1:])
    bits = _bits_of(at.name, weight, build.mask) if bits is None else bits
    return build.conv(x, weight, bias, window, module.groups, at, bits, k_bias)


def _module(build: Builder, module: nn.Module, x: Tensor, at: Place) -> Tensor:
    if isinstance(module, _SAME):
        return x
    layer = _layer(build, module, x, at)
    if layer is not None:
        return layer
    kind = type(module)
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        if module.running_mean is None or module.running_var is None:
            raise InputError(f"BatchNorm {at.name!r} must track running statistics, and does not")
        gamma, beta = (_double(module.weight), _double(module.bias)) if module.affine else (None, None)
        return build.batch_norm(
            x, gamma, beta, _double(module.running_mean), _double(module.running_var), module.eps, at
        )
    if kind is nn.ReLU:
        return build.activation(x, Activation.relu(), at)
    if isinstance(module, nn.Hardtanh):  # ReLU6 is one
        return build.clamp(x, module.min_val, module.max_val, at)
    if isinstance(module, nn.LeakyReLU):
        return build.leaky_relu(x, module.negative_slope, at)
    if isinstance(module, nn.MaxPool1d | nn.MaxPool2d):
        return build.max_pool(x, _window(module, x, at, module.dilation), at)
    if isinstance(module, nn.AvgPool1d | nn.AvgPool2d):
        window = _window(module, x, at, 1)
        if window.padded and not module.count_include_pad:
            raise InputError(f"pool {at.name!r} must count its padding, or have none, to run exactly")
        return build.average_pool(x, window, at)
    if isinstance(module, nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d):
        sizes = _each(cast("int | tuple[int, ...]", module.output_size), len(x.shape) - 1)
        if any(have % want for have, want in zip(x.shape[1:], sizes, strict=True)):
            raise InputError(f"pool {at.name!r} must make sizes that divide the input's {x.shape[1:]}, not {sizes}")
        kernel = tuple(have // want for have, want in zip(x.shape[1:], sizes, strict=True))
        return build.average_pool(x, Window.of(kernel, kernel), at)
    if isinstance(module, nn.Flatten) and module.start_dim == 1 and module.end_dim in (-1, len(x.shape)):
        return x.seen_as(x.order.reshape(-1))
    raise InputError(
        f"module {at.name!r} must be a layer, BatchNorm, ReLU or its kin, pool or Flatten to run exactly, not {kind.__name__}"
    )


def _each(value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else tuple(value)


def _window(module: nn.Module, x: Tensor, at: Place, dilation: int | tuple[int, ...]) -> Window:
    axes = len(x.shape) - 1
    given = [cast("int | tuple[int, ...]", getattr(module, name)) for name in ("kernel_size", "stride", "padding")]
    kernel, stride, padding = (_each(value, axes) for value in given)
    window = Window.of(kernel, stride, padding, _each(dilation, axes))
    spans = [n + b + a - r for n, r, (b, a) in zip(x.shape[1:], window.reach, window.padding, strict=True)]
    if getattr(module, "ceil_mode", False) and any(span % s for span, s in zip(spans, window.stride, strict=True)):
        raise InputError(f"pool {at.name!r} must have ceil_mode=False where the windows do not fit, to run exactly")
    return window


_FUNCTIONAL: Mapping[object, type[nn.Module]] = {
    torch.relu: nn.ReLU,
    functional.relu: nn.ReLU,
    functional.relu6: nn.ReLU6,
    functional.hardtanh: nn.Hardtanh,
    functional.leaky_relu: nn.LeakyReLU,
    functional.max_pool1d: nn.MaxPool1d,
    functional.max_pool2d: nn.MaxPool2d,
    functional.avg_pool1d: nn.AvgPool1d,
    torch.avg_pool1d: nn.AvgPool1d,
    functional.avg_pool2d: nn.AvgPool2d,
    functional.adaptive_avg_pool1d: nn.AdaptiveAvgPool1d,
    functional.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    functional.dropout: nn.Identity,
    "relu": nn.ReLU,
}
"""Functions that are a module with the same parameters."""

_ARITHMETIC = (
    *(operator.add, operator.iadd, torch.add),
    *(operator.mul, operator.imul, torch.mul),
    *(operator.sub, torch.sub, operator.truediv),
)


def _function(build: Builder, node: fx.Node, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    target, at = node.target, Place(node.name)
    if not any(isinstance(value, Tensor) for value in _flat((*args, *kwargs.values()))):
        if node.op == "call_function":
            return cast("Callable[..., object]", target)(*args, **kwargs)
        raise _unknown(node)
    if target in _FUNCTIONAL:
        kind, rest = _FUNCTIONAL[target], args[1:]
        if kind is nn.Identity:
            return args[0]
        parameters = {
            key: value for key, value in kwargs.items() if key not in ("inplace", "training", "return_indices")
        }
        return _module(build, kind(*rest, **parameters), _tensor(args[0], node.name), at)
    if target in _ARITHMETIC:
        return _arithmetic(build, node, args, at)
    if target in (torch.cat, torch.concat):
        parts = cast("Sequence[object]", args[0] if args else kwargs["tensors"])
        axis = cast(int, args[1] if len(args) > 1 else kwargs.get("dim", 0))
        tensors = [_tensor(part, node.name) for part in parts]
        axis %= len(tensors[0].shape) + 1
        if axis == 0:
            raise InputError(f"{node.name!r} must keep axis 0 as the batch")
        return build.concat(tensors, axis - 1, at)
    x = _tensor(args[0], node.name)
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    return _view(build, node, str(name), x, list(args[1:]), kwargs, at)


def _flat(values: Sequence[object]) -> list[object]:
    return [part for value in values for part in (_flat(value) if isinstance(value, tuple | list) else [value])]


def _arithmetic(build: Builder, node: fx.Node, args: tuple[object, ...], at: Place) -> Tensor:
    name = getattr(node.target, "__name__", "").lstrip("i")
    one, two = args[0], args[1]
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        if name != "add":
            raise _unknown(node)
        return build.add(one, two, at)
    x = _tensor(one if isinstance(one, Tensor) else two, node.name)
    constant = np.asarray(two if isinstance(one, Tensor) else one, np.float64)
    if name == "add":
        return build.affine(x, 1.0, constant, at)
    if name == "mul":
        return build.affine(x, constant, 0.0, at)
    if name == "truediv" and isinstance(one, Tensor):
        return build.affine(x, 1.0 / constant, 0.0, at)
    if name == "sub":
        leads = isinstance(one, Tensor)
        return build.affine(x, 1.0 if leads else -1.0, -constant if leads else constant, at)
    raise _unknown(node)


def _view(
    build: Builder, node: fx.Node, name: str, x: Tensor, args: list[object], kwargs: dict[str, object], at: Place
) -> object:
    """What only moves elements, asks for sizes, or is the mean over all pixels."""
    whole = (_BATCH, *x.shape)
    if name == "getattr" and args == ["shape"]:
        return whole
    if name == "size":
        return whole if not args else whole[cast(int, args[0])]
    given = [*args, *kwargs.values()]
    numbers = [cast(int, value) for value in _flat(given)]
    order = x.order
    try:
        if name in ("view", "reshape") and numbers[0] == _BATCH:
            return x.seen_as(order.reshape(numbers[1:]))
        if name == "flatten" and numbers[:1] == [1]:
            return x.seen_as(order.reshape(-1))
        if name == "permute" and numbers[0] == 0:
            return x.seen_as(order.transpose([axis - 1 for axis in numbers[1:]]))
        if name == "transpose":
            turned = order[None].swapaxes(*numbers)
            if turned.shape[0] == 1:
                return x.seen_as(turned[0])
        if name == "unsqueeze" and numbers[0] != 0:
            return x.seen_as(np.expand_dims(order[None], numbers[0])[0])
        if name == "squeeze" and numbers[0] != 0:
            return x.seen_as(np.squeeze(order[None], numbers[0])[0])
        if name in ("contiguous", "clone", "detach", "float"):
            return x
    except (ValueError, IndexError):
        raise InputError(f"{node.name!r} must keep axis 0 as the batch to run exactly") from None
    pixels = list(range(2, len(x.shape) + 1))
    if name == "mean" and sorted(axis % (len(x.shape) + 1) for axis in numbers if not isinstance(axis, bool)) == pixels:
        pooled = build.average_pool(x, Window.of(x.shape[1:]), at)
        keep = bool(kwargs.get("keepdim", False)) or any(value is True for value in args)
        return pooled if keep else pooled.seen_as(pooled.order.reshape(x.shape[0]))
    raise _unknown(node)


def _unknown(node: fx.Node) -> InputError:
    what = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    return InputError(f"{node.name!r} must be a function that runs exactly, not {what!r}; docs/support.md lists them")
