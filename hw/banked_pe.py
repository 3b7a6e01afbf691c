"""Processing element with banked accumulators: the exponent add becomes an address."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.delay import register
from hw.instance import Unit
from hw.pe import flags_layout
from hw.tech.add_merge import AddMerge
from shiftforge.banks import BANKS, SETS, Banks
from shiftforge.config import Config

BANKED_TOKEN = data.StructLayout({"valid": 1, "drain": 1, "set": 1, "bank": range(BANKS)})
"""Comes with an activation code to the row edge.

`valid` alone is a product, for the accumulators of `set`; the edge finds its bank, and `bank` is not looked at. `drain` alone is a
drain slot: in every PE that it passes, word `bank` of `set` goes to the column and becomes zero. Both are a wipe: the word becomes
zero and nobody reads it. Neither is a bubble.
"""


def product_layout(config: Config) -> data.StructLayout:
    """An activation on its way through a row: shifted significand (0 where not finite, and in what is no product), sign, marks."""
    marks = {1: ("nan",), 3: ("nan", "inf")}[config.activation.flag_bits]
    return data.StructLayout(
        {"significand": Banks.of(config).significand_bits, "negative": 1, **dict.fromkeys(marks, 1)}
    )


def slot_layout(config: Config) -> data.StructLayout:
    """What a PE does with an activation.

    `write` the word at `address`; take what is read as zero (`clear`); add to the sum of the cycle before, which was for the same
    word and is not in the memory yet (`forward`, only with `clear`); hand what is read to the column (`drain`).
    """
    address = Banks.of(config).bank_bits + SETS.bit_length() - 1
    return data.StructLayout({"write": 1, "clear": 1, "forward": 1, "drain": 1, "address": address})


def banked_capture_layout(config: Config) -> data.StructLayout:
    """What a PE hands to its column in a drain slot, all zero otherwise: a bank's word, and the flags that it has seen."""
    return data.StructLayout({"valid": 1, "flags": flags_layout(config), "word": Banks.of(config).word_bits})


