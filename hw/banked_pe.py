"""Processing element with banked accumulators: the exponent add becomes an address."""

from types import MappingProxyType

from amaranth.hdl import Cat, Const, Module, Signal, Value, ValueLike
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.delay import register, unless
from hw.instance import Named, Unit
from hw.pe import flags_layout
from hw.tech.add_gated import AddGated
from hw.tech.add_merge import AddMerge
from hw.tech.adder import Adder
from shiftforge.banks import ADDRESS_BITS, WORDS, Banks
from shiftforge.config import Config

BANKED_TOKEN = data.StructLayout({"write": 1, "hold": 1, "other": 1, "turn": 1, "address": ADDRESS_BITS})
"""Comes with an activation code to the row edge.

A product is `write` and `hold`, of the tile whose bank 0 is at `address`; the edge finds the bank. `other` than a product are:

- with `write`, a drain slot: in every PE that it passes, the word at `address` goes to the column and becomes zero;
- with `write` and `hold`, a wipe: the word becomes zero and nobody reads it;
- with `hold`, a bubble.

`turn` comes with a tile's first product, or with the first drain slot of the tile before where that is sooner, and with a wipe,
which does for the first tile: what marks have been seen are those of the tile before. `hold` and `other` are that way round
because they reset flip-flops, and their reset has no inverter.
"""
BUBBLE = MappingProxyType({"hold": 1, "other": 1})
"""A token of nothing."""


def product_layout(config: Config) -> data.StructLayout:
    """An activation on its way through a row: shifted significand (0 where not finite, and in what is no product), sign, marks."""
    marks = {1: ("nan",), 3: ("nan", "inf")}[config.activation.flag_bits]
    return data.StructLayout(
        {"significand": Banks.of(config).significand_bits, "negative": 1, **dict.fromkeys(marks, 1)}
    )


