"""Operands that the tests of the numbers share: corner codes, and the ml_dtypes or NumPy twin of every format."""

import ml_dtypes
import numpy as np

from golden.rounding import storage_dtype
from shiftforge.formats import FORMATS, Format

TWINS = {
    "fp32": np.dtype(np.float32),
    "fp16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "fp8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "fp8_e4m3": np.dtype(ml_dtypes.float8_e4m3fn),
    "int8": np.dtype(np.int8),
    "int16": np.dtype(np.int16),
}
ALL = list(FORMATS.values())
FLOATS = [f for f in ALL if f.is_float]
INTEGERS = [f for f in ALL if not f.is_float]


def twin_values(fmt: Format, codes: np.ndarray) -> np.ndarray:
    """What NumPy or ml_dtypes says the codes are worth, as float64."""
    with np.errstate(invalid="ignore"):
        return codes.view(TWINS[fmt.name]).astype(np.float64)


def every_code(fmt: Format) -> np.ndarray:
    return np.arange(1 << fmt.bits, dtype=np.uint64).astype(storage_dtype(fmt))


def corner_codes(fmt: Format) -> np.ndarray:
    """Both zeros, the smallest and largest of each kind with both signs, one, infinities and NaNs."""
    if not fmt.is_float:
        top = 1 << (fmt.bits - 1)
        codes = [0, 1, 2 * top - 1, top - 1, top, top + 1]
    else:
        step = 1 << fmt.fraction_bits
        magnitudes = [
            0,
            1,
            step - 1,
            step,
            step + 1,
            fmt.bias * step,
            fmt.max_finite - 1,
            fmt.max_finite,
            fmt.max_finite + 1,
        ]
        codes = [sign | m for m in [*magnitudes, fmt.sign_bit - 1] for sign in (0, fmt.sign_bit)]
    return np.array(codes, storage_dtype(fmt))


def random_codes(fmt: Format, shape: tuple[int, ...], rng: np.random.Generator, *, specials: bool = True) -> np.ndarray:
    """A third corners, the rest uniform over all codes; without infinities and NaNs unless ``specials``."""
    codes = rng.integers(0, 1 << fmt.bits, shape, np.uint64).astype(storage_dtype(fmt))
    codes = np.where(rng.random(shape) < 1 / 3, rng.choice(corner_codes(fmt), shape), codes)
    if not specials and fmt.is_float:
        codes = np.where((codes & (fmt.sign_bit - 1)) <= fmt.max_finite, codes, 1).astype(codes.dtype)
    return codes
