"""Payload layouts, against loops that read docs/architecture.md word by word."""

import numpy as np
import pytest

from shiftforge.errors import InputError
from shiftforge.formats import FORMATS
from shiftforge.packets import word_stride_bits
from sw_driver import layout
from tests.sw_driver.networks import config_of

SHAPES = [(1, 1, 4), (3, 5, 3), (4, 4, 3), (8, 8, 2), (2, 7, 4), (16, 3, 3), (5, 16, 2)]


def bits_of(payload: bytes, word: int, stride: int, low: int, width: int) -> int:
    """`width` bits at bit `low` of a word of a payload, read as one long integer."""
    return int.from_bytes(payload, "little") >> (word * stride + low) & ((1 << width) - 1)


@pytest.mark.parametrize("rows, cols, bits", SHAPES)
@pytest.mark.parametrize("activation", ["fp16", "int8", "fp32"])
def test_activation_words(rows, cols, bits, activation):
    config = config_of(rows, cols, activation, bits=bits)
    rng = np.random.default_rng(rows)
    pixels, k = 3, 11
    codes = rng.integers(0, 1 << config.activation.bits, (pixels, k)).astype(layout.storage_dtype(config.activation))
    payload = layout.pack_activations(config, codes)
    width, words = config.activation.bits, layout.k_words(config, k)
    stride = word_stride_bits(config.activation_word_bits)
    assert len(payload) == pixels * words * stride // 8
    for p in range(pixels):
        for i in range(words * rows):
            expected = int(codes[p, i]) if i < k else 0
            assert bits_of(payload, p * words + i // rows, stride, i % rows * width, width) == expected


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("rows, cols, bits", SHAPES)
def test_weight_words(rows, cols, bits, mask):
    config = config_of(rows, cols, bits=bits, mask=mask)
    bits += mask
    rng = np.random.default_rng(cols)
    k, n = 7, 2 * cols + 1
    codes = rng.integers(0, 1 << bits, (k, n)).astype(np.uint8)
    payload = layout.pack_weights(config, codes)
    depth = layout.k_words(config, k) * rows
    stride = word_stride_bits(config.weight_word_bits)
    assert len(payload) == layout.weight_words(config, k, n) * stride // 8
    for tile in range(3):
        for i in range(k):
            for c in range(cols):
                channel = tile * cols + c
                expected = int(codes[i, channel]) if channel < n else 0
                assert bits_of(payload, tile * depth + i, stride, c * bits, bits) == expected


@pytest.mark.parametrize("rows, cols, bits", SHAPES)
def test_parameter_words(rows, cols, bits):
    config = config_of(rows, cols, bits=bits)
    rng = np.random.default_rng(cols)
    n = 2 * cols + 1
    scale, bias = rng.normal(size=(2, n)).astype(np.float32)
    payload = layout.pack_parameters(config, scale, bias)
    stride = word_stride_bits(config.parameter_word_bits)
    assert len(payload) == layout.parameter_words(config, n) * stride // 8
    for channel in range(n):
        tile, c = divmod(channel, cols)
        group, lane = divmod(c, config.lanes)
        word = tile * config.groups + group
        got = [bits_of(payload, word, stride, 64 * lane + 32 * i, 32) for i in range(2)]
        assert got == [int(v.view(np.uint32)) for v in (scale[channel], bias[channel])]


@pytest.mark.parametrize("rows, cols, bits", SHAPES)
@pytest.mark.parametrize("output", FORMATS)
def test_results(rows, cols, bits, output):
    """A payload written in the order nt, mt, row, group, lane comes back as the matrix."""
    config = config_of(rows, cols, output=output, bits=bits)
    dtype = layout.storage_dtype(config.output)
    rng = np.random.default_rng(rows * cols)
    for pixels, n in [(1, 1), (rows, cols), (2 * rows + 1, 2 * cols + 1), (3, cols + 1)]:
        codes = rng.integers(0, 1 << config.output.bits, (pixels, n)).astype(dtype)
        elements = []
        for tile in range(layout.n_tiles(config, n)):
            columns = min(cols, n - tile * cols)
            for p in range(pixels):
                steps = -(-columns // config.lanes)
                row = np.zeros(steps * config.lanes, dtype)
                row[:columns] = codes[p, tile * cols : tile * cols + columns]
                elements.append(row)
        payload = np.concatenate(elements).tobytes()
        assert layout.result_bytes(config, pixels, n) == len(payload)
        np.testing.assert_array_equal(layout.unpack_result(config, payload, pixels, n), codes)


def test_wrong_arrays_are_refused():
    config = config_of(3, 5)
    with pytest.raises(InputError) as caught:
        layout.pack_activations(config, np.zeros((2, 3), np.uint8))
    assert str(caught.value) == ("activations must be a uint16 matrix (M, K) of fp16 bits, not uint8 of shape (2, 3)")
    with pytest.raises(InputError) as caught:
        layout.unpack_result(config, bytes(6), 2, 5)
    assert str(caught.value) == "a result of 2 x 5 must have 20 bytes, not 6"
