"""Emission: placed layers to packet payloads and descriptor fields.

Nothing here knows a batch: `sw_driver.stream` adds the pixels when the program runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from shiftforge.activation import ACTIVATION_KINDS, Activation
from shiftforge.config import Config
from shiftforge.packets import Opcode
from shiftforge.recipe import Block, HostTensor, Load, Phase, Recipe, Region, Step
from sw_driver import layout
from sw_driver.compiler.pages import Pages, place_pages
from sw_driver.compiler.place import LayerShape, Piece, Placement, place
from sw_driver.compiler.reading import Reading
from sw_driver.compiler.shares import Share
from sw_driver.compiler.strips import Strip
from sw_driver.compiler.tasks import Buffer, Task, View, Work


@dataclass(frozen=True, eq=False)
class StreamLayer:
    """A layer as the machine runs it.

    Parameters
    ----------
    codes : uint8 array (K, N)
        Weight elements: codes, with the mask bit where a weight is zero; K with each tap padded to whole words (`Reading.pad`).
    reading : Reading
        What it reads of the tensor before it.
    scale, bias : float32 arrays (N,), or both None
        None: the exact sum is rounded directly to the format it leaves in, without post-processing (`gemm`).
    saturate : bool
        Finite overflow gives the largest finite value.
    residual_scale : float
        Factor of what it adds, an fp32 number.
    """

    name: str
    codes: NDArray[np.uint8]
    reading: Reading
    exponent_bias: int
    scale: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None
    activation: Activation = field(default_factory=Activation.none)
    saturate: bool = True
    residual_scale: float = 1.0

    @property
    def shape(self) -> LayerShape:
        """What placement has to know."""
        k, n = self.codes.shape
        return LayerShape(self.name, int(k), int(n), self.scale is not None)


def lower(config: Config, layer: StreamLayer) -> Recipe:
    """The recipe of a single layer that reads the input; `InputError` where its K is beyond `max_k`."""
    reading, n = layer.reading, layer.codes.shape[1]
    buffer = Buffer("x", reading.pixels, reading.channels)
    share = Share(0, int(n), 0, reading.channels)
    task = Task(layer.name, False, share, reading, View(buffer, reading.channels), result=layer.name)
    work = Work((task,), {"x": buffer}, (layer.name,))
    placement = place(config, [layer.shape])
    pages = place_pages(config, work)
    assert pages is not None, "a page holds a tile of max_k"
    tensors = {
        "x": HostTensor("x", 1, reading.pixels, reading.channels, "activation"),
        layer.name: HostTensor(layer.name, 1, reading.output_pixels, int(n), "output"),
    }
    return Recipe(tuple(tensors.values()), (emit(config, {task.key: layer}, work, pages, placement, tensors),))


def emit(
    config: Config,
    layers: Mapping[tuple[str, int], StreamLayer],
    work: Work,
    pages: Pages,
    placement: Placement,
    tensors: Mapping[str, HostTensor],
) -> Phase:
    """The phase of tasks that run together on chip; `layers` by the tasks' keys, `placement` that of them all, in order."""
    order = [layers[task.key] for task in work.tasks if not task.pool]
    blocks, constants = _constants(config, order, placement)
    steps: list[Step] = []
    number = -1
    for index, task in enumerate(work.tasks):
        inputs = tuple(
            Load(_whole(tensors[name]), pages.addresses[name], work.loaded[name].words(config))
            for name, task_index in pages.before.items()
            if task_index == index
        )
        result = _whole(tensors[task.result]) if task.result else None
        place_ = _Place(config, pages.addresses, task)
        if task.pool:
            steps.append(replace(_step(config, task, place_.pool(), 0, task.source.channels), inputs=inputs))
            continue
        number += 1
        for at, piece in enumerate(placement.pieces):
            if piece.layer == number:
                fields = place_.layer(layers[task.key], piece)
                step = _step(config, task, fields, piece.first, piece.channels)
                steps.append(replace(step, loads=blocks[at], inputs=inputs, result=result))
                inputs = ()
    return Phase(pages.chunk, constants, tuple(steps), pages.flip)


def emit_strips(
    config: Config,
    layer: StreamLayer,
    strips: Sequence[Strip],
    residual: str,
    placement: Placement,
) -> Phase:
    """The phase of one layer in strips, which take the first two pages in turn.

    Where the layer's weights do not fit at once, they are loaded for every strip, or the strips for every piece of the weights,
    whichever moves fewer bytes.
    """
    n, page = layer.codes.shape[1], layout.page_words(config)
    share = Share(0, int(n), 0, layer.reading.channels)
    blocks, constants = _constants(config, [layer], placement)
    pieces = list(zip(placement.pieces, blocks, strict=True))
    loaded = sum(strip.source.pixels for strip in strips) * layer.reading.tap_words(config)
    loaded += sum(strip.output.pixels for strip in strips) * layout.k_words(config, n) if residual else 0
    loaded *= config.activation_word_bits
    weights = sum(8 * len(block.payload) for blocks_ in blocks for block in blocks_)
    turns = [(strip, [pair]) for pair in pieces for strip in strips]
    if loaded + len(strips) * weights <= len(pieces) * loaded + weights:
        turns = [(strip, pieces) for strip in strips]
    steps: list[Step] = []
    before: list[tuple[Piece, tuple[Block, ...]]] = []
    for turn, (strip, parts) in enumerate(turns):
        base, reading = turn % 2 * page, strip.reading
        source = Buffer("source", reading.pixels, reading.channels)
        added = Buffer("residual", strip.output.pixels, int(n))
        addresses = {"source": base, "residual": base + source.words(config)}
        inputs = [Load(strip.source, base, source.words(config))]
        if residual:
            region = replace(strip.output, tensor=residual)
            inputs.append(Load(region, addresses["residual"], added.words(config)))
        view = View(added, int(n)) if residual else None
        task = Task(layer.name, False, share, reading, View(source, reading.channels), view, result=layer.name)
        place_ = _Place(config, addresses, task)
        for piece, loads in parts:
            step = _step(config, task, place_.layer(layer, piece), piece.first, piece.channels)
            same = parts == before and len(parts) == 1
            steps.append(replace(step, loads=() if same else loads, inputs=tuple(inputs), result=strip.output))
            inputs = []
        before = parts
    return Phase(1, constants, tuple(steps), page if len(turns) % 2 else 0)


