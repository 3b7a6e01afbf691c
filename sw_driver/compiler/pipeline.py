"""Graph in, `Program` out: all passes in order, then place and emit."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shiftforge.config import Config
from shiftforge.errors import InputError
from shiftforge.formats import WeightCode
from shiftforge.graph import Conv, Graph, Layer
from shiftforge.passes import compiled
from shiftforge.program import Marks, Program
from shiftforge.recipe import HostStep, HostTensor, Part, Phase, Recipe
from sw_driver.compiler.batches import parts_for
from sw_driver.compiler.emit import StreamLayer, emit, emit_strips
from sw_driver.compiler.machine import readings_of
from sw_driver.compiler.parts import InStrips, OnHost, Together
from sw_driver.compiler.place import Placement, place
from sw_driver.compiler.reading import Reading
from sw_driver.compiler.report import report
from sw_driver.compiler.shares import Share
from sw_driver.compiler.unfold import unfolded
from sw_driver.compiler.units import NotPlaced, Units


def compile_graph(
    graph: Graph,
    config: Config,
    *,
    name: str = "network",
    overflow: Literal["inf", "saturate"] = "saturate",
    calibration: NDArray[np.float64] | None = None,
    batch: int = 1,
) -> Program:
    """Compile an imported graph.

    Parameters
    ----------
    name : str
        The program's, for messages and reports.
    overflow : str
        What a finite result (or input) beyond its format becomes.
    calibration : float64 array (samples, *shape) or (samples, features), or None
        Sample inputs from which tensor scales are set (int8, int16 and fp8); without them every scale is 1.
    batch : int
        The batch to cut the network for, where it may be cut in several ways; the program runs any.

    Raises
    ------
    InputError
        When the network does not fit the machine or a pass refuses it; the message names the layer.
    """
    graph = compiled(graph, config, config.weights.bits, calibration)
    return assemble(graph, config, name=name, overflow=overflow, batch=batch)


def assemble(
    graph: Graph,
    config: Config,
    *,
    name: str = "network",
    overflow: Literal["inf", "saturate"] = "saturate",
    batch: int = 1,
) -> Program:
    """Place and emit a compiled graph (also part of one: `Graph.up_to`), cut for batches of `batch` examples.

    A graph that the machine of this configuration does not run becomes a program without a recipe, which says why; the golden
    network runs it all the same.
    """
    for layer in graph.layers():
        if layer.weight_bits > config.weights.bits:
            raise InputError(
                f"weights of layer {layer.name!r} must have at most the configuration's {config.weights.bits} bits, not "
                f"{layer.weight_bits}"
            )
        if layer.mask is not None and not config.weights.mask:
            raise InputError(
                f"weights of layer {layer.name!r} must not be zero without masks; set array.mask = true in the configuration"
            )
    placed = unfolded(graph, config)
    units = Units(placed)
    try:
        readings = readings_of(config, units)
        maker = _Maker(config, units, readings, overflow == "saturate")
        for part in parts_for(config, units, readings, batch):
            maker.add(part)
    except NotPlaced as reason:
        return Program(name, config, overflow, graph, None, report(config, graph, None), str(reason))
    recipe = maker.recipe()
    return Program(name, config, overflow, placed, recipe, report(config, placed, recipe), marks=maker.marks)


@dataclass
class _Maker:
    """Gathers the parts of a recipe, the host tensors between them and the memory that they need."""

    config: Config
    units: Units
    readings: Mapping[str, Reading]
    saturate: bool
    parts: list[Part] = field(default_factory=list)
    tensors: dict[str, HostTensor] = field(default_factory=dict)
    marks: Marks = field(default_factory=Marks)

    def __post_init__(self) -> None:
        self._tensor(self.units.graph.input.name)

    def add(self, part: Together | InStrips | OnHost) -> None:
        """Emit one more part."""
        if isinstance(part, OnHost):
            self._tensor(part.node.name)
            self.parts.append(HostStep(part.node.name))
        elif isinstance(part, InStrips):
            self._tensor(part.layer.name)
            reading = self.readings[part.layer.name]
            layer = self._layer(part.layer.name, Share(0, part.layer.features, 0, reading.channels))
            placement = place(self.config, [layer.shape])
            phase = emit_strips(self.config, layer, part.strips, part.residual, placement)
            self._emitted(phase, placement, 2 * max(sum(load.words for load in step.inputs) for step in phase.steps))
        else:
            for name in part.work.results:
                self._tensor(name)
            layers = {task.key: self._layer(task.name, task.share) for task in part.work.tasks if not task.pool}
            placement = place(self.config, [layer.shape for layer in layers.values()])
            phase = emit(self.config, layers, part.work, part.pages, placement, self.tensors)
            self._emitted(phase, placement, part.pages.words)

    def recipe(self) -> Recipe:
        """All parts."""
        output = self.tensors.pop(self.units.output)
        return Recipe((*self.tensors.values(), output), tuple(self.parts))

    def _emitted(self, phase: Phase, placement: Placement, words: int) -> None:
        self.parts.append(phase)
        self.marks = Marks(
            max(self.marks.activation_words, words),
            max(self.marks.weight_words, placement.weight_words),
            max(self.marks.parameter_words, placement.parameter_words),
        )

    def _tensor(self, root: str) -> None:
        leaves = root in self.units.graph.leaving()
        self.tensors[root] = HostTensor(root, *self.units.image(root), "output" if leaves else "activation")

    def _layer(self, name: str, share: Share) -> StreamLayer:
        layer = self.units.graph[name]
        assert isinstance(layer, Layer)
        reading = replace(self.readings[name], channels=share.high - share.low)
        outputs = slice(share.first, share.first + share.channels)
        elements = elements_of(self.config, layer, share)
        return StreamLayer(
            layer.name,
            reading.pad(self.config, elements),
            reading,
            layer.exponent_bias,
            layer.scale.astype(np.float32)[outputs],
            layer.bias.astype(np.float32)[outputs],
            layer.activation,
            self.saturate,
            layer.residual_scale,
        )


def elements_of(config: Config, layer: Layer, share: Share) -> NDArray[np.uint8]:
    """Weight elements (K, N) of a share: codes, with the mask bit where a weight is zero or another group reads the channel.

    Codes of fewer bits become the machine's: the same exponent, and the sign above it.
    """
    masked = np.uint8(config.weights.mask_bit)
    own, machine = WeightCode(layer.weight_bits), config.weights
    sign, exponent = layer.codes >> own.exponent_bits, layer.codes & (own.sign_bit - 1)
    codes = (exponent | sign << machine.exponent_bits).astype(np.uint8)
    elements = codes if layer.mask is None else np.where(layer.mask, codes, masked)
    if not isinstance(layer, Conv) or layer.groups == 1:
        return elements
    inputs, outputs = layer.channels // layer.groups, layer.features // layer.groups
    taps = elements.reshape(-1, inputs, layer.features)
    dense = np.full((len(taps), share.high - share.low, share.channels), masked)
    for group in range(share.first // outputs, (share.first + share.channels - 1) // outputs + 1):
        first = max(group * outputs, share.first)
        last = min((group + 1) * outputs, share.first + share.channels)
        read = slice(group * inputs - share.low, (group + 1) * inputs - share.low)
        dense[:, read, first - share.first : last - share.first] = taps[:, :, first:last]
    return dense.reshape(-1, share.channels)