def slot_layout(config: Config) -> data.StructLayout:
    """What a PE does with an activation.

    `write` the word at `address`; take what is read as zero (`clear`); unless `hold`, hand what is read to the column; `turn` as in
    the token. Unless `apart`, add to the sum of the cycle before, which was for the same word and is not in the memory yet
    (only with `clear`).

    Where the weight adds to the bank (`Banks.w_bank_bits`), `apart` is for the PE to find, from `near`: the activation's bank is
    3: that of the product before, 1: the one above, 2: the one below; 0: something else. `clear` then is of what is no product.
    `full` tells that the address' two lowest bits are ones, so that what is added to it passes them.
    """
    near = {"near": 2, "full": 1} if Banks.of(config).w_bank_bits else {"apart": 1}
    return data.StructLayout({"write": 1, "clear": 1, "hold": 1, "turn": 1, **near, "address": ADDRESS_BITS})


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

          address (+ e >> g) --> memory read --[reg, or 0]--> held ---+
          significand << e, ^ sign --[reg, or 0]--> direct or raised--+-> + --> memory write
                                               carried, or 0 ---------+   +--[reg]--> carried
                     drain: memory read --[reg, else 0]--> capture.low

        the word's upper half: the same one cycle later, with what the lower half carries or borrows --> capture.high
        nan, inf, sign --> seen --[turn]--> kept --[drain]--> capture.flags

    Read and write of a word are a cycle apart. The next product may be for the same word: it then takes the sum from `carried`
    and not from the memory. One of `held` and `carried` is always zero, and one of `direct` and `raised`, which are the addend
    without and with the shift by the last of the weight exponent's bits: so both choices are ORs within the adder's own logic.
    The halves of a word are two memories, the upper one cycle behind: half the carry chain between two registers. Where no more
    than a bit of a product reaches the upper half (`Banks.upper_counts`), that one adds a small number, and the chain has no bit
    for the carry. Where the weight adds to the bank (`Banks.w_bank_bits`), the high bit of its exponent is added to the address. A
    weight whose mask bit is set adds zero and marks nothing. Latency of a drain slot from the inputs to `capture.low` is
    `timing.BANKED_PE`; no sum of up to ``max_k`` products wraps (`Banks.word_bits`).

    Parameters
    ----------
    config : Config

    Members
    -------
    x, slot, w : In
        `product_layout`, `slot_layout` (from the row edge), `wires` of the weight element (mask bit where there is one, sign,
        exponent).
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
        high = self.banks.word_bits - self.banks.low_bits
        self.low_adder = AddMerge(self.banks.low_bits + 1, 1)  # its top bit tells what the upper half adds
        self.high_adder: Adder = AddGated(high) if self.banks.upper_counts else AddMerge(high, 1)
        super().__init__(
            {
                "x": In(product_layout(config)),
                "slot": In(slot_layout(config), init=IDLE),
                "w": In(config.weights.element_bits + 1),
                "x_out": Out(product_layout(config)),
                "slot_out": Out(slot_layout(config), init=IDLE),
                "w_out": Out(config.weights.element_bits + 1),
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

    def wires(self, element: Value, ports: Named) -> Value:
        """`w` of a weight element, made once per column, with the inputs of its first PE.

        The complement of the last shift's bit goes with it, because one of each PE's registers is reset by that, and a reset has
        no inverter. What is no product adds nothing to its address.
        """
        code, banks = self.config.weights, self.banks
        plain = ~element[banks.w_shift_bits - 1]
        if code.mask:
            plain = plain | element[code.bits]
        if banks.w_bank_bits:
            place = banks.w_shift_bits
            slot = slot_layout(self.config)(Value.cast(ports["slot"]))
            element = Value.cast(Cat(element[:place], element[place] & ~slot.clear, element[place + 1 :]))
        return Value.cast(Cat(element, plain))

    @property
    def units(self) -> tuple[Unit, ...]:
        return (self.low_adder, self.high_adder)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, banks = self.config, self.banks
        low_bits = banks.low_bits

        # ---- inputs. Nothing is reset: slots of nothing come in for as long as the machine resets (`timing.reset`).
        idle = slot_layout(config).const(IDLE).as_value().value
        m.d.comb += [
            self.slot_out.eq(register(m, self.slot.as_value(), "slot_held", idle)),
            self.x_out.eq(register(m, self.x.as_value(), "x_held")),
            self.w_out.eq(register(m, self.w, "w_held")),
        ]
        x, slot, w = self.x_out, self.slot_out, self.w_out
        code = config.weights
        masked: Value = w[code.bits] if code.mask else Const(0, 1)  # adds zero then, and marks nothing
        negative = self.x.negative ^ self.w[code.bits - 1]
        negate_1 = register(m, negative & ~self.w[code.bits] if code.mask else negative, "negate_1")
        # The carry's own register may lie where the chain begins; synthesis does not merge it with one that starts otherwise.
        carry, negate = register(m, negate_1, "negate"), register(m, negate_1, "negate_again", 1)
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
        with m.If(w[-1]):
            m.d.sync += raised.eq(0)
        # The sign above and, where it is raised, below: the sign bit in each of the two registers is 0 where the other is used.
        extent = low_bits + 1 if banks.upper_counts else banks.word_bits
        above = negate.replicate(extent - banks.product_bits)
        lower = Cat(direct[:-1], direct[-1].replicate(lift), above)
        upper = Cat(raised[-1].replicate(lift), raised[:-1])

        # ---- the two halves
        write_2 = register(m, slot.write, "write_2")
        write_3 = register(m, write_2, "write_3")
        m.d.comb += self.tally.word.eq(register(m, ~slot.hold, "tally_word"))
        marks = {"clear": clear, "apart": apart, "hold": slot.hold}
        address_2 = register(m, address, "address_2")
        address_3 = register(m, address_2, "address_3")
        end = low_bits + banks.upper_counts
        total = self._half(
            m,
            "low",
            adder=self.low_adder,
            slot=(address, clear, apart, slot.hold),
            write=(address_2, write_2),
            addend={"c": _padded(lower[:end], low_bits + 1), "d": _padded(upper[:end], low_bits + 1), "carry": carry},
            capture=self.capture.low,
        )
        # What the upper half adds: the rest of the addend, and the carry, of which and of that rest's lowest bit `top` is the sum.
        top, width = register(m, total[-1], "top"), banks.word_bits - low_bits
        if banks.upper_counts:
            # A bit of the magnitude, if any, and the sign above: the carry on top of both, less the sign.
            down, change = register(m, negate, "down"), top
            if banks.reach:
                change = register(m, (lower[low_bits] | upper[low_bits]) & ~total[-1] ^ negate, "change")
            ones = (2 << banks.reach) - 1
            addend = {
                "c": Cat(top[: banks.reach], change.replicate(width - banks.reach)),
                "d": Cat(Const(ones, banks.reach + 1), down.replicate(width - banks.reach - 1)),
            }
        else:
            addend = {
                "c": register(m, lower[low_bits:], "lower_2"),
                "d": _padded(register(m, upper[low_bits:], "upper_2"), width),
                "carry": top,
            }
        self._half(
            m,
            "high",
            adder=self.high_adder,
            slot=(address_2, *(register(m, bit, f"{name}_2") for name, bit in marks.items())),
            write=(address_3, write_3),
            addend=addend,
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
        adder: Adder,
        slot: tuple[Value, Value, Value, Value],
        write: tuple[Value, Value],
        addend: dict[str, ValueLike],
        capture: Value,
    ) -> Value:
        """A half of the words, and what it takes to add to one: address, clear, apart and hold of the slot that reads; address
        and enable of the slot that writes, the one before; the adder's other inputs. Returns its sum."""
        address, clear, apart, hold = slot
        width = len(capture)
        memory = Memory(shape=width, depth=WORDS, init=[])
        m.submodules[f"memory_{name}"] = memory
        read_port, write_port = memory.read_port(domain="comb"), memory.write_port()
        held = Signal(width, name=f"held_{name}", reset_less=True)
        carried = Signal(width, name=f"carried_{name}", reset_less=True)
        none = Const(0, adder.width - width)
        total = adder.add(m, f"adder_{name}", a=Cat(held, none), b=Cat(carried, none), **addend)
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
        """`clear`, `apart` and `address` of the slot in `slot_out`, what the weight adds to the bank among them."""
        banks, slot, out = self.banks, self.slot, self.slot_out
        # A register beside the memory, not the one that passes the address on: that may lie on the way to the next PE. It starts
        # otherwise, or synthesis would make one of both.
        if not banks.w_bank_bits:
            return out.clear, out.apart, register(m, slot.address, "address", (1 << ADDRESS_BITS) - 1)
        up, before = self.w[banks.w_shift_bits], self.w_out[banks.w_shift_bits]
        near = slot.near
        forward = Signal()
        m.d.comb += forward.eq((near == 3) & (up == before) | (near == 1) & ~up & before | (near == 2) & up & ~before)
        clear, apart = register(m, slot.clear | forward, "clear"), register(m, ~forward, "apart")
        # address + up, one lookup for each bit
        carries = Cat(up, up & slot.address[0], up & slot.full, up & slot.full & slot.address[2])
        return clear, apart, register(m, slot.address ^ carries, "address")


def _padded(value: Value, width: int) -> Value:
    """`value` with zeros above it."""
    return Value.cast(Cat(value, Const(0, width - len(value))))
