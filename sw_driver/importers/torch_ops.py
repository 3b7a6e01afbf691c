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
from sw_driver.importers.build import SUPPORTED, Builder, Place, Tensor

Argument: TypeAlias = Tensor | NDArray[np.float64] | float | int | str | None


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

    def maybe_number(self, name: str) -> float | None:
        return None if self.arguments.get(name) is None else self.number(name)


_HINTS = (
    ("conv", "convolutions are not built in this version; a 1x1 convolution of 1x1 images is a Linear layer"),
    ("pool", "pooling is not built in this version"),
    ("norm", "use BatchNorm1d, which folds into the layer before it"),
    ("softmax", "leave softmax at the end to the host: the largest logit is the largest probability"),
    ("sigmoid", "use ReLU, ReLU6 or Hardtanh, and leave a sigmoid at the end to the host"),
    ("tanh", "use Hardtanh"),
    ("elu", "use ReLU or LeakyReLU with a power-of-two slope"),
    ("silu", "use ReLU or ReLU6"),
    ("hardswish", "use ReLU6"),
    ("mul.", "a factor must be constant"),
    ("add.", "a residual addition of two computed tensors is not built in this version"),
    ("sub.", "a difference of two computed tensors is not built in this version"),
    ("cat", "concatenation is not built in this version"),
)


def unsupported(call: Call) -> InputError:
    """The refusal of an operation, with the nearest form that is supported."""
    hint = next((text for key, text in _HINTS if key in call.op), f"supported are {SUPPORTED}")
    return InputError(f"{call.at} must be an operation that the accelerator runs, not {call.op}; {hint}")


def _linear(build: Builder, call: Call) -> Tensor:
    return build.linear(call.tensor(), call.array("weight"), call.optional("bias"), call.at)


def _mm(build: Builder, call: Call) -> Tensor:
    other = "mat2" if "mat2" in call.arguments else "other"
    x = call.tensor("input" if "input" in call.arguments else "self")
    weight = call.array(other)
    if weight.ndim != 2:
        raise unsupported(call)
    return build.linear(x, np.ascontiguousarray(weight.T), None, call.at)


def _addmm(build: Builder, call: Call) -> Tensor:
    if call.number("beta", 1.0) != 1.0 or call.number("alpha", 1.0) != 1.0:
        raise unsupported(call)
    weight = np.ascontiguousarray(call.array("mat2").T)
    return build.linear(call.tensor("mat1"), weight, np.broadcast_to(call.array("self"), weight.shape[:1]), call.at)


def _batch_norm(build: Builder, call: Call) -> Tensor:
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
    if call.arguments.get("train"):
        raise InputError(
            f"{call.at} must be in evaluation mode, not in training mode; call model.eval() before the export"
        )
    return call.tensor()


def _same(build: Builder, call: Call) -> Tensor:
    return call.tensor("self")


def _reshape(build: Builder, call: Call) -> Tensor:
    """Examples keep their order of elements, so a new shape changes nothing as long as axis 0 stays the batch."""
    x = call.tensor("self")
    if call.shape is None or int(np.prod(call.shape)) != x.features:
        raise InputError(f"{call.at} must keep axis 0 as the batch; write it as flatten(x, 1)")
    return Tensor(x.node, call.shape)


def _relu(build: Builder, call: Call) -> Tensor:
    return build.activation(call.tensor("self"), Activation.relu(), call.at)


def _relu6(build: Builder, call: Call) -> Tensor:
    return build.clamp(call.tensor("self"), 0.0, 6.0, call.at)


def _hardtanh(build: Builder, call: Call) -> Tensor:
    return build.clamp(call.tensor("self"), call.number("min_val", -1.0), call.number("max_val", 1.0), call.at)


def _clamp(build: Builder, call: Call) -> Tensor:
    return build.clamp(call.tensor("self"), call.maybe_number("min"), call.maybe_number("max"), call.at)


def _leaky(build: Builder, call: Call) -> Tensor:
    return build.leaky_relu(call.tensor("self"), call.number("negative_slope", 0.01), call.at)


def _operands(call: Call) -> tuple[Tensor, NDArray[np.float64] | float, bool]:
    """The computed operand, the constant one, and whether the computed one comes first."""
    first, second = call.arguments.get("self"), call.arguments.get("other")
    for one, other, leads in ((first, second, True), (second, first, False)):
        if isinstance(one, Tensor) and isinstance(other, np.ndarray | float | int):
            return one, other, leads
    raise unsupported(call)


def _mul(build: Builder, call: Call) -> Tensor:
    x, factor, _ = _operands(call)
    return build.affine(x, factor, 0.0, call.at)


def _div(build: Builder, call: Call) -> Tensor:
    x, divisor, leads = _operands(call)
    if not leads or np.any(np.asarray(divisor) == 0) or call.arguments.get("rounding_mode") is not None:
        raise unsupported(call)
    return build.affine(x, 1.0 / np.asarray(divisor, np.float64), 0.0, call.at)


def _add(build: Builder, call: Call) -> Tensor:
    x, constant, leads = _operands(call)
    alpha = call.number("alpha", 1.0)
    return build.affine(x, 1.0, constant * alpha, call.at) if leads else build.affine(x, alpha, constant, call.at)


def _sub(build: Builder, call: Call) -> Tensor:
    x, constant, leads = _operands(call)
    alpha = call.number("alpha", 1.0)
    if leads:
        return build.affine(x, 1.0, -np.asarray(constant, np.float64) * alpha, call.at)
    return build.affine(x, -alpha, constant, call.at)


def _rsub(build: Builder, call: Call) -> Tensor:
    x, constant, leads = _operands(call)
    if not leads:
        raise unsupported(call)
    return build.affine(x, -call.number("alpha", 1.0), constant, call.at)


def _neg(build: Builder, call: Call) -> Tensor:
    return build.affine(call.tensor("self"), -1.0, 0.0, call.at)


Operation = Callable[[Builder, Call], Tensor]

OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "aten.linear.default": _linear,
        "aten.matmul.default": _mm,
        "aten.mm.default": _mm,
        "aten.addmm.default": _addmm,
        "aten.batch_norm.default": _batch_norm,
        "aten._native_batch_norm_legit_no_training.default": _batch_norm,
        "aten.dropout.default": _dropout,
        "aten.flatten.using_ints": _reshape,
        "aten.view.default": _reshape,
        "aten.reshape.default": _reshape,
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
        "aten.sub.Tensor": _sub,
        "aten.sub.Scalar": _sub,
        "aten.rsub.Scalar": _rsub,
        "aten.rsub.Tensor": _rsub,
        "aten.neg.default": _neg,
    }
)
