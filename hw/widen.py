"""A code of any format as binary32, exactly."""

from amaranth.hdl import Cat, Const, Module, Mux, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.delay import delayed, register
from hw.normalize import Normalize
from hw.parts import Parts
from shiftforge import timing
from shiftforge.formats import FP32, Format


class Widen(wiring.Component):
    """`code` is the value of `x`, which binary32 holds exactly. Fully pipelined, latency ``timing.widen(fmt)``.

    Subnormals of the short formats are normal numbers of binary32, so their leading one is moved to the top. A NaN becomes the
    canonical one, but of ``bf16`` and ``fp32``, whose codes are the upper bits of binary32's, it stays the NaN that it is.
    Source: IEEE 754-2019 clauses 5.4.2, 5.4.3 (conversions to a wider format are exact).

    Parameters
    ----------
    fmt : Format

    Members
    -------
    x : In(fmt.bits)
    code : Out(32)
    """

    def __init__(self, fmt: Format) -> None:
        self.fmt = fmt
        self.latency = timing.widen(fmt)
        super().__init__({"x": In(fmt.bits), "code": Out(32)})

    def elaborate(self, platform: object) -> Module:
        m, fmt = Module(), self.fmt
        levels = timing.widen_levels(fmt)
        if not levels:
            m.d.comb += self.code.eq(Cat(Const(0, 32 - fmt.bits), register(m, self.x, "x")))
            return m
        sign: Value = self.x[-1]
        special: Value = Const(0, 2)
        if fmt.is_float:
            parts = Parts.of(self.x, fmt)
            magnitude, top = parts.significand, Value.cast(parts.exponent + (FP32.bias - fmt.bias))[:8]
            special = Value.cast(Cat(parts.nan, parts.inf))
        else:
            magnitude = ((self.x ^ sign.replicate(fmt.bits)) + sign)[: fmt.bits]
            top = Const(FP32.bias + fmt.bits - 1, 8)
        m.submodules.normalize = normalize = Normalize(len(magnitude), FP32.precision, levels)
        wait = timing.normalize(levels)
        top = delayed(m, register(m, top, "top"), wait, "top")
        special = delayed(m, register(m, Cat(special, sign), "special"), wait, "special")
        nan, inf, negative = special[0], special[1], special[2]
        finite = Cat(normalize.result[:-1], Mux(normalize.result[-1], (top - normalize.left)[:8], 0), negative)
        infinite = Cat(Const(FP32.inf, 31), negative)
        m.d.comb += [
            normalize.value.eq(register(m, magnitude, "magnitude")),
            self.code.eq(Mux(nan, FP32.nan, Mux(inf, infinite, finite))),
        ]
        return m
