"""The driver's codec against the golden model's, which is written apart."""

import numpy as np
import pytest

from golden import codec
from shiftforge.errors import InputError
from shiftforge.formats import FORMATS
from sw_driver.values import as_float64, decode, encode


@pytest.mark.parametrize("saturate", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_encode_equals_the_golden_codec(name, saturate):
    fmt = FORMATS[name]
    rng = np.random.default_rng(1)
    codes = np.arange(1 << 16, dtype=np.uint32) if fmt.bits > 16 else np.arange(1 << fmt.bits, dtype=np.uint32)
    grid = codec.decode(fmt, codes if fmt.bits <= 16 else rng.integers(0, 1 << 32, 50000, dtype=np.uint32))
    grid = grid[np.isfinite(grid)]
    grid.sort()
    ties = (grid[:-1] + grid[1:]) / 2  # exact in float64
    random = rng.normal(size=20000) * 2.0 ** rng.integers(-160, 160, 20000)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 1e308, -1e308]
    values = np.concatenate([grid, ties, np.nextafter(ties, np.inf), np.nextafter(ties, -np.inf), random, special])
    got = encode(fmt, values, saturate=saturate)
    np.testing.assert_array_equal(got, codec.encode(fmt, values, "saturate" if saturate else "inf"))


@pytest.mark.parametrize("name", FORMATS)
def test_decode_equals_the_golden_codec(name):
    fmt = FORMATS[name]
    dtype = codec.storage_dtype(fmt)
    codes = np.arange(1 << 16).astype(np.uint32) * 65537 if fmt.bits > 16 else np.arange(1 << fmt.bits)
    codes = codes.astype(dtype)
    got, want = decode(fmt, codes), codec.decode(fmt, codes)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got[~np.isnan(got)]), np.signbit(want[~np.isnan(want)]))


def test_values_that_float64_does_not_hold_are_refused():
    assert as_float64(np.array([True, False]), "x").tolist() == [1.0, 0.0]
    assert as_float64(np.array([255], np.uint8), "x").tolist() == [255.0]
    for values, message in [
        (np.array([0, 1 << 60]), "x at index (1,) must be below 2**53 in magnitude, not 1152921504606846976"),
        (np.array(["a"]), "x must be real numbers of at most 64 bits, not <U1"),
        (np.zeros(2, np.longdouble), f"x must be real numbers of at most 64 bits, not {np.dtype(np.longdouble)}"),
    ]:
        with pytest.raises(InputError) as caught:
            as_float64(values, "x")
        assert str(caught.value) == message
