"""Between arrays and the bytes of packets: words of activations, weights and parameters in, RESULT payloads out.

The layouts are those of docs/architecture.md ("Memories" and "A layer"). An element's lowest bit is the lowest bit of its place;
each word takes the next power of two of bits in a payload (`shiftforge.packets.word_stride_bits`).
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftforge.config import Config, ceil_div
from shiftforge.errors import InputError
from shiftforge.formats import Format
from shiftforge.packets import word_stride_bits
from shiftforge.packing import pack_codes

Codes: TypeAlias = NDArray[np.uint8 | np.uint16 | np.uint32]


def pages(config: Config) -> int:
    """Pages of the activation memory."""
    return config.activation_pages


def page_words(config: Config) -> int:
    """Words of a page of the activation memory."""
    return config.activation_words // pages(config)


def storage_dtype(fmt: Format) -> np.dtype[np.uint8] | np.dtype[np.uint16] | np.dtype[np.uint32]:
    """The little-endian unsigned dtype of the format's raw bits."""
    if fmt.bits == 8:
        return np.dtype("u1")
    return np.dtype("<u2") if fmt.bits == 16 else np.dtype("<u4")


def k_words(config: Config, k: int) -> int:
    """Activation words of `k` elements."""
    return ceil_div(k, config.rows)


def k_tail(config: Config, k: int) -> int:
    """Valid elements in the last of those words, 1..rows."""
    return k - (k_words(config, k) - 1) * config.rows


def n_tiles(config: Config, n: int) -> int:
    """Tiles of `n` output channels."""
    return ceil_div(n, config.cols)


def n_tail(config: Config, n: int) -> int:
    """Valid channels in the last of those tiles, 1..cols."""
    return n - (n_tiles(config, n) - 1) * config.cols


def weight_words(config: Config, k: int, n: int) -> int:
    """Weight words of a layer: tiles of ``k_words * rows`` words."""
    return n_tiles(config, n) * k_words(config, k) * config.rows


def parameter_words(config: Config, n: int) -> int:
    """Parameter words of `n` channels: tiles of ``groups`` words."""
    return n_tiles(config, n) * config.groups


def activation_stride(config: Config) -> int:
    """Bytes that an activation word takes in a payload."""
    return word_stride_bits(config.activation_word_bits) // 8


def weight_stride(config: Config) -> int:
    """Bytes that a weight word takes in a payload."""
    return word_stride_bits(config.weight_word_bits) // 8


def parameter_stride(config: Config) -> int:
    """Bytes that a parameter word takes in a payload."""
    return word_stride_bits(config.parameter_word_bits) // 8


def result_bytes(config: Config, pixels: int, n: int) -> int:
    """Payload length of a RESULT of `pixels` rows and `n` channels."""
    steps = (n_tiles(config, n) - 1) * config.groups + ceil_div(n_tail(config, n), config.lanes)
    return pixels * steps * config.lanes * config.output.bytes


def _padded_words(words: NDArray[np.uint8], word_bits: int) -> bytes:
    """Words as rows of bytes, each padded with zero bytes to its place in the payload."""
    stride = word_stride_bits(word_bits) // 8
    padded = np.zeros((words.shape[0], stride), np.uint8)
    padded[:, : words.shape[1]] = words
    return padded.tobytes()


def pack_activations(config: Config, codes: Codes) -> bytes:
    """Activation words of codes (M, K): ``k_words`` words for each pixel, padded with zeros.

    ``InputError`` for another dtype than the activation format's, or another number of axes.
    """
    dtype = storage_dtype(config.activation)
    if codes.ndim != 2 or codes.dtype != dtype:
        raise InputError(
            f"activations must be a {dtype} matrix (M, K) of {config.activation.name} bits, "
            f"not {codes.dtype} of shape {codes.shape}"
        )
    pixels, k = codes.shape
    words = k_words(config, k)
    padded = np.zeros((pixels, words * config.rows), dtype)
    padded[:, :k] = codes
    return _padded_words(padded.view(np.uint8).reshape(pixels * words, -1), config.activation_word_bits)


def pack_weights(config: Config, codes: NDArray[np.uint8]) -> bytes:
    """Weight words of elements (K, N): tile by tile, ``k_words * rows`` words each; those past K or N are 0 (and not used)."""
    k, n = codes.shape
    depth, tiles = k_words(config, k) * config.rows, n_tiles(config, n)
    padded = np.zeros((depth, tiles * config.cols), np.uint8)
    padded[:k, :n] = codes
    by_tile = padded.reshape(depth, tiles, config.cols).transpose(1, 0, 2).reshape(tiles * depth, config.cols)
    return _padded_words(pack_codes(by_tile, config.weights.bits, mask=config.weights.mask), config.weight_word_bits)


def pack_parameters(config: Config, scale: NDArray[np.float32], bias: NDArray[np.float32]) -> bytes:
    """Parameter words of the channels' (scale, bias): tile by tile, group by group; lanes past the last channel are 0."""
    tiles, padded_cols = n_tiles(config, scale.shape[0]), config.groups * config.lanes
    pairs = np.zeros((tiles * config.cols, 2), "<f4")
    pairs[: scale.shape[0], 0] = scale
    pairs[: bias.shape[0], 1] = bias
    by_tile = np.zeros((tiles, padded_cols, 2), "<f4")  # a tile's last group may reach beyond its columns
    by_tile[:, : config.cols] = pairs.reshape(tiles, config.cols, 2)
    words = by_tile.reshape(tiles * config.groups, config.lanes * 2).view(np.uint8)
    return _padded_words(words, config.parameter_word_bits)


def unpack_result(config: Config, payload: bytes, pixels: int, n: int) -> Codes:
    """Codes (pixels, n) in the output format from a RESULT payload, whose order is tile, pixel, group, lane.

    ``InputError`` when the payload has another length.
    """
    expected = result_bytes(config, pixels, n)
    if len(payload) != expected:
        raise InputError(f"a result of {pixels} x {n} must have {expected} bytes, not {len(payload)}")
    elements = np.frombuffer(payload, storage_dtype(config.output))
    full, width = n_tiles(config, n) - 1, config.groups * config.lanes
    codes = np.empty((pixels, n), storage_dtype(config.output))
    whole, tail = np.split(elements, [full * pixels * width])
    if full:
        tiles = whole.reshape(full, pixels, width)[:, :, : config.cols]
        codes[:, : full * config.cols] = tiles.transpose(1, 0, 2).reshape(pixels, full * config.cols)
    codes[:, full * config.cols :] = tail.reshape(pixels, -1)[:, : n_tail(config, n)]
    return codes
