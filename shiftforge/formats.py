"""The number formats: one table that the golden model, the gateware, the compiler and every test loop over.

Pure Python (the gateware imports it, and the gateware imports no NumPy).

Sources: IEEE Std 754-2019 clause 3.4 (binary16, binary32), the bfloat16 truncation of binary32, and the OCP 8-bit
Floating Point Specification (OFP8) revision 1.0 for E4M3 and E5M2.
"""

from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Protocol

from shiftforge.errors import InputError


@dataclass(frozen=True)
class Format:
    """One activation or output format.

    A finite code's value is an integer multiple of ``2**lsb_exponent``; the largest magnitude is
    ``max_fixed * 2**lsb_exponent``, so ``fixed_bits`` two's complement bits hold every finite value exactly.

    Parameters
    ----------
    name : str
        The name used in configuration files.
    bits : int
        Storage width.
    exponent_bits, fraction_bits, bias : int
        Field widths and exponent bias; all zero for integers.
    has_inf : bool
        True when the top exponent with a zero fraction encodes infinity (IEEE style); E4M3 has only NaN, in S.1111.111.
    """

    name: str
    bits: int
    exponent_bits: int = 0
    fraction_bits: int = 0
    bias: int = 0
    has_inf: bool = False

    @property
    def is_float(self) -> bool:
        return self.exponent_bits > 0

    @property
    def bytes(self) -> int:
        return self.bits // 8

    @property
    def precision(self) -> int:
        """Significand bits, the hidden one included (floats); magnitude bits (integers)."""
        return self.fraction_bits + 1 if self.is_float else self.bits - 1

    @property
    def min_exponent(self) -> int:
        """Exponent of the smallest normal number, which is ``2**min_exponent``; 0 for integers."""
        return 1 - self.bias if self.is_float else 0

    @property
    def lsb_exponent(self) -> int:
        """Exponent of the smallest positive subnormal: every finite value is a multiple of ``2**lsb_exponent``."""
        return self.min_exponent - self.fraction_bits

    @property
    def max_exponent_field(self) -> int:
        """Largest exponent field that holds finite numbers."""
        top = (1 << self.exponent_bits) - 1
        return top - 1 if self.has_inf else top

    @property
    def max_exponent(self) -> int:
        """Exponent of the largest finite number's leading bit (floats); 0 for integers."""
        return self.max_exponent_field - self.bias if self.is_float else 0

    @property
    def max_finite(self) -> int:
        """Code of the largest finite value."""
        if not self.is_float:
            return (1 << (self.bits - 1)) - 1
        if self.has_inf:
            return (self.max_exponent_field << self.fraction_bits) | ((1 << self.fraction_bits) - 1)
        return (1 << (self.bits - 1)) - 2

    @cached_property
    def max_fixed(self) -> int:
        """Largest magnitude of a finite value, in units of ``2**lsb_exponent``."""
        if not self.is_float:
            return 1 << (self.bits - 1)
        significand = (1 << self.fraction_bits) | (self.max_finite & ((1 << self.fraction_bits) - 1))
        return significand << (self.max_exponent_field - 1)

    @property
    def fixed_bits(self) -> int:
        """Two's complement width that holds every finite value in units of ``2**lsb_exponent``."""
        return self.max_fixed.bit_length() + 1 if self.is_float else self.bits

    @property
    def sign_bit(self) -> int:
        return 1 << (self.bits - 1)

    @property
    def inf(self) -> int:
        """Code of +infinity. Only formats with ``has_inf`` have one."""
        if not self.has_inf:
            raise InputError(f"format {self.name} must have infinities for .inf to be read")
        return ((1 << self.exponent_bits) - 1) << self.fraction_bits

    @property
    def nan(self) -> int:
        """The canonical positive quiet NaN. Only floats have one."""
        if not self.is_float:
            raise InputError(f"format {self.name} must be a float for .nan to be read")
        if self.has_inf:
            return self.inf | (1 << (self.fraction_bits - 1))
        return (1 << (self.bits - 1)) - 1

    @property
    def lowest(self) -> int:
        """Code of the lowest value: -infinity, or the most negative finite one where there is none."""
        if not self.is_float:
            return self.sign_bit
        return self.sign_bit | (self.inf if self.has_inf else self.max_finite)

    @property
    def flag_bits(self) -> int:
        """Sticky non-finite flags that an accumulator needs: bit 0 saw NaN, bit 1 saw +inf, bit 2 saw -inf.

        3 for formats with infinities, 1 (NaN) for other floats, 0 for integers. Three, because both infinities are an
        invalid operation (they set NV) and a quiet NaN is not.
        """
        return (3 if self.has_inf else 1) if self.is_float else 0


FORMATS = MappingProxyType(
    {
        f.name: f
        for f in (
            Format("fp32", 32, 8, 23, 127, True),
            Format("fp16", 16, 5, 10, 15, True),
            Format("bf16", 16, 8, 7, 127, True),
            Format("fp8_e5m2", 8, 5, 2, 15, True),
            Format("fp8_e4m3", 8, 4, 3, 7, False),
            Format("int8", 8),
            Format("int16", 16),
        )
    }
)

FP32 = FORMATS["fp32"]

WEIGHT_BITS = (2, 3, 4)


@dataclass(frozen=True)
class WeightCode:
    """A zero-free power-of-two code of n bits: the MSB is the sign (1 = negative), the rest the exponent e.

    Value ``(-1)**s * 2**e`` with e in ``0..max_exponent`` (DenseShift, ICCV 2023, section 3). All ``2**n`` codes carry a value.

    Parameters
    ----------
    bits : int
        n: 2, 3 or 4.
    mask : bool
        Whether an element has one more bit above the code: 1 means that there is no product, whatever the code says. So zeros
        can be expressed (S3-Shift, DeepShift, INQ, grouped layers).
    """

    bits: int
    mask: bool = False

    def __post_init__(self) -> None:
        if self.bits not in WEIGHT_BITS:
            raise InputError(f"weight_bits must be 2, 3 or 4, not {self.bits!r}")

    @property
    def exponent_bits(self) -> int:
        return self.bits - 1

    @property
    def max_exponent(self) -> int:
        """Largest exponent, ``2**(bits-1) - 1``."""
        return (1 << self.exponent_bits) - 1

    @property
    def sign_bit(self) -> int:
        return 1 << self.exponent_bits

    @property
    def element_bits(self) -> int:
        """Width of one weight in memories and packets: the code, and the mask bit where there is one."""
        return self.bits + self.mask

    @property
    def mask_bit(self) -> int:
        """The bit that says "no product", and the element that stands for zero; 0 without a mask."""
        return 1 << self.bits if self.mask else 0


class TensorFormats(Protocol):
    """What a network's tensors are stored in: a configuration, or anything else with these two."""

    @property
    def activation(self) -> Format:
        """Of every tensor but the output."""
        ...

    @property
    def output(self) -> Format:
        """Of the output."""
        ...


def format_named(name: str) -> Format:
    """The format of that name; ``InputError`` lists the names otherwise."""
    try:
        return FORMATS[name]
    except KeyError:
        raise InputError(f"format must be one of {', '.join(FORMATS)}, not {name!r}") from None
