"""Emission: placed layers to packet payloads and descriptor fields.

Nothing here knows a batch: `sw_driver.stream` adds the pixels when the program runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from shiftforge.activation import ACTIVATION_KINDS, Activation
from shiftforge.config import Config
from shiftforge.packets import Opcode
from shiftforge.program import Block, Recipe, Step
from sw_driver import layout
from sw_driver.compiler.place import LayerShape, Piece, Placement, place
from sw_driver.compiler.reading import Reading


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
    """

    name: str
    codes: NDArray[np.uint8]
    reading: Reading
    exponent_bias: int
    scale: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None
    activation: Activation = field(default_factory=Activation.none)
    saturate: bool = True

    def shape(self, config: Config) -> LayerShape:
        """What placement has to know."""
        (k, n), reading = self.codes.shape, self.reading
        pixels = (reading.pixels, reading.output_pixels)
        return LayerShape(self.name, int(k), int(n), self.scale is not None, *pixels, reading.words(config))


def lower(config: Config, layers: Sequence[StreamLayer]) -> Recipe:
    """Place and emit a chain of layers; `InputError` where a K is beyond `max_k`, or a tensor beyond the memory."""
    return emit(config, layers, place(config, [layer.shape(config) for layer in layers]))


def emit(config: Config, layers: Sequence[StreamLayer], placement: Placement) -> Recipe:
    """The recipe of placed layers."""
    blocks = [_blocks(config, layers[piece.layer], piece) for piece in placement.pieces]
    constants: tuple[Block, ...] = ()
    if placement.resident:
        constants = _merged(config, [block for pair in blocks for block in pair])
        blocks = [() for _ in blocks]
    steps = tuple(_step(config, layers, piece, loads) for piece, loads in zip(placement.pieces, blocks, strict=True))
    first, last = layers[0].reading, layers[-1]
    return Recipe(
        features=first.pixels * first.channels,
        outputs=last.reading.output_pixels * last.codes.shape[1],
        chunk=placement.chunk,
        constants=constants,
        steps=steps,
        flips=len(layers) % 2 == 1,  # the last layer reads the half that the input came to: the other one is free
        input_pixels=first.pixels,
        output_pixels=last.reading.output_pixels,
    )


def _step(config: Config, layers: Sequence[StreamLayer], piece: Piece, loads: tuple[Block, ...]) -> Step:
    layer = layers[piece.layer]
    reading = layer.reading
    return Step(
        layer.name,
        _fields(config, layers, piece),
        loads,
        piece.first,
        piece.channels,
        reading.output_pixels,
        reading.each,
        reading.words(config),
        reading.output_pixels * layout.k_words(config, layer.codes.shape[1]),
    )


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


def _fields(config: Config, layers: Sequence[StreamLayer], piece: Piece) -> dict[str, int]:
    layer = layers[piece.layer]
    (k, n), last = layer.codes.shape, piece.layer == len(layers) - 1
    half = config.activation_words // 2
    fields = {
        "to_stream": int(last),
        "post": int(layer.scale is not None),
        "saturate": int(layer.saturate),
        "act_kind": ACTIVATION_KINDS.index(layer.activation.kind),
        "act_shift": layer.activation.shift,
        "exponent_bias": layer.exponent_bias,
        **layer.reading.fields(config, piece.layer % 2 * half),
        "k_tail": layout.k_tail(config, k),
        "n_tiles": layout.n_tiles(config, piece.channels),
        "n_tail": layout.n_tail(config, piece.channels),
        "weight_address": piece.weight_address,
        "parameter_address": piece.parameter_address,
        "clamp_lo": layer.activation.lo,
        "clamp_hi": layer.activation.hi,
    }
    if not last:
        fields["output_address"] = (piece.layer + 1) % 2 * half + piece.first // config.rows
        fields["output_bank"] = piece.first % config.rows
        fields["output_stride"] = layout.k_words(config, n)
    return fields
