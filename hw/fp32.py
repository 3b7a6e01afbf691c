"""IEEE 754 binary32 multiplication and addition, to nearest with ties to even, subnormals exact, NaN canonical.

They raise no flags: those of a result are the flags of its first rounding, from the exact sum, and of its last.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.delay import delayed, register
from hw.normalize import Normalize
from hw.parts import Parts
from hw.rounding import SIGNIFICAND_BITS, Pack, Round
from shiftforge import timing
from shiftforge.formats import FP32

PORTS = {"a": In(32), "b": In(32), "code": Out(32)}
HALF = FP32.precision // 2
"""Width of a factor of a partial product: four 12 x 12 products fit any FPGA's multipliers."""


class Fp32Multiply(wiring.Component):
    """`code` = `a` * `b`. Fully pipelined, latency ``timing.FP32_MULTIPLY``.

    Source: IEEE 754-2019 clauses 4.3.1, 5.4.1, 7.2 (inf * 0 is NaN).

    Members
    -------
    a, b : In(32)
    code : Out(32)
    """

    def __init__(self) -> None:
        super().__init__(PORTS)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        a, b = Parts.of(self.a), Parts.of(self.b)

        # Cycle 1: the factors, and what the specials make of them.
        x, y = register(m, a.significand, "x"), register(m, b.significand, "y")
        exponent = register(m, a.exponent + b.exponent, "exponent")
        invalid = register(m, (a.inf & b.zero) | (a.zero & b.inf), "invalid")
        nan = register(m, a.nan | b.nan, "nan_operand")
        inf = register(m, a.inf | b.inf, "inf_operand")
        sign = register(m, a.sign ^ b.sign, "sign_product")

        # Cycles 2 to 4: four partial products, their middle sum, the product. Written out, because a multiplier with its
        # registers inside is not inferred by every synthesiser.
        low, high = slice(0, HALF), slice(HALF, None)
        p00, p01 = register(m, x[low] * y[low], "p00"), register(m, x[low] * y[high], "p01")
        p10, p11 = register(m, x[high] * y[low], "p10"), register(m, x[high] * y[high], "p11")
        outer, middle = register(m, Cat(p00, p11), "outer"), register(m, p01 + p10, "middle")
        product = register(m, Cat(outer[:HALF], (outer[HALF:] + middle)[: 3 * HALF]), "product")

        m.submodules.normalize = normalize = Normalize(2 * FP32.precision, SIGNIFICAND_BITS, timing.FP32_LEVELS)
        m.submodules.round = rounding = Round(FP32, 10)
        wait = timing.normalize(timing.FP32_LEVELS)
        # The product's top bit has the exponent ea + eb + 1 of the unbiased ea and eb.
        top = register(m, delayed(m, exponent, 2, "exponent") - (2 * FP32.bias - 1), "top_exponent")
        top = delayed(m, top.as_signed(), wait, "top_exponent")
        special = delayed(m, Cat(sign, nan | invalid, inf), 3 + wait, "special")
        m.d.comb += [
            normalize.value.eq(product),
            rounding.significand.eq(normalize.result),
            rounding.exponent.eq(top.as_signed() - normalize.left),
            Cat(rounding.sign, rounding.nan, rounding.inf).eq(special),
            self.code.eq(rounding.code),
        ]
        return m


class Fp32Add(wiring.Component):
    """`code` = `a` + `b`. Fully pipelined, latency ``timing.FP32_ADD``.

    Source: IEEE 754-2019 clauses 4.3.1, 5.4.1, 6.3, 7.2 (inf - inf is NaN).

    Members
    -------
    a, b : In(32)
    code : Out(32)
    """

    def __init__(self) -> None:
        super().__init__(PORTS)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        a, b = Parts.of(self.a), Parts.of(self.b)

        # Cycle 1: which magnitude is larger; specials.
        swap = register(m, self.a[:31] < self.b[:31], "swap")
        cancel = register(m, (self.a[:31] == self.b[:31]) & (a.sign ^ b.sign), "cancel")
        subtract = register(m, a.sign ^ b.sign, "subtract")
        invalid = register(m, a.inf & b.inf & (a.sign ^ b.sign), "invalid")
        nan = register(m, a.nan | b.nan, "nan_operand")
        inf = register(m, a.inf | b.inf, "inf_operand")
        a, b = Parts.of(register(m, self.a, "a_1")), Parts.of(register(m, self.b, "b_1"))

        # Cycle 2: large and small, their distance. With an infinity the larger magnitude is one, so its sign is the result's.
        big = register(m, Mux(swap, b.significand, a.significand), "big")
        small: Value = register(m, Cat(Const(0, 3), Mux(swap, a.significand, b.significand)), "small")
        exponent = register(m, Mux(swap, b.exponent, a.exponent), "exponent")
        gap = Mux(swap, b.exponent - a.exponent, a.exponent - b.exponent)[:8]
        distance, far = register(m, gap[:5], "distance"), register(m, gap[5:].any(), "far")
        sign = register(m, Mux(swap, b.sign, a.sign) & ~cancel, "sign_sum")
        subtract = register(m, subtract, "subtract_2")

        # Cycles 3 and 4: align; a sticky bit below the guard and rounding bits keeps subtraction exact enough.
        for level in (4, 3, 2, 1, 0):
            last = 1 << level
            shifted = Cat(small[: last + 1].any(), small[last + 1 :], Const(0, last))
            small = Mux(distance[level], shifted, small)
            if level == 3:
                # So far below, it cannot move the sum off the larger operand, which has no bits below the rounding bit.
                small = Mux(far, 0, small)
                small, distance = register(m, small, "small_3"), register(m, distance[:3], "distance_3")
        small = register(m, small, "small_4")

        # Cycle 5: add or subtract; large is not the smaller, so the result is not negative.
        subtract = delayed(m, subtract, 2, "subtract_3")
        large = Cat(Const(0, 3), delayed(m, big, 2, "big_3"))
        total = register(m, (large + (small ^ subtract.replicate(27)) + subtract)[:28], "total_wide")
        # A subtraction's carry out is no bit of the result.
        drop_carry = register(m, subtract, "drop_carry")

        m.submodules.normalize = normalize = Normalize(28, SIGNIFICAND_BITS, timing.FP32_LEVELS, budget_bits=8)
        m.submodules.pack = pack = Pack(FP32)
        wait = timing.normalize(timing.FP32_LEVELS)
        # The top bit is one place above the larger operand's, whose field, at least 1, is what the shift may use up: the
        # result then is subnormal, and the sum of two multiples of the least subnormal needs no rounding there.
        special = delayed(m, Cat(nan | invalid, inf), 4 + wait, "special")
        m.d.comb += [
            normalize.value.eq(Cat(total[:27], total[27] & ~drop_carry)),
            normalize.budget.eq(delayed(m, exponent, 3, "exponent")),
            pack.aligned.eq(normalize.result),
            pack.biased.eq(Mux(normalize.result[-1], normalize.left, 0)),
            Cat(pack.nan, pack.inf, pack.sign).eq(Cat(special, delayed(m, sign, 3 + wait, "sign"))),
            self.code.eq(pack.code),
        ]
        return m
