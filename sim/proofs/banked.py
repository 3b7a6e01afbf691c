"""Claims about banked accumulators: the row edge, the processing element, and that no word of a bank can wrap."""

from contextlib import ExitStack
from unittest.mock import patch

from amaranth.back import rtlil
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, ValueLike, signed

from hw.banked_edge import BankedEdge
from hw.banked_pe import BankedPE
from shiftforge import timing
from shiftforge.banks import SETS, Banks
from shiftforge.config import BANKED_FORMATS, Config, from_dict
from shiftforge.formats import WEIGHT_BITS, Format
from sim.proofs.element import MAX_KS, magnitude_of
from sim.proofs.miter import Claims, Mutant, Pipeline, Proof, Script
from sim.proofs.streams import Machine
from sim.proofs.words import Words, always, memories, pick, with_units, without_reset


def banked_config(activation: str, weight_bits: int, max_k: int = 1024, rows: int = 2, *, mask: bool = False) -> Config:
    """A banked array of that kind."""
    array: dict[str, object] = {"rows": rows, "cols": 2, "activation": activation, "output": activation, "mask": mask}
    array |= {"weight_bits": weight_bits, "max_k": max_k, "accumulator": "banked"}
    return from_dict({"array": array, "interface": {"stream_bits": 64}})


# ---- row edge


