"""Processing element: sign flip, exponent add, exact accumulation (aligned accumulator)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.delay import MOST_COPIES, copies, register, unless
from hw.instance import Unit
from hw.tech.add_select import AddSelect
from hw.tech.add_signed import AddSigned
from shiftforge.config import Config
from shiftforge.counter import TAPS

TOKEN = data.StructLayout({"valid": 1, "first": 1, "more": 1})
"""Travels with an activation: it is a product (not a bubble); the first of its dot product; not the last of it. Bubbles are
neither first nor last. `more` is that way round because it resets flip-flops, and their reset has no inverter."""

SEGMENT_BITS = 8
"""Of the adder, to be driven by one register."""


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
    """What a PE hands to its column: all zero but for one cycle per dot product.

    `flags` and `low` come together; `early`, `count_0` and `count_1` `timing.COUNTS` cycles later.
    """
    flags = {"flags": flags_layout(config)} if config.activation.flag_bits else {}
    counts = {f"count_{i}": bits for i, bits in enumerate(config.carries.lengths)}
    return data.StructLayout({**flags, "low": config.low_bits, "early": 1, **counts})


TALLY = data.StructLayout({"product": 1, "last": 1})
"""In step with `capture`'s low bits: a product has been accumulated, it was the last one of its dot product."""


