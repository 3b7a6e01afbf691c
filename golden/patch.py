"""Which activation words a layer's dot products read: the patch walk of `hw/patch.py` as a closed formula."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from golden.decoder import Layer
from shiftforge.packets import COORDINATE_BITS

IntArray = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

_COORDINATES = (1 << COORDINATE_BITS) - 1


@dataclass(frozen=True, eq=False)
class Words:
    """What each pixel reads, block by block.

    Parameters
    ----------
    offsets : int64 array (pixels, k_words)
        Word addresses relative to ``input_address``; only their value modulo the memory means something.
    outside : bool array (pixels, k_words)
        The word lies outside the image: zeros are read instead.
    """

    offsets: IntArray
    outside: Bool


def words(layer: Layer, start: int, stop: int) -> Words:
    """The words of pixels ``start`` .. ``stop - 1``."""
    pixel = np.arange(start, stop, dtype=np.int64)
    width = layer["output_width"]
    row, column = np.divmod(pixel, width) if width else (np.zeros_like(pixel), pixel)
    height = layer["output_height"]
    image, line = np.divmod(row, height) if height else (np.zeros_like(row), row)
    offset = (pixel - row) * layer["input_stride"] + (row - image) * layer["row_step"] + image * layer["image_step"]
    x = column * layer["stride_x"] - layer["pad_left"]
    y = line * layer["stride_y"] - layer["pad_top"]

    # Where a block starts, relative to the first: each of the blocks before it moved it on.
    block = np.arange(layer["k_words"], dtype=np.int64)
    width, height = layer["kernel_w"] or 256, layer["kernel_h"] or 256  # the counters have 8 bits
    if layer["tap_words"]:
        block %= width * height * layer["tap_words"]  # every term reads the same words
    tap = block // layer["tap_words"] if layer["tap_words"] else np.zeros_like(block)
    tap_row, tap_column = np.divmod(tap, width)
    moved = block - tap + (tap - tap_row) * _signed(layer["tap_step"]) + tap_row * _signed(layer["tap_row_step"])
    offsets = offset[:, None] + moved[None, :]

    if not layer["input_width"]:
        return Words(offsets, np.zeros(offsets.shape, np.bool_))
    across = (x[:, None] + tap_column * layer["dilation_x"]) & _COORDINATES
    down = (y[:, None] + tap_row * layer["dilation_y"]) & _COORDINATES
    return Words(offsets, (across >= layer["input_width"]) | (down >= layer["input_height"]))


def valid_elements(layer: Layer) -> IntArray:
    """Those of the ``k_words * rows`` elements of a dot product that count: the last word of each tap has ``k_tail`` of them."""
    rows, blocks = layer.config.rows, layer["k_words"]
    block = np.arange(blocks)
    at_end = block == blocks - 1
    if layer["tap_words"]:
        at_end |= block % layer["tap_words"] == layer["tap_words"] - 1
    counts = np.where(at_end, layer["k_tail"], rows)
    return np.flatnonzero(np.arange(rows)[None, :] < counts[:, None])


def _signed(step: int) -> int:
    """A 32-bit step as a number: steps count modulo a memory that is smaller, so either reading will do."""
    return step - (1 << 32) if step >> 31 else step
