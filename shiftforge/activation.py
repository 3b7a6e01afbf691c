"""The activation function of a layer: one frozen object that the golden model, the gateware and the compiler share.

Pure Python. Every function here is defined on IEEE 754 binary32 values and gives the canonical NaN for any NaN:

- ``none``: x.
- ``relu``: x if x > 0, else +0 (so relu(-0) = +0).
- ``clamp``: maximum(lo, minimum(x, hi)) as in IEEE 754-2019 clause 9.6, where -0 is less than +0. With sign-magnitude
  keys (:func:`fp32_order`) that is one integer comparison per bound; clamp(+0, inf) is relu.
- ``leaky``: x if x > 0, else x * 2**-shift, one correctly rounded binary32 multiplication (subnormals round).
"""

import struct
from dataclasses import dataclass

from shiftforge.errors import InputError

ACTIVATION_KINDS = ("none", "relu", "clamp", "leaky")

MAX_LEAKY_SHIFT = 15

_FP32_SIGN = 1 << 31
_FP32_INF = 0x7F80_0000


def fp32_bits(value: float) -> int:
    """The binary32 pattern of ``value``, rounded once to nearest even; ``InputError`` when a finite value overflows."""
    try:
        return int.from_bytes(struct.pack("<f", value), "little")
    except OverflowError:
        raise InputError(f"activation bound must be within the range of fp32, not {value!r}") from None


def fp32_value(bits: int) -> float:
    """The value of a binary32 pattern."""
    return float(struct.unpack("<f", bits.to_bytes(4, "little"))[0])


def fp32_order(bits: int) -> int:
    """A signed integer that orders binary32 patterns (not NaN) as their values, with -0 just below +0."""
    return -(bits & ~_FP32_SIGN) - 1 if bits & _FP32_SIGN else bits


@dataclass(frozen=True)
class Activation:
    """An activation function; build it with :meth:`none`, :meth:`relu`, :meth:`clamp` or :meth:`leaky`.

    Parameters
    ----------
    kind : str
        One of ``ACTIVATION_KINDS``.
    lo, hi : int
        Bounds of ``clamp`` as binary32 patterns, not NaN, lo <= hi with -0 < +0; zero for other kinds.
    shift : int
        The slope of ``leaky`` is ``2**-shift``, 0..15; zero for other kinds.
    """

    kind: str = "none"
    lo: int = 0
    hi: int = 0
    shift: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ACTIVATION_KINDS:
            raise InputError(f"activation kind must be one of {', '.join(ACTIVATION_KINDS)}, not {self.kind!r}")
        if self.kind == "clamp":
            for name, bits in (("lo", self.lo), ("hi", self.hi)):
                if not 0 <= bits < 1 << 32:
                    raise InputError(f"activation {name} must be a 32-bit pattern, not {bits!r}")
                if bits & ~_FP32_SIGN > _FP32_INF:
                    raise InputError(f"activation {name} must be a number, not {fp32_value(bits)!r}")
            if fp32_order(self.lo) > fp32_order(self.hi):
                raise InputError(
                    f"activation lo must be at most hi = {fp32_value(self.hi)!r}, not {fp32_value(self.lo)!r}"
                )
        elif self.lo or self.hi:
            raise InputError(f"activation bounds must be 0 for kind {self.kind}, not {(self.lo, self.hi)!r}")
        if not 0 <= self.shift <= (MAX_LEAKY_SHIFT if self.kind == "leaky" else 0):
            rule = f"0..{MAX_LEAKY_SHIFT}" if self.kind == "leaky" else f"0 for kind {self.kind}"
            raise InputError(f"activation shift must be {rule}, not {self.shift!r}")

    @classmethod
    def none(cls) -> "Activation":
        return cls()

    @classmethod
    def relu(cls) -> "Activation":
        return cls("relu")

    @classmethod
    def clamp(cls, lo: float, hi: float) -> "Activation":
        """Clamp to values; each bound is rounded once to binary32. ``clamp(0.0, 6.0)`` is ReLU6."""
        return cls("clamp", fp32_bits(lo), fp32_bits(hi))

    @classmethod
    def leaky(cls, shift: int) -> "Activation":
        """Leaky ReLU with slope ``2**-shift``."""
        return cls("leaky", shift=shift)
