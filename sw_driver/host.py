"""The host's side of a run: the tensors that lie there, what is loaded from them, and what arrives in them."""

from collections.abc import Callable

import numpy as np

from shiftforge.binary32 import Float32Array, canonical
from shiftforge.config import Config
from shiftforge.errors import InputError
from shiftforge.formats import Format
from shiftforge.graph import Concat, Graph, Layer, MaxPool, Unfold, Window
from shiftforge.graph.host import host_layer
from shiftforge.passes.reference import unfold
from shiftforge.recipe import HostStep, HostTensor, Load, Phase, Recipe, Region
from shiftforge.registers import Flag
from sw_driver import layout
from sw_driver.layout import Codes, storage_dtype
from sw_driver.stream import Answer
from sw_driver.values import decode, encode_flagged


class Host:
    """Host tensors of one batch.

    Parameters
    ----------
    graph : Graph or None
        Whose nodes the recipe's host steps name; None for recipes without any.
    x_codes : codes (batch, features)
        The input's.
    saturate : bool
        What the host's roundings do with overflow.

    Members
    -------
    tensors : dict of str to codes (batch, height, width, channels)
        In the format that the recipe gives.
    flags : Flag
        What the host's own roundings raised.
    """

    def __init__(self, config: Config, graph: Graph | None, recipe: Recipe, x_codes: Codes, *, saturate: bool) -> None:
        self.config, self.recipe = config, recipe
        self.batch = len(x_codes)
        self.tensors: dict[str, Codes] = {recipe.input.name: self._shaped(x_codes, recipe.input)}
        self.flags = Flag(0)
        self._graph, self._saturate = graph, saturate
        self._unfolds: dict[str, Unfold] = {}
        self._last_unfolded: tuple[tuple[str, int, int], Codes] | None = None

    @property
    def output(self) -> Codes:
        """The network's result, (batch, outputs)."""
        name = self.recipe.output.name
        if name not in self.tensors:  # nothing arrives of an empty batch
            self._open(name)
        return self.tensors[name].reshape(self.batch, self.recipe.outputs)

    def payload(self, load: Load, start: int, stop: int) -> bytes:
        """The activation words of a load for the examples ``start`` .. ``stop - 1``."""
        part = self._part(load.region, start, stop)
        return layout.pack_activations(self.config, part.reshape(-1, part.shape[-1]))

    def put(self, answer: Answer, payload: bytes) -> None:
        """Unpack a RESULT payload into its place."""
        region, examples = answer.region, answer.stop - answer.start
        if region.tensor not in self.tensors:
            self._open(region.tensor)
        codes = layout.unpack_result(self.config, payload, examples * region.pixels, answer.channels)
        part = self._part(region, answer.start, answer.stop)
        part[..., answer.channel : answer.channel + answer.channels] = codes.reshape(
            examples, region.height, region.width, answer.channels
        )

    def settle(self, phase: Phase) -> None:
        """After a phase: what left the chip only to come back is rounded to the activation format, as the chip would have."""
        for name in dict.fromkeys(step.result.tensor for step in phase.steps if step.result):
            if self.recipe.tensor(name).format == "activation" and name in self.tensors:
                self.tensors[name] = self._convert(self.tensors[name], self.config.output, self.config.activation)

    def run(self, step: HostStep) -> None:
        """Compute a node for the whole batch."""
        assert self._graph is not None, "a recipe with host steps has a graph"
        node, tensor = self._graph[step.node], self.recipe.tensor(step.node)
        fmt = self._format(tensor)
        if isinstance(node, Unfold):
            self._unfolds[node.name] = node  # done as it is loaded: it is larger than what it is made of
        elif isinstance(node, MaxPool):
            codes = self._input(node.source, fmt)
            self.tensors[node.name] = max_pool(codes, node.window, fmt)
        elif isinstance(node, Concat):
            parts = [self._input(source, fmt) for source in node.sources]
            pixels = (self.batch, tensor.height, tensor.width)
            joined = np.concatenate([part.reshape(*pixels, -1) for part in parts], axis=-1)
            self.tensors[node.name] = joined
        elif isinstance(node, Layer):
            residual = self._values(node.residual) if node.residual else None
            values = host_layer(node, self._values(node.source), residual).astype(np.float64)
            codes, raised = encode_flagged(fmt, values, saturate=self._saturate)
            self.flags |= raised
            self.tensors[node.name] = self._shaped(codes, tensor)
        else:
            raise InputError(
                f"a host step must name a layer, a max-pool, a concatenation or an unfolding, not {node.name!r}"
            )

    # ---- tensors

    def _format(self, tensor: HostTensor) -> Format:
        return self.config.output if tensor.format == "output" else self.config.activation

    def _shaped(self, codes: Codes, tensor: HostTensor) -> Codes:
        return codes.reshape(len(codes), tensor.height, tensor.width, tensor.channels)

    def _open(self, name: str) -> None:
        """Room for results, which arrive in the output format."""
        tensor = self.recipe.tensor(name)
        dtype = storage_dtype(self.config.output)
        self.tensors[name] = np.empty((self.batch, tensor.height, tensor.width, tensor.channels), dtype)

    def _part(self, region: Region, start: int, stop: int) -> Codes:
        rows, columns = slice(region.top, region.top + region.height), slice(region.left, region.left + region.width)
        if region.tensor in self._unfolds:
            return self._patches(self._unfolds[region.tensor], start, stop)[:, rows, columns]
        return self.tensors[region.tensor][start:stop, rows, columns]

    def _patches(self, node: Unfold, start: int, stop: int) -> Codes:
        """What an `Unfold` makes of some examples; the last ones are kept, since they may be loaded in strips."""
        key = (node.name, start, stop)
        if self._last_unfolded is None or self._last_unfolded[0] != key:
            source, tensor = self.tensors[node.source][start:stop], self.recipe.tensor(node.name)
            assert self._graph is not None
            shaped = source.reshape(stop - start, *self._graph.shapes[node.source])
            self._last_unfolded = key, self._shaped(unfold(shaped, node.window), tensor)
        return self._last_unfolded[1]

    def _input(self, edge: str, fmt: Format) -> Codes:
        """The tensor that a node reads, in the format that it leaves in."""
        assert self._graph is not None
        root = edge
        while root not in self.tensors:  # reshapes move nothing
            (root,) = self._graph[root].inputs
        return self._convert(self.tensors[root], self._format(self.recipe.tensor(root)), fmt)

    def _values(self, edge: str) -> Float32Array:
        """The tensor that a layer reads, widened exactly, in the shape that it means."""
        assert self._graph is not None
        codes = self._input(edge, self.config.activation)
        values = canonical(decode(self.config.activation, codes).astype(np.float32))
        return values.reshape(self.batch, *self._graph.shapes[edge])

    def _convert(self, codes: Codes, source: Format, target: Format) -> Codes:
        if source == target:
            return codes
        converted, raised = encode_flagged(target, decode(source, codes), saturate=self._saturate)
        self.flags |= raised
        return converted


