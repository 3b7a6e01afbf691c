"""Packing: the layout by Python integers, the way back, and what is refused."""

import re

import numpy as np
import pytest

from shiftforge.errors import InputError
from shiftforge.packing import pack_codes, packed_bytes, unpack_codes


def test_the_layout_of_the_docstring():
    assert pack_codes([1, 0, 0], 3).tolist() == [0b00000001, 0]
    assert pack_codes([0, 1, 0], 3).tolist() == [0b00001000, 0]
    assert pack_codes([0, 0, 5], 3).tolist() == [0b01000000, 1]


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 8, 11, 64, 333])
def test_rows_are_little_endian_numbers_and_come_back(bits, count, mask):
    width = bits + 1 if mask else bits
    codes = np.random.default_rng(count).integers(0, 1 << width, (2, 3, count), np.uint8)
    data = pack_codes(codes, bits, mask=mask)
    assert data.shape == (2, 3, packed_bytes(count, bits, mask=mask))
    assert data.dtype == np.uint8
    for row in np.ndindex(2, 3):
        number = sum(int(c) << (width * i) for i, c in enumerate(codes[row]))
        assert data[row].tobytes() == number.to_bytes(-(-count * width // 8), "little")
    assert np.array_equal(unpack_codes(data, bits, count, mask=mask), codes)


@pytest.mark.parametrize(
    "codes, message",
    [
        (np.array([[0, 1], [8, 9]]), "weight code at index (1, 0) must be 0..7, not 8"),
        (np.array([-1], np.int8), "weight code at index (0,) must be 0..7, not -1"),
        (np.array([1.0]), "weight codes must be an integer array, not float64 of shape (1,)"),
        (np.array(1), "weight codes must be an integer array, not int64 of shape ()"),
    ],
)
def test_bad_codes(codes, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        pack_codes(codes, 3)


def test_a_masked_code_needs_a_mask():
    with pytest.raises(InputError, match=r"^weight code at index \(0,\) must be 0\.\.7, not 8$"):
        pack_codes([8], 3)
    with pytest.raises(InputError, match=r"^weight code at index \(0,\) must be 0\.\.15, not 16$"):
        pack_codes([16], 3, mask=True)


def test_bad_bytes():
    with pytest.raises(InputError, match=r"^packed weights must have 2 bytes for 3 codes, not 1$"):
        unpack_codes(np.zeros(1, np.uint8), 3, 3)
    with pytest.raises(InputError, match=r"^padding bits of packed weights must be 0, not 1$"):
        unpack_codes(np.array([0, 2], np.uint8), 3, 3)
    with pytest.raises(InputError, match=r"^packed weights must be an array of uint8, not int64 of shape \(2,\)$"):
        unpack_codes(np.zeros(2, np.int64), 3, 3)
    with pytest.raises(InputError, match=r"^weight_bits must be 2, 3 or 4, not 5$"):
        pack_codes([0], 5)
