"""A recipe and a batch of codes to the packets to send, and the answers back to codes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shiftforge.config import Config
from shiftforge.packets import Opcode, encode_layer
from shiftforge.program import Block, Recipe, Step
from sw_driver import layout
from sw_driver.layout import Codes


@dataclass(frozen=True)
class Answer:
    """The RESULT packet that a LAYER packet brings: which part of the output matrix, and how many payload bytes.

    A row of that matrix is one output pixel, a column one channel; the pixels of an example come one after the other.
    """

    row: int
    rows: int
    column: int
    columns: int
    length: int


@dataclass(frozen=True)
class Send:
    """One packet to send, but for its sequence number."""

    opcode: Opcode
    address: int
    payload: bytes
    label: str
    """What it is, for messages."""
    answer: Answer | None = None
    layer: str = ""
    """The layer that it runs, or that it alone is loaded for."""


def load(block: Block, layer: str = "") -> Send:
    """The packet of a block, that `layer` alone needs."""
    return Send(block.opcode, block.address, block.payload, block.label, layer=layer)


def batch(config: Config, recipe: Recipe, codes: Codes, *, upper: bool = False) -> Iterator[list[Send]]:
    """The packets of each chunk of a batch, the constants with the first one.

    Parameters
    ----------
    codes : (examples, elements) in the activation format
    upper : bool
        Whether the first chunk's input goes to the upper half of the activation memory.
    """
    constants = [load(block) for block in recipe.constants]
    half = config.activation_words // 2
    for start in range(0, codes.shape[0], recipe.chunk):
        part = codes[start : start + recipe.chunk]
        stop = start + len(part)
        base = half if upper else 0
        words = layout.pack_activations(config, part.reshape(-1, recipe.channels))
        sends = [*constants, Send(Opcode.ACTIVATIONS, base, words, f"input {_rows(start, stop)}")]
        constants = []
        for step in recipe.steps:
            sends += [load(block, step.layer) for block in step.loads]
            if step.each:
                sends += [_layer(config, step, row, row + 1, base, row - start) for row in range(start, stop)]
            else:
                sends.append(_layer(config, step, start, stop, base))
        yield sends
        upper ^= recipe.flips


def _rows(start: int, stop: int) -> str:
    return f"rows {start}..{stop - 1}"


def _layer(config: Config, step: Step, start: int, stop: int, base: int, place: int = 0) -> Send:
    """The LAYER packet of examples ``start`` .. ``stop - 1``, the first of which is the `place`-th of its chunk."""
    low = config.activation_words // 2 - 1

    def moved(address: int, words: int) -> int:
        return (address & ~low ^ base) | ((address + place * words) & low)

    pixels = (stop - start) * step.pixels
    fields = {**step.fields, "pixels": pixels}
    fields["input_address"] = moved(fields["input_address"], step.input_words)
    answer = None
    if fields["to_stream"]:
        length = layout.result_bytes(config, pixels, step.channels)
        fields["result_bytes"] = length
        answer = Answer(start * step.pixels, pixels, step.first, step.channels, length)
    else:
        fields["output_address"] = moved(fields["output_address"], step.output_words)
    label = f"layer {step.layer}, channels {step.first}..{step.first + step.channels - 1}, {_rows(start, stop)}"
    return Send(Opcode.LAYER, 0, encode_layer(fields), label, answer, step.layer)


def put(config: Config, answer: Answer, payload: bytes, into: Codes) -> None:
    """Unpack a RESULT payload into its part of the output matrix."""
    part = layout.unpack_result(config, payload, answer.rows, answer.columns)
    into[answer.row : answer.row + answer.rows, answer.column : answer.column + answer.columns] = part


def output_codes(config: Config, rows: int, columns: int) -> Codes:
    """An output matrix to put answers into."""
    return np.empty((rows, columns), layout.storage_dtype(config.output))