def max_pool(codes: Codes, window: Window, fmt: Format) -> Codes:
    """The largest of each window's pixels (batch, height, width, channels), by code: NaN wins, and +0 is above -0."""
    height, width = codes.shape[1:3]
    raw = codes.astype(np.int64)
    order = _ascending(fmt)
    ranks = np.pad(order(raw), ((0, 0), *_sides(window), (0, 0)), constant_values=-(1 << 40))
    sizes = window.sizes("max-pool", (height, width)[2 - window.axes :])
    kernel, stride, dilation = (
        ((1,) * (2 - window.axes)) + axes for axes in (window.kernel, window.stride, window.dilation)
    )
    rows, columns = ((1,) * (2 - window.axes)) + sizes
    best = np.full((len(codes), rows, columns, codes.shape[3]), -(1 << 40), np.int64)
    for y, x in np.ndindex(*kernel):
        down = slice(y * dilation[0], y * dilation[0] + (rows - 1) * stride[0] + 1, stride[0])
        across = slice(x * dilation[1], x * dilation[1] + (columns - 1) * stride[1] + 1, stride[1])
        best = np.maximum(best, ranks[:, down, across])
    if fmt.is_float:
        best = np.where(best < 0, ~best | fmt.sign_bit, best)
    return (best & ((1 << fmt.bits) - 1)).astype(codes.dtype)


def _sides(window: Window) -> tuple[tuple[int, int], ...]:
    return ((0, 0),) * (2 - window.axes) + window.padding


def _ascending(fmt: Format) -> Callable[[np.ndarray], np.ndarray]:
    """Codes to whole numbers in the order of their values; every NaN becomes the canonical one, which is the largest."""

    def integers(raw: np.ndarray) -> np.ndarray:
        return raw - ((raw & fmt.sign_bit) << 1)

    def floats(raw: np.ndarray) -> np.ndarray:
        magnitude = raw & (fmt.sign_bit - 1)
        nan = magnitude > (fmt.inf if fmt.has_inf else fmt.max_finite)
        return np.where(nan, fmt.nan, np.where(raw & fmt.sign_bit, ~magnitude, magnitude))

    return floats if fmt.is_float else integers
