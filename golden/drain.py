"""What a layer computes and where its results go: operands out of the memories, sums, rounding, words or packets back."""

from collections.abc import Iterator

import numpy as np

from golden.decoder import Layer
from golden.gemm import exact_sums
from golden.memory import IntArray, Memories
from golden.patch import valid_elements, words
from golden.post import post_process
from golden.rounding import Codes, Flags, Overflow, round_sums, storage_dtype
from shiftforge.binary32 import Float32Array
from shiftforge.formats import Format

_BLOCK = 1 << 22  # operand elements gathered at a time


def _blocks(layer: Layer) -> Iterator[tuple[int, int]]:
    step = max(1, _BLOCK // max(layer["k_words"] * layer.config.rows, layer["n_tiles"] * layer.config.cols))
    for start in range(0, layer["pixels"], step):
        yield start, min(start + step, layer["pixels"])


def _weights(layer: Layer, memories: Memories, valid: IntArray) -> Codes:
    """Weight codes (K, N): tile by tile ``k_words * rows`` words, of which the ``valid`` ones count."""
    tiles, cols = layer["n_tiles"], layer.config.cols
    offsets = np.arange(tiles)[:, None] * (layer["k_words"] * layer.config.rows) + valid
    codes = memories.weights.elements[memories.weights.words(layer["weight_address"], offsets)]
    return codes.transpose(1, 0, 2).reshape(len(valid), tiles * cols)[:, : layer.channels]


def _parameters(layer: Layer, memories: Memories) -> tuple[Float32Array, Float32Array]:
    """Scale and bias of each channel, shape (N,) each."""
    config, tiles = layer.config, layer["n_tiles"]
    offsets = np.arange(tiles * config.groups)
    words = memories.parameters.elements[memories.parameters.words(layer["parameter_address"], offsets)]
    pairs = words.reshape(tiles, config.groups * config.lanes, 2)[:, : config.cols].reshape(-1, 2)[: layer.channels]
    values = np.ascontiguousarray(pairs.T).view(np.float32)
    return values[0], values[1]


def _residual(layer: Layer, memories: Memories, start: int, stop: int) -> Codes:
    """The elements (stop - start, N) that are added to the results of these pixels."""
    words, banks = _elements(layer, memories, "residual", start, stop, 0, layer.channels)
    return memories.activations.elements[words, banks]


def compute(layer: Layer, memories: Memories) -> tuple[Codes, Flags]:
    """The layer's results (pixels, channels) as codes of the format that they leave in, and the flags they raised.

    Not for a maximum: that is `golden.pool.maximum`.
    """
    config = layer.config
    fmt = config.output if layer["to_stream"] else config.activation
    overflow: Overflow = "saturate" if layer["saturate"] else "inf"
    valid = valid_elements(layer)
    weights = _weights(layer, memories, valid)
    scale, bias = _parameters(layer, memories)
    codes = np.empty((layer["pixels"], layer.channels), storage_dtype(fmt))
    flags = Flags()
    for start, stop in _blocks(layer):
        read = words(layer, start, stop)
        elements = memories.activations.elements[memories.activations.words(layer["input_address"], read.offsets)]
        elements[read.outside] = 0
        x = elements.reshape(stop - start, -1)[:, valid]
        sums = exact_sums(x, weights, config.activation, config.weights)
        if layer["post"]:
            part, raised = post_process(
                sums,
                scale,
                bias,
                exponent_bias=layer["exponent_bias"],
                activation=layer.activation,
                output=fmt,
                overflow=overflow,
                residual=_residual(layer, memories, start, stop) if layer["residual"] else None,
                residual_format=config.activation,
                residual_scale=_fp32(layer["residual_scale"]),
            )
        else:
            part, raised = round_sums(sums, fmt, exponent_bias=layer["exponent_bias"], overflow=overflow)
        codes[start:stop] = part
        flags |= raised
    return codes, flags


def result_payload(layer: Layer, codes: Codes) -> bytes:
    """Results in the order of the drain: nt, mt, row, group, lane; the lanes of the last group past the last channel are 0."""
    cols, lanes, fmt = layer.config.cols, layer.config.lanes, layer.config.output
    parts = []
    for tile in range(layer["n_tiles"]):
        valid = layer.tile_channels(tile)
        part = np.zeros((layer["pixels"], -(-valid // lanes) * lanes), _wire(fmt))
        part[:, :valid] = codes[:, tile * cols : tile * cols + valid]
        parts.append(part.tobytes())  # mt and row together count the pixels
    return b"".join(parts)


def _wire(fmt: Format) -> np.dtype[np.generic]:
    return storage_dtype(fmt).newbyteorder("<")


def store(layer: Layer, codes: Codes, memories: Memories) -> None:
    """Write results as activation words; the other elements of a word that is partly written keep their contents."""
    for tile in range(layer["n_tiles"]):  # where regions overlap, the later write wins, as in the machine
        first = tile * layer.config.cols
        count = layer.tile_channels(tile)
        words, banks = _elements(layer, memories, "output", 0, layer["pixels"], first, count)
        memories.activations.elements[words, banks] = codes[:, first : first + count]


def _elements(
    layer: Layer, memories: Memories, tensor: str, start: int, stop: int, first: int, count: int
) -> tuple[IntArray, IntArray]:
    """Words (pixels, channels) and elements (channels,) of a tensor, ``output`` or ``residual``: channels from ``first`` on."""
    pixel = np.arange(start, stop)[:, None]
    channel = layer[f"{tensor}_bank"] + first + np.arange(count)
    offsets = pixel * layer[f"{tensor}_stride"] + channel[None, :] // layer.config.rows
    return memories.activations.words(layer[f"{tensor}_address"], offsets), channel % layer.config.rows


def _fp32(bits: int) -> float:
    return float(np.array(bits, np.uint32).view(np.float32))
