"""The usual floating-point element: every product is added to a binary32 sum and rounded, so the order of additions matters."""

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, ValueLike, unsigned
from amaranth.lib import data

from bench.baselines.element import Addend, Element
from bench.baselines.floats import parts_layout
from bench.baselines.multiply import levels, multiply
from hw.delay import register
from shiftforge.config import Config
from shiftforge.formats import FP32

_OPERAND = data.StructLayout({"significand": 24, "exponent": 8, "sign": 1})
"""Binary32 with its hidden bit; zero is all zero but for the sign."""


class FloatRounding(Element):
    """fp16 times fp16, exact (22 bits), added to a binary32 accumulator in one cycle, rounded to nearest even at every step.

    Neither operand can be subnormal in binary32 (everything is a multiple of 2**-48) nor overflow (65504**2 * max_k < 2**127), so
    the adder has no logic for that. `capture` holds the binary32 code; a sum starts at +0 with its first product.
    """

    def __init__(self, config: Config, *, cells: bool = False):
        fmt = config.activation
        self.name = f"{fmt.name}_{fmt.name}_fp32"
        self.product_latency = levels(fmt.precision)
        parts = Shape.cast(parts_layout(fmt, normal=True))
        super().__init__(
            config, x=parts, w=unsigned(parts.width + 1), sum_bits=32, latency=self.product_latency + 1, cells=cells
        )

    def _addend(self, m: Module) -> Addend:
        fmt = self.config.activation
        layout = parts_layout(fmt, normal=True)
        x, w = data.View(layout, self.x), data.View(layout, self.w[:-1])
        product = multiply(m, x.significand, w.significand, cells=self.cells)
        # Units of the smallest subnormal's square; a product of 22 bits moves up by 2 bits into 24.
        unit = 2 * (fmt.lsb_exponent - fmt.fraction_bits) - 2 - (FP32.min_exponent - FP32.fraction_bits) + 1
        exponent: Value = register(m, x.exponent + w.exponent, "exponent_1")
        sign: Value = register(m, x.sign ^ w.sign, "sign_1")
        filled: Value = register(m, x.significand[-1] & w.significand[-1], "filled_1")
        for i in range(2, self.product_latency + 1):
            exponent, sign = register(m, exponent, f"exponent_{i}"), register(m, sign, f"sign_{i}")
            filled = register(m, filled, f"filled_{i}")
        long = product[2 * fmt.precision - 1]
        significand = Mux(long, Cat(Const(0, 2), product), Cat(Const(0, 3), product))[:24]
        biased = (exponent + (unit - 1) + long)[:8] & filled.replicate(8)
        return Addend(register(m, Cat(significand, biased, sign), "operand"), zero_weight=self.w[-1])

    def _weight_sign(self) -> Value:
        return Value.cast(data.View(parts_layout(self.config.activation, normal=True), self.w[:-1]).sign)

    def _accumulate(self, m: Module, addend: Addend, valid: Value, first: Value) -> Value:
        acc = Signal(_OPERAND)
        before = Signal(_OPERAND)
        m.d.comb += before.eq(acc.as_value() & ~first.replicate(_OPERAND.size))
        total = add_binary32(m, before, data.View(_OPERAND, addend.low))
        with m.If(valid):
            m.d.sync += acc.eq(total)
        return Value.cast(Cat(acc.significand[:-1], acc.exponent, acc.sign))


def add_binary32(m: Module, a: data.View, b: data.View) -> Value:
    """The sum of two `_OPERAND`, rounded to nearest even, combinational. Exact zero is +0. No subnormals, no overflow."""
    names = iter(range(100))

    def named(value: ValueLike) -> Signal:
        """A signal for what is used more than once: as an expression it would be written out each time."""
        signal = Signal.like(Value.cast(value), name=f"add_{next(names)}")
        m.d.comb += signal.eq(value)
        return signal

    swap = named(b.as_value()[:32] > a.as_value()[:32])
    big = data.View(_OPERAND, named(Mux(swap, b.as_value(), a.as_value())))
    small = data.View(_OPERAND, named(Mux(swap, a.as_value(), b.as_value())))
    distance = named((big.exponent - small.exponent)[:8])
    subtract = named(a.sign ^ b.sign)

    # Guard, round and sticky bit below the significand.
    far = named(distance[5:].any())
    sticky: Value = far & small.significand.any()
    aligned = named(Cat(Const(0, 3), small.significand) & ~far.replicate(27))
    for i in reversed(range(5)):
        step = 1 << i
        sticky = sticky | (distance[i] & aligned[:step].any())
        aligned = named(Mux(distance[i], aligned[step:], aligned))
    aligned = Cat(aligned[0] | sticky, aligned[1:])
    wide = Cat(Const(0, 3), big.significand, Const(0, 1))
    total = named((wide + (Cat(aligned, Const(0, 1)) ^ subtract.replicate(28)) + subtract)[:28])

    left: list[Value] = []
    for step in (16, 8, 4, 2, 1):
        empty = named(~total[-step:].any())
        total = named(Mux(empty, Cat(Const(0, step), total[:-step]), total))
        left.append(empty)
    nonzero = total[-1]
    exponent = (big.exponent + 1 - Cat(*reversed(left)))[:8]
    up = total[3] & (total[:3].any() | total[4])
    rounded = named((Cat(total[4:27], exponent) + up)[:31])
    code = Cat(rounded[:23] & nonzero.replicate(23), nonzero, rounded[23:] & nonzero.replicate(8), big.sign & nonzero)
    return Value.cast(code)
