"""The activation function on binary32, as `shiftforge.activation` defines it, with its result taken apart for the last rounding."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.delay import register
from hw.parts import Parts
from hw.rounding import SIGNIFICAND_BITS
from shiftforge.activation import ACTIVATION_KINDS, MAX_LEAKY_SHIFT
from shiftforge.formats import FP32

EXPONENT_BITS = 9
"""Signed width of the exponent of a binary32 value times ``2**-MAX_LEAKY_SHIFT``."""

RELU, CLAMP, LEAKY = (ACTIVATION_KINDS.index(kind) for kind in ("relu", "clamp", "leaky"))


def order(bits: Value) -> Value:
    """As `shiftforge.activation.fp32_order`: orders patterns as their values, -0 just below +0."""
    return Cat(bits[:31] ^ bits[31].replicate(31), bits[31]).as_signed()


class Activate(wiring.Component):
    """One activation per cycle. Fully pipelined, latency ``timing.ACTIVATION``.

    The product of a leaky slope is not rounded here: it is exact in this result, and the next rounding is either that to
    binary32, or one for which a value below ``2**-126`` is but a sticky bit. A product that binary32 would round to zero is
    made zero, so that the last rounding finds the same value, exact or not, in both cases.

    Members
    -------
    x : In(32)
    kind : In(2)
        Index into ``ACTIVATION_KINDS``. Stable, as the next three.
    shift : In(4)
        A leaky slope is ``2**-shift``.
    lo, hi : In(32)
        Bounds of a clamp.
    sign, nan, inf : Out(1)
    exponent : Out(signed(EXPONENT_BITS))
        Exponent of the top bit of `significand`.
    significand : Out(SIGNIFICAND_BITS)
        Its top bit is 0 only for zero and for magnitudes below ``2**-126``.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "x": In(32),
                "kind": In(2),
                "shift": In(4),
                "lo": In(32),
                "hi": In(32),
                "sign": Out(1),
                "nan": Out(1),
                "inf": Out(1),
                "exponent": Out(signed(EXPONENT_BITS)),
                "significand": Out(SIGNIFICAND_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parts = Parts.of(self.x)
        clamping = self.kind == CLAMP

        # Cycle 1: where x lies.
        x = register(m, self.x, "x_1")
        nan = register(m, parts.nan, "nan_1")
        below = register(m, clamping & (order(self.x) < order(self.lo)), "below")
        above = register(m, clamping & (order(self.x) > order(self.hi)), "above")
        to_zero = register(m, (self.kind == RELU) & parts.sign, "to_zero")
        # The least subnormal has the exponent -149; at most half of it rounds to zero: fraction * 2**-shift <= 1/2.
        half = Signal(MAX_LEAKY_SHIFT)
        m.d.comb += half.eq((1 << self.shift) >> 1)
        small = (self.x[:15] <= half) & ~self.x[15:31].any()
        leaking = (self.kind == LEAKY) & parts.sign
        leaks = register(m, leaking, "leaks")
        vanishes = register(m, leaking & small, "vanishes")

        # Cycle 2: the result.
        y = Mux(below & ~nan, self.lo, Mux(above & ~nan, self.hi, x))
        result = Parts.of(Value.cast(y))
        zero = (to_zero & ~nan) | vanishes
        exponent = (Cat(result.exponent, Const(0, 1)).as_signed() - FP32.bias) - Mux(leaks, self.shift, 0)
        m.d.comb += [
            self.sign.eq(register(m, result.sign & ~to_zero, "next_sign")),
            self.nan.eq(register(m, nan, "next_nan")),
            self.inf.eq(register(m, result.inf & ~zero, "next_inf")),
            self.exponent.eq(register(m, exponent[:EXPONENT_BITS].as_signed(), "next_exponent")),
            self.significand.eq(
                register(m, Mux(zero, 0, Cat(Const(0, SIGNIFICAND_BITS - 24), result.significand)), "next_significand")
            ),
        ]
        return m
