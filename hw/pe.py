"""Processing element: sign flip, exponent add, exact accumulation (aligned accumulator)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.delay import copies, register, unless
from hw.instance import Named, Unit
from hw.tech.add_select import AddSelect
from hw.tech.add_signed import AddSigned
from shiftforge.config import Config

TOKEN = data.StructLayout({"valid": 1, "hold": 1, "last": 1})
"""Travels with an activation: it is a product (not a bubble); it is not the last one of its block of at most `rows` products; it is
the last one of its dot product, which ends a block. Bubbles hold. `hold` is that way round because it resets flip-flops, and
their reset has no inverter."""


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
    """What a PE hands to its column after each block: the reading of its accumulator and the block's flags, else all zero."""
    flags = {"flags": flags_layout(config)} if config.activation.flag_bits else {}
    return data.StructLayout({**flags, "reading": config.block_bits})


TALLY = data.StructLayout({"negative": 1, "read": 1, "last": 1})
"""In step with `capture`: a product of a negative weight has been accumulated, a block has ended, and so has its dot product."""


class PE(wiring.Component):
    """One output-stationary processing element.

    ::

        x, special, token --+--[reg]--> x_out, special_out, token_out                      (to the right)
        w -------------+----|--[reg]--> w_out                                              (down)
                       |    |
        (x << lower bits of e) ^ s --[1 or 2 reg]--> acc + (y << upper bit of e) --[reg acc]--[reg, else 0]--> capture

    *Adder.* A product of a negative weight is one's complement: 1 too small. All rows of a column have the same weights, so the
    column counts these products once for all of them (`tally`) and adds their number. The upper exponent bit's shift is the
    multiplexer of `hw.tech.add_select`; with 2-bit weights, whose only one it is, shift and complement are those of
    `hw.tech.add_signed`.

    *Blocks.* A dot product comes in blocks of `rows` products, as the feed's words do, and the accumulator is read after each: it
    is as wide as the sum of one block, and what adds blocks up stands once per column. It runs freely modulo 2**block_bits and is
    never cleared: the column subtracts the reading of the block before. So the block after may start in the cycle after. Bubbles
    (``token.valid = 0``) may stand anywhere.

    *Masks.* A weight whose mask bit is set (`Config.weights.mask`) is not accumulated and marks nothing; it still is a slot: when
    something is read follows from the tokens alone.

    Latency from an input to `capture`: ``timing.pe(config)``.

    Parameters
    ----------
    config : Config

    Members
    -------
    x : In(signed(activation.fixed_bits))
        Activation in fixed point, unit ``2**lsb_exponent``; 0 where it is not finite.
    token, w : In
        Its token, and the `wires` of the weight element (mask bit where there is one, sign, exponent).
    special, special_out
        Its non-finite marks; absent for integers.
    x_out, token_out, w_out : Out
        The same, one cycle later.
    tally : Out(TALLY)
        What has been accumulated. All rows of a column do the same, each one cycle after the one above, so one `tally` is enough.
    capture : Out(capture_layout)
        Reading and flags of a finished block for one cycle, else zero (so that a column is an OR of its rows).
    """

    def __init__(self, config: Config):
        self.config = config
        bits = config.block_bits
        self.adder = AddSigned(bits) if config.weights.bits == 2 else AddSelect(bits, 0)
        fixed = signed(config.activation.fixed_bits)
        members: dict[str, wiring.Member] = {
            "x": In(fixed),
            "token": In(TOKEN),
            "w": In(self._wire_bits),
            "x_out": Out(fixed),
            "token_out": Out(TOKEN),
            "w_out": Out(self._wire_bits),
            "tally": Out(TALLY),
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
        return f"sf_pe_aligned_{c.activation.name}_w{c.weights.bits}{mask}_block{c.block_bits}"

    @property
    def _wire_bits(self) -> int:
        return self.config.weights.element_bits + (self.config.weights.bits == 2)

    def wires(self, element: Value, ports: Named) -> Value:
        """`w` of a weight element, made once per column: with 2-bit weights the complement of its exponent goes with it, because
        one of each PE's registers is set by that, and a set has no inverter."""
        return Value.cast(Cat(element, ~element[0])[: self._wire_bits])

    @property
    def units(self) -> tuple[Unit, ...]:
        """What is instantiated here by name."""
        return (self.adder,)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        code = config.weights
        # Only the accumulator needs a reset: no tokens come in for as long as the machine resets (`timing.reset`).
        m.d.comb += [
            self.token_out.eq(register(m, self.token.as_value(), "token_held")),
            self.x_out.eq(register(m, self.x, "x_held")),
            self.w_out.eq(register(m, self.w, "w_held")),
        ]

        sign, exponent = self.w[code.exponent_bits], self.w[: code.exponent_bits]
        token = self.token_out  # of the product that meets the accumulator
        masked = self.w_out[code.bits] if code.mask else Const(0, 1)
        now = register(m, self._marks(sign), "now") if config.activation.flag_bits else Const(0, 1)
        if code.bits == 4:
            if code.mask:
                masked = register(m, masked, "masked_2")
            if config.activation.flag_bits:
                now = register(m, now, "now_2")
            token = data.View(TOKEN, register(m, self.token_out.as_value(), "token_2"))
        acc = Signal(config.block_bits)
        if isinstance(self.adder, AddSigned):
            total, negative = self._sum_signed(m, self.adder, acc, sign)
        else:
            total, negative = self._sum(m, self.adder, acc, sign, exponent)
        enable = token.valid & ~masked if code.mask else token.valid
        with m.If(enable):
            m.d.sync += acc.eq(total)

        # What is not read is reset, which costs nothing. This token starts otherwise than that of the next element, which is equal
        # one cycle sooner: synthesis would make one net across elements of both.
        added = data.View(TOKEN, register(m, Value.cast(token), "added", (1 << TOKEN.size) - 1))
        negated = register(m, enable & negative, "negated")
        tally = Cat(negated, added.valid & ~added.hold, added.last)
        m.d.comb += self.tally.eq(register(m, tally, "tally_held"))
        m.d.comb += self.capture.reading.eq(unless(m, added.hold, acc, "capture_reading"))
        if config.activation.flag_bits:
            m.d.comb += self.special_out.eq(register(m, self.special.as_value(), "special_held"))
            flags = Signal(flags_layout(config), reset_less=True)
            kept = flags.as_value() & added.hold.replicate(len(now))
            m.d.sync += flags.eq(kept | now & token.valid.replicate(len(now)))
            m.d.comb += self.capture.flags.eq(unless(m, added.hold, flags.as_value(), "capture_flags"))
        return m

    def _sum(self, m: Module, adder: AddSelect, acc: Signal, sign: Value, exponent: Value) -> tuple[Value, Value]:
        """`acc` and the product of some cycles ago, one's complement; and whether it is negated."""
        # Product up to its upper exponent bit. What goes to many carry cells comes from a register for every few of them.
        lower = (self.x << exponent[0]).as_unsigned()
        addend = register(m, lower ^ sign.replicate(len(lower)), "addend")
        count = self.config.adder_copies
        negate, select, suffix = sign, exponent[-1], ""
        if self.config.weights.bits == 4:
            (negate,), (select,) = copies(m, negate, 1, "negate"), copies(m, select, 1, "select")
            shift = register(m, exponent[1], "shift")
            addend = register(m, _shifted(addend, negate, shift, 2), "addend_2")
            suffix = "_2"
        (negate,), selects = copies(m, negate, 1, f"negate{suffix}"), copies(m, select, count, f"select{suffix}")
        bits, distance = self.config.block_bits, 1 << (self.config.weights.exponent_bits - 1)
        total = adder.add(
            m,
            "adder",
            a=acc,
            c=_extended(addend, bits),
            d=_extended(Cat(negate.replicate(distance), addend), bits),
            select=_spread(selects, bits),
        )
        return total, negate

    def _sum_signed(self, m: Module, adder: AddSigned, acc: Signal, sign: Value) -> tuple[Value, Value]:
        """The same with 2-bit weights: of `direct` and `raised` one is x, the other one set to all ones, so that their AND chooses.

        But `direct`'s lowest bit resets: raised, that bit is 0. They start as they are set, which flip-flops ask for.
        """
        ones = (1 << len(self.x)) - 1
        direct = Signal(len(self.x), init=ones - 1, reset_less=True)
        raised = Signal(len(self.x), init=ones, reset_less=True)
        m.d.sync += [direct.eq(self.x), raised.eq(self.x)]
        with m.If(self.w[0]):
            m.d.sync += direct.eq(ones - 1)
        with m.If(self.w[-1]):
            m.d.sync += raised.eq(ones)
        negates, bits = copies(m, sign, self.config.adder_copies, "negate"), self.config.block_bits
        total = adder.add(
            m,
            "adder",
            a=acc,
            c=_extended(direct, bits),
            d=_extended(Cat(1, raised), bits),
            negative=_spread(negates, bits),
        )
        return total, negates[0]

    def _marks(self, sign: Value) -> Value:
        """The flags that this product alone gives."""
        code = self.config.weights
        nan = self.special.nan & ~self.w[code.bits] if code.mask else self.special.nan
        if self.config.activation.flag_bits == 1:
            return nan
        negative = self.special.negative ^ sign
        inf = self.special.inf & ~self.w[code.bits] if code.mask else self.special.inf
        return Value.cast(Cat(nan, inf & ~negative, inf & negative))


def _spread(copies: list[Signal], bits: int) -> Value:
    """A copy for each of `bits` bits: the first one for the lowest, from where the carry chain is longest, and for the fewest; the
    second one for twice as many, and so on."""
    count = len(copies)
    parts = count * (count + 1) // 2
    first = [bits * i * (i + 1) // 2 // parts for i in range(count)]  # bit of each copy
    return Value.cast(Cat(copies[sum(i >= bit for bit in first) - 1] for i in range(bits)))


def _extended(value: Value, bits: int) -> Value:
    """`value`, two's complement, in `bits` bits."""
    return Value.cast(Cat(value, value[-1].replicate(bits - len(value))))


def _shifted(value: Value, fill: Value, shift: Value, distance: int) -> Value:
    """`value`, signed, in `distance` bits more; shifted left by `distance` where `shift` is 1, with `fill` for zeros."""
    return Mux(shift, Cat(fill.replicate(distance), value), Cat(value, value[-1].replicate(distance)))
