"""Claims about banked accumulators: the row edge, the processing element, and that no word of a bank can wrap."""

from dataclasses import replace
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
from sim.proofs.words import Words, always, memories, pick, without_reset


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
    p.claim(slot.drain == (drain & ~valid))
    p.claim(address == bank, when=drain)
    p.claim(slot.address[banks.bank_bits] == set_)
    return p.script()


def slots_script(name: str, weight_bits: int) -> Script:
    """`BankedEdge` as a state machine: which slots read zero, and which take the sum of the product before."""
    config = banked_config(name, weight_bits)
    fmt, banks = config.activation, Banks.of(config)
    unit = BankedEdge(config)
    machine = without_reset(unit)
    m = machine.m
    valid, drain = unit.token.valid, unit.token.drain
    here = Cat(valid & ~drain, drain, bank_of(m, fmt, banks, unit.code), unit.token.set)
    past = [here]
    for i in range(timing.BANKED_EDGE + 1):
        later = Signal(len(here), name=f"past_{i + 1}", reset_less=True)
        m.d.sync += later.eq(past[-1])
        past.append(later)
    now, before = past[-2], past[-1]
    forward = now[0] & before[0] & (now[2:] == before[2:])
    slot = unit.slot
    machine.claim(slot.forward == forward)
    machine.claim(slot.clear == (now[1] | forward))
    return machine.script()


# ---- processing element


def slot_promises(now: Value, before: Value, address: Value, address_before: Value, bank_bits: int) -> Value:
    """What a row edge and the engine promise of a slot: `now` and `before` are slots, the addresses those of the words.

    The forms are those of `slots_script` and `edge_script`; and no slot but a product after a product uses the word that the slot
    before it wrote (`timing.BANK_SETTLE`).
    """
    write, clear, forward, drain = (now[i] for i in range(4))
    write_before, clear_before, forward_before = (before[i] for i in range(3))
    product, product_before = write & (~clear | forward), write_before & (~clear_before | forward_before)
    same = product & product_before & (now[4:] == before[4:])
    wipe_after = write & ~product & ~drain
    return (
        (forward == same)
        & (~clear | write)
        & (~forward | clear)
        & (~drain | (write & clear & ~forward))
        & (~(write & write_before) | (address != address_before) | (product & product_before) | wipe_after)
    )


class _Sums:
    """The operands of a PE's adder, and what it gives: anything. Takes the place of `AddMerge.add`."""

    def __init__(self, machine: Machine, bits: int) -> None:
        self.a, self.b, self.c, self.d = (Signal(bits, name=f"adder_{name}") for name in "abcd")
        self.carry, self.total = Signal(name="adder_carry"), Signal(bits, name="in_total")
        machine.ports.append(self.total)

    def add(
        self, m: Module, name: str, *, a: ValueLike, b: ValueLike, c: ValueLike, d: ValueLike, carry: ValueLike
    ) -> Signal:
        m.d.comb += [self.a.eq(a), self.b.eq(b), self.c.eq(c), self.d.eq(d), self.carry.eq(carry)]
        return self.total


