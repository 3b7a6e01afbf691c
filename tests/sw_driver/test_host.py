"""What the host does with codes itself, against the golden model: max-pools, roundings and their flags."""

import numpy as np
import pytest

from golden.rounding import round_float64
from golden.window import max_pool as golden_max_pool
from shiftforge.formats import FORMATS
from shiftforge.graph import Window
from shiftforge.registers import Flag
from sw_driver.host import max_pool
from sw_driver.layout import storage_dtype
from sw_driver.values import encode_flagged

WINDOWS = (Window.of((2, 3), (2, 1), ((1, 0), (0, 2)), (1, 2)), Window.of((3, 3), 2, 1), Window.of((1, 1)))


@pytest.mark.parametrize("name", FORMATS)
def test_max_pools_of_any_codes(name):
    """Every bit pattern, NaN and both zeros among them, over one axis and two."""
    fmt, rng = FORMATS[name], np.random.default_rng(1)
    codes = rng.integers(0, 1 << fmt.bits, (3, 7, 8, 4), np.uint64).astype(storage_dtype(fmt))
    codes[0] = rng.choice([0, 1 << (fmt.bits - 1)], codes[0].shape)
    for window in WINDOWS:
        np.testing.assert_array_equal(max_pool(codes, window, fmt), golden_max_pool(codes, window, fmt))
    line = Window.of((3,), 2, 1)
    np.testing.assert_array_equal(max_pool(codes[:, :1], line, fmt)[:, 0], golden_max_pool(codes[:, 0], line, fmt))


@pytest.mark.parametrize("saturate", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_roundings_raise_the_machines_flags(name, saturate):
    """Value by value, so that every flag is seen alone: exact ones, ties, overflows, subnormals, infinities and NaN."""
    fmt, rng = FORMATS[name], np.random.default_rng(2)
    largest = float((fmt.max_fixed if fmt.is_float else fmt.max_finite) * 2.0**fmt.lsb_exponent)
    wide = np.ldexp(rng.normal(size=400), rng.integers(-40, 20, 400)).astype(np.float32).astype(np.float64)
    beyond = 2.0 ** (2 + np.ceil(np.log2(largest)))
    chosen = [0.0, -0.0, 1.0, -1.0, 0.5, 3.0, largest, -largest, 1.5 * largest, beyond, 1e-30, np.inf, -np.inf, np.nan]
    seen = Flag(0)
    for value in [*chosen, *wide]:
        values = np.array([value])
        want, flags = round_float64(values, fmt, overflow="saturate" if saturate else "inf")
        codes, raised = encode_flagged(fmt, values, saturate=saturate)
        assert codes == want
        assert [flag in raised for flag in Flag] == [flags.nv, flags.of, flags.nx]
        seen |= raised
    assert Flag.NX in seen
    assert Flag.OF in seen
