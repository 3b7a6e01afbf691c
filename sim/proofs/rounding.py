"""Claims about `hw.rounding` and `hw.normalize`."""

from dataclasses import dataclass

from amaranth.back import rtlil
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

from hw.normalize import Normalize, jam
from hw.rounding import SIGNIFICAND_BITS, Pack, Round, kept_bits, target_exponent
from shiftforge import timing
from shiftforge.errors import InputError
from shiftforge.formats import FORMATS, Format
from sim.proofs.miter import Claims, Mutant, Pipeline, Proof, Script
from sim.proofs.spec import Exact, Order, Result, claim_rounded

EXPONENT_BITS = 10
"""As everywhere in the lane."""
BOUND_BITS = SIGNIFICAND_BITS + 1
"""Of the widest number that a claim compares with: a midpoint of binary32 in quarters of its last place."""


def _result(outputs: dict[str, Value]) -> Result:
    return Result(outputs["code"], outputs["nv"], outputs["of"], outputs["nx"])


def round_script(fmt: Format) -> Script:
    """`Round`: any exponent, any significand that its contract allows, NaN, infinity, both overflow modes, flags."""
    p = Pipeline(lambda: Round(fmt, EXPONENT_BITS), timing.ROUND, stable=("saturate",))
    i = p.inputs
    significand, exponent = i["significand"], i["exponent"]
    p.assume(significand[-1] | (exponent <= target_exponent(fmt)) | (significand == 0))
    exact = Exact(significand, Value.cast(exponent - (len(significand) - 1)))
    claim_rounded(p, fmt, exact, i["sign"], i["nan"], i["inf"], i["saturate"], _result(p.outputs))
    return p.script()


def pack_script(fmt: Format) -> Script:
    """`Pack` alone, as the adder uses it."""
    p = Pipeline(lambda: Pack(fmt), timing.PACK, stable=("saturate",))
    i = p.inputs
    aligned = i["aligned"]
    if fmt.is_float:
        biased = i["biased"]
        p.assume(aligned[-1] | (biased == 0))
        if fmt.has_inf:
            # The code must not run past infinity's; `Round` says `huge` there, and no sum of two binary32 values gets there.
            top = fmt.max_exponent_field
            fits = (biased < top) | ((biased == top) & ~aligned[2:].all())
            p.assume(fits | i["huge"] | i["nan"] | i["inf"])
        exponent: Value = Value.cast(biased + Const(fmt.lsb_exponent - 2, signed(12)))
    else:
        exponent = Const(target_exponent(fmt) - kept_bits(fmt) - 1, signed(12))
    result = _result(p.outputs)
    claim_rounded(p, fmt, Exact(aligned, exponent), i["sign"], i["nan"], i["inf"], i["saturate"], result, i["huge"])
    return p.script()


def normalize_script(width: int, result_width: int, levels: int, budget_bits: int) -> Script:
    """`Normalize`: shifted by as many places as there are zeros, or the budget, or the levels allow; nothing lost."""
    p = Pipeline(lambda: Normalize(width, result_width, levels, budget_bits), timing.normalize(levels))
    value = p.inputs["value"]
    most = (1 << levels) - 1
    zeros = Signal(range(most + 1))
    # The highest one wins, because it is assigned last.
    p.m.d.comb += zeros.eq(most)
    for position in range(width):
        if width - 1 - position < most:
            with p.m.If(value[position]):
                p.m.d.comb += zeros.eq(width - 1 - position)
    places = Signal(range(most + 1))
    if budget_bits:
        budget = p.inputs["budget"]
        p.m.d.comb += places.eq(Mux(budget < zeros, budget, zeros))
        p.claim(p.outputs["left"] + places == budget)
    else:
        p.m.d.comb += places.eq(zeros)
        p.claim(p.outputs["left"] == places)
    # For every number of places the bits that come to lie in the result, by constants; the rest is in its lowest bit.
    result = p.outputs["result"]
    lost = max(width - result_width, 0)
    below = [value[0]]
    for position in range(1, width):
        more = Signal(name=f"below_{position}")
        p.m.d.comb += more.eq(below[-1] | value[position])
        below.append(more)
    wanted = Signal(result_width)
    with p.m.Switch(places):
        for n in range(min(most + 1, width)):
            with p.m.Case(n):
                shifted = Cat(Const(0, max(result_width - width, 0) + n), value[: width - n])
                if lost:
                    # The shifted value's bits from `lost` down, of which `n` are zeros.
                    sticky = below[lost - n] if n <= lost else Const(0, 1)
                    p.m.d.comb += wanted.eq(Cat(sticky, shifted[lost + 1 :]))
                else:
                    p.m.d.comb += wanted.eq(shifted)
    p.claim(result == wanted)
    if not budget_bits and most >= width - 1:
        # What follows from it, said once more as the proofs that put anything of this kind in the place of the unit assume it.
        p.claim(Mux(value == 0, result == 0, result[-1] & (p.outputs["left"] < width)))
    return p.script()


