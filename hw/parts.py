"""A floating-point code taken apart."""

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Value

from shiftforge.formats import FP32, Format


@dataclass(frozen=True)
class Parts:
    """Combinational views of a code. A finite value is ``(-1)**sign * significand * 2**(exponent - 1 + fmt.lsb_exponent)``.

    Source: IEEE 754-2019 clause 3.4; OCP 8-bit Floating Point Specification, section 5 (E4M3 has no infinity, and one NaN of
    each sign).

    Members
    -------
    exponent
        The field, but at least 1: a subnormal needs no normaliser so.
    significand
        Fraction and hidden bit.
    """

    sign: Value
    exponent: Value
    significand: Value
    nan: Value
    inf: Value
    finite: Value
    zero: Value

    @classmethod
    def of(cls, bits: Value, fmt: Format = FP32) -> "Parts":
        fraction, field = bits[: fmt.fraction_bits], bits[fmt.fraction_bits : fmt.bits - 1]
        normal, top = field.any(), field.all()
        if fmt.has_inf:
            nan, inf, finite = top & fraction.any(), top & ~fraction.any(), ~top
        else:
            nan, inf = top & fraction.all(), Const(0, 1)
            finite = ~nan
        return cls(
            sign=bits[fmt.bits - 1],
            exponent=Cat(field[0] | ~normal, field[1:]),
            significand=Cat(fraction, normal),
            nan=nan,
            inf=inf,
            finite=finite,
            zero=~normal & ~fraction.any(),
        )
