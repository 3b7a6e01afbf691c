"""Claims about banked accumulators: the processing element, and that no word of a bank can wrap."""

from contextlib import ExitStack
from unittest.mock import patch

from amaranth.back import rtlil
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, ValueLike, signed
from amaranth.lib import data

from hw.banked_pe import IDLE, BankedPE, slot_layout
from shiftforge.banks import ADDRESS_BITS, WORDS, Banks
from shiftforge.config import BANKED_FORMATS, Config, from_dict
from shiftforge.formats import WEIGHT_BITS
from sim.proofs.element import MAX_KS
from sim.proofs.miter import Claims, Mutant, Proof, Script
from sim.proofs.streams import Machine
from sim.proofs.words import Words, always, memories, pick, with_units, without_reset


def banked_config(activation: str, weight_bits: int, max_k: int = 1024, rows: int = 2, *, mask: bool = False) -> Config:
    """A banked array of that kind."""
    array: dict[str, object] = {"rows": rows, "cols": 2, "activation": activation, "output": activation, "mask": mask}
    array |= {"weight_bits": weight_bits, "max_k": max_k, "accumulator": "banked"}
    return from_dict({"array": array, "interface": {"stream_bits": 64}})


# ---- processing element


def _product(slot: data.View) -> Value:
    """Whether a slot adds: it reads its word, or takes the sum of the slot before."""
    apart = getattr(slot, "apart", Const(1, 1))
    return slot.write & (~slot.clear | ~apart)


def _slot_promises(now: data.View, before: data.View, address: Value, address_before: Value) -> Value:
    """What a row edge and the engine promise of a slot: `now` and `before` are slots, the addresses those of the words.

    The forms are those of `sim.proofs.banked_edge`; of `clear` and what is beside it nothing is promised where nothing is written,
    as in what comes out of a reset. And no slot but a product after a product uses the word that the slot before it wrote
    (`timing.BANK_SETTLE`).
    """
    drain, product, product_before = ~now.hold, _product(now), _product(before)
    both = product & product_before
    if "near" in now.shape().members:
        distance = (now.address - before.address)[:ADDRESS_BITS]
        near = Mux(distance == 0, 3, Mux(distance == 1, 1, Mux(distance == WORDS - 1, 2, 0)))
        told = (now.near == Mux(both, near, 0)) & (now.full == (now.address[:2] == 3))
        alone = Const(1, 1)
    else:
        told = (now.apart == ~(both & (now.address == before.address))) & (now.apart | now.clear)
        alone = now.apart
    wipe_after = now.write & ~product & ~drain
    return (
        (~now.write | told)
        & (~drain | (now.write & now.clear & alone))
        & (~(now.write & before.write) | (address != address_before) | both | wipe_after)
    )


class _Sums:
    """The operands of an adder of a PE, and what it gives: `total`, whatever they are. Takes the place of `Adder.add`."""

    def __init__(self, name: str, total: Value) -> None:
        self.inputs = {port: Signal(len(total), name=f"{name}_adder_{port}") for port in "abcd"}
        self.inputs["carry"] = Signal(name=f"{name}_adder_carry")
        self.total = Signal(len(total), name=f"{name}_adder_total")
        self._given = total

    def add(self, m: Module, name: str, **ports: ValueLike) -> Signal:
        """Of these ports, all others being zero."""
        m.d.comb += [self.inputs[port].eq(value) for port, value in ports.items()]
        m.d.comb += self.total.eq(self._given)
        return self.total

    @property
    def word(self) -> Value:
        return self.inputs["a"] | self.inputs["b"]


