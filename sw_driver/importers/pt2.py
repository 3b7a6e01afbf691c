"""`torch.export` programs (.pt2) to graphs. torch is imported when it is needed, and needed only here.

What depends on parameters, buffers and constants alone is computed once by torch itself: an unfrozen DenseShift layer exports two
dozen element-wise nodes, of which the weight ±2**e remains. What depends on the input must be one of
`sw_driver.importers.torch_ops.OPERATIONS`.
"""

import io
import logging
import re
import warnings
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from shiftforge.errors import InputError, ToolError
from shiftforge.files import read_bytes
from shiftforge.graph import Graph
from shiftforge.graph.build import Builder, Place
from shiftforge.graph.views import Tensor
from sw_driver.importers.torch_ops import OPERATIONS, Argument, Call, unsupported

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram
    from torch.fx import Node

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in ')


def read_pt2(path: Path | str, weight_bits: int, *, mask: bool = False, host: Collection[str] = ()) -> Graph:
    """The network in a .pt2 file as a graph, not yet folded.

    Parameters
    ----------
    weight_bits : int
        Width of the machine's weight codes.
    mask : bool
        Whether they have mask bits (``Config.weights.mask``): a weight may be zero then. Without, zeros are sums such as 1 - 1.
    host : collection of str
        Names of layers whose weights stay in full precision, and which the host computes.

    Raises
    ------
    InputError
        When the file is missing, truncated or no .pt2 program, or the network holds what the accelerator does not run; the message
        names the node, its layer and, where torch knows it, its source line.
    ToolError
        When torch is not installed.
    """
    data = read_bytes(path, "model")
    export = _torch().export
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} is damaged")
        with _quiet():
            program = export.load(io.BytesIO(data))
    except Exception as error:  # zipfile, pickle, JSON, KeyError, RuntimeError, ...: all mean the same to the user
        reason = (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
        raise InputError(
            f"model must be a whole torch.export program (.pt2), not {str(path)!r} ({reason}); write it with torch.export.save"
        ) from None
    return import_program(program, weight_bits, mask=mask, host=host)


def import_program(
    program: "ExportedProgram", weight_bits: int, *, mask: bool = False, host: Collection[str] = ()
) -> Graph:
    """As `read_pt2`, from a program in memory."""
    with _quiet():
        return _Importer(program).run(weight_bits, mask, host)


def _torch() -> Any:  # noqa: ANN401 - the module
    try:
        import torch
    except ImportError:
        raise ToolError("torch must be installed to read .pt2 programs: pip install 'shiftforge[train]'") from None
    import torch.export

    return torch


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warnings about its own deprecated functions, and without its log of what becomes one sentence of ours."""
    log = logging.getLogger("torch.export")
    before = log.disabled
    log.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before


class _Importer:
    """Walks one program's nodes in order."""

    def __init__(self, program: "ExportedProgram") -> None:
        self.torch = _torch()
        self.program = program
        self.constants: dict[Node, Any] = {}
        self.tensors: dict[Node, Tensor] = {}
        self.batch = ""

    def run(self, weight_bits: int, mask: bool, host: Collection[str]) -> Graph:
        entry = self._placeholders()
        value: Any = entry.meta.get("val")
        if not isinstance(value, self.torch.Tensor) or value.dim() < 2 or not value.is_floating_point():
            raise InputError(
                f"the input {entry.name!r} must be a float tensor with the batch as axis 0, (batch, features), not {_shape(value)}"
            )
        self.batch = str(value.shape[0])
        if not all(isinstance(size, int) for size in value.shape[1:]):
            raise InputError(f"only axis 0 of the input {entry.name!r} may be dynamic, not {_shape(value)}")
        builder = Builder(entry.name, tuple(value.shape[1:]), weight_bits, mask=mask, host=host)
        self.tensors[entry] = builder.input
        output = self._output()
        needed = _ancestors(output)
        with self.torch.no_grad():
            for node in self.program.graph.nodes:
                if node in needed and node.op not in ("placeholder", "output"):
                    self._node(builder, node)
        if output not in self.tensors:
            raise InputError(f"the output {output.name!r} must depend on the input, and it is constant")
        return builder.graph(self.tensors[output])

    def _placeholders(self) -> "Node":
        """Fill in parameters, buffers and constants; the one node that is the input."""
        specs = {spec.arg.name: spec for spec in self.program.graph_signature.input_specs}
        inputs: list[Node] = []
        for node in self.program.graph.nodes:
            if node.op != "placeholder":
                continue
            spec = specs[node.name]
            if spec.kind.name == "USER_INPUT":
                inputs.append(node)
            elif spec.target in self.program.state_dict:
                self.constants[node] = self.program.state_dict[spec.target]
            elif spec.target in self.program.constants:
                self.constants[node] = self.program.constants[spec.target]
        if len(inputs) != 1:
            names = ", ".join(repr(node.name) for node in inputs) or "none"
            raise InputError(f"the network must have one input, not {len(inputs)} ({names})")
        return inputs[0]

    def _output(self) -> "Node":
        outputs = self.program.graph_signature.output_specs
        others = [spec for spec in outputs if spec.kind.name != "USER_OUTPUT"]
        if others:
            raise InputError(
                f"the network must not change its buffers, and changes {others[0].target!r}; call model.eval() before the export"
            )
        node = next(n for n in self.program.graph.nodes if n.op == "output")
        results = list(node.args[0])
        if len(results) != 1 or not isinstance(results[0], self.torch.fx.Node):
            raise InputError(f"the network must have one output, not {len(results)}")
        return results[0]

    def _node(self, builder: Builder, node: "Node") -> None:
        if all(argument in self.constants for argument in node.all_input_nodes):
            self.constants[node] = self._compute(node)
            return
        if not isinstance(node.meta.get("val"), self.torch.Tensor | tuple | list):
            return  # sizes and assertions about them: shapes are read from the tensors themselves
        at = _place(node)
        if node.op != "call_function" or not isinstance(node.target, self.torch._ops.OpOverload):
            if getattr(node.target, "__name__", "") == "getitem" and node.args[0] in self.tensors and node.args[1] == 0:
                self.tensors[node] = self.tensors[cast("Node", node.args[0])]  # the first of BatchNorm's results
                return
            raise unsupported(Call(str(node.target), {}, None, at))
        call = Call(str(node.target), self._arguments(node), self._example_shape(node), at)
        operation = OPERATIONS.get(call.op)
        if operation is None and not self._is_float_cast(node):
            raise unsupported(call)
        self.tensors[node] = call.tensor("self") if operation is None else operation(builder, call)

    def _compute(self, node: "Node") -> object:
        """A node that depends on constants alone, computed by torch."""
        target = node.target
        if node.op != "call_function" or not callable(target):
            raise unsupported(Call(str(target), {}, None, _place(node)))
        if self.torch.Tag.nondeterministic_seeded in getattr(target, "tags", ()):
            raise InputError(f"{_place(node)} must not be random, and is {target}")
        arguments = self.torch.fx.node.map_arg((node.args, node.kwargs), lambda n: self.constants[n])
        return target(*arguments[0], **arguments[1])

    def _arguments(self, node: "Node") -> dict[str, Argument]:
        """The arguments by the names of the operation's schema, defaults included."""
        schema = cast("torch._ops.OpOverload", node.target)._schema
        arguments: dict[str, Argument] = {}
        for index, parameter in enumerate(schema.arguments):
            if index < len(node.args):
                given = node.args[index]
            else:
                given = node.kwargs.get(parameter.name, parameter.default_value)
            arguments[parameter.name] = self._argument(given)
        return arguments

    def _argument(self, given: object) -> Argument:
        if isinstance(given, self.torch.fx.Node):
            node = cast("Node", given)
            if node in self.tensors:
                return self.tensors[node]
            given = self.constants.get(node)
        if isinstance(given, self.torch.Tensor):
            return cast("torch.Tensor", given).detach().to(self.torch.float64).cpu().numpy()
        if isinstance(given, list | tuple):
            return [self._argument(part) for part in given]
        return given if isinstance(given, int | float | str) else None

    def _example_shape(self, node: "Node") -> tuple[int, ...] | None:
        value = node.meta["val"]
        if not isinstance(value, self.torch.Tensor) or value.dim() < 1 or str(value.shape[0]) != self.batch:
            return None
        sizes = value.shape[1:]
        return tuple(sizes) if all(isinstance(size, int) for size in sizes) else None

    def _is_float_cast(self, node: "Node") -> bool:
        value = node.meta["val"]
        op = str(node.target)
        return op.startswith(("aten.to.", "aten._to_copy.")) and value.dtype in (self.torch.float32, self.torch.float64)


def _shape(value: object) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"({', '.join(map(str, shape))}) of {getattr(value, 'dtype', '')}"


def _ancestors(output: "Node") -> set["Node"]:
    found: set[Node] = set()
    waiting = [output]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    return found


def _place(node: "Node") -> Place:
    """Node, module path and the innermost source line that is not torch's own."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values()]
    frames = list(_FRAME.finditer(node.meta.get("stack_trace") or ""))
    own = [frame for frame in frames if "/torch/" not in frame["file"].replace("\\", "/")]
    line = f"{Path(own[-1]['file']).name}:{own[-1]['line']}" if own else ""
    return Place(node.name, paths[-1] if paths else "", line)