def _whole(tensor: HostTensor) -> Region:
    return Region(tensor.name, 0, 0, tensor.height, tensor.width)


def _step(config: Config, task: Task, fields: dict[str, int], first: int, channels: int) -> Step:
    return Step(
        layer=task.name,
        fields=fields,
        loads=(),
        first=task.share.first + first,
        channels=channels,
        pixels=task.reading.output_pixels,
        channel=task.channel + first if task.result else 0,
    )


def _constants(
    config: Config, order: Sequence[StreamLayer], placement: Placement
) -> tuple[list[tuple[Block, ...]], tuple[Block, ...]]:
    """What is sent before each piece, and what is sent once."""
    blocks = [_blocks(config, order[piece.layer], piece) for piece in placement.pieces]
    if not placement.resident:
        return blocks, ()
    return [() for _ in blocks], _merged(config, [block for pair in blocks for block in pair])


def _blocks(config: Config, layer: StreamLayer, piece: Piece) -> tuple[Block, ...]:
    part = slice(piece.first, piece.first + piece.channels)
    blocks = [
        Block(
            Opcode.WEIGHTS,
            piece.weight_address,
            layout.pack_weights(config, layer.codes[:, part]),
            f"weights of {layer.name}",
        )
    ]
    if layer.scale is not None and layer.bias is not None:
        payload = layout.pack_parameters(config, layer.scale[part], layer.bias[part])
        blocks.append(Block(Opcode.PARAMETERS, piece.parameter_address, payload, f"parameters of {layer.name}"))
    return tuple(blocks)


def _merged(config: Config, blocks: Sequence[Block]) -> tuple[Block, ...]:
    """One block for each half of each memory.

    A half has one commit bit, which vouches for its last packet alone: with one packet per half it vouches for all of it.
    """
    words = {Opcode.WEIGHTS: config.weight_words // 2, Opcode.PARAMETERS: config.parameter_words // 2}

    def place_of(block: Block) -> tuple[int, int]:
        return int(block.opcode), block.address // words[block.opcode]

    merged = []
    for _, run in groupby(sorted(blocks, key=lambda b: (*place_of(b), b.address)), key=place_of):
        parts = list(run)
        first = parts[0]
        last = parts[-1].label.rpartition(" of ")[2]
        label = first.label if first.label.endswith(f" of {last}") else f"{first.label} to {last}"
        merged.append(Block(first.opcode, first.address, b"".join(p.payload for p in parts), label))
    return tuple(merged)


@dataclass(frozen=True)
class _Place:
    """Descriptor fields of a task whose buffers lie at these addresses."""

    config: Config
    addresses: Mapping[str, int]
    task: Task

    def _word(self, view: View, channel: int = 0) -> tuple[int, int]:
        """The first pixel's word that holds a channel of the view, and its element there."""
        word, element = divmod(view.first + channel, self.config.rows)
        return self.addresses[view.buffer.name] + word, element

    def layer(self, layer: StreamLayer, piece: Piece) -> dict[str, int]:
        """Those of the piece of a layer."""
        config, task = self.config, self.task
        fields = {
            "to_stream": int(task.output is None),
            "post": int(layer.scale is not None),
            "saturate": int(layer.saturate),
            "act_kind": ACTIVATION_KINDS.index(layer.activation.kind),
            "act_shift": layer.activation.shift,
            "exponent_bias": layer.exponent_bias,
            **task.reading.fields(config, self._word(task.source)[0], task.source.buffer.pixel_words(config)),
            "k_tail": layout.k_tail(config, layer.codes.shape[0]),
            "n_tiles": layout.n_tiles(config, piece.channels),
            "n_tail": layout.n_tail(config, piece.channels),
            "weight_address": piece.weight_address,
            "parameter_address": piece.parameter_address,
            "clamp_lo": layer.activation.lo,
            "clamp_hi": layer.activation.hi,
        }
        if task.output is not None:
            fields["output_address"], fields["output_bank"] = self._word(task.output, piece.first)
            fields["output_stride"] = task.output.buffer.pixel_words(config)
        if task.residual is not None:
            fields["residual"] = 1
            fields["residual_scale"] = int(np.float32(layer.residual_scale).view(np.uint32))
            fields["residual_address"], fields["residual_bank"] = self._word(task.residual, piece.first)
            fields["residual_stride"] = task.residual.buffer.pixel_words(config)
        return fields

    def pool(self) -> dict[str, int]:
        """Those of a max-pool: every word of a pixel is a tile of its own."""
        config, task = self.config, self.task
        assert task.output is not None
        assert task.reading.geometry is not None
        pixel_words = task.source.buffer.pixel_words(config)
        address = self._word(task.source)[0]
        return {
            **task.reading.geometry.descriptor(address, layout.page_words(config), pixel_words, 1),
            "pool_kind": 1,
            "k_tail": config.rows,
            "n_tiles": layout.k_words(config, task.source.channels),
            "n_tail": config.cols,
            "output_address": self._word(task.output)[0],
            "output_stride": task.output.buffer.pixel_words(config),
        }