def _marks_script(machine: Machine, unit: BankedPE, slot: data.View, marks: Value) -> Value:
    """What a tile's drain slots give as marks: those of all its products. Returns what is promised of the slots.

    The specification is a record for the tile under way and one for the tile before, and how many banks of that one are still to be
    read. `slot` and what is with it are of the cycle in which `capture` is claimed. The promises: `turn` comes with wipes, and
    with a product or drain slot, but not before all banks of the tile before have been read; only then there are more to read.
    """
    m, count = machine.m, unit.banks.count
    product, drain, turn = _product(slot), ~slot.hold, slot.turn
    wipe = slot.write & ~product & ~drain
    left = Signal(range(count + 1), name="spec_left", reset_less=True)
    under_way, before = (Signal(len(marks), name=f"record_{i}", reset_less=True) for i in range(2))
    turns = turn & ~wipe
    with m.If(wipe):
        m.d.sync += [under_way.eq(0), left.eq(0)]
    with m.Elif(turns):
        m.d.sync += [before.eq(under_way), under_way.eq(Mux(product, marks, 0)), left.eq(count - drain)]
    with m.Else():
        m.d.sync += [under_way.eq(under_way | Mux(product, marks, 0)), left.eq(left - drain)]

    flags = Value.cast(unit.capture.flags)
    # Not only of the last one: from a tile's second on they all give its marks, and a fault shows sooner.
    machine.claim(flags == before, when=drain & ~turn)
    machine.claim(flags == 0, when=~drain)
    # So that the induction starts from no state that cannot be.
    seen, kept = (machine.peek(name, len(flags)) for name in ("seen", "kept"))
    machine.claim(seen == Mux(turn, 0, under_way))
    machine.claim(kept == Mux(turns, under_way, before), when=((left != 0) | turns) & ~wipe)
    machine.claim(left <= count)
    return Mux(wipe, turn, Mux(turn, (product | drain) & (left == 0), ~drain | (left != 0)))


