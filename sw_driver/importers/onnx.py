"""ONNX models to graphs. The package `onnx` is imported when it is needed, and needed only here.

What depends on initialisers alone is computed once by ONNX's own reference evaluator. What depends on the input must be one of
`sw_driver.importers.onnx_ops.OPERATIONS`. Weights are found to be sums of powers of two times a number per output channel, and
checked exactly (`shiftforge.graph.weights`).
"""

import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shiftforge.errors import InputError, ToolError
from shiftforge.files import read_bytes
from shiftforge.graph import Graph
from shiftforge.graph.build import Builder, Place
from shiftforge.graph.views import Tensor
from sw_driver.importers.onnx_ops import BATCH, OPERATIONS, Call, Value, unsupported

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, ValueInfoProto


def read_onnx(path: Path | str, weight_bits: int, *, mask: bool = False, host: Collection[str] = ()) -> Graph:
    """The network in an .onnx file as a graph, not yet folded.

    Parameters
    ----------
    weight_bits : int
        Width of the machine's weight codes.
    mask : bool
        Whether the machine has masks, so that weights of zero need no second term.
    host : collection of str
        Names of layers whose weights stay in full precision, and which the host computes.

    Raises
    ------
    InputError
        When the file is missing, truncated or no ONNX model, or the network holds what the accelerator does not run; the message
        names the node.
    ToolError
        When the package onnx is not installed.
    """
    data = read_bytes(path, "model")
    onnx = _onnx()
    try:
        model = onnx.load_model_from_string(data)
        with _quiet():
            onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and onnx's own: all mean the same to the user
        reason = (str(error).strip().splitlines() or [""])[0].rstrip(".") or type(error).__name__
        raise InputError(
            f"model must be a whole ONNX model with its weights inside, not {str(path)!r} ({reason})"
        ) from None
    return import_model(model, weight_bits, mask=mask, host=host)


def import_model(model: "ModelProto", weight_bits: int, *, mask: bool = False, host: Collection[str] = ()) -> Graph:
    """As `read_onnx`, from a model in memory."""
    return _Importer(model, weight_bits, mask, host).run()


def _onnx() -> Any:  # noqa: ANN401 - the module
    try:
        import onnx
    except ImportError:
        raise ToolError("onnx must be installed to read .onnx models: pip install 'shiftforge[onnx]'") from None
    import onnx.checker
    import onnx.numpy_helper
    import onnx.reference

    return onnx


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _Importer:
    """Walks one model's nodes in order."""

    def __init__(self, model: "ModelProto", weight_bits: int, mask: bool, host: Collection[str]) -> None:
        self.onnx = _onnx()
        self.model = model
        graph = model.graph
        self.values: dict[str, Value] = {
            tensor.name: self.onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer
        }
        inputs = [value for value in graph.input if value.name not in self.values]
        if len(inputs) != 1:
            names = ", ".join(repr(value.name) for value in inputs) or "none"
            raise InputError(f"the network must have one input, not {len(inputs)} ({names})")
        if len(graph.output) != 1:
            raise InputError(f"the network must have one output, not {len(graph.output)}")
        self.batch, shape = self._input_shape(inputs[0])
        self.builder = Builder(inputs[0].name, shape, weight_bits, mask=mask, host=host)
        self.values[inputs[0].name] = self.builder.input

    def run(self) -> Graph:
        wanted = self._needed()
        for node in self.model.graph.node:
            if any(name in wanted for name in node.output):
                self._node(node)
        output = self.values.get(self.model.graph.output[0].name)
        if not isinstance(output, Tensor):
            raise InputError(
                f"the output {self.model.graph.output[0].name!r} must depend on the input, and it is constant"
            )
        return self.builder.graph(output)

    def _input_shape(self, value: "ValueInfoProto") -> tuple[int, tuple[int, ...]]:
        """The batch (0 where it is dynamic), and the shape of one example."""
        kind = value.type.tensor_type
        floats = (self.onnx.TensorProto.FLOAT, self.onnx.TensorProto.DOUBLE, self.onnx.TensorProto.FLOAT16)
        sizes = [d.dim_value if d.HasField("dim_value") else 0 for d in kind.shape.dim]
        if kind.elem_type not in floats or len(sizes) < 2 or any(size < 1 for size in sizes[1:]):
            raise InputError(
                f"the input {value.name!r} must be a float tensor with the batch as axis 0 and the other axes fixed, not of shape "
                f"{tuple(size or '?' for size in sizes)}"
            )
        return sizes[0], tuple(sizes[1:])

    def _needed(self) -> set[str]:
        wanted = {self.model.graph.output[0].name}
        for node in reversed(self.model.graph.node):
            if any(name in wanted for name in node.output):
                wanted.update(node.input)
        return wanted

    def _node(self, node: "NodeProto") -> None:
        at = Place(node.name or node.output[0], line=node.op_type)
        inputs = [self.values[name] if name else None for name in node.input]
        if node.domain not in ("", "ai.onnx"):
            raise unsupported(Call(f"{node.domain}.{node.op_type}", [], {}, self.batch, at))
        if not any(isinstance(value, Tensor) for value in inputs):
            self.values[node.output[0]] = self._compute(node, at)
            return
        attributes = {a.name: self.onnx.helper.get_attribute_value(a) for a in node.attribute}
        call = Call(node.op_type, inputs, attributes, self.batch, at)
        if node.op_type == "Shape":
            shape = (self.batch or BATCH, *call.tensor(0).shape)
            self.values[node.output[0]] = np.array(shape, np.int64)
            return
        operation = OPERATIONS.get(node.op_type)
        if operation is None:
            raise unsupported(call)
        self.values[node.output[0]] = operation(self.builder, call)

    def _compute(self, node: "NodeProto", at: Place) -> NDArray[np.generic]:
        """A node that depends on constants alone, computed by ONNX's reference evaluator."""
        helper = self.onnx.helper
        feeds = {name: np.asarray(self.values[name]) for name in node.input if name}
        unknown = self.onnx.TypeProto()
        graph = helper.make_graph(
            [node],
            "constant",
            [helper.make_value_info(name, unknown) for name in feeds],
            [helper.make_value_info(node.output[0], unknown)],
        )
        try:
            model = helper.make_model(graph, opset_imports=self.model.opset_import)
            with _quiet():
                (result,) = self.onnx.reference.ReferenceEvaluator(model).run(None, feeds)
        except Exception as error:  # whatever the evaluator cannot do
            raise InputError(f"{at} must be computable from constants, and is not ({error})") from None
        return np.asarray(result)
