"""Claims about the row edge of banked accumulators: what a product is worth in its word, and what the PE is told of slots."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value

from hw.banked_edge import BankedEdge
from hw.banked_pe import BANKED_TOKEN
from shiftforge import timing
from shiftforge.banks import ADDRESS_BITS, WORDS, Banks
from shiftforge.config import BANKED_FORMATS
from shiftforge.formats import WEIGHT_BITS, Format
from sim.proofs.banked import LIMIT_S, banked_config
from sim.proofs.element import magnitude_of
from sim.proofs.miter import Mutant, Pipeline, Proof, Script
from sim.proofs.words import always, without_reset


def _bank_of(m: Module, fmt: Format, banks: Banks, code: Value) -> Signal:
    """High bits of a code's exponent; by a table of the exponents."""
    bank = Signal(banks.x_bank_bits)
    with m.Switch(code[fmt.fraction_bits : fmt.bits - 1]):
        for field in range(1 << fmt.exponent_bits):
            with m.Case(field):
                m.d.comb += bank.eq(max(field, 1) // (1 << banks.granularity))
    return bank


def _first_word(banks: Banks, address: Value) -> Value:
    """What is promised of a product's token: a tile begins at that address."""
    return Cat(address == tile * banks.stride % WORDS for tile in range(WORDS)).any()


def edge_script(name: str, weight_bits: int) -> Script:
    """`BankedEdge`: every code and token; what a PE gets is worth what the code is."""
    config = banked_config(name, weight_bits)
    fmt, banks = config.activation, Banks.of(config)
    p = Pipeline(lambda: BankedEdge(config), timing.BANKED_EDGE)
    code = p.inputs["code"]
    token = BANKED_TOKEN(Value.cast(p.inputs["token"]))
    unit = p.unit
    assert isinstance(unit, BankedEdge)
    x, slot = unit.x, unit.slot
    magnitude = code[: fmt.bits - 1]
    finite, product = magnitude <= fmt.max_finite, ~token.other
    # Twice the value, because bank 0 counts halves.
    worth = Signal(fmt.fixed_bits + 1)
    highest = fmt.max_exponent_field >> banks.granularity
    found = Signal(banks.significand_bits + banks.shift_of(highest) + 1)
    bank = Signal(ADDRESS_BITS)
    p.m.d.comb += [worth.eq(magnitude_of(p.m, fmt, code) << 1), bank.eq(slot.address - token.address)]
    with p.m.Switch(bank):
        for i in range(highest + 1):
            with p.m.Case(i):
                p.m.d.comb += found.eq(x.significand << (banks.shift_of(i) + 1))
    p.assume(token.other | _first_word(banks, token.address))
    p.claim(found == worth, when=finite & product)
    p.claim(bank == _bank_of(p.m, fmt, banks, code), when=product)
    p.claim(x.negative == code[-1], when=product)
    p.claim(x.significand == 0, when=~(finite & product))
    p.claim(~x.significand[0], when=product & (bank == 0))
    p.claim(x.nan == (product & ((magnitude > fmt.inf) if fmt.has_inf else ~finite)))
    if fmt.has_inf:
        p.claim(x.inf == (product & (magnitude == fmt.inf)))
    for port in ("write", "hold", "turn"):
        p.claim(getattr(slot, port) == getattr(token, port))
    p.claim(slot.address == token.address, when=token.other)
    return p.script()


def slots_script(name: str, weight_bits: int) -> Script:
    """`BankedEdge` as a state machine: which slots read zero, and which take the sum of the product before, or may by the weights.

    It is promised that products begin where a tile does, and that one after the other they are of one tile, or of tiles that
    begin in different halves of the words.
    """
    config = banked_config(name, weight_bits)
    fmt, banks = config.activation, Banks.of(config)
    unit = BankedEdge(config)
    machine = without_reset(unit)
    m = machine.m
    here = Value.cast(Cat(unit.token.other, unit.token.address, _bank_of(m, fmt, banks, unit.code)))
    past: list[Value] = [here]
    for i in range(timing.BANKED_EDGE + 1):
        later = Signal(len(here), name=f"past_{i + 1}", init=1, reset_less=True)  # a bubble
        m.d.sync += later.eq(past[-1])
        past.append(later)
    (other, base, bank), (other_before, base_before, bank_before) = (
        (value[0], value[1 : 1 + ADDRESS_BITS], value[1 + ADDRESS_BITS :]) for value in past[-2:]
    )
    slot = unit.slot
    # What comes out of a reset is no slot: nothing is written nor captured, and nothing turns.
    started = Signal(name="spec_started", reset_less=True)
    m.d.sync += started.eq(1)
    machine.claim(~slot.write & slot.hold & ~slot.turn, when=~started)
    follows = ~other & ~other_before & (base == base_before)
    if banks.w_bank_bits:
        distance = Cat(bank, 0).as_signed() - Cat(bank_before, 0).as_signed()
        near = Mux(distance == 0, 3, Mux(distance == 1, 1, Mux(distance == -1, 2, 0)))
        machine.claim(slot.near == Mux(follows, near, 0), when=started)
        machine.claim(slot.clear == other, when=started)
        machine.claim(slot.full == (slot.address[:2] == 3))
    else:
        forward = follows & (bank == bank_before)
        machine.claim(slot.apart == ~forward, when=started)
        machine.claim(slot.clear == (other | forward), when=started)
    (other_1, base_1), (other_2, base_2) = ((value[0], value[1 : 1 + ADDRESS_BITS]) for value in past[:2])
    halves = 1 if banks.awaited else base_1[-1] == base_2[-1]
    always(
        machine,
        (other_1 | _first_word(banks, base_1)) & (other_1 | other_2 | (base_1 == base_2) | ~Value.cast(halves).bool()),
    )
    return machine.script()


_EDGE, _PARTS = "hw/banked_edge.py", "hw/parts.py"
_EDGE_MUTANTS = (
    Mutant(_PARTS, "Cat(field[0] | ~normal, field[1:])", "field"),
    Mutant(_PARTS, "Cat(fraction, normal)", "Cat(fraction, 1)"),
    Mutant(_EDGE, "unless(m, token_1.other, significand", "unless(m, Const(0, 1), significand"),
    Mutant(_EDGE, "unless(m, ~parts.finite,", "unless(m, Const(0, 1),"),
    Mutant(_EDGE, "unless(m, token_1.other, exponent", "unless(m, token.other, exponent"),
)
_COARSE = Mutant(_EDGE, "fine << Cat(*[0] * fine_bits, coarse)", "fine << Cat(*[0] * fine_bits, coarse[1:])")
_TOP = Mutant(_PARTS, "nan, inf = top & fraction.all()", "nan, inf = top")
_NAN = Mutant(_EDGE, 'unless(m, self.token.other, found, "marks_1")', 'register(m, found, "marks_1")')
_RIPPLE = Mutant(_EDGE, "a[i] & carry |", "")
_SLOT_MUTANTS = (
    Mutant(_EDGE, 'token.other | register(m, token.other, "was_other")', "token.other"),
    Mutant(_EDGE, "slot_layout(config), init=IDLE", "slot_layout(config)"),
)
_FORWARD = (
    Mutant(_EDGE, "token.other | forward", "forward"),
    Mutant(_EDGE, 'register(m, following == bank, "same")', "1"),
)
_HALVES = Mutant(_EDGE, "token_1.address[-1] != address[-1]", "token_1.address[-1] != 0")
_NEAR = (
    Mutant(_EDGE, "(high == v + 1) & (before == v)", "(high == v) & (before == v + 1)"),
    Mutant(_EDGE, "Mux(was_odd & ~odd, above, same)", "Mux(was_odd, above, same)"),
    Mutant(_EDGE, "Mux(odd & ~was_odd, below, same)", "Mux(odd & ~was_odd, same, below)"),
    Mutant(_EDGE, "word[:2].all()", "word[:2].any()"),
    Mutant(_EDGE, "self.slot.near.eq(0)", "self.slot.near.eq(1)"),
)


def banked_edge_proofs() -> list[Proof]:
    """Of every float format with every width of weights that makes another row edge.

    Mutants of the narrow formats are of everything that a format has; of the wide ones, whose proofs take longer, of some.
    """
    found: list[Proof] = []
    edges: set[tuple[str, int, int]] = set()
    for name in BANKED_FORMATS:
        for bits in WEIGHT_BITS:
            config = banked_config(name, bits)
            banks, has_inf = Banks.of(config), config.activation.has_inf
            if (name, banks.granularity, banks.w_bank_bits) in edges:
                continue  # the same row edge
            edges.add((name, banks.granularity, banks.w_bank_bits))
            label, small = f"{name} w{bits}", f"{name} w{bits}" in ("fp8_e4m3 w3", "fp8_e5m2 w3")
            edge = (
                *_EDGE_MUTANTS,
                _NAN if has_inf else _TOP,
                *((_COARSE,) if banks.granularity > 2 else ()),
                *((_RIPPLE,) if banks.awaited else ()),
            )
            slots = (
                *_SLOT_MUTANTS,
                *(_NEAR if banks.w_bank_bits else _FORWARD),
                *(() if banks.awaited else (_HALVES,)),
            )
            found += [
                Proof(
                    f"banked edge {label}",
                    lambda n=name, b=bits: edge_script(n, b),
                    edge if config.activation.bits == 8 else (edge[0], edge[-1]),
                    limit_s=LIMIT_S,
                ),
                Proof(f"banked slots {label}", lambda n=name, b=bits: slots_script(n, b), slots, fast=small),
            ]
    return found