def banked_pe_script(name: str, weight_bits: int, *, mask: bool = False, whole: bool = False) -> Script:
    """`BankedPE`: whatever comes in whatever order, the two memories are one that adds each product at once, with no pipeline, its
    upper half seen a cycle later; what a drain slot gives is all products before it, and the last of a tile the tile's marks.

    `whole` leaves the adders as they are. Otherwise what they give is free, and the claim is that their operands are the word and
    the product, and that the carry goes from one to the other: a wide sum in every step of the induction is more than SAT can do
    in minutes.
    """
    config = banked_config(name, weight_bits, mask=mask)
    banks, code = Banks.of(config), config.weights
    bits, low_bits = banks.word_bits, banks.low_bits
    unit = BankedPE(config)
    machine = without_reset(unit)
    m = machine.m
    layout = slot_layout(config)
    x, w, given = unit.x, unit.w, unit.slot
    product = _product(given)

    def later(value: Value, label: str, init: int = 0) -> Signal:
        stage = Signal(value.shape(), name=f"spec_{label}", init=init, reset_less=True)
        m.d.sync += stage.eq(value)
        return stage

    # What is added where: a table of the weight's exponents.
    masked: Value = w[code.bits] if mask else Const(0, 1)
    amount = Signal(banks.product_bits)
    more = Signal(2)
    with m.Switch(w[: code.exponent_bits]):
        for e in range(1 << code.exponent_bits):
            with m.Case(e):
                m.d.comb += [
                    amount.eq(x.significand * (1 << e % (1 << banks.w_shift_bits))),
                    more.eq(e // (1 << banks.w_shift_bits)),
                ]
    negative = x.negative ^ w[code.bits - 1]
    address = Signal(ADDRESS_BITS)
    m.d.comb += address.eq(Mux(product, given.address + more, given.address))
    marks = Cat(x.nan, x.inf & ~negative, x.inf & negative) if config.activation.has_inf else Value.cast(x.nan)
    marked = Mux(masked, 0, marks)[: len(marks)]

    # The specification, two cycles late: one memory that is read, added to and written in one cycle.
    stages: list[dict[str, Value]] = [
        {"slot": Value.cast(given), "product": product, "address": address, "marks": marked}
        | {"amount": Mux(masked, 0, amount), "negative": negative}
    ]
    for i in (1, 2, 3):
        idle = {"slot": layout.const(IDLE).as_value().value}
        stages.append({key: later(value, f"{key}_{i}", idle.get(key, 0)) for key, value in stages[-1].items()})
    one, two, three = stages[1:]
    slot_1, slot_2, slot_3 = (layout(stage["slot"]) for stage in stages[1:])
    truth = [Signal(bits, name=f"truth_{i}", reset_less=True) for i in range(WORDS)]
    old = pick(m, truth, two["address"])
    total = Signal(bits, name="spec_total" if whole else "in_total")
    new = Signal(bits)
    m.d.comb += new.eq(Mux(two["product"], total, 0))
    promised: Value = Const(1, 1)
    adders: list[_Sums] = []
    if whole:
        m.d.comb += total.eq(Mux(two["negative"], old - two["amount"], old + two["amount"]))
    else:
        # Any sum, and any top bit of its lower half.
        top = Signal(name="in_top")
        machine.ports += [total, top]
        lower, upper = _Sums("low", Cat(total[:low_bits], top)), _Sums("high", later(total[low_bits:], "total_later"))
        adders = [lower, upper]
        exact = Signal(signed(bits))
        before = Signal(bits)
        m.d.comb += exact.eq(Mux(two["negative"], -two["amount"], two["amount"]))
        m.d.comb += before.eq(Mux(two["product"], old, 0))
        addend = lower.inputs["c"] | lower.inputs["d"]
        machine.claim(lower.word == before[:low_bits], when=slot_2.write)
        machine.claim(upper.word == later(before[low_bits:], "before"), when=slot_3.write)
        # What the lower half adds to its bits; what is left of the product, and the carry that its top bit tells, for the upper.
        rest = (exact.as_unsigned() - addend[:low_bits] - lower.inputs["carry"])[:bits]
        machine.claim(rest[:low_bits] == 0, when=slot_2.write)
        above = (rest[low_bits:] + (top ^ addend[low_bits]))[: bits - low_bits]
        high = upper.inputs
        added = (high["c"] & high["d"] if banks.upper_counts else (high["c"] | high["d"]) + high["carry"])[
            : bits - low_bits
        ]
        machine.claim(added == later(above, "above"), when=slot_3.write)
        # Zero and no product are zero.
        promised = two["product"] | (total == 0)
    for i, word in enumerate(truth):
        with m.If(slot_2.write & (two["address"] == i)):
            m.d.sync += word.eq(new)

    promises = _slot_promises(given, slot_1, address, one["address"])
    wired = w == unit.wires(w[: code.element_bits], {"slot": given})
    nothing = product | ((x.significand == 0) & (marks == 0))
    tiles = _marks_script(machine, unit, slot_2, two["marks"])
    always(machine, promises & wired & nothing & promised & tiles)

    halves = [Words(f"{half}_word", n, WORDS) for half, n in (("low", low_bits), ("high", bits - low_bits))]
    for i, word in enumerate(truth):
        machine.claim(halves[0].words[i] == word[:low_bits])
        machine.claim(halves[1].words[i] == later(word[low_bits:], f"truth_{i}_later"))
    # What is read and written meanwhile, so that the induction starts from no state that cannot be.
    reads, writes = ((slot_1, one), (slot_2, two)), ((slot_2, two), (slot_3, three))
    words = (new[:low_bits], later(new[low_bits:], "new_later"))
    for memory, (reader, read), (writer, written), word in zip(halves, reads, writes, words, strict=True):
        machine.claim(memory.read.addr == read["address"], when=reader.write)
        machine.claim(memory.write.en == writer.write)
        machine.claim((memory.write.addr == written["address"]) & (memory.write.data == word), when=writer.write)
    capture = unit.capture
    captured = Signal(bits)
    m.d.comb += captured.eq(Mux(slot_2.hold, 0, old))
    machine.claim(Value.cast(unit.tally.word) == ~slot_2.hold)
    machine.claim(Value.cast(capture.low) == captured[:low_bits])
    machine.claim(Value.cast(capture.high) == later(captured[low_bits:], "captured_high"))
    machine.claim(Value.cast(unit.slot_out) == one["slot"])
    for port in ("x", "w"):
        passed = later(Value.cast(getattr(unit, port)).as_unsigned(), f"{port}_out")
        machine.claim(Value.cast(getattr(unit, f"{port}_out")).as_unsigned() == passed)
    with ExitStack() as stack:
        stack.enter_context(memories("hw.banked_pe.Memory", *halves))
        for adder, sums in zip((unit.low_adder, unit.high_adder), adders, strict=False):
            stack.enter_context(patch.object(adder, "add", sums.add))
        return with_units(machine.script(), unit.low_adder, unit.high_adder)


# ---- no word wraps


def banked_wrap_script(name: str, weight_bits: int) -> Script:
    """No word of a bank wraps, nor the running sum of words: the bound of a product in its bank, from its codes on, and one step of
    the inductions over the number of products and over the banks."""
    m = Module()
    claims = Claims(m)
    ports: list[Signal] = []

    def free(label: str, width: int) -> Signal:
        port = Signal(width, name=f"in_{label}")
        ports.append(port)
        return port

    config = banked_config(name, weight_bits)
    fmt, banks = config.activation, Banks.of(config)
    code, w = free("code", fmt.bits), free("w", weight_bits)
    coarse, kept = 1 << banks.granularity, 1 << banks.w_shift_bits
    fields = range(fmt.max_exponent_field + 1)
    significand, shifted, magnitude = (Signal(banks.product_bits + 2, name=f"s_{i}") for i in range(3))
    field = code[fmt.fraction_bits : fmt.bits - 1]
    m.d.comb += significand.eq(code[: fmt.fraction_bits] + Mux(field == 0, 0, 1 << fmt.fraction_bits))
    with m.Switch(field):
        for i in fields:
            with m.Case(i):
                m.d.comb += shifted.eq(significand * (1 << max(i, 1) % coarse))
    with m.Switch(w[: config.weights.exponent_bits]):
        for e in range(config.weights.max_exponent + 1):
            with m.Case(e):
                m.d.comb += magnitude.eq(shifted * (1 << e % kept))
    # Every significand bit set, at the field and the exponent whose rests are the largest.
    most = max(max(i, 1) % coarse for i in fields) + max(e % kept for e in range(config.weights.max_exponent + 1))
    largest = ((2 << fmt.fraction_bits) - 1) << most
    product = Signal(signed(banks.product_bits + 3))
    m.d.comb += product.eq(Mux(w[weight_bits - 1], -magnitude, magnitude))
    claims.claim((product <= largest) & (product >= -largest))
    for max_k in MAX_KS:
        at = Banks.of(banked_config(name, weight_bits, max_k))
        wide = max(banks.product_bits, at.running_bits) + 4
        k = free(f"k_{max_k}", 17)
        before = free(f"word_{max_k}", wide).as_signed()
        bound, after = Signal(signed(wide + 18)), Signal(signed(wide + 1))
        m.d.comb += [bound.eq(sum(Mux(k[i], largest << i, 0) for i in range(17))), after.eq(before + product)]
        inside = (before <= bound) & (before >= -bound) & (k < max_k)
        half = 1 << (at.word_bits - 1)
        claims.claim((after <= bound + largest) & (after >= -bound - largest), when=inside)
        claims.claim((after < half) & (after >= -half), when=inside)
        word, running = (free(f"{label}_{max_k}", wide).as_signed() for label in ("last", "running"))
        end = max_k * largest
        within = (word <= end) & (word >= -end) & (running <= 2 * end) & (running >= -2 * end)
        total = Signal(signed(wide + 1), name=f"total_{max_k}")
        m.d.comb += total.eq((running >> at.step) + word)
        half = 1 << (at.running_bits - 1)
        claims.claim((total <= 2 * end) & (total >= -2 * end) & (total < half) & (total >= -half), when=within)
    text = rtlil.convert(m, name="top", ports=[*ports, claims.close()], emit_src=False)
    return Script(text, latency=0)


LIMIT_S = 600.0
"""For the widest formats on a busy core."""
_PE = "hw/banked_pe.py"
_PE_MUTANTS = (
    Mutant(_PE, "self.x.negative ^ self.w[code.bits - 1]", "self.x.negative"),
    Mutant(_PE, "with m.If(apart):", "with m.If(0):"),
    Mutant(_PE, "with m.If(clear):", "with m.If(0):"),
    Mutant(_PE, "unless(m, hold, read_port.data", "unless(m, Const(0, 1), read_port.data"),
    Mutant(_PE, "register(m, ~slot.hold,", "register(m, slot.clear,"),
    Mutant(_PE, "register(m, slot.write,", "register(m, Const(1, 1),"),
    Mutant(_PE, "with m.If(w[-1]):", "with m.If(0):"),
    Mutant(_PE, "plain = ~element[", "plain = element["),
    # the upper half at the lower one's time, in each of its inputs
    Mutant(_PE, "register(m, write_2,", "register(m, slot.write,"),
    Mutant(_PE, "write=(address_3, write_3)", "write=(address_2, write_3)"),
    Mutant(_PE, "slot=(address_2, *", "slot=(address, *"),
    Mutant(_PE, 'register(m, bit, f"{name}_2")', "bit"),
    Mutant(_PE, ', "slot_held", idle)', ', "slot_held")'),
    # marks
    Mutant(_PE, "m.d.sync += seen.eq(seen | Cat(now))", "m.d.sync += seen.eq(Cat(now))"),
    Mutant(_PE, "kept.eq(seen | Cat(now))", "kept.eq(seen)"),
    Mutant(_PE, ", seen.eq(0)]", "]"),
    Mutant(_PE, "with m.If(slot.turn):", "with m.If(slot.turn & slot.clear):"),
    Mutant(_PE, "unless(m, slot.hold, kept", "unless(m, slot.hold, seen"),
    Mutant(_PE, 'unless(m, slot.hold, kept, "capture_flags")', "kept"),
    # the sum
    Mutant(_PE, '"carry": carry}', '"carry": Const(0, 1)}'),
)
_PE_WIDE = (
    Mutant(_PE, "above = negate.replicate(", "above = negate_1.replicate("),
    Mutant(_PE, 'register(m, lower[low_bits:], "lower_2")', "lower[low_bits:]"),
    Mutant(_PE, '"carry": top,', '"carry": Const(0, 1),'),
    Mutant(_PE, 'top, width = register(m, total[-1], "top"),', "top, width = total[-1],"),
)
_PE_COUNT = (
    Mutant(_PE, "end = low_bits + banks.upper_counts", "end = low_bits"),
    Mutant(_PE, 'down, change = register(m, negate, "down"), top', "down, change = negate, top"),
    Mutant(_PE, "down.replicate(width", "Const(0, 1).replicate(width"),
)
_PE_REACH = (
    *_PE_COUNT,
    Mutant(_PE, "& ~total[-1] ^ negate", "& total[-1] ^ negate"),
    Mutant(_PE, "& ~total[-1] ^ negate", "& ~total[-1]"),
    Mutant(_PE, "ones = (2 << banks.reach) - 1", "ones = 1 << banks.reach"),
)
_PE_BANK = (
    Mutant(_PE, "register(m, slot.clear | forward", "register(m, slot.clear"),
    Mutant(_PE, "(near == 1) & ~up & before", "(near == 1) & before"),
    Mutant(_PE, "(near == 2) & up & ~before", "(near == 2) & ~up & before"),
    Mutant(_PE, "(near == 3) & (up == before)", "(near == 3)"),
    Mutant(_PE, "element[place] & ~slot.clear", "element[place] & slot.clear"),
    Mutant(_PE, "up & slot.full & slot.address[2])", "up & slot.address[2])"),
)
_PE_SHIFT = Mutant(_PE, "x.significand << w[:shift_bits]", "x.significand << w[: shift_bits - 1]")
_PE_INF = (
    Mutant(_PE, "now += [inf & ~negate, inf & negate]", "now += [inf, inf & negate]"),
    Mutant(_PE, "now += [inf & ~negate, inf & negate]", "now += [inf & ~negate_1, inf & negate_1]"),
)
_PE_MASK = (
    Mutant(_PE, "with m.If(w[shift_bits] | masked):", "with m.If(w[shift_bits]):"),
    Mutant(_PE, "plain = plain | element[code.bits]", "pass"),
    Mutant(_PE, "x.nan & ~masked", "x.nan"),
    Mutant(_PE, "x.inf & ~masked", "x.inf"),
    Mutant(_PE, "negative & ~self.w[code.bits]", "negative"),
)
_WRAP = Mutant(
    "shiftforge/banks.py",
    "(self.max_k * self.max_product).bit_length() + 1",
    "(self.max_k * self.max_product).bit_length()",
)
_WRAP_RUNNING = Mutant("shiftforge/banks.py", "return self.word_bits + 1", "return self.word_bits")
"""Only where what is carried from bank to bank can need the bit: with wide steps or short significands it does not."""


def _needs_running_bit(name: str, weight_bits: int) -> bool:
    for max_k in MAX_KS:
        at = Banks.of(banked_config(name, weight_bits, max_k))
        end = max_k * at.max_product
        if end + (2 * end >> at.step) >= 1 << (at.word_bits - 1):
            return True
    return False


def banked_proofs() -> list[Proof]:
    """PE and width of the words, of every float format with every width of weights.

    Mutants of the narrow formats are of everything that a format has; of the wide ones, whose proofs take longer, of some.
    """
    found: list[Proof] = []
    for name in BANKED_FORMATS:
        for bits in WEIGHT_BITS:
            config = banked_config(name, bits)
            banks, has_inf = Banks.of(config), config.activation.has_inf
            label = f"{name} w{bits}"
            running = (_WRAP_RUNNING,) if _needs_running_bit(name, bits) else ()
            narrow, small = config.activation.bits == 8, label == "fp8_e4m3 w3"
            sums = (_PE_REACH if banks.reach else _PE_COUNT) if banks.upper_counts else _PE_WIDE
            pe = (
                *_PE_MUTANTS,
                *((_PE_SHIFT,) if banks.w_shift_bits > 1 else ()),
                *(_PE_INF if has_inf else ()),
                *sums,
                *(_PE_BANK if banks.w_bank_bits else ()),
            )
            found += [
                Proof(
                    f"banked PE {label}",
                    lambda n=name, b=bits: banked_pe_script(n, b),
                    pe if narrow else (_PE_MUTANTS[-1], *sums[-2:], (_PE_BANK if banks.w_bank_bits else _PE_INF)[-1]),
                    limit_s=LIMIT_S,
                ),
                Proof(
                    f"no wrap in banks {label}",
                    lambda n=name, b=bits: banked_wrap_script(n, b),
                    (_WRAP, *running),
                    fast=small,
                ),
            ]
    merge = Mutant("hw/tech/add_merge.py", "(self.c | self.d)", "(self.c & self.d)")
    found += [
        Proof(
            "banked PE fp8_e4m3 w3 with its adder",
            lambda: banked_pe_script("fp8_e4m3", 3, whole=True),
            (*_PE_MUTANTS[-1:], *_PE_COUNT, merge, Mutant("hw/tech/add_gated.py", "(self.c & self.d)", "self.c")),
            limit_s=LIMIT_S,
        ),
        Proof(
            "banked PE fp8_e5m2 w3 masked",
            lambda: banked_pe_script("fp8_e5m2", 3, mask=True),
            _PE_MASK,
            fast=True,
            limit_s=LIMIT_S,
        ),
    ]
    return found
