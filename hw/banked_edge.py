"""Row edge of banked accumulators: an activation code becomes a shifted significand and a bank, once per row."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.banked_pe import BANKED_TOKEN, BUBBLE, IDLE, product_layout, slot_layout
from hw.delay import register, unless
from hw.parts import Parts
from shiftforge.banks import WORDS, Banks
from shiftforge.config import Config


class BankedEdge(wiring.Component):
    """Activation code and token to what the PEs of a row add, and to which word.

    With E the exponent field, its lowest bit set where it is zero (a subnormal needs no normaliser so), the low `Banks.granularity`
    bits of E shift the significand and the others are the bank. Two products one after the other for the same word, or for
    neighbours where the weight decides, are found here, once for the whole row. Latency `timing.BANKED_EDGE`: decode, fine shift,
    coarse shift.

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
                "token": In(BANKED_TOKEN, init=BUBBLE),
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
        fine_bits = min(max(banks.granularity // 2, 1), 2)

        # ---- decode
        parts = Parts.of(self.code, fmt)
        token_1 = Signal(BANKED_TOKEN, init=BUBBLE)
        token = Signal(BANKED_TOKEN, init=BUBBLE)
        m.d.sync += [token_1.eq(self.token), token.eq(token_1)]
        significand = unless(m, ~parts.finite, parts.significand, "significand")
        exponent = register(m, parts.exponent, "exponent")
        found = Cat(parts.nan, *([parts.inf] if fmt.has_inf else []))
        marks = unless(m, self.token.other, found, "marks_1")
        negative = register(m, parts.sign, "negative_1")

        # ---- shift
        fine = unless(m, token_1.other, significand << exponent[:fine_bits], "fine")
        coarse = (
            register(m, exponent[fine_bits : banks.granularity], "coarse") if banks.granularity > fine_bits else None
        )
        bank = unless(m, token_1.other, exponent[banks.granularity :], "bank")
        marks_2 = register(m, marks, "marks_2")
        negative_2 = register(m, negative, "negative_2")
        shifted = fine if coarse is None else fine << Cat(*[0] * fine_bits, coarse)
        held = register(m, Cat(shifted[: banks.significand_bits], negative_2, marks_2), "x_held")
        m.d.comb += self.x.eq(held)

        # ---- the word
        m.d.sync += [
            self.slot.write.eq(token.write),
            self.slot.hold.eq(token.hold),
            self.slot.turn.eq(token.turn),
        ]
        x_bits, address = banks.x_bank_bits, token.address
        if banks.stride == WORDS // 2:  # a tile's addresses differ from its banks in the highest bit
            word = Value.cast(Cat(address[:x_bits] | bank, address[x_bits:]))
        else:
            word = _ripple(address, bank)
        m.d.sync += self.slot.address.eq(word)
        # What is compared with the cycle before is compared a cycle earlier, when `token` and `bank` still are `token_1` and
        # `following`.
        following = exponent[banks.granularity :]
        apart = token.other | register(m, token.other, "was_other")
        if not banks.awaited:  # otherwise no tile's product comes in the cycle after one of another tile
            apart |= register(m, token_1.address[-1] != address[-1], "other_half")
        if banks.w_bank_bits:
            m.d.sync += [
                self.slot.clear.eq(token.other),
                self.slot.near.eq(self._near(m, bank, following)),
                self.slot.full.eq(word[:2].all()),
            ]
            with m.If(apart):
                m.d.sync += self.slot.near.eq(0)
        else:
            forward = ~apart & register(m, following == bank, "same")
            m.d.sync += [self.slot.clear.eq(token.other | forward), self.slot.apart.eq(~forward)]
        return m

    def _near(self, m: Module, bank: Value, following: Value) -> Value:
        """`slot_layout`'s `near` of two products one after the other: of `bank` and of the one before, if both are products."""
        high, before = following[1:], bank[1:]
        steps = range((1 << len(high)) - 1)
        same = register(m, high == before, "same")
        above = register(m, Cat((high == v + 1) & (before == v) for v in steps).any(), "above")
        below = register(m, Cat((high == v) & (before == v + 1) for v in steps).any(), "below")
        odd, was_odd = bank[0], register(m, bank[0], "was_odd")
        return Value.cast(Cat(Mux(was_odd & ~odd, above, same), Mux(odd & ~was_odd, below, same)))


def _ripple(a: Value, b: Value) -> Value:
    """`a + b` modulo 2**len(a) in lookups: a carry chain takes as many for its ends alone."""
    carry: Value = Const(0, 1)
    bits: list[Value] = []
    for i in range(len(a)):
        other = b[i] if i < len(b) else Const(0, 1)
        bits.append(a[i] ^ other ^ carry)
        carry = a[i] & other | a[i] & carry | other & carry
    return Value.cast(Cat(bits))
