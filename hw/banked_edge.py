"""Row edge of banked accumulators: an activation code becomes a shifted significand and a bank, once per row."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.banked_pe import BANKED_TOKEN, IDLE, product_layout, slot_layout
from hw.delay import register
from hw.parts import Parts
from shiftforge.banks import Banks
from shiftforge.config import Config


class BankedEdge(wiring.Component):
    """Activation code and token to what the PEs of a row add, and to which word.

    With E the exponent field, its lowest bit set where it is zero (a subnormal needs no normaliser so), the low `Banks.granularity`
    bits of E shift the significand and the others are the bank. Two products one after the other for the same word are found
    here, once for the whole row, and so is where a tile ends (`turn`). Latency `timing.BANKED_EDGE`: decode, fine shift, coarse
    shift.

    Parameters
    ----------
    config : Config

    Members
    -------
    code : In(activation.bits)
    token : In(BANKED_TOKEN)
        Of that code.
    x : Out(product_layout)
    slot : Out(slot_layout)
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "code": In(config.activation.bits),
                "token": In(BANKED_TOKEN),
                "x": Out(product_layout(config)),
                "slot": Out(slot_layout(config), init=IDLE),
            }
        )

    @property
    def module_name(self) -> str:
        return f"sf_row_edge_banked_{self.config.activation.name}_w{self.config.weights.bits}"

    def elaborate(self, platform: object) -> Module:
        m = Module()
        fmt, banks = self.config.activation, Banks.of(self.config)
        fine_bits = min(banks.granularity, 2)

        # ---- decode
        parts = Parts.of(self.code, fmt)
        product = self.token.valid & ~self.token.drain
        significand = register(m, parts.significand, "significand")
        exponent = register(m, parts.exponent, "exponent")
        keep = register(m, parts.finite & product, "keep")
        marks = register(m, Cat(parts.nan & product, *([parts.inf & product] if fmt.has_inf else [])), "marks_1")
        negative = register(m, parts.sign, "negative_1")
        token_1, token = Signal(BANKED_TOKEN), Signal(BANKED_TOKEN)
        m.d.sync += [token_1.eq(self.token), token.eq(token_1)]

        # ---- shift
        fine = Signal(fmt.precision + (1 << fine_bits) - 1, reset_less=True)
        with m.If(keep):
            m.d.sync += fine.eq(significand << exponent[:fine_bits])
        with m.Else():
            m.d.sync += fine.eq(0)
        coarse = (
            register(m, exponent[fine_bits : banks.granularity], "coarse") if banks.granularity > fine_bits else None
        )
        bank = register(m, exponent[banks.granularity :], "bank")
        marks_2 = register(m, marks, "marks_2")
        negative_2 = register(m, negative, "negative_2")
        shifted = fine if coarse is None else fine << Cat(*[0] * fine_bits, coarse)
        held = register(m, Cat(shifted[: banks.significand_bits], negative_2, marks_2), "x_held")
        m.d.comb += self.x.eq(held)

        # ---- the word
        address = Signal(banks.bank_bits)
        is_product, is_drain = Signal(), Signal()
        was_product = Signal()
        tile = Signal()  # the set of the tile under way
        wipe = Signal()
        turn = Signal()  # from here on it is another tile
        m.d.comb += [
            is_product.eq(token.valid & ~token.drain),
            is_drain.eq(token.drain & ~token.valid),
            # A drain slot of a set says that the tile under way has the other one.
            turn.eq((is_product | is_drain) & (token.set ^ is_drain ^ tile)),
            wipe.eq(token.valid & token.drain),
            address.eq(Mux(is_product, bank << banks.w_bank_bits, token.bank)),
        ]
        word = Cat(address, token.set)
        forward = is_product & was_product & (word == self.slot.address)
        m.d.sync += [
            was_product.eq(is_product),
            self.slot.write.eq(token.valid | token.drain),
            self.slot.hold.eq(~is_drain),
            tile.eq(tile ^ turn),
            self.slot.turn.eq(turn | wipe),  # a wipe takes the marks too
            self.slot.apart.eq(~forward),
            self.slot.clear.eq(token.drain | forward),
            self.slot.address.eq(word),
        ]
        return m
