"""The maximum over windows: codes in the order of their values, and a layer of the machine that takes it.

A code's *key* is an integer with the order of its value: -0 just below +0, every NaN on top (so that NaN wins, and leaves as the
canonical one). Padding counts as the lowest key, which no code is below, so it takes no part.
"""

import numpy as np
import numpy.typing as npt

from golden.decoder import Layer
from golden.memory import Memories
from golden.patch import words
from golden.rounding import Codes, storage_dtype
from shiftforge.formats import Format

_BLOCK = 1 << 22  # elements gathered at a time

IntArray = npt.NDArray[np.int64]


def order_keys(fmt: Format, codes: Codes) -> IntArray:
    """Integers in the order of the values, of the same shape."""
    bits = codes.astype(np.int64)
    if not fmt.is_float:
        return bits - ((bits & fmt.sign_bit) << 1)
    magnitude = bits & (fmt.sign_bit - 1)
    keys = np.where(bits & fmt.sign_bit, -magnitude - 1, magnitude)
    largest = fmt.inf if fmt.has_inf else fmt.max_finite
    return np.where(magnitude > largest, fmt.nan, keys)


def codes_of_keys(fmt: Format, keys: IntArray) -> Codes:
    """The codes of keys, of the same shape, in ``storage_dtype(fmt)``."""
    if fmt.is_float:
        keys = np.where(keys < 0, (-keys - 1) | fmt.sign_bit, keys)
    return (keys & ((1 << fmt.bits) - 1)).astype(storage_dtype(fmt))


def maximum(layer: Layer, memories: Memories) -> None:
    """Run a layer with ``pool_kind`` = 1: element by element the largest of the words of each pixel's window, into the memory.

    Channel word t (of ``n_tiles``) of pixel p goes from the words of its window, ``input_address + t`` and on, to word
    ``output_address + p * output_stride + t``. A window without a word inside the image gives ``Format.lowest``.
    """
    fmt, rows, memory = layer.config.activation, layer.config.rows, memories.activations
    lowest = order_keys(fmt, np.array(fmt.lowest, storage_dtype(fmt)))
    step = max(1, _BLOCK // (layer["k_words"] * rows))
    for tile in range(layer["n_tiles"]):  # where pixels overlap, the later write wins, as in the machine
        for start in range(0, layer["pixels"], step):
            stop = min(start + step, layer["pixels"])
            read = words(layer, start, stop)
            keys = order_keys(fmt, memory.elements[memory.words(layer["input_address"], read.offsets + tile)])
            keys[read.outside] = lowest
            offsets = np.arange(start, stop) * layer["output_stride"] + tile
            memory.elements[memory.words(layer["output_address"], offsets)] = codes_of_keys(fmt, keys.max(axis=1))
