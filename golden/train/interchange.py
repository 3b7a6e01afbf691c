"""Models to ONNX: what onnxruntime runs to the same predictions, and the driver reads back to the same codes.

The model is traced and folded to layers first (:mod:`golden.train.trace`, `shiftforge.passes`). A layer becomes a Conv or MatMul
whose initialiser holds the sums of powers of two exactly, then Mul by the channel's scale and Add of its bias, both rounded once
to fp32.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from golden.train.trace import trace
from shiftforge.activation import Activation, fp32_value
from shiftforge.errors import InputError, ToolError
from shiftforge.files import write_atomically
from shiftforge.formats import FORMATS
from shiftforge.graph import Concat, Conv, Graph, Input, Linear, MaxPool, Reshape, Window
from shiftforge.passes import compiled

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET, IR_VERSION = 17, 9
"""Old enough for every runtime of the last years: nothing newer is needed."""

_AVERAGE_BITS = 2


class _Real:
    """fp32 everywhere: no tensor has a scale."""

    activation = output = FORMATS["fp32"]


def to_graph(model: nn.Module, shape: tuple[int, ...]) -> Graph:
    """The model in eval mode as layers with fp32 scale and bias, without tensor scales; errors as `golden.train.trace.trace`."""
    return compiled(trace(model, shape), _Real(), _AVERAGE_BITS)


def save_onnx(model: nn.Module, path: Path | str, shape: tuple[int, ...], name: str = "network") -> None:
    """Write a model in eval mode; the batch is dynamic.

    Parameters
    ----------
    shape : tuple of int
        Of one example.

    Raises
    ------
    InputError
        As :func:`golden.train.trace.trace`, or when the place is not writable.
    ToolError
        When the package onnx is not installed.
    """
    write_atomically(path, to_onnx(to_graph(model, shape), name).SerializeToString())


def to_onnx(graph: Graph, name: str = "network") -> "ModelProto":
    """A compiled graph without tensor scales as an ONNX model, channels first."""
    return _Writer(graph).model(name)


def _onnx() -> Any:  # noqa: ANN401 - the module
    try:
        import onnx
    except ImportError:
        raise ToolError("onnx must be installed to write .onnx models: pip install 'shiftforge[onnx]'") from None
    import onnx.checker
    import onnx.numpy_helper

    return onnx


class _Writer:
    """Collects ONNX nodes; image tensors are channels first, as ONNX has them."""

    def __init__(self, graph: Graph) -> None:
        self.onnx = _onnx()
        self.graph = graph
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.values: dict[str, str] = {}  # graph node -> ONNX value
        wrong = [node for node, scale in graph.scales().items() if scale != 1.0]
        if wrong:
            raise InputError(
                f"a model for ONNX must have no tensor scales, and {wrong[0]!r} has one; leave the calibration out"
            )

    def model(self, name: str) -> "ModelProto":
        """The whole model, checked by ONNX's own checker."""
        helper, float32 = self.onnx.helper, self.onnx.TensorProto.FLOAT
        for node in self.graph:
            if isinstance(node, Input):
                self.values[node.name] = self._input(node)
            elif isinstance(node, Linear | Conv):
                self.values[node.name] = self._layer(node)
            elif isinstance(node, MaxPool):
                self.values[node.name] = self._node(
                    "MaxPool",
                    [self.values[node.source]],
                    node.name,
                    kernel_shape=node.window.kernel,
                    **_window(node.window),
                )
            elif isinstance(node, Concat):
                sources = [self.values[source] for source in node.sources]
                self.values[node.name] = self._node("Concat", sources, node.name, axis=1)
            elif isinstance(node, Reshape):
                self.values[node.name] = self._reshape(node)
            else:
                raise InputError(f"node {node.name!r} must be a compiled layer, not {type(node).__name__}")
        entry, output = self.graph.input, self.graph.output
        shape = self.graph.shapes[output.name]
        batch = "batch"
        made = helper.make_graph(
            [*self.nodes, helper.make_node("Identity", [self.values[output.name]], ["output"], name="output")],
            name,
            [helper.make_tensor_value_info(entry.name, float32, [batch, *entry.shape])],
            [helper.make_tensor_value_info("output", float32, [batch, *_first(shape)])],
            self.initializers,
        )
        model = helper.make_model(
            made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="shiftforge"
        )
        self.onnx.checker.check_model(model, full_check=True)
        return model

    # ---- nodes

    def _node(self, op: str, inputs: list[str], name: str, **attributes: object) -> str:
        value = name if name != self.graph.input.name else f"{name}.value"
        self.nodes.append(self.onnx.helper.make_node(op, inputs, [value], name=name, **attributes))
        return value

    def _constant(self, name: str, array: NDArray[np.generic]) -> str:
        self.initializers.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _reshaped(self, value: str, shape: tuple[int, ...], name: str) -> str:
        target = self._constant(f"{name}.shape", np.array([-1, *shape], np.int64))
        return self._node("Reshape", [value, target], name)

    def _turned(self, value: str, axes: int, name: str, *, last: bool) -> str:
        """Channels moved to the end, or back to the front, of examples with so many axes."""
        if axes < 2:
            return value
        order = [0, *range(2, axes + 1), 1] if last else [0, axes, *range(1, axes)]
        return self._node("Transpose", [value], name, perm=order)

    def _input(self, node: Input) -> str:
        shape = self.graph.shapes[node.name]
        if len(shape) == 1:
            return node.name if node.shape == shape else self._reshaped(node.name, shape, f"{node.name}.flat")
        seen = _first(shape) if node.channels_first else shape
        value = node.name if node.shape == seen else self._reshaped(node.name, seen, f"{node.name}.image")
        return value if node.channels_first else self._turned(value, len(shape), f"{node.name}.turned", last=False)

    def _reshape(self, node: Reshape) -> str:
        before, after = self.graph.shapes[node.source], node.shape
        value = self._turned(self.values[node.source], len(before), f"{node.name}.last", last=True)
        value = self._reshaped(value, after, node.name)
        return self._turned(value, len(after), f"{node.name}.first", last=False)

    def _layer(self, layer: Linear | Conv) -> str:
        weight, name = layer.weights(), layer.name
        single = weight.astype(np.float32)
        if (single != weight).any():
            raise InputError(f"weights of layer {name!r} must be fp32 numbers, and its exponents are beyond them")
        value, axes = self.values[layer.source], len(self.graph.shapes[layer.source])
        spread = (-1, *[1] * (axes - 1))
        if isinstance(layer, Conv):
            by_axis = single.reshape(*layer.window.kernel, -1, layer.features)
            kernel = self._constant(f"{name}.weight", np.moveaxis(by_axis, (-1, -2), (0, 1)))
            value = self._node("Conv", [value, kernel], name, group=layer.groups, **_window(layer.window))
        else:
            value = self._turned(value, axes, f"{name}.last", last=True)
            value = self._node("MatMul", [value, self._constant(f"{name}.weight", single)], name)
            value = self._turned(value, axes, f"{name}.first", last=False)
        if (layer.scale != 1).any():
            value = self._node(
                "Mul", [value, self._constant(f"{name}.factor", layer.scale.reshape(spread))], f"{name}.scale"
            )
        if layer.bias.any():
            value = self._node(
                "Add", [value, self._constant(f"{name}.addend", layer.bias.reshape(spread))], f"{name}.bias"
            )
        if layer.residual:
            value = self._node("Add", [value, self.values[layer.residual]], f"{name}.sum")
        return self._activation(layer.activation, value, f"{name}.{layer.activation.kind}")

    def _activation(self, activation: Activation, value: str, name: str) -> str:
        if activation.kind == "relu":
            return self._node("Relu", [value], name)
        if activation.kind == "leaky":
            return self._node("LeakyRelu", [value], name, alpha=2.0**-activation.shift)
        if activation.kind == "clamp":
            bounds = [
                self._constant(f"{name}.{end}", np.array(fp32_value(bits), np.float32))
                for end, bits in (("lo", activation.lo), ("hi", activation.hi))
            ]
            return self._node("Clip", [value, *bounds], name)
        return value


def _first(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[-1], *shape[:-1])


def _window(window: Window) -> dict[str, list[int]]:
    before, after = zip(*window.padding, strict=True)
    return {"strides": list(window.stride), "dilations": list(window.dilation), "pads": [*before, *after]}
