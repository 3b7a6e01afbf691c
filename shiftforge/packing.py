"""Packing of weight elements (codes, with a mask bit above where there is one): little-endian, the lowest index in the lowest
bits (contract, section 1).

NumPy only, shared by the driver and the golden model.

For 3-bit codes a, b, c the bytes are::

    byte 0: c1 c0 b2 b1 b0 a2 a1 a0    (bit 7 first)
    byte 1: ..                   c2
"""

import numpy as np
import numpy.typing as npt

from shiftforge.errors import InputError
from shiftforge.formats import WeightCode


def packed_bytes(count: int, bits: int, *, mask: bool = False) -> int:
    """Bytes that hold ``count`` codes of ``bits`` bits, each with a mask bit or not."""
    return (count * WeightCode(bits, mask).element_bits + 7) // 8


def pack_codes(codes: npt.ArrayLike, bits: int, *, mask: bool = False) -> npt.NDArray[np.uint8]:
    """Pack codes along the last axis; each row is padded with zero bits to whole bytes.

    ``codes`` has shape (..., n), values ``0..2**bits - 1`` (with ``mask`` one bit more); the result has shape
    (..., packed_bytes(n, bits)). ``InputError`` names the first code out of range.
    """
    array = np.asarray(codes)
    width = WeightCode(bits, mask).element_bits
    if array.ndim == 0 or array.dtype.kind not in "iu":
        raise InputError(f"weight codes must be an integer array, not {array.dtype} of shape {array.shape}")
    bad = (array < 0) | (array >> width != 0)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InputError(f"weight code at index {index} must be 0..{(1 << width) - 1}, not {int(array[index])!r}")
    planes = (array[..., None].astype(np.uint8) >> np.arange(width, dtype=np.uint8)) & 1
    return np.packbits(planes.reshape(*array.shape[:-1], -1), axis=-1, bitorder="little")


def unpack_codes(data: npt.ArrayLike, bits: int, count: int, *, mask: bool = False) -> npt.NDArray[np.uint8]:
    """The inverse of :func:`pack_codes`: the first ``count`` codes of each row of bytes (..., packed_bytes(count, bits)).

    ``InputError`` when the rows have another length, or when a padding bit is not zero.
    """
    array = np.asarray(data)
    width = WeightCode(bits, mask).element_bits
    if array.ndim == 0 or array.dtype != np.uint8:
        raise InputError(f"packed weights must be an array of uint8, not {array.dtype} of shape {array.shape}")
    size = packed_bytes(count, bits, mask=mask)
    if array.shape[-1] != size:
        raise InputError(f"packed weights must have {size} bytes for {count} codes, not {array.shape[-1]}")
    stream = np.unpackbits(array, axis=-1, bitorder="little")
    if stream[..., count * width :].any():
        raise InputError("padding bits of packed weights must be 0, not 1")
    planes = stream[..., : count * width].reshape(*array.shape[:-1], count, width)
    return (planes << np.arange(width, dtype=np.uint8)).sum(axis=-1, dtype=np.uint8)
