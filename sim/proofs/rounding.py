"""Claims about `hw.rounding` and `hw.normalize`."""

from amaranth.hdl import Const, Mux, Signal, Value, signed

from hw.normalize import Normalize
from hw.rounding import Pack, Round, kept_bits, target_exponent
from shiftforge import timing
from shiftforge.formats import FORMATS, Format
from sim.proofs.miter import Mutant, Pipeline, Proof, Script
from sim.proofs.spec import Exact, Result, claim_rounded

EXPONENT_BITS = 10
"""As everywhere in the lane."""


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
    shifted = Signal(width)
    with p.m.Switch(places):
        for n in range(min(most + 1, width)):
            with p.m.Case(n):
                p.m.d.comb += shifted.eq(value << n)
    result = p.outputs["result"]
    lost = width - result_width
    if lost > 0:
        p.claim(result[1:] == shifted[lost + 1 :])
        p.claim(result[0] == shifted[: lost + 1].any())
    else:
        p.claim(result == (shifted << -lost))
    return p.script()


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
