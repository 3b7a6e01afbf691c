"""Exact dot products: fixed-point integers of any width and the three conditions that decide non-finite results."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shiftforge.errors import InputError

Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

RADIX_BITS = 32

_LOW_32 = np.int64(0xFFFF_FFFF)


def odd_float64(values: npt.NDArray[np.int64] | npt.NDArray[np.uint64]) -> Float64Array:
    """64-bit integers as float64, rounded to odd where 53 bits do not hold them.

    Rounding to odd (a lost bit sets the last kept one) leaves at least 42 bits, so a later rounding to 40 or fewer bits is
    as if from the exact integer, inexactness included (Boldo and Melquiond, IEEE Transactions on Computers 57(4), 2008).
    """
    if not values.size or (int(values.min()) > -(1 << 53) and int(values.max()) < 1 << 53):
        return values.astype(np.float64)
    magnitude = np.abs(values).view(np.uint64) if values.dtype.kind == "i" else values
    sticky = ((magnitude & np.uint64(0x7FF)) != 0).astype(np.uint64) << np.uint64(11)
    jammed = (magnitude & ~np.uint64(0x7FF)) | sticky
    result = np.where(magnitude >= np.uint64(1 << 53), jammed, magnitude).astype(np.float64)
    return np.where(values < 0, -result, result)


def carry(limbs: Int64Array) -> Int64Array:
    """Make all limbs but the top one 0..2**32-1, in place; limbs must be below 2**62 in magnitude."""
    for i in range(len(limbs) - 1):
        limbs[i + 1] += limbs[i] >> RADIX_BITS
        limbs[i] &= _LOW_32
    return limbs


def _extend(limbs: Int64Array, count: int) -> Int64Array:
    """A copy of canonical limbs with ``count`` limbs, ``count >= len(limbs)``."""
    wide = np.zeros((count, *limbs.shape[1:]), np.int64)
    wide[: len(limbs)] = limbs
    return carry(wide)


def _trim(limbs: Int64Array) -> Int64Array:
    """Merge the top limb into the one below while every value still fits."""
    while len(limbs) > 1 and bool(((limbs[-1] >= -(1 << 30)) & (limbs[-1] < 1 << 30)).all()):
        merged = limbs[-2] + (limbs[-1] << RADIX_BITS)
        limbs = limbs[:-1].copy()
        limbs[-1] = merged
    return limbs


@dataclass(frozen=True, eq=False)
class Sums:
    """Exact dot products of one shape.

    A finite sum is ``sum(limbs[i] * 2**(32*i)) * 2**lsb_exponent``. Limbs below the top one are 0..2**32-1, the top one is
    a signed 64-bit integer; one limb is therefore a plain int64 array.

    Parameters
    ----------
    limbs : int64 array (n, *shape)
        Least significant first.
    lsb_exponent : int
        Exponent of the unit.
    pos_inf, neg_inf, nan : bool arrays (*shape)
        A product was +infinity, was -infinity, or an operand was NaN. The sum is NaN if ``nan`` or both infinities were
        seen; else it is that infinity. The finite part ignores those products.
    """

    limbs: Int64Array
    lsb_exponent: int
    pos_inf: BoolArray
    neg_inf: BoolArray
    nan: BoolArray

    def __post_init__(self) -> None:
        if self.limbs.dtype != np.int64 or self.limbs.ndim < 1 or len(self.limbs) < 1:
            raise InputError(f"limbs of sums must be an int64 array (n >= 1, ...), not {self.limbs.dtype}")
        for name, array in (("pos_inf", self.pos_inf), ("neg_inf", self.neg_inf), ("nan", self.nan)):
            if array.shape != self.shape or array.dtype != np.bool_:
                raise InputError(f"{name} of sums must be bool of shape {self.shape}, not {array.dtype} {array.shape}")

    @classmethod
    def from_integers(
        cls,
        values: npt.ArrayLike,
        lsb_exponent: int,
        *,
        pos_inf: BoolArray | None = None,
        neg_inf: BoolArray | None = None,
        nan: BoolArray | None = None,
    ) -> "Sums":
        """Sums from integers of any width (an integer array, or an object array of Python ints)."""
        integers = np.asarray(values)
        if integers.dtype != np.int64:
            integers = integers.astype(object)
        if integers.dtype == object:
            bits = max((int(v).bit_length() for v in integers.flat), default=0)
            limbs = np.zeros((max(1, -(-(bits - 31) // RADIX_BITS)), *integers.shape), np.int64)
            for i in range(len(limbs)):
                last = i == len(limbs) - 1
                limbs[i] = (integers >> (RADIX_BITS * i)) & (-1 if last else 0xFFFF_FFFF)
        else:
            limbs = integers[None].copy()
        none = np.broadcast_to(np.False_, integers.shape)
        return cls(
            _trim(limbs),
            lsb_exponent,
            none if pos_inf is None else pos_inf,
            none if neg_inf is None else neg_inf,
            none if nan is None else nan,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.limbs.shape[1:]

    @property
    def fixed(self) -> npt.NDArray[np.int64] | npt.NDArray[np.object_]:
        """The finite parts in units of ``2**lsb_exponent``: int64 when one limb holds them, else Python ints."""
        return self.limbs[0] if len(self.limbs) == 1 else self.integers()

    def integers(self) -> npt.NDArray[np.object_]:
        """The finite parts in units of ``2**lsb_exponent`` as Python ints."""
        total = self.limbs[-1].astype(object)
        for limb in self.limbs[-2::-1]:
            total = (total << RADIX_BITS) + limb.astype(object)
        return np.asarray(total, dtype=object)

    def at(self, lsb_exponent: int) -> "Sums":
        """The same sums in a unit that is as small or smaller."""
        shift = self.lsb_exponent - lsb_exponent
        if shift < 0:
            raise InputError(f"unit of sums must be at most 2**{self.lsb_exponent}, not 2**{lsb_exponent}")
        whole, rest = divmod(shift, RADIX_BITS)
        source = _extend(self.limbs, len(self.limbs) + 1)
        limbs = np.zeros((len(source) + whole, *self.shape), np.int64)
        limbs[whole:] = source << rest
        return Sums(_trim(carry(limbs)), lsb_exponent, self.pos_inf, self.neg_inf, self.nan)

    def __add__(self, other: "Sums") -> "Sums":
        """The exact sum, as if all products had been in one dot product (for a K split over time or over chips)."""
        if self.shape != other.shape:
            raise InputError(f"shape of merged sums must be {self.shape}, not {other.shape}")
        lsb = min(self.lsb_exponent, other.lsb_exponent)
        a, b = self.at(lsb), other.at(lsb)
        count = max(len(a.limbs), len(b.limbs))  # no more: at() leaves top limbs below 2**62
        limbs = _trim(carry(_extend(a.limbs, count) + _extend(b.limbs, count)))
        return Sums(limbs, lsb, a.pos_inf | b.pos_inf, a.neg_inf | b.neg_inf, a.nan | b.nan)

    def odd_values(self) -> Float64Array:
        """The finite parts in units of ``2**lsb_exponent``, rounded to odd as :func:`odd_float64`, but to 32 bits or more."""
        if len(self.limbs) == 1:
            return odd_float64(self.limbs[0])
        negative = self.limbs[-1] < 0
        limbs = _extend(self.limbs, len(self.limbs) + 1)
        limbs = carry(np.where(negative, -limbs, limbs))
        window = np.zeros(self.shape, np.int64)  # the leading 32 to 63 bits
        exponent = np.zeros(self.shape, np.int32)
        sticky = np.zeros(self.shape, np.bool_)
        for i in range(len(limbs) - 1, -1, -1):
            room = window < 1 << 31
            window = np.where(room, (window << RADIX_BITS) | limbs[i], window)
            exponent = np.where(room, np.int32(RADIX_BITS * i), exponent)
            sticky |= ~room & (limbs[i] != 0)
        result = np.ldexp(odd_float64(window | sticky.astype(np.int64)), exponent)
        return np.where(negative, -result, result)
