"""Row edge: an activation code becomes fixed point, once per row."""

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.parts import Parts
from hw.pe import special_layout
from shiftforge.config import Config


class RowEdge(wiring.Component):
    """Activation code to two's complement fixed point and non-finite marks.

    ``x = significand << max(exponent field, 1) - 1``, negated by the sign: every finite value exactly, subnormals included, in
    units of ``2**lsb_exponent``. Latency `timing.ROW_EDGE`: fine shift, coarse shift, one's complement,
    its missing 1. Integers pass through.

    Parameters
    ----------
    config : Config

    Members
    -------
    code : In(activation.bits)
    x : Out(signed(activation.fixed_bits))
        0 where the code is not finite.
    special : Out(special_layout)
        Absent for integers.
    """

    def __init__(self, config: Config):
        self.config = config
        members: dict[str, wiring.Member] = {
            "code": In(config.activation.bits),
            "x": Out(signed(config.activation.fixed_bits)),
        }
        if config.activation.flag_bits:
            members["special"] = Out(special_layout(config))
        super().__init__(members)

    @property
    def module_name(self) -> str:
        return f"sf_row_edge_{self.config.activation.name}"

    def elaborate(self, platform: object) -> Module:
        m = Module()
        fmt = self.config.activation
        if not fmt.is_float:
            first, second, third = Signal(fmt.bits), Signal(fmt.bits), Signal(fmt.bits)
            m.d.sync += [first.eq(self.code), second.eq(first), third.eq(second), self.x.eq(third.as_signed())]
            return m

        # The shift's lowest two bits here and the rest in the next stage.
        parts = Parts.of(self.code, fmt)
        shift = Signal(fmt.exponent_bits)
        m.d.comb += shift.eq(parts.exponent - 1)
        significand = parts.significand & parts.finite.replicate(fmt.precision)
        fine = Signal(fmt.precision + 3)
        coarse_shift = Signal(fmt.exponent_bits - 2)
        sign_1, sign_2 = Signal(), Signal()
        m.d.sync += [fine.eq(significand << shift[:2]), coarse_shift.eq(shift[2:]), sign_1.eq(parts.sign)]
        magnitude = Signal(fmt.fixed_bits - 1)
        m.d.sync += [magnitude.eq(fine << Cat(0, 0, coarse_shift)), sign_2.eq(sign_1)]
        ones, sign_3 = Signal(signed(fmt.fixed_bits)), Signal()
        m.d.sync += [ones.eq(magnitude ^ sign_2.replicate(fmt.fixed_bits)), sign_3.eq(sign_2)]
        m.d.sync += self.x.eq(ones + sign_3)

        special_1, special_2, special_3 = (Signal(self.special.shape(), name=f"special_{i}") for i in (1, 2, 3))
        m.d.sync += [special_1.nan.eq(parts.nan), special_2.eq(special_1), special_3.eq(special_2)]
        m.d.sync += self.special.eq(special_3)
        if fmt.has_inf:
            m.d.sync += [special_1.inf.eq(parts.inf), special_1.negative.eq(parts.sign)]
        return m
