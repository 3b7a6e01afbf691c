"""One rounding, to nearest with ties to even, from exact values to any format, with its flags.

Every value arrives as float64 that is either exact or rounded to odd, so one routine on float64 bit patterns serves all
formats and nothing is ever rounded to nearest twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from golden.sums import Sums
from shiftforge.errors import InputError
from shiftforge.formats import Format

Codes = npt.NDArray[np.unsignedinteger]
Overflow = Literal["inf", "saturate"]

MIN_EXPONENT_BIAS, MAX_EXPONENT_BIAS = -128, 127

_SIGN = np.uint64(1 << 63)
_INF = np.uint64(0x7FF << 52)
_CHUNK = 1 << 14  # elements; a dozen temporaries of this size stay in the level-2 cache


@dataclass(frozen=True)
class Flags:
    """Sticky exception flags of a whole array.

    ``nv``: a sum saw +inf and -inf but no NaN operand, or a NaN or an infinity was converted to an integer.
    ``of``: a finite value rounded (as if without limits) to beyond the largest finite one, saturated or not.
    ``nx``: a rounding was inexact; an overflow is.
    """

    nv: bool = False
    of: bool = False
    nx: bool = False

    def __or__(self, other: "Flags") -> "Flags":
        return Flags(self.nv or other.nv, self.of or other.of, self.nx or other.nx)


def storage_dtype(fmt: Format) -> np.dtype[np.unsignedinteger]:
    """The unsigned dtype that holds the raw codes of a format (integers included): uint8, uint16 or uint32."""
    if fmt.bits == 8:
        return np.dtype(np.uint8)
    return np.dtype(np.uint16) if fmt.bits == 16 else np.dtype(np.uint32)


def check_overflow(overflow: str) -> bool:
    """True for "saturate", False for "inf"; ``InputError`` otherwise."""
    if overflow not in ("inf", "saturate"):
        raise InputError(f'overflow must be "inf" or "saturate", not {overflow!r}')
    return overflow == "saturate"


def _round_to_float(
    values: npt.NDArray[np.float64], fmt: Format, saturate: bool
) -> tuple[npt.NDArray[np.uint64], Flags]:
    bits = values.view(np.uint64)
    magnitude = bits & ~_SIGN
    drop = np.uint64(52 - fmt.fraction_bits)
    one = np.uint64(1)
    # Normal results: add half less one, plus one if the kept last bit is odd; a carry runs into the exponent as it should.
    tie = (magnitude >> drop) & one
    code = (magnitude + ((one << (drop - one)) - one) + tie) >> drop
    code -= np.uint64((1023 - fmt.bias) << fmt.fraction_bits)
    inexact = (magnitude & ((one << drop) - one)) != 0
    # Subnormal results: adding 2**52 units of the last place makes the processor round to that place.
    small = magnitude < np.uint64((fmt.min_exponent + 1023) << 52)
    if small.any():
        magic = np.float64(2.0 ** (fmt.lsb_exponent + 52))
        shifted = magnitude.view(np.float64) + magic
        code = np.where(small, shifted.view(np.uint64) - magic.view(np.uint64), code)
        inexact = np.where(small, shifted - magic != magnitude.view(np.float64), inexact)
    special = magnitude >= _INF
    infinity = np.uint64(fmt.inf if fmt.has_inf else fmt.nan)
    over = (code > np.uint64(fmt.max_finite)) & ~special
    if over.any():
        code[over] = np.uint64(fmt.max_finite) if saturate else infinity
    if special.any():
        code[special] = infinity
    code |= (bits >> np.uint64(63)) << np.uint64(fmt.bits - 1)
    # The canonical NaN is positive: the NaNs, and in a format without infinities what overflowed or was infinite.
    bad = special & ((magnitude != _INF) | (not fmt.has_inf))
    if not (fmt.has_inf or saturate):
        bad |= over
    code[bad] = np.uint64(fmt.nan)
    overflowed = bool(over.any())
    return code, Flags(False, overflowed, overflowed or bool((inexact & ~special).any()))


def _round_to_integer(values: npt.NDArray[np.float64], fmt: Format) -> tuple[npt.NDArray[np.uint64], Flags]:
    finite = np.isfinite(values)
    rounded = np.rint(values)
    limit = float(1 << (fmt.bits - 1))
    clipped = np.clip(rounded, -limit, limit - 1)
    over = bool((finite & (clipped != rounded)).any())
    clipped = np.where(np.isnan(clipped), 0.0, clipped)
    code = clipped.astype(np.int64).view(np.uint64) & np.uint64((1 << fmt.bits) - 1)
    inexact = bool((finite & (clipped != values)).any())
    return code, Flags(not bool(finite.all()), over, inexact)


def _chunks(size: int) -> Iterator[slice]:
    for start in range(0, size, _CHUNK):
        yield slice(start, min(start + _CHUNK, size))


def round_float64(values: npt.NDArray[np.float64], fmt: Format, *, overflow: Overflow = "inf") -> tuple[Codes, Flags]:
    """Round float64 values (exact, or rounded to odd from more bits) once to ``fmt``.

    Returns codes of the same shape in :func:`storage_dtype`, and the flags. Infinities and NaNs of a float format raise no
    flag; converted to an integer they set ``nv``.
    """
    saturate = check_overflow(overflow)
    flat = np.ascontiguousarray(values, dtype=np.float64).reshape(-1)
    codes = np.empty(flat.shape, storage_dtype(fmt))
    flags = Flags()
    with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN
        for part in _chunks(flat.size):
            chunk, raised = (
                _round_to_float(flat[part], fmt, saturate) if fmt.is_float else _round_to_integer(flat[part], fmt)
            )
            codes[part] = chunk
            flags |= raised
    return codes.reshape(np.shape(values)), flags


def round_sums(sums: Sums, fmt: Format, *, exponent_bias: int = 0, overflow: Overflow = "inf") -> tuple[Codes, Flags]:
    """Round exact sums times ``2**exponent_bias`` once to ``fmt``.

    A zero sum is +0; a negative sum that rounds to zero is -0 (floats). Returns codes of ``sums.shape`` and the flags.
    ``InputError`` for an exponent bias outside -128..127.
    """
    if not MIN_EXPONENT_BIAS <= exponent_bias <= MAX_EXPONENT_BIAS:
        raise InputError(f"exponent_bias must be {MIN_EXPONENT_BIAS}..{MAX_EXPONENT_BIAS}, not {exponent_bias!r}")
    unit = sums.lsb_exponent + exponent_bias
    if unit < -1022 or unit + 32 * (len(sums.limbs) + 1) > 1023:
        raise InputError(
            f"exponents of sums must be within those of float64, not from 2**{unit} in {len(sums.limbs)} limbs"
        )
    values = sums.odd_values() * 2.0**unit  # exact: no value leaves the normal numbers of float64
    both = sums.pos_inf & sums.neg_inf
    if sums.pos_inf.any() or sums.neg_inf.any() or sums.nan.any():
        values = np.where(sums.pos_inf, np.inf, np.where(sums.neg_inf, -np.inf, values))
        values = np.where(sums.nan | both, np.nan, values)
    codes, flags = round_float64(values, fmt, overflow=overflow)
    return codes, flags | Flags(nv=bool((both & ~sums.nan).any()))


def round_fp32(bits: npt.NDArray[np.uint32], fmt: Format, *, overflow: Overflow = "inf") -> tuple[Codes, Flags]:
    """Round binary32 patterns once to ``fmt``: the last step of post-processing."""
    if bits.dtype != np.uint32:
        raise InputError(f"binary32 patterns must be uint32, not {bits.dtype}")
    with np.errstate(invalid="ignore"):  # a signalling NaN
        values = bits.view(np.float32).astype(np.float64)
    return round_float64(values, fmt, overflow=overflow)