def bank_of(m: Module, fmt: Format, banks: Banks, code: Value) -> Signal:
    """High bits of a code's exponent, at their place in the bank's number; by a table of the exponents."""
    bank = Signal(banks.bank_bits)
    with m.Switch(code[fmt.fraction_bits : fmt.bits - 1]):
        for field in range(1 << fmt.exponent_bits):
            with m.Case(field):
                m.d.comb += bank.eq((max(field, 1) // (1 << banks.granularity)) << banks.w_bank_bits)
    return bank


def edge_script(name: str, weight_bits: int) -> Script:
    """`BankedEdge`: every code and token; what a PE gets is worth what the code is."""
    config = banked_config(name, weight_bits)
    fmt, banks = config.activation, Banks.of(config)
    p = Pipeline(lambda: BankedEdge(config), timing.BANKED_EDGE)
    code, token = p.inputs["code"], p.inputs["token"]
    valid, drain, set_, bank = token[0], token[1], token[2], token[3:]
    unit = p.unit
    assert isinstance(unit, BankedEdge)
    x, slot = unit.x, unit.slot
    magnitude = code[: fmt.bits - 1]
    finite, product = magnitude <= fmt.max_finite, valid & ~drain
    # Twice the value, because bank 0 counts halves.
    worth = Signal(fmt.fixed_bits + 1)
    highest = banks.shift_of((banks.count >> banks.w_bank_bits) - 1 << banks.w_bank_bits) + 1
    found = Signal(banks.significand_bits + highest)
    address = Signal(banks.bank_bits)
    p.m.d.comb += [worth.eq(magnitude_of(p.m, fmt, code) << 1), address.eq(Value.cast(slot.address))]
    with p.m.Switch(address):
        for i in range(0, banks.count, 1 << banks.w_bank_bits):
            with p.m.Case(i):
                p.m.d.comb += found.eq(x.significand << (banks.shift_of(i) + 1))
    p.claim(found == worth, when=finite & product)
    p.claim(address == bank_of(p.m, fmt, banks, code), when=product)
    p.claim(x.negative == code[-1], when=product)
    p.claim(x.significand == 0, when=~(finite & product))
    p.claim(~x.significand[0], when=address == 0)
    p.claim(x.nan == (product & ((magnitude > fmt.inf) if fmt.has_inf else ~finite)))
    if fmt.has_inf:
        p.claim(x.inf == (product & (magnitude == fmt.inf)))
    p.claim(slot.write == (valid | drain))
    p.claim(slot.hold == ~(drain & ~valid))
    p.claim(address == bank, when=drain)
    p.claim(slot.address[banks.bank_bits] == set_)
    return p.script()


def tile_turns(drain: Value, set_: Value, last_drain: Value, last_set: Value) -> Value:
    """Whether a product or drain slot belongs to another tile under way than the product or drain slot before it.

    Products are of the tile under way and drain slots of the one before it, and tiles use the two sets in turn. So two of a kind
    tell of different tiles when their sets differ, and two of different kinds when their sets are the same.
    """
    return Mux(drain == last_drain, set_ != last_set, set_ == last_set)


def slots_script(name: str, weight_bits: int) -> Script:
    """`BankedEdge` as a state machine: which slots read zero, which take the sum of the product before, and where a tile ends."""
    config = banked_config(name, weight_bits)
    fmt, banks = config.activation, Banks.of(config)
    unit = BankedEdge(config)
    machine = without_reset(unit)
    m = machine.m
    valid, drain = unit.token.valid, unit.token.drain
    here = Cat(valid & ~drain, drain, bank_of(m, fmt, banks, unit.code), unit.token.set, valid)
    past = [here]
    for i in range(timing.BANKED_EDGE + 1):
        later = Signal(len(here), name=f"past_{i + 1}", reset_less=True)
        m.d.sync += later.eq(past[-1])
        past.append(later)
    now, before = past[-2], past[-1]
    forward = now[0] & before[0] & (now[2:-1] == before[2:-1])
    slot = unit.slot
    # What comes out of a reset is no slot: nothing is written nor captured, and nothing turns.
    started = Signal(name="spec_started", reset_less=True)
    m.d.sync += started.eq(1)
    machine.claim(~slot.write & slot.hold & ~slot.turn, when=~started)
    machine.claim(slot.apart == ~forward, when=started)
    machine.claim(slot.clear == (now[1] | forward))

    # The product or drain slot before this one; at first as if one of set 0 had been.
    last_drain, last_set = (Signal(name=f"spec_last_{of}", reset_less=True) for of in ("drain", "set"))
    wipe, drains, set_ = now[1] & now[-1], now[1] & ~now[-1], now[-2]
    told = now[0] | drains
    machine.claim(slot.turn == (wipe | (told & tile_turns(drains, set_, last_drain, last_set))))
    with m.If(told):
        m.d.sync += [last_drain.eq(drains), last_set.eq(set_)]
    under_way = Mux(told, drains ^ set_, last_drain ^ last_set)
    machine.claim(machine.peek("tile", 1) == under_way)
    return machine.script()


# ---- processing element


_WRITE, _CLEAR, _APART, _HOLD, _TURN, _ADDRESS = range(6)
"""Bits of a slot; the address is the rest."""


def is_product(slot: Value) -> Value:
    """Whether a slot adds: it reads its word, or takes the sum of the slot before."""
    return slot[_WRITE] & (~slot[_CLEAR] | ~slot[_APART])


def slot_promises(now: Value, before: Value, address: Value, address_before: Value) -> Value:
    """What a row edge and the engine promise of a slot: `now` and `before` are slots, the addresses those of the words.

    The forms are those of `slots_script` and `edge_script`; of `clear` and `apart` nothing is promised where nothing is written, as
    in what comes out of a reset. And no slot but a product after a product uses the word that the slot before it wrote
    (`timing.BANK_SETTLE`).
    """
    write, clear, forward, drain = now[_WRITE], now[_CLEAR], ~now[_APART], ~now[_HOLD]
    product, product_before = is_product(now), is_product(before)
    same = product & product_before & (now[_ADDRESS:] == before[_ADDRESS:])
    wipe_after = write & ~product & ~drain
    return (
        (~write | (forward == same))
        & (~write | ~forward | clear)
        & (~drain | (write & clear & ~forward))
        & (~(write & before[_WRITE]) | (address != address_before) | (product & product_before) | wipe_after)
    )


class _Sums:
    """The operands of an adder of a PE, and what it gives: `total`, whatever they are. Takes the place of `AddMerge.add`."""

    def __init__(self, name: str, total: Value) -> None:
        self.a, self.b, self.c, self.d = (Signal(len(total), name=f"{name}_adder_{port}") for port in "abcd")
        self.carry, self.total = Signal(name=f"{name}_adder_carry"), Signal(len(total), name=f"{name}_adder_total")
        self._given = total

    def add(
        self, m: Module, name: str, *, a: ValueLike, b: ValueLike, c: ValueLike, d: ValueLike, carry: ValueLike
    ) -> Signal:
        m.d.comb += [self.a.eq(a), self.b.eq(b), self.c.eq(c), self.d.eq(d), self.carry.eq(carry)]
        m.d.comb += self.total.eq(self._given)
        return self.total


def _marks_script(machine: Machine, unit: BankedPE, slot: Value, address: Value, marks: Value) -> Value:
    """What a tile's last drain slot gives as marks: those of all its products. Returns what is promised of the slots.

    The specification is a record for each set: the marks of all products of that set since its last bank was read, or since a
    wipe. `slot` and what is with it are of the cycle in which `capture` is claimed. The promises: `turn` is as `slots_script`
    proves it; a tile's drain slots come bank by bank; a tile begins when those of the tile before the last have come to an end,
    as the drain slots of a tile do. A wipe may follow a reset of the row edge, which then may have forgotten what was under way.
    """
    m, count = machine.m, unit.banks.count
    product, drain, turn = is_product(slot), ~slot[_HOLD], slot[_TURN]
    wipe = slot[_WRITE] & ~product & ~drain
    set_, bank = address[-1], address[:-1]
    anew = Signal(2, name="in_anew")
    machine.ports.append(anew)
    last_drain, last_set = (Signal(name=f"spec_last_{of}", reset_less=True) for of in ("drain", "set"))
    left = Signal(range(count + 1), name="spec_left", reset_less=True)  # banks of the tile before, still to be read
    told = product | drain
    turns = told & tile_turns(drain, set_, last_drain, last_set)
    under_way = last_drain ^ last_set
    after = Mux(told, drain ^ set_, under_way)
    ended = drain & (bank == count - 1)

    records = [Signal(len(marks), name=f"record_{i}", reset_less=True) for i in range(SETS)]
    for i, record in enumerate(records):
        with m.If(wipe | (ended & (set_ == i))):
            m.d.sync += record.eq(0)
        with m.Elif(product & (set_ == i)):
            m.d.sync += record.eq(record | marks)
    with m.If(told):
        m.d.sync += [last_drain.eq(drain), last_set.eq(set_)]
    with m.Elif(wipe):
        m.d.sync += Cat(last_drain, last_set).eq(anew)
    with m.If(wipe):
        m.d.sync += left.eq(0)
    with m.Elif(turns):
        m.d.sync += left.eq(count - drain)
    with m.Elif(drain):
        m.d.sync += left.eq(left - 1)

    flags = Value.cast(unit.capture.flags)
    # Not only of the last one: from a tile's second on they all give its marks, and a fault shows sooner.
    machine.claim(flags == pick(m, records, set_), when=drain & (ended | ~turns))
    machine.claim(flags == 0, when=~drain)
    # So that the induction starts from no state that cannot be.
    seen, kept = (machine.peek(name, len(flags)) for name in ("seen", "kept"))
    machine.claim(seen == Mux(wipe, 0, pick(m, records, after)))
    machine.claim(kept == pick(m, records, ~after), when=((left != 0) | turns) & ~wipe)
    machine.claim(pick(m, records, ~under_way) == 0, when=left == 0)
    machine.claim(left <= count)
    in_order = Mux(left != 0, ~turns & (bank == count - left), turns & (bank == 0))
    return (turn == (wipe | turns)) & (~drain | in_order) & (~(product & turns) | (left == 0))


def banked_pe_script(name: str, weight_bits: int, *, mask: bool = False, whole: bool = False) -> Script:
    """`BankedPE`: whatever comes in whatever order, the two memories are one that adds each product at once, with no pipeline, its
    upper half seen a cycle later; what a drain slot gives is all products before it, and the last of a tile the tile's marks.

    `whole` leaves the adders as they are. Otherwise what they give is free, and the claim is that their operands are the word and
    the product, and that the carry goes from one to the other: a wide sum in every step of the induction is more than SAT can do
    in minutes.
    """
    config = banked_config(name, weight_bits, mask=mask)
    banks, code = Banks.of(config), config.weights
    bits, low_bits, low = banks.word_bits, banks.low_bits, banks.w_bank_bits
    unit = BankedPE(config)
    machine = without_reset(unit)
    m = machine.m
    x, w, slot = unit.x, unit.w, Value.cast(unit.slot)
    product = is_product(slot)

    def later(value: Value, label: str, init: int = 0) -> Signal:
        stage = Signal(value.shape(), name=f"spec_{label}", init=init, reset_less=True)
        m.d.sync += stage.eq(value)
        return stage

    # What is added where: a table of the weight's exponents.
    masked: Value = w[code.bits] if mask else Const(0, 1)
    amount = Signal(banks.product_bits)
    part = Signal(max(low, 1))
    with m.Switch(w[: code.exponent_bits]):
        for e in range(1 << code.exponent_bits):
            with m.Case(e):
                m.d.comb += [
                    amount.eq(x.significand * (1 << e % (1 << banks.w_shift_bits))),
                    part.eq(e // (1 << banks.w_shift_bits)),
                ]
    negative = x.negative ^ w[code.bits - 1]
    given = slot[_ADDRESS:]
    address = Signal(len(given))
    m.d.comb += address.eq(Mux(product, given + part, given) if low else given)
    marks = Cat(x.nan, x.inf & ~negative, x.inf & negative) if config.activation.has_inf else Value.cast(x.nan)
    marked = Mux(masked, 0, marks)[: len(marks)]

    # The specification, two cycles late: one memory that is read, added to and written in one cycle.
    stages: list[dict[str, Value]] = [
        {"slot": slot, "product": product, "address": address, "marks": marked}
        | {"amount": Mux(masked, 0, amount), "negative": negative}
    ]
    for i in (1, 2, 3):
        idle = {"slot": 1 << _HOLD}
        stages.append({key: later(value, f"{key}_{i}", idle.get(key, 0)) for key, value in stages[-1].items()})
    _, one, two, three = stages
    truth = [Signal(bits, name=f"truth_{i}", reset_less=True) for i in range(SETS * banks.count)]
    old = pick(m, truth, two["address"])
    total = Signal(bits, name="spec_total" if whole else "in_total")
    new = Signal(bits)
    m.d.comb += new.eq(Mux(two["product"], total, 0))
    promised: Value = Const(1, 1)
    adders: list[_Sums] = []
    if whole:
        m.d.comb += total.eq(Mux(two["negative"], old - two["amount"], old + two["amount"]))
    else:
        # Any sum, and any carry of its lower half.
        carry = Signal(name="in_carry")
        machine.ports += [total, carry]
        lower, upper = _Sums("low", Cat(total[:low_bits], carry)), _Sums("high", later(total[low_bits:], "total_later"))
        adders = [lower, upper]
        exact = Signal(signed(bits))
        before = Signal(bits)
        m.d.comb += exact.eq(Mux(two["negative"], -two["amount"], two["amount"]))
        m.d.comb += before.eq(Mux(two["product"], old, 0))
        addend = lower.c | lower.d
        machine.claim((lower.a | lower.b) == before[:low_bits], when=two["slot"][_WRITE])
        machine.claim(~addend[low_bits], when=two["slot"][_WRITE])
        both = Cat(later(addend[:low_bits], "addend"), upper.c | upper.d)
        machine.claim((upper.a | upper.b) == later(before[low_bits:], "before"), when=three["slot"][_WRITE])
        machine.claim(
            (both + later(lower.carry, "carry_in"))[:bits] == later(exact.as_unsigned(), "exact"),
            when=three["slot"][_WRITE],
        )
        machine.claim(upper.carry == later(carry, "carry"), when=three["slot"][_WRITE])
        # Zero and no product are zero.
        promised = two["product"] | (total == 0)
    for i, word in enumerate(truth):
        with m.If(two["slot"][_WRITE] & (two["address"] == i)):
            m.d.sync += word.eq(new)

    promises = slot_promises(slot, one["slot"], address, one["address"])
    nothing = product | ((x.significand == 0) & (marks == 0))
    aligned = ~product | (given[:low] == 0) if low else Const(1, 1)
    tiles = _marks_script(machine, unit, two["slot"], two["address"], two["marks"])
    always(machine, promises & nothing & aligned & promised & tiles)

    halves = [
        Words(f"{half}_word", n, SETS * banks.count) for half, n in (("low", low_bits), ("high", bits - low_bits))
    ]
    for i, word in enumerate(truth):
        machine.claim(halves[0].words[i] == word[:low_bits])
        machine.claim(halves[1].words[i] == later(word[low_bits:], f"truth_{i}_later"))
    # What is read and written meanwhile, so that the induction starts from no state that cannot be.
    data = (new[:low_bits], later(new[low_bits:], "new_later"))
    for memory, read, write, word in zip(halves, (one, two), (two, three), data, strict=True):
        machine.claim(memory.read.addr == read["address"], when=read["slot"][_WRITE])
        machine.claim(memory.write.en == write["slot"][_WRITE])
        machine.claim((memory.write.addr == write["address"]) & (memory.write.data == word), when=write["slot"][_WRITE])
    capture = unit.capture
    captured = Signal(bits)
    m.d.comb += captured.eq(Mux(two["slot"][_HOLD], 0, old))
    machine.claim(Value.cast(unit.tally.word) == ~two["slot"][_HOLD])
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


_LIMIT_S = 600.0
"""For the widest formats on a busy core."""
_EDGE, _PARTS = "hw/banked_edge.py", "hw/parts.py"
_EDGE_MUTANTS = (
    Mutant(_PARTS, "Cat(field[0] | ~normal, field[1:])", "field"),
    Mutant(_PARTS, "Cat(fraction, normal)", "Cat(fraction, 1)"),
    Mutant(_EDGE, "parts.finite & product,", "parts.finite,"),
    Mutant(_EDGE, "token.drain & ~token.valid", "token.drain"),
    Mutant(_EDGE, "address.eq(Mux(is_product,", "address.eq(Mux(was_product,"),
)
_COARSE = Mutant(_EDGE, "fine << Cat(*[0] * fine_bits, coarse)", "fine << Cat(*[0] * fine_bits, coarse[1:])")
_TOP = Mutant(_PARTS, "nan, inf = top & fraction.all()", "nan, inf = top")
_NAN = Mutant(_EDGE, "parts.nan & product,", "parts.nan,")
_SLOT_MUTANTS = (
    Mutant(_EDGE, "& was_product &", "&"),
    Mutant(_EDGE, "word == self.slot.address", "address == self.slot.address[:-1]"),
    Mutant(_EDGE, "token.drain | forward", "forward"),
    Mutant(_EDGE, "is_product.eq(token.valid & ~token.drain)", "is_product.eq(token.valid)"),
    Mutant(_EDGE, "(is_product | is_drain) & (", "is_product & ("),
    Mutant(_EDGE, "token.set ^ is_drain ^ tile", "token.set ^ tile"),
    Mutant(_EDGE, "(is_product | is_drain) & (token.set", "(token.set"),
    Mutant(_EDGE, "tile.eq(tile ^ turn)", "tile.eq(token.set)"),
    Mutant(_EDGE, "turn.eq(turn | wipe)", "turn.eq(turn)"),
    Mutant(_EDGE, "slot_layout(config), init=IDLE", "slot_layout(config)"),
)
_PE = "hw/banked_pe.py"
_PE_MUTANTS = (
    Mutant(_PE, "self.x.negative ^ self.w[code.bits - 1]", "self.x.negative"),
    Mutant(_PE, "with m.If(apart):", "with m.If(0):"),
    Mutant(_PE, "with m.If(clear):", "with m.If(0):"),
    Mutant(_PE, "unless(m, hold, read_port.data", "unless(m, Const(0, 1), read_port.data"),
    Mutant(_PE, "self.tally.word.eq(~slot.hold)", "self.tally.word.eq(slot.clear)"),
    Mutant(_PE, "write_2.eq(slot.write)", "write_2.eq(1)"),
    # the upper half at the lower one's time, in each of its inputs
    Mutant(_PE, "write_3.eq(write_2)", "write_3.eq(slot.write)"),
    Mutant(_PE, "write=(address_3, write_3)", "write=(address_2, write_3)"),
    Mutant(_PE, "slot=(address_2, *", "slot=(address, *"),
    Mutant(_PE, 'register(m, bit, f"{name}_2")', "bit"),
    Mutant(_PE, 'register(m, lower[low_bits:], "lower_2")', "lower[low_bits:]"),
    Mutant(_PE, 'register(m, total[-1], "carry")', "total[-1]"),
    Mutant(_PE, '"slot_out": Out(slot_layout(config), init=IDLE)', '"slot_out": Out(slot_layout(config))'),
    # marks
    Mutant(_PE, "m.d.sync += seen.eq(seen | Cat(now))", "m.d.sync += seen.eq(Cat(now))"),
    Mutant(_PE, "kept.eq(seen | Cat(now))", "kept.eq(seen)"),
    Mutant(_PE, ", seen.eq(0)]", "]"),
    Mutant(_PE, "with m.If(slot.turn):", "with m.If(slot.turn & slot.clear):"),
    Mutant(_PE, "unless(m, slot.hold, kept", "unless(m, slot.hold, seen"),
    Mutant(_PE, 'unless(m, slot.hold, kept, "capture_flags")', "kept"),
    # the sum
    Mutant(_PE, "upper[:low_bits], negate)", "upper[:low_bits], Const(0, 1))"),
    Mutant(_PE, "above = negate.replicate(", "above = negate_1.replicate("),
    Mutant(_PE, 'register(m, total[-1], "carry")', 'register(m, Const(0, 1), "carry")'),
)
_PE_BANK = (
    Mutant(_PE, "slot.clear & (slot.apart | same)", "slot.clear & slot.apart"),
    Mutant(_PE, "slot.apart | ~same", "slot.apart"),
    Mutant(_PE, "Mux(product, part, slot.address[:low])", "part"),
)
_PE_SHIFT = Mutant(_PE, "x.significand << w[:shift_bits]", "x.significand << w[: shift_bits - 1]")
_PE_INF = (
    Mutant(_PE, "now += [inf & ~negate, inf & negate]", "now += [inf, inf & negate]"),
    Mutant(_PE, "now += [inf & ~negate, inf & negate]", "now += [inf & ~negate_1, inf & negate_1]"),
)
_PE_MASK = (
    Mutant(_PE, "with m.If(w[shift_bits] | masked):", "with m.If(w[shift_bits]):"),
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
    """Row edge, PE and width of the words, of every float format with every width of weights.

    Mutants of the narrow formats are of everything that a format has; of the wide ones, whose proofs take longer, of some.
    """
    found: list[Proof] = []
    edges: set[tuple[str, int, int]] = set()
    for name in BANKED_FORMATS:
        for bits in WEIGHT_BITS:
            config = banked_config(name, bits)
            banks, has_inf = Banks.of(config), config.activation.has_inf
            label = f"{name} w{bits}"
            running = (_WRAP_RUNNING,) if _needs_running_bit(name, bits) else ()
            narrow, small = config.activation.bits == 8, label == "fp8_e4m3 w3"
            pe = (
                *_PE_MUTANTS,
                *(_PE_BANK if banks.w_bank_bits else ()),
                *((_PE_SHIFT,) if banks.w_shift_bits > 1 else ()),
                *(_PE_INF if has_inf else ()),
            )
            found += [
                Proof(
                    f"banked PE {label}",
                    lambda n=name, b=bits: banked_pe_script(n, b),
                    pe if narrow else (_PE_MUTANTS[-1], pe[-1]),
                    limit_s=_LIMIT_S,
                ),
                Proof(
                    f"no wrap in banks {label}",
                    lambda n=name, b=bits: banked_wrap_script(n, b),
                    (_WRAP, *running),
                    fast=small,
                ),
            ]
            if (name, banks.granularity, banks.w_bank_bits) in edges:
                continue  # the same row edge
            edges.add((name, banks.granularity, banks.w_bank_bits))
            edge = (*_EDGE_MUTANTS, _NAN if has_inf else _TOP, *((_COARSE,) if banks.granularity > 2 else ()))
            found += [
                Proof(
                    f"banked edge {label}",
                    lambda n=name, b=bits: edge_script(n, b),
                    edge if narrow else (edge[0], edge[-1]),
                    limit_s=_LIMIT_S,
                ),
                Proof(f"banked slots {label}", lambda n=name, b=bits: slots_script(n, b), _SLOT_MUTANTS, fast=small),
            ]
    found += [
        Proof(
            "banked PE fp8_e4m3 w3 with its adder",
            lambda: banked_pe_script("fp8_e4m3", 3, whole=True),
            (*_PE_MUTANTS[-3:], Mutant("hw/tech/add_merge.py", "(self.c | self.d) + self.carry", "(self.c | self.d)")),
            limit_s=_LIMIT_S,
        ),
        Proof(
            "banked PE fp8_e5m2 w3 masked",
            lambda: banked_pe_script("fp8_e5m2", 3, mask=True),
            _PE_MASK,
            fast=True,
            limit_s=_LIMIT_S,
        ),
    ]
    return found