class BankedPE(wiring.Component):
    """One output-stationary processing element whose accumulators are words of a LUT memory.

    ::

        x, slot, w --[reg]--> x_out, slot_out, w_out            (to the right and down)
                                 |
             address --> memory read --[reg, or 0]--> held ---+
             significand << e, ^ sign --[reg]--> one or other-+-> + --> memory write
                                             carried, or 0 ---+   +--[reg]--> carried
             drain: memory read --[reg, else 0]--> capture

    Read and write of a word are a cycle apart. The next product may be for the same word: it then takes the sum from `carried`
    and not from the memory. One of `held` and `carried` is always zero, and one of `direct` and `raised`, which are the addend
    without and with the shift by the last of the weight exponent's bits: so both choices are ORs within the adder's own logic.
    A weight whose mask bit is set adds zero and marks nothing. Latency of a drain slot from the inputs to `capture` is
    `timing.BANKED_PE`; no sum of up to ``max_k`` products wraps (`Banks.word_bits`).

    Parameters
    ----------
    config : Config

    Members
    -------
    x, slot, w : In
        `product_layout`, `slot_layout` (from the row edge), weight element (mask bit where there is one, sign, exponent).
    x_out, slot_out, w_out : Out
        The same, one cycle later.
    capture : Out(banked_capture_layout)

    Attributes
    ----------
    units : tuple of Unit
        What is instantiated here and emitted once by `hw.verilog`.
    """

    def __init__(self, config: Config):
        self.config = config
        self.banks = Banks.of(config)
        self.adder = AddMerge(self.banks.word_bits)
        super().__init__(
            {
                "x": In(product_layout(config)),
                "slot": In(slot_layout(config)),
                "w": In(config.weights.element_bits),
                "x_out": Out(product_layout(config)),
                "slot_out": Out(slot_layout(config)),
                "w_out": Out(config.weights.element_bits),
                "capture": Out(banked_capture_layout(config)),
            }
        )

    @property
    def module_name(self) -> str:
        """Name of the generated module, with the parameters that shape it."""
        c = self.config
        mask = "m" if c.weights.mask else ""
        return f"sf_pe_banked_{c.activation.name}_w{c.weights.bits}{mask}_word{self.banks.word_bits}"

    @property
    def units(self) -> tuple[Unit, ...]:
        return (self.adder,)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, banks = self.config, self.banks
        bits = banks.word_bits
        flag_bits = config.activation.flag_bits

        # ---- inputs: only what writes and what is captured needs a reset
        m.d.sync += self.slot_out.eq(self.slot)
        m.d.comb += [
            self.x_out.eq(register(m, self.x.as_value(), "x_held")),
            self.w_out.eq(register(m, self.w, "w_held")),
        ]
        x, slot, w = self.x_out, self.slot_out, self.w_out
        code = config.weights
        masked: Value = w[code.bits] if code.mask else Const(0, 1)  # adds zero then, and marks nothing
        negative = self.x.negative ^ self.w[code.bits - 1]
        negate_1 = register(m, negative & ~self.w[code.bits] if code.mask else negative, "negate_1")
        clear, forward, address = self._bank(m)

        # ---- memory: flags and word; two sets of banks
        width = flag_bits + bits
        m.submodules.memory = memory = Memory(shape=width, depth=SETS * banks.count, init=[])
        read, write = memory.read_port(domain="comb"), memory.write_port()
        held = Signal(width, reset_less=True)
        carried = Signal(width, reset_less=True)
        total = Signal(width)
        m.d.comb += [
            read.addr.eq(address),
            write.addr.eq(register(m, address, "address_2")),
            write.data.eq(total),
        ]
        write_2 = Signal()
        m.d.sync += write_2.eq(slot.write)
        m.d.comb += write.en.eq(write_2)
        m.d.sync += [held.eq(read.data), carried.eq(0)]
        with m.If(clear):
            m.d.sync += held.eq(0)
        with m.If(forward):
            m.d.sync += carried.eq(total)
        with m.If(slot.drain):
            m.d.sync += Cat(self.capture.flags, self.capture.word, self.capture.valid).eq(Cat(read.data, 1))
        with m.Else():
            m.d.sync += self.capture.eq(0)

        # ---- addend: one's complement of the shifted significand; the missing +1 enters the adder as its carry
        low_bits = banks.w_shift_bits - 1
        lift = 1 << low_bits  # positions by which the last shift raises
        magnitude = banks.significand_bits + lift - 1
        shifted = Signal(magnitude)
        m.d.comb += shifted.eq(x.significand << w[:low_bits] if low_bits else x.significand)
        signed = Cat(shifted ^ negate_1.replicate(magnitude), negate_1)
        negate = register(m, negate_1, "negate")
        direct = Signal(magnitude + 1, reset_less=True)
        raised = Signal(magnitude + 1, reset_less=True)
        m.d.sync += [direct.eq(signed), raised.eq(signed)]
        with m.If(w[low_bits] | masked):
            m.d.sync += direct.eq(0)
        with m.If(~w[low_bits] | masked):
            m.d.sync += raised.eq(0)
        # The sign above and, where it is raised, below: the sign bit in each of the two registers is 0 where the other is used.
        lower = Cat(direct[:-1], direct[-1].replicate(lift), negate.replicate(bits - magnitude - lift))
        upper = Cat(raised[-1].replicate(lift), raised[:-1])
        words = {"a": held[flag_bits:], "b": carried[flag_bits:], "c": lower, "d": upper}
        m.d.comb += total[flag_bits:].eq(self.adder.add(m, "adder", **words, carry=negate))

        now = Signal(flag_bits, reset_less=True)
        m.d.sync += now[0].eq(x.nan & ~masked)
        if flag_bits == 3:
            m.d.sync += [now[1].eq(x.inf & ~negate_1 & ~masked), now[2].eq(x.inf & negate_1)]
        m.d.comb += total[:flag_bits].eq((held | carried)[:flag_bits] | now)
        return m

    def _bank(self, m: Module) -> tuple[Value, Value, Value]:
        """`clear`, `forward` and `address` of the slot in `slot_out`, the weight's part of the bank among them."""
        banks, slot, low = self.banks, self.slot, self.banks.w_bank_bits
        out = self.slot_out
        if not low:
            return out.clear, out.forward, out.address
        bits = slice(banks.w_shift_bits, self.config.weights.exponent_bits)
        part = self.w[bits]
        same = part == self.w_out[bits]
        product = ~slot.clear | slot.forward
        clear = register(m, slot.clear & ~(slot.forward & ~same), "clear")
        forward = register(m, slot.forward & same, "forward")
        chosen = register(m, Mux(product, part, slot.address[:low]), "weight_bank")
        return clear, forward, Value.cast(Cat(chosen, out.address[low:]))