def banked_pe_script(name: str, weight_bits: int, *, mask: bool = False, whole: bool = False) -> Script:
    """`BankedPE`: whatever comes in whatever order, the memory is one that adds each product at once, with no pipeline; and what a
    drain slot gives is all products before it.

    `whole` leaves the adder as it is. Otherwise what it gives is free, and the claim is that its operands are the word and the
    product: a wide sum in every step of the induction is more than SAT can do in minutes.
    """
    config = banked_config(name, weight_bits, mask=mask)
    banks, code = Banks.of(config), config.weights
    flag_bits = config.activation.flag_bits
    bits, low = banks.word_bits, banks.w_bank_bits
    unit = BankedPE(config)
    machine = without_reset(unit)
    m = machine.m
    x, w, slot = unit.x, unit.w, Value.cast(unit.slot)
    write, clear, forward = (slot[i] for i in range(3))
    product = write & (~clear | forward)

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
    address = Signal(len(slot) - 4)
    m.d.comb += address.eq(Mux(product, slot[4:] + part, slot[4:]) if low else slot[4:])
    marks = Cat(x.nan, x.inf & ~negative, x.inf & negative) if flag_bits == 3 else Value.cast(x.nan)
    marked = Mux(masked, 0, marks)[:flag_bits]

    # The specification, two cycles late: one memory that is read, added to and written in one cycle.
    stages: list[dict[str, Value]] = [
        {"slot": slot, "product": product, "address": address, "marks": marked}
        | {"amount": Mux(masked, 0, amount), "negative": negative}
    ]
    for i in (1, 2):
        later: dict[str, Value] = {}
        for key, value in stages[-1].items():
            later[key] = Signal(value.shape(), name=f"spec_{key}_{i}", reset_less=True)
            m.d.sync += later[key].eq(value)
        stages.append(later)
    _, one, two = stages
    truth = [Signal(flag_bits + bits, name=f"truth_{i}", reset_less=True) for i in range(SETS * banks.count)]
    old = pick(m, truth, two["address"])
    before = old[flag_bits:]
    after = Mux(two["negative"], before - two["amount"], before + two["amount"])
    sums = None if whole else _Sums(machine, bits)
    new = Signal(flag_bits + bits)
    total = after[:bits] if sums is None else sums.total
    m.d.comb += new.eq(Mux(two["product"], Cat(old[:flag_bits] | two["marks"], total), 0))
    promised: Value = Const(1, 1)
    if sums is not None:
        exact = Signal(signed(bits))
        m.d.comb += exact.eq(Mux(two["negative"], -two["amount"], two["amount"]))
        machine.claim((sums.a | sums.b) == Mux(two["product"], before, 0), when=two["slot"][0])
        machine.claim(((sums.c | sums.d) + sums.carry)[:bits] == exact.as_unsigned(), when=two["slot"][0])
        # Zero and no product are zero.
        promised = two["product"] | (sums.total == 0)
    for i, word in enumerate(truth):
        with m.If(two["slot"][0] & (two["address"] == i)):
            m.d.sync += word.eq(new)

    promises = slot_promises(slot, one["slot"], address, one["address"], banks.bank_bits)
    nothing = product | ((x.significand == 0) & (marks == 0))
    aligned = ~product | (slot[4 : 4 + low] == 0) if low else Const(1, 1)
    always(machine, promises & nothing & aligned & promised)

    memory = Words("word", flag_bits + bits, SETS * banks.count)
    for mine, its in zip(memory.words, truth, strict=True):
        machine.claim(mine == its)
    # What is read and written meanwhile, so that the induction starts from no state that cannot be.
    machine.claim(memory.read.addr == one["address"], when=one["slot"][0])
    machine.claim(memory.write.en == two["slot"][0])
    machine.claim((memory.write.addr == two["address"]) & (memory.write.data == new), when=two["slot"][0])
    capture = unit.capture
    given = Cat(Value.cast(capture.valid), Value.cast(capture.flags), Value.cast(capture.word))
    machine.claim(given == Mux(two["slot"][3], Cat(Const(1, 1), old), 0))
    machine.claim(Value.cast(unit.slot_out) == one["slot"])
    for port in ("x", "w"):
        passed = Value.cast(getattr(unit, port))
        before = Signal(len(passed), name=f"spec_{port}_out", reset_less=True)
        m.d.sync += before.eq(passed)
        machine.claim(Value.cast(getattr(unit, f"{port}_out")).as_unsigned() == before)
    adder = unit.adder.add if sums is None else sums.add
    with memories("hw.banked_pe.Memory", memory), patch.object(unit.adder, "add", adder):
        script = machine.script()
    return replace(script, rtlil=script.rtlil + rtlil.convert(unit.adder, name=unit.adder.module_name, emit_src=False))


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
)
_PE = "hw/banked_pe.py"
_PE_MUTANTS = (
    Mutant(_PE, "self.x.negative ^ self.w[code.bits - 1]", "self.x.negative"),
    Mutant(_PE, "with m.If(forward):", "with m.If(1):"),
    Mutant(_PE, "with m.If(slot.drain):", "with m.If(slot.clear):"),
    Mutant(_PE, "write_2.eq(slot.write)", "write_2.eq(1)"),
    Mutant(_PE, "**words, carry=negate", "**words, carry=0"),
    Mutant(_PE, "negate.replicate(bits - magnitude - lift)", "Const(0, 1).replicate(bits - magnitude - lift)"),
    Mutant(_PE, "(held | carried)[:flag_bits] | now", "held[:flag_bits] | now"),
)
_PE_BANK = (
    Mutant(_PE, "slot.clear & ~(slot.forward & ~same)", "slot.clear & ~slot.forward"),
    Mutant(_PE, "slot.forward & same", "slot.forward"),
    Mutant(_PE, "Mux(product, part, slot.address[:low])", "part"),
)
_PE_SHIFT = Mutant(_PE, "x.significand << w[:low_bits]", "x.significand << w[: low_bits - 1]")
_PE_INF = Mutant(_PE, "now[1].eq(x.inf & ~negate_1", "now[1].eq(x.inf")
_PE_MASK = (
    Mutant(_PE, "with m.If(w[low_bits] | masked):", "with m.If(w[low_bits]):"),
    Mutant(_PE, "x.nan & ~masked", "x.nan"),
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
                *((_PE_INF,) if has_inf else ()),
            )
            found += [
                Proof(
                    f"banked PE {label}",
                    lambda n=name, b=bits: banked_pe_script(n, b),
                    pe if narrow else (*pe[-2:],),
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
            (*_PE_MUTANTS[-2:], Mutant("hw/tech/add_merge.py", "(self.c | self.d) + self.carry", "(self.c | self.d)")),
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
