"""Processing element with banked accumulators: the exponent add becomes an address."""

from types import MappingProxyType

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.delay import register, unless
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

    `write` the word at `address`; take what is read as zero (`clear`); unless `apart`, add to the sum of the cycle before, which
    was for the same word and is not in the memory yet (only with `clear`); unless `hold`, hand what is read to the column. `turn`:
    from here on products are of another tile, and what marks have been seen are those of the tile before. Two bits are that way
    round because they reset flip-flops, and their reset has no inverter.
    """
    address = Banks.of(config).bank_bits + SETS.bit_length() - 1
    return data.StructLayout({"write": 1, "clear": 1, "apart": 1, "hold": 1, "turn": 1, "address": address})


IDLE = MappingProxyType({"hold": 1})
"""A slot in which nothing happens."""


def banked_capture_layout(config: Config) -> data.StructLayout:
    """What a PE hands to its column in a drain slot, all zero otherwise: a bank's word, whose upper half `high` comes one cycle
    after all the rest, and with a tile's last bank the marks that the tile has seen (with the others any)."""
    banks = Banks.of(config)
    return data.StructLayout(
        {"flags": flags_layout(config), "low": banks.low_bits, "high": banks.word_bits - banks.low_bits}
    )


DRAINED = data.StructLayout({"word": 1})
"""In step with `capture`'s low bits: it is a bank's word."""


