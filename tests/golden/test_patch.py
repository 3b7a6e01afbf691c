"""Convolutions on the machine's memories, against loops over the definition of `torch.nn.Conv2d` in Python integers."""

import numpy as np
import pytest

from golden.decoder import Layer
from golden.drain import compute
from golden.memory import Memories
from golden.patch import valid_elements, words
from shiftforge.config import Config, from_dict
from shiftforge.geometry import Geometry
from shiftforge.packets import decode_layer, encode_layer


def machine(rows: int, cols: int) -> Config:
    array = {"rows": rows, "cols": cols, "activation": "int8", "output": "int16", "weight_bits": 3, "max_k": 400}
    return from_dict({"array": array, "memory": {"activation_words": 4096, "weight_words": 4096}})


def convolve_all(images, weights, g: Geometry):
    """The pixels of every image, one image after the other."""
    return np.concatenate([convolve(image, weights, g) for image in images])


def convolve(image, weights, g: Geometry):
    """image (height, width, channels), weights (taps, channels, N): integers, loop by loop."""
    out = np.zeros((g.output_height * g.output_width, weights.shape[2]), object)
    for oy in range(g.output_height):
        for ox in range(g.output_width):
            for ky in range(g.kernel_h):
                for kx in range(g.kernel_w):
                    y = oy * g.stride_y + ky * g.dilation_y - g.pad_top
                    x = ox * g.stride_x + kx * g.dilation_x - g.pad_left
                    if 0 <= y < g.height and 0 <= x < g.width:
                        row = [int(v) for v in image[y, x]]
                        for n in range(weights.shape[2]):
                            column = weights[ky * g.kernel_w + kx, :, n]
                            out[oy * g.output_width + ox, n] += sum(
                                a * int(b) for a, b in zip(row, column, strict=True)
                            )
    return out


GEOMETRIES = (
    Geometry(5, 4, 3, 3, pad_left=1, pad_top=1, pad_right=1, pad_bottom=1),
    Geometry(6, 5, 3, 2, 2, 3, 1, 2, 2, 1, 0, 3),
    Geometry(7, 3, 1, 1, 2, 2),
    Geometry(9, 1, 4, 1, 1, 1, 2, 1, 3, 0, 3, 0),
    Geometry(4, 6, 4, 6),
    Geometry(1, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1),
)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (3, 5), (8, 2)])
@pytest.mark.parametrize("g", GEOMETRIES, ids=lambda g: f"{g.width}x{g.height}k{g.kernel_w}x{g.kernel_h}")
def test_convolutions_on_the_machines_memories(rows, cols, g, count):
    config = machine(rows, cols)
    rng = np.random.default_rng(g.width)
    channels, outputs = rows + 1, cols + 2
    images = rng.integers(-9, 10, (count, g.height, g.width, channels))
    codes = rng.integers(0, 8, (g.taps, channels, outputs), dtype=np.uint8)
    values = np.where(codes >> 2, -1, 1) * (1 << (codes & 3).astype(np.int64))

    # Pixels lie 3 words apart and wrap round the end of the upper half; every word that is not the image's holds junk.
    memories, half = Memories.of(config), config.activation_page
    memories.activations.elements[:] = rng.integers(1, 100, memories.activations.elements.shape)
    address, tap_words = 2 * half - 4, 2
    for i, pixel in enumerate(images.reshape(-1, channels)):
        for c, value in enumerate(pixel):
            memories.activations.elements[half + (half - 4 + 3 * i + c // rows) % half, c % rows] = np.uint8(
                value & 255
            )
    depth = g.taps * tap_words * rows
    for tile in range(-(-outputs // cols)):
        for tap in range(g.taps):
            for c in range(channels):
                part = codes[tap, c, tile * cols : (tile + 1) * cols]
                memories.weights.elements[tile * depth + tap * tap_words * rows + c, : len(part)] = part
    fields = {
        **g.descriptor(address, half, 3, tap_words, images=count),
        "to_stream": 1,
        "k_tail": channels - rows,
        "n_tiles": -(-outputs // cols),
        "n_tail": (outputs - 1) % cols + 1,
    }
    found, _ = compute(Layer(decode_layer(encode_layer(fields)), config), memories)
    expected = convolve_all(images, values, g)
    assert np.abs(expected).max() < 2**15
    assert np.array_equal(found.view(np.int16), expected.astype(np.int16))


def test_without_patches_it_is_a_matrix_product():
    layer = Layer(
        decode_layer(encode_layer({"pixels": 9, "k_words": 3, "k_tail": 2, "input_stride": 5})), machine(4, 4)
    )
    read = words(layer, 2, 4)
    assert read.offsets.tolist() == [[10, 11, 12], [15, 16, 17]]
    assert not read.outside.any()
    assert valid_elements(layer).tolist() == list(range(10))


def test_each_tap_ends_with_its_own_tail():
    layer = Layer(decode_layer(encode_layer({"k_words": 4, "tap_words": 2, "k_tail": 1})), machine(3, 3))
    assert valid_elements(layer).tolist() == [0, 1, 2, 3, 6, 7, 8, 9]


def test_the_last_word_ends_its_tap_wherever_that_is():
    layer = Layer(decode_layer(encode_layer({"k_words": 3, "tap_words": 2, "k_tail": 1})), machine(3, 3))
    assert valid_elements(layer).tolist() == [0, 1, 2, 3, 6]
