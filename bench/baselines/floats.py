"""Floating-point baselines: fp16 activations times fp16 or int4 weights with an exact accumulator, or with a rounding one."""

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from bench.baselines.element import Addend, Element
from bench.baselines.multiply import levels, multiply
from hw.delay import register
from hw.pe import special_layout
from shiftforge.config import Config
from shiftforge.formats import Format


def parts_layout(fmt: Format, *, normal: bool = False) -> data.StructLayout:
    """A finite value ``(-1)**sign * significand * 2**(exponent + lsb_exponent)``.

    `normal`: subnormals are shifted up, and `exponent` counts from ``-fraction_bits``, where the smallest of them ends.
    """
    largest = fmt.max_exponent_field - 1 + (fmt.fraction_bits if normal else 0)
    return data.StructLayout({"significand": fmt.precision, "exponent": largest.bit_length(), "sign": 1})


class FloatEdge(wiring.Component):
    """A code to `parts_layout` and its marks; once per row, and once per column for weights. Latency 2 cycles.

    Parameters
    ----------
    config : Config
        Its activation format.
    normal : bool
        Normalise subnormals, for an accumulator that rounds.
    for_weights : bool
        A column's edge: weights are finite, and a zero among them is marked.

    Members
    -------
    code : In(activation.bits)
    x : Out(parts_layout)
        0 where the code is not finite.
    special : Out(special_layout)
        Of a row's edge.
    w : Out(parts_layout and a bit that is 1 for a zero)
        Of a column's edge.
    """

    latency = 2

    def __init__(self, config: Config, *, normal: bool = False, for_weights: bool = False):
        self.config, self.normal, self.for_weights = config, normal, for_weights
        fmt = config.activation
        parts = parts_layout(fmt, normal=normal)
        members: dict[str, wiring.Member] = {"code": In(fmt.bits), "x": Out(parts)}
        if for_weights:
            members["w"] = Out(parts.size + 1)
        else:
            members["special"] = Out(special_layout(config))
        super().__init__(members)

    @property
    def module_name(self) -> str:
        kind = "weight" if self.for_weights else "edge"
        return f"bench_{kind}_{self.config.activation.name}{'_normal' if self.normal else ''}"

    def elaborate(self, platform: object) -> Module:
        m = Module()
        fmt = self.config.activation
        fraction, field = self.code[: fmt.fraction_bits], self.code[fmt.fraction_bits : fmt.bits - 1]
        top, hidden = field.all(), field.any()
        finite = ~top
        value: Signal = Signal(fmt.precision)
        exponent, sign = Signal(fmt.exponent_bits), Signal()
        m.d.sync += [
            value.eq(Cat(fraction, hidden) & finite.replicate(fmt.precision)),
            exponent.eq(Mux(hidden, field - 1, 0)),
            sign.eq(self.code[-1]),
            self.x.sign.eq(sign),
        ]
        if self.for_weights:
            zero = Signal()
            m.d.sync += zero.eq(~value.any())
            m.d.comb += self.w.eq(Cat(self.x.as_value(), zero))
        else:
            special = Signal(special_layout(self.config))
            m.d.sync += [
                special.nan.eq(top & fraction.any()),
                special.inf.eq(top & ~fraction.any()),
                special.negative.eq(self.code[-1]),
                self.special.eq(special),
            ]
        if not self.normal:
            m.d.sync += [self.x.significand.eq(value), self.x.exponent.eq(exponent)]
            return m
        shifted: Value = value
        left: list[Value] = []
        for step in (8, 4, 2, 1):
            empty = ~shifted[-step:].any()
            shifted = Value.cast(Mux(empty, Cat(Const(0, step), shifted[:-step]), shifted)[: fmt.precision])
            left.append(empty)
        shift = Cat(*reversed(left))
        m.d.sync += [
            self.x.significand.eq(shifted),
            self.x.exponent.eq(Mux(value.any(), exponent + fmt.fraction_bits - shift, 0)),
        ]
        return m