@dataclass(frozen=True)
class Jammed(Exact):
    """A significand whose lowest bit is sticky: worth what a longer one is when compared with short enough numbers, and it claims
    that it is compared with no others. `order_script` is why."""

    claims: Claims

    def compare(self, m: Module, other: Value, exponent: Value) -> Order:
        if len(other) > BOUND_BITS:
            raise InputError(f"number to compare with must have at most {BOUND_BITS} bits, not {len(other)}")
        self.claims.claim(fits(other, len(self.significand) - 1))
        return super().compare(m, other, exponent)


def fits(value: Value, bits: int) -> Value:
    """Whether `value` is a number of that many bits times a power of two: no two ones lie further apart."""
    apart = [value[i] & value[: i - bits + 1].any() for i in range(bits, len(value))]
    return ~Value.cast(Cat(*apart)).any()


def order_script(width: int, result_width: int) -> Script:
    """How the specification orders a value of that width and any number of a bit less than a result, times a power of two: the same
    for the value shifted by one place, as long as no bit is lost, and, once its top bit is one, for what `jam` makes of it.

    So it is the same for a normalised and jammed value, by induction over the places.
    """
    m = Module()
    claims = Claims(m)
    value, bound = Signal(width, name="in_value"), Signal(BOUND_BITS, name="in_bound")
    # Exponents that are compared lie within 10 bits, and get smaller by up to 9 bits on the way.
    apart = Signal(signed(EXPONENT_BITS + 2), name="in_apart")
    claims.assume(fits(bound, result_width - 1))
    result = jam(value, result_width)

    def order(exact: Exact) -> Value:
        found = exact.compare(m, bound, Const(0, signed(2)))
        return Value.cast(Cat(found.less, found.equal, found.greater))

    here = order(Exact(value, apart))
    shifted = order(Exact(Value.cast(Cat(Const(0, 1), value[:-1])), Value.cast(apart - 1)))
    jammed = order(Exact(result, Value.cast(apart + (width - result_width))))
    claims.claim(here == Mux(value[-1], jammed, shifted))
    return Script(rtlil.convert(m, name="top", ports=[value, bound, apart, claims.close()], emit_src=False), latency=0)


_FLOAT_MUTANTS = (
    Mutant("hw/rounding.py", "self.aligned[1] & (self.aligned[0] | kept[0])", "self.aligned[1]"),
    Mutant("hw/rounding.py", "Mux(far, value.any(), value)", "Mux(far, 0, value)"),
    Mutant("hw/rounding.py", "finite & (huge | above)", "finite & above"),
    Mutant("hw/rounding.py", 'delayed(m, huge, 2, "huge")', 'delayed(m, huge, 3, "huge")'),
)
_INTEGER_MUTANTS = (
    Mutant("hw/rounding.py", "up ^ self.sign", "up"),
    Mutant("hw/rounding.py", "invalid = nan | inf", "invalid = nan"),
)
_STICKY = Mutant(
    "hw/rounding.py", "Cat(value[: last + 1].any(), value[last + 1 :]", "Cat(value[last], value[last + 1 :]"
)
_TIE = Mutant("hw/rounding.py", "self.aligned[1] & (self.aligned[0] | kept[0])", "self.aligned[1] & self.aligned[0]")
_NORMALIZE_MUTANT = Mutant("hw/normalize.py", "value[:lost].any()", "value[lost - 1]")


def rounding_proofs() -> list[Proof]:
    """`Round` and `Pack` to every format, and the normalisers of binary32."""
    found = []
    for fmt in FORMATS.values():
        small = fmt.bits <= 8
        extra = _FLOAT_MUTANTS if fmt.is_float else _INTEGER_MUTANTS
        found += [
            Proof(f"round to {fmt.name}", lambda fmt=fmt: round_script(fmt), (_STICKY, *extra), fast=small),
            Proof(f"pack to {fmt.name}", lambda fmt=fmt: pack_script(fmt), (_TIE,), fast=small),
        ]
    return found