class PE(wiring.Component):
    """One output-stationary processing element.

    ::

        x, special, token --+--[reg]--> x_out, special_out, token_out                      (to the right)
        w -------------+----|--[reg]--> w_out                                              (down)
                       |    |
        (x << lower bits of e) ^ s, s --[1 or 2 reg]--> acc + (y << upper bit of e) + s --[reg acc]--> capture.low
                                                               carry out? --[reg]--> counters --------> capture.count_i

    *Adder.* A product is one's complement with the missing 1 as carry in, and its top bit is flipped: it is 2**(product_bits - 1)
    too large, whatever the weight, hence never negative, and nothing has to be extended to the accumulator's full width. The
    column subtracts the number of products times that offset. The upper exponent bit's shift is the multiplexer of
    `hw.tech.add_select`; with 2-bit weights, whose only one it is, shift and complement are those of `hw.tech.add_signed`.

    *Counters.* Above the adder only its carries have to be counted: two shift registers do (`shiftforge.counter`), from the carry
    of the second product on; that of the first product (`early`) is kept apart, since the counters clear with it.

    The adder's accumulator runs freely modulo 2**low_bits and is never cleared: the column subtracts the reading of
    the tile before. So the tile after may start in the cycle after `last`. Bubbles (``token.valid = 0``) may stand anywhere.
    A weight whose mask bit is set (`Config.weights.mask`) is not accumulated and marks nothing; it still is a slot: first, last and
    the capture follow the tokens alone. `tally` tells the column how many products there are to be corrected.
    Latency from an input to `capture.low` is `timing.pe(config)`; no sum of up to ``max_k`` products can wrap (`Config.carries`).

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
    tally : Out(TALLY)
        What has been accumulated. All rows of a column do the same, each one cycle after the one above, so one `tally` is enough.
    capture : Out(capture_layout)
        Reading and flags of a finished dot product for one cycle, else zero (so that a column is an OR of its rows).
    """

    def __init__(self, config: Config):
        self.config = config
        low, top = config.low_bits, config.product_bits - 1
        self.adder = AddSigned(low, top) if config.weights.bits == 2 else AddSelect(low)
        fixed = signed(config.activation.fixed_bits)
        members: dict[str, wiring.Member] = {
            "x": In(fixed),
            "token": In(TOKEN),
            "w": In(config.weights.element_bits),
            "x_out": Out(fixed),
            "token_out": Out(TOKEN),
            "w_out": Out(config.weights.element_bits),
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
        counters = "_".join(str(bits) for bits in c.carries.lengths)
        mask = "m" if c.weights.mask else ""
        return f"sf_pe_aligned_{c.activation.name}_w{c.weights.bits}{mask}_count{counters}"

    @property
    def units(self) -> tuple[Unit, ...]:
        """What is instantiated here by name."""
        return (self.adder,)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        code = config.weights
        # Only what marks data as valid, and the accumulator, need a reset.
        m.d.sync += self.token_out.eq(self.token)
        m.d.comb += [self.x_out.eq(register(m, self.x, "x_held")), self.w_out.eq(register(m, self.w, "w_held"))]

        sign, exponent = self.w[code.exponent_bits], self.w[: code.exponent_bits]
        token = self.token_out  # of the product that meets the accumulator
        masked = self.w_out[code.bits] if code.mask else Const(0, 1)
        now = register(m, self._marks(sign), "now") if config.activation.flag_bits else Const(0, 1)
        if code.bits == 4:
            if code.mask:
                masked = register(m, masked, "masked_2")
            if config.activation.flag_bits:
                now = register(m, now, "now_2")
            token = Signal(TOKEN, name="token_2")
            m.d.sync += token.eq(self.token_out)
        acc = Signal(config.low_bits)
        total, top = self._sum(m, acc, sign, exponent)
        enable = token.valid & ~masked if code.mask else token.valid
        with m.If(enable):
            m.d.sync += acc.eq(total)

        # Its carry, seen one cycle later from the top bits before and after; then the counters. Tokens start and reset otherwise
        # than those of the next element, which are equal one cycle sooner: synthesis would make one net across elements of both.
        added = Signal(TOKEN, init={"more": 1})
        carried = Signal(data.StructLayout({"first": 1, "more": 1}), init={"first": 1, "more": 1}, reset_less=True)
        product = Signal()  # `added.valid`, if it was accumulated
        m.d.sync += [added.eq(token), carried.first.eq(added.first), carried.more.eq(added.more), product.eq(enable)]
        old_top = register(m, acc[-1], "old_top")
        if config.low_bits > config.product_bits:
            carries = old_top & ~acc[-1]
        else:
            added_top = register(m, top, "added_top")
            carries = Mux(acc[-1], old_top & added_top, old_top | added_top)
        carry = register(m, product & carries, "carry")
        counts: list[Signal] = []
        for i, bits in enumerate(config.carries.lengths):
            count = Signal(bits, name=f"count_{i}", reset_less=True)
            with m.If(carried.first):
                m.d.sync += count.eq(0)
            with m.Elif(carry):
                m.d.sync += count.eq(Cat(~Cat(count[tap - 1] for tap in TAPS[bits]).xor(), count))
            counts.append(count)
        early = Signal(reset_less=True)
        counted_more = register(m, carried.more, "counted_more")
        with m.If(carried.first):
            m.d.sync += early.eq(carry)

        # Captures: what is not read is reset, which costs nothing.
        m.d.sync += [self.tally.product.eq(product), self.tally.last.eq(added.valid & ~added.more)]
        m.d.comb += self.capture.low.eq(unless(m, added.more, acc, "capture_low"))
        m.d.comb += self.capture.early.eq(unless(m, counted_more, early, "capture_early"))
        for i, count in enumerate(counts):
            m.d.comb += self.capture[f"count_{i}"].eq(unless(m, counted_more, count, f"capture_count_{i}"))
        if config.activation.flag_bits:
            m.d.comb += self.special_out.eq(register(m, self.special.as_value(), "special_held"))
            flags = Signal(flags_layout(config), reset_less=True)
            with m.If(token.valid):
                m.d.sync += flags.eq(Mux(token.first, 0, flags.as_value()) | now)
            m.d.comb += self.capture.flags.eq(unless(m, added.more, flags.as_value(), "capture_flags"))
        return m

    def _sum(self, m: Module, acc: Signal, sign: Value, exponent: Value) -> tuple[Value, Value]:
        """`acc` and the product of some cycles ago, its top bit flipped; and that bit."""
        nothing = Const(0, self.config.low_bits - self.config.product_bits)
        if isinstance(self.adder, AddSigned):
            return self._sum_signed(m, self.adder, acc, sign, exponent, nothing)
        # Product up to its upper exponent bit. What goes to many carry cells comes from a register for every few of them.
        lower = (self.x << exponent[0]).as_unsigned()
        addend = register(m, lower ^ sign.replicate(len(lower)), "addend")
        top = register(m, ~(lower[-1] ^ sign), "top")
        count = segments(self.config)
        negate, select, suffix = sign, exponent[-1], ""
        if self.config.weights.bits == 4:
            (negate,), (select,) = copies(m, negate, 1, "negate"), copies(m, select, 1, "select")
            shift = register(m, exponent[1], "shift")
            addend = register(m, _shifted(addend, negate, shift, 2), "addend_2")
            top, suffix = register(m, top, "top_2"), "_2"
        (negate,), selects = copies(m, negate, 1, f"negate{suffix}"), copies(m, select, count, f"select{suffix}")
        # Both choices of the multiplexer have the product's top bit, flipped, in common.
        distance = 1 << (self.config.weights.exponent_bits - 1)
        total = self.adder.add(
            m,
            "adder",
            a=acc,
            c=Cat(addend, addend[-1].replicate(distance - 1), top, nothing),
            d=Cat(negate.replicate(distance), addend[:-1], top, nothing),
            select=_spread(selects, self.config.low_bits),
            carry=negate,
        )
        return total, top

    def _sum_signed(
        self, m: Module, adder: AddSigned, acc: Signal, sign: Value, raise_: Value, nothing: Const
    ) -> tuple[Value, Value]:
        """The same with 2-bit weights: of `direct` and `raised` one is x, the other one set to all ones, so that their AND chooses.

        But `direct`'s lowest bit resets: raised, that bit is 0. They start as they are set, which flip-flops ask for.
        """
        bits = len(self.x)
        ones = (1 << bits) - 1
        direct = Signal(bits, init=ones - 1, reset_less=True)
        raised = Signal(bits, init=ones, reset_less=True)
        m.d.sync += [direct.eq(self.x), raised.eq(self.x)]
        with m.If(raise_):
            m.d.sync += direct.eq(ones - 1)
        with m.Else():
            m.d.sync += raised.eq(ones)
        negates = copies(m, sign, segments(self.config), "negate")
        total = adder.add(
            m,
            "adder",
            a=acc,
            c=Cat(direct, direct[-1], nothing),
            d=Cat(1, raised, nothing),
            negative=Cat(_spread(negates, bits + 1), nothing),
            carry=negates[0],
        )
        negative = negates[:2][
            -1
        ]  # not one that drives the lowest bits, where there is another, nor one that resets to 1
        return total, ~((direct[-1] & raised[-1]) ^ negative)

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
    """A copy for each of `bits` bits, in equal segments, the first one for the lowest."""
    return Value.cast(Cat(copies[i * len(copies) // bits] for i in range(bits)))


def segments(config: Config) -> int:
    """Registers, each for a part of the adder, of what goes to every bit of it."""
    return min(MOST_COPIES, -(-config.low_bits // SEGMENT_BITS))


def _shifted(value: Value, fill: Value, shift: Value, distance: int) -> Value:
    """`value`, signed, in `distance` bits more; shifted left by `distance` where `shift` is 1, with `fill` for zeros."""
    return Mux(shift, Cat(fill.replicate(distance), value), Cat(value, value[-1].replicate(distance)))