class FloatMultiply(Element):
    """fp16 times fp16, exact: product of the significands, shifted by the sum of the exponents, into one wide accumulator.

    The product is ready after `multiply`; two registered stages shift it by 4 and by 2 bits of the exponent, the second of them
    completes the sign, and the last bit of the exponent shifts in the carry chain.
    """

    def __init__(self, config: Config, *, cells: bool = False):
        fmt = config.activation
        self.name = f"{fmt.name}_{fmt.name}_exact"
        self.product_latency = levels(fmt.precision)
        parts = Shape.cast(parts_layout(fmt))
        largest = fmt.max_fixed * fmt.max_fixed * config.max_k
        super().__init__(
            config,
            x=parts,
            w=unsigned(parts.width + 1),  # and one bit that is 1 for a zero
            sum_bits=largest.bit_length() + 1,
            latency=self.product_latency + 2,
            cells=cells,
            selects=True,
        )

    def _addend(self, m: Module) -> Addend:
        fmt = self.config.activation
        layout = parts_layout(fmt)
        x, w = data.View(layout, self.x), data.View(layout, self.w[:-1])
        product = multiply(m, x.significand, w.significand, cells=self.cells)
        exponent: Value = register(m, x.exponent + w.exponent, "exponent_1")
        sign: Value = register(m, x.sign ^ w.sign, "sign_1")
        for i in range(2, self.product_latency + 1):
            exponent, sign = register(m, exponent, f"exponent_{i}"), register(m, sign, f"sign_{i}")
        return shift_and_negate(m, product, exponent, sign, self.sum_bits - 1, self.w[-1])

    def _weight_sign(self) -> Value:
        return Value.cast(data.View(parts_layout(self.config.activation), self.w[:-1]).sign)


class FloatInteger(Element):
    """fp16 times int4, exact: the signed product of significand and weight, shifted by the exponent, into one accumulator."""

    def __init__(self, config: Config, weight_bits: int = 4, *, cells: bool = False):
        fmt = config.activation
        self.name = f"{fmt.name}_int{weight_bits}_exact"
        self.product_latency = levels(weight_bits)
        largest = (fmt.max_fixed << (weight_bits - 1)) * config.max_k
        super().__init__(
            config,
            x=Shape.cast(parts_layout(fmt)),
            w=signed(weight_bits),
            sum_bits=largest.bit_length() + 1,
            latency=self.product_latency + 2,
            cells=cells,
            selects=True,
        )

    def _addend(self, m: Module) -> Addend:
        x = data.View(parts_layout(self.config.activation), self.x)
        significand = Cat(x.significand, Const(0, 1)).as_signed()
        product = multiply(m, significand, self.w, cells=self.cells)
        exponent: Value = register(m, x.exponent, "exponent_1")
        sign: Value = register(m, x.sign, "sign_1")
        for i in range(2, self.product_latency + 1):
            exponent, sign = register(m, exponent, f"exponent_{i}"), register(m, sign, f"sign_{i}")
        return shift_and_negate(m, product, exponent, sign, self.sum_bits - 1, ~self.w.any())

    def _weight_sign(self) -> Value:
        return self.w[-1]


def shift_and_negate(m: Module, product: Value, exponent: Value, sign: Value, width: int, zero_weight: Value) -> Addend:
    """The product times ``2**exponent``, negated by `sign`: two registers, and the last shift left to the accumulator's chain."""
    is_signed = product.shape().signed
    bits = [(1 << i, exponent[i]) for i in range(len(exponent))]
    late, early = bits[1:-2], bits[-2:]  # the lowest shifts in the chain

    def typed(value: Value) -> Value:
        return value.as_signed() if is_signed else value

    shifted = product
    for step, chosen in reversed(early):
        shifted = typed(_shifted(shifted, step, chosen, width))
    held = register(m, shifted, "shifted")
    rest = register(m, exponent[: len(late) + 1], "exponent_shifted")
    sign = register(m, sign, "sign_shifted")
    value: Value = held
    for step, _ in reversed(late):
        value = typed(_shifted(value, step, rest[step.bit_length() - 1], width))
    # One's complement: of an unsigned value it needs a sign bit of its own.
    wide = Cat(value, value[-1] if is_signed else Const(0, 1))
    flipped = register(m, (wide ^ sign.replicate(len(wide))).as_signed(), "addend")
    negate = register(m, sign, "negate")
    return Addend(
        flipped,
        Cat(negate, flipped)[: width + 1].as_signed(),
        register(m, rest[0], "select"),
        carry=negate,
        zero_weight=zero_weight,
    )


def _shifted(value: Value, step: int, chosen: Value, width: int) -> Value:
    """`value` or, where chosen, ``value << step``; in as many bits as that can need, `width` at most."""
    grown = min(width, len(value) + step)
    fill = value[-1] if value.shape().signed else Const(0, 1)
    kept = Cat(value, fill.replicate(grown - len(value)))
    return Mux(chosen, Cat(Const(0, step), value)[:grown], kept)
