"""Processing element: sign flip, exponent add, exact accumulation (aligned accumulator)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.delay import register
from shiftforge.config import Config

TOKEN = data.StructLayout({"valid": 1, "first": 1, "last": 1})
"""Travels with an activation: it is a product (not a bubble), the first of its dot product, the last of it."""


def special_layout(config: Config) -> data.StructLayout:
    """Non-finite marks that travel with an activation: none (integers), nan (E4M3), or nan, inf and its sign."""
    names = {0: (), 1: ("nan",), 3: ("nan", "inf", "negative")}[config.activation.flag_bits]
    return data.StructLayout(dict.fromkeys(names, 1))


def flags_layout(config: Config) -> data.StructLayout:
    """Sticky non-finite flags of a sum: none, nan, or nan, +inf and -inf (the contract's three conditions)."""
    names = {0: (), 1: ("nan",), 3: ("nan", "pos_inf", "neg_inf")}[config.activation.flag_bits]
    return data.StructLayout(dict.fromkeys(names, 1))


def sum_fields(config: Config) -> dict[str, data.StructLayout | int]:
    """Fields of a dot product: the exact sum and, for floats, its flags (no port and no field has zero width)."""
    fields: dict[str, data.StructLayout | int] = {"sum": config.accumulator_bits}
    return {"flags": flags_layout(config), **fields} if config.activation.flag_bits else fields


def capture_layout(config: Config) -> data.StructLayout:
    """What a PE hands to its column: all zero but for one cycle per dot product."""
    return data.StructLayout({"valid": 1, **sum_fields(config)})


class PE(wiring.Component):
    """One output-stationary processing element.

    ::

        x, special, token --+--[reg]--> x_out, special_out, token_out      (to the right)
        w -------------+----|--[reg]--> w_out                              (down)
                       |    |
              (x << e) ^ s, s --[reg]--> acc + addend + s --[reg]--> last? --[reg]--> capture

    The accumulator runs freely modulo 2**accumulator_bits and is never cleared: the column reader subtracts the reading of
    the tile before. So the tile after may start in the cycle after `last`. Bubbles (``token.valid = 0``) may stand anywhere.
    A weight whose mask bit is set (`Config.weights.mask`) is not accumulated and marks nothing; it still is a slot: first, last and
    the capture follow the tokens alone. So ``token.valid`` counts slots, which all columns have in common, and ``enable``
    products, of which each column has its own number: whatever is corrected per product must be counted by ``enable``.
    Latency from an input to `capture` is `timing.PE`; no sum of up to ``max_k`` products can wrap (`Config.accumulator_bits`).

    Parameters
    ----------
    config : Config

    Members
    -------
    x : In(signed(activation.fixed_bits))
        Activation in fixed point, unit ``2**lsb_exponent``; 0 where it is not finite.
    token, w : In
        Its token, and the weight element (mask bit where there is one, sign, exponent).
    special, special_out
        Its non-finite marks; absent for integers.
    x_out, token_out, w_out : Out
        The same, one cycle later.
    capture : Out(capture_layout)
        Accumulator and flags of a finished dot product for one cycle, else zero (so that a column is an OR of its rows).
    """

    def __init__(self, config: Config):
        self.config = config
        fixed = signed(config.activation.fixed_bits)
        members: dict[str, wiring.Member] = {
            "x": In(fixed),
            "token": In(TOKEN),
            "w": In(config.weights.element_bits),
            "x_out": Out(fixed),
            "token_out": Out(TOKEN),
            "w_out": Out(config.weights.element_bits),
            "capture": Out(capture_layout(config)),
        }
        if config.activation.flag_bits:
            members |= {"special": In(special_layout(config)), "special_out": Out(special_layout(config))}
        super().__init__(members)

    @property
    def module_name(self) -> str:
        """Name of the generated module, with the parameters that shape it."""
        c = self.config
        mask = "m" if c.weights.mask else ""
        return f"sf_pe_aligned_{c.activation.name}_w{c.weights.bits}{mask}_acc{c.accumulator_bits}"

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        code = config.weights
        # Only what marks data as valid, and the accumulator, need a reset.
        m.d.sync += self.token_out.eq(self.token)
        m.d.comb += [self.x_out.eq(register(m, self.x, "x_held")), self.w_out.eq(register(m, self.w, "w_held"))]

        # Product: one's complement of the shifted activation; the missing +1 enters the accumulator as its carry.
        sign = self.w[code.exponent_bits]
        exponent = self.w[: code.exponent_bits]
        shifted = Signal(signed(config.product_bits))
        m.d.comb += shifted.eq(self.x << exponent)
        addend = register(m, shifted.as_unsigned() ^ sign.replicate(config.product_bits), "addend")
        negate = register(m, sign, "negate")
        token = self.token_out  # of the product in `addend`
        enable = token.valid & ~self.w_out[code.bits] if code.mask else token.valid

        acc = Signal(config.accumulator_bits)
        last_2 = Signal()
        # One carry chain: a constant 1 below the accumulator turns `negate` into the carry in.
        extension = addend[-1].replicate(config.accumulator_bits - config.product_bits)
        total = (Cat(Const(1, 1), acc) + Cat(negate, addend, extension))[1 : config.accumulator_bits + 1]
        with m.If(enable):
            m.d.sync += acc.eq(total)
        m.d.sync += last_2.eq(token.valid & token.last)

        with m.If(last_2):
            m.d.sync += [self.capture.valid.eq(1), self.capture.sum.eq(acc)]
        with m.Else():
            m.d.sync += self.capture.eq(0)

        if config.activation.flag_bits:
            m.d.comb += self.special_out.eq(register(m, self.special.as_value(), "special_held"))
            flags = Signal(flags_layout(config), reset_less=True)
            now = Signal(flags_layout(config), reset_less=True)
            nan = self.special.nan & ~self.w[code.bits] if code.mask else self.special.nan
            m.d.sync += now.nan.eq(nan)
            if config.activation.flag_bits == 3:
                negative = self.special.negative ^ sign
                inf = self.special.inf & ~self.w[code.bits] if code.mask else self.special.inf
                m.d.sync += [now.pos_inf.eq(inf & ~negative), now.neg_inf.eq(inf & negative)]
            with m.If(token.valid):
                m.d.sync += flags.eq(Mux(token.first, 0, flags.as_value()) | now.as_value())
            with m.If(last_2):
                m.d.sync += self.capture.flags.eq(flags)
        return m