class BankedPE(wiring.Component):
    """One output-stationary processing element whose accumulators are words of a LUT memory.

    ::

        x, slot, w --[reg]--> x_out, slot_out, w_out            (to the right and down)

                   address --> memory read --[reg, or 0]--> held ---+
        significand << e, ^ sign --[reg, or 0]--> direct or raised--+-> + --> memory write
                                             carried, or 0 ---------+   +--[reg]--> carried
                   drain: memory read --[reg, else 0]--> capture.low

        the word's upper half: the same one cycle later, with the carry of the lower half --> capture.high
        nan, inf, sign --> seen --[turn]--> kept --[drain]--> capture.flags

    Read and write of a word are a cycle apart. The next product may be for the same word: it then takes the sum from `carried`
    and not from the memory. One of `held` and `carried` is always zero, and one of `direct` and `raised`, which are the addend
    without and with the shift by the last of the weight exponent's bits: so both choices are ORs within the adder's own logic.
    The halves of a word are two memories, the upper one cycle behind: half the carry chain between two registers.
    A weight whose mask bit is set adds zero and marks nothing. Latency of a drain slot from the inputs to `capture.low` is
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
    tally : Out(DRAINED)
        With the lower half of a word. All rows of a column do the same, each one cycle after the one above: one is enough.
    capture : Out(banked_capture_layout)

    Attributes
    ----------
    units : tuple of Unit
        What is instantiated here and emitted once by `hw.verilog`.
    """

    def __init__(self, config: Config):
        self.config = config
        self.banks = Banks.of(config)
        self.low_adder = AddMerge(self.banks.low_bits + 1)  # its top bit is the carry
        self.high_adder = AddMerge(self.banks.word_bits - self.banks.low_bits)
        super().__init__(
            {
                "x": In(product_layout(config)),
                "slot": In(slot_layout(config), init=IDLE),
                "w": In(config.weights.element_bits),
                "x_out": Out(product_layout(config)),
                "slot_out": Out(slot_layout(config), init=IDLE),
                "w_out": Out(config.weights.element_bits),
                "tally": Out(DRAINED),
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
        return (self.low_adder, self.high_adder)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, banks = self.config, self.banks
        low_bits = banks.low_bits

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
        negate = register(m, negate_1, "negate")
        clear, apart, address = self._bank(m)

        # ---- addend: one's complement of the shifted significand; the missing +1 enters the lower half's adder as its carry
        shift_bits = banks.w_shift_bits - 1
        lift = 1 << shift_bits  # positions by which the last shift raises
        magnitude = banks.significand_bits + lift - 1
        shifted = Signal(magnitude)
        m.d.comb += shifted.eq(x.significand << w[:shift_bits] if shift_bits else x.significand)
        signed = Cat(shifted ^ negate_1.replicate(magnitude), negate_1)
        direct = Signal(magnitude + 1, reset_less=True)
        raised = Signal(magnitude + 1, reset_less=True)
        m.d.sync += [direct.eq(signed), raised.eq(signed)]
        with m.If(w[shift_bits] | masked):
            m.d.sync += direct.eq(0)
        with m.If(~w[shift_bits] | masked):
            m.d.sync += raised.eq(0)
        # The sign above and, where it is raised, below: the sign bit in each of the two registers is 0 where the other is used.
        above = negate.replicate(banks.word_bits - magnitude - lift)
        lower = Cat(direct[:-1], direct[-1].replicate(lift), above)
        upper = Cat(raised[-1].replicate(lift), raised[:-1])

        # ---- the two halves
        write_2 = Signal()
        write_3 = Signal()
        m.d.sync += [write_2.eq(slot.write), write_3.eq(write_2)]
        m.d.sync += self.tally.word.eq(~slot.hold)
        marks = {"clear": clear, "apart": apart, "hold": slot.hold}
        address_2 = register(m, address, "address_2")
        address_3 = register(m, address_2, "address_3")
        total = self._half(
            m,
            "low",
            adder=self.low_adder,
            slot=(address, clear, apart, slot.hold),
            write=(address_2, write_2),
            addend=(lower[:low_bits], upper[:low_bits], negate),
            capture=self.capture.low,
        )
        self._half(
            m,
            "high",
            adder=self.high_adder,
            slot=(address_2, *(register(m, bit, f"{name}_2") for name, bit in marks.items())),
            write=(address_3, write_3),
            addend=(
                register(m, lower[low_bits:], "lower_2"),
                register(m, upper[low_bits:], "upper_2"),
                register(m, total[-1], "carry"),
            ),
            capture=self.capture.high,
        )

        # ---- marks: `seen` of the tile under way, `kept` of the one before, until its last bank is read
        now: list[Value] = [register(m, x.nan & ~masked, "nan")]
        if config.activation.has_inf:
            inf = register(m, x.inf & ~masked, "inf")
            now += [inf & ~negate, inf & negate]
        seen, kept = (Signal(len(now), name=name, reset_less=True) for name in ("seen", "kept"))
        m.d.sync += seen.eq(seen | Cat(now))
        with m.If(slot.turn):
            m.d.sync += [kept.eq(seen | Cat(now)), seen.eq(0)]
        m.d.comb += self.capture.flags.eq(unless(m, slot.hold, kept, "capture_flags"))
        return m

    def _half(
        self,
        m: Module,
        name: str,
        *,
        adder: AddMerge,
        slot: tuple[Value, Value, Value, Value],
        write: tuple[Value, Value],
        addend: tuple[Value, Value, Value],
        capture: Value,
    ) -> Value:
        """A half of the words, and what it takes to add to one: address, clear, apart and hold of the slot that reads; address
        and enable of the slot that writes, the one before; its addend as it is, or raised, and carry. Returns its sum."""
        address, clear, apart, hold = slot
        direct, raised, carry = addend
        width = len(direct)
        memory = Memory(shape=width, depth=SETS * self.banks.count, init=[])
        m.submodules[f"memory_{name}"] = memory
        read_port, write_port = memory.read_port(domain="comb"), memory.write_port()
        held = Signal(width, name=f"held_{name}", reset_less=True)
        carried = Signal(width, name=f"carried_{name}", reset_less=True)
        total = adder.add(m, f"adder_{name}", a=held, b=carried, c=direct, d=raised, carry=carry)
        m.d.comb += [
            read_port.addr.eq(address),
            write_port.addr.eq(write[0]),
            write_port.data.eq(total[:width]),
            write_port.en.eq(write[1]),
        ]
        m.d.sync += [held.eq(read_port.data), carried.eq(total[:width])]
        with m.If(clear):
            m.d.sync += held.eq(0)
        with m.If(apart):
            m.d.sync += carried.eq(0)
        m.d.comb += capture.eq(unless(m, hold, read_port.data, f"capture_{name}"))
        return total

    def _bank(self, m: Module) -> tuple[Value, Value, Value]:
        """`clear`, `apart` and `address` of the slot in `slot_out`, the weight's part of the bank among them."""
        banks, slot, low = self.banks, self.slot, self.banks.w_bank_bits
        out = self.slot_out
        # A register beside the memory, not the one that passes the address on: that may lie on the way to the next PE.
        address = register(m, slot.address[low:], "address")
        if not low:
            return out.clear, out.apart, address
        bits = slice(banks.w_shift_bits, self.config.weights.exponent_bits)
        part = self.w[bits]
        same = part == self.w_out[bits]
        product = ~slot.clear | ~slot.apart
        clear = register(m, slot.clear & (slot.apart | same), "clear")
        apart = register(m, slot.apart | ~same, "apart")
        chosen = register(m, Mux(product, part, slot.address[:low]), "weight_bank")
        return clear, apart, Value.cast(Cat(chosen, address))
