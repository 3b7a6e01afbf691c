"""Claims about `hw.tech`: a target's implementation of a technology module is the module that is simulated, for every input."""

from amaranth.hdl import Cat, Mux, Value

from hw.tech.add_merge import AddMerge
from hw.tech.add_select import AddSelect
from hw.tech.add_signed import AddSigned
from hw.tech.choose import Choose
from hw.tech.ecp5 import Ecp5AddMerge, Ecp5AddSelect, Ecp5AddSigned, Ecp5Choose
from sim.proofs.miter import Mutant, Pipeline, Proof, Script

ECP5_CELLS = ("+/ecp5/ccu2c_sim.vh", "+/ecp5/common_sim.vh")
"""Lattice's carry cell and LUT as yosys models them."""
WIDTHS = (1, 2, 9, 24, 47)
_FILE = "hw/tech/ecp5.py"


def add_select_script(width: int) -> Script:
    """`Ecp5AddSelect` against `AddSelect` and against a sum written once more."""
    p = Pipeline(lambda: Ecp5AddSelect(width), 0)
    plain = AddSelect(width)
    p.m.submodules.plain = plain
    inputs = {name: Value.cast(p.inputs[name]) for name in ("a", "c", "d", "select", "carry")}
    for name, value in inputs.items():
        p.m.d.comb += getattr(plain, name).eq(value)
    total = p.outputs["sum"]
    p.claim(total == plain.sum)
    summand = Cat(Mux(inputs["select"][i], inputs["d"][i], inputs["c"][i]) for i in range(width))
    p.claim(total == (inputs["a"] + summand + inputs["carry"])[:width])
    return p.script(library=ECP5_CELLS)


def add_merge_script(width: int) -> Script:
    """`Ecp5AddMerge` against `AddMerge` and against a sum written once more."""
    p = Pipeline(lambda: Ecp5AddMerge(width), 0)
    plain = AddMerge(width)
    p.m.submodules.plain = plain
    inputs = {name: Value.cast(p.inputs[name]) for name in ("a", "b", "c", "d", "carry")}
    for name, value in inputs.items():
        p.m.d.comb += getattr(plain, name).eq(value)
    total = p.outputs["sum"]
    p.claim(total == plain.sum)
    both = (inputs["a"] | inputs["b"]) + (inputs["c"] | inputs["d"]) + inputs["carry"]
    p.claim(total == both[:width])
    return p.script(library=ECP5_CELLS)


def add_signed_script(width: int) -> Script:
    """`Ecp5AddSigned` against `AddSigned` and against a sum written once more, wherever the precondition holds."""
    flip = width // 2
    p = Pipeline(lambda: Ecp5AddSigned(width, flip), 0)
    plain = AddSigned(width, flip)
    p.m.submodules.plain = plain
    inputs = {name: Value.cast(p.inputs[name]) for name in ("a", "c", "d", "negative", "carry")}
    for name, value in inputs.items():
        p.m.d.comb += getattr(plain, name).eq(value)
    both, either, negative = inputs["c"] & inputs["d"], inputs["c"] | inputs["d"], inputs["negative"]
    signs = Value.cast(Cat(~negative[i] if i == flip else negative[i] for i in range(width)))
    p.assume((signs & ~either) == 0)
    total = p.outputs["sum"]
    p.claim(total == plain.sum)
    summand = Cat(Mux(sign, ~bit, bit) for sign, bit in zip(signs, both, strict=True))
    p.claim(total == (inputs["a"] + summand + inputs["carry"])[:width])
    return p.script(library=ECP5_CELLS)


def choose_script(width: int) -> Script:
    """`Ecp5Choose` against `Choose` and against selections written once more."""
    p = Pipeline(lambda: Ecp5Choose(width), 0)
    plain = Choose(width)
    p.m.submodules.plain = plain
    inputs = {name: Value.cast(p.inputs[name]) for name in ("word_0", "word_1", "word_2", "word_3", "index")}
    for name, value in inputs.items():
        p.m.d.comb += getattr(plain, name).eq(value)
    chosen, index = p.outputs["chosen"], inputs["index"]
    p.claim(chosen == plain.chosen)
    for i in range(4):
        p.claim((index != i) | (chosen == inputs[f"word_{i}"]))
    return p.script(library=ECP5_CELLS)


def tech_proofs() -> list[Proof]:
    """Odd and even widths, from one bit on."""
    select = (
        Mutant(_FILE, "i >> 3 if i & 2 else i >> 2", "i >> 2 if i & 2 else i >> 3"),
        Mutant("hw/tech/add_select.py", "self.a + addend + self.carry", "self.a + addend"),
    )
    merge = (
        Mutant(_FILE, "(i | i >> 1) & 1 ^ (i >> 2 | i >> 3) & 1", "i & 1 ^ (i >> 2 | i >> 3) & 1"),
        Mutant(_FILE, "(i >> 2 | i >> 3) & 1 for", "(i >> 2 ^ i >> 3) & 1 for"),
        Mutant("hw/tech/add_merge.py", "(self.c | self.d) + self.carry", "(self.c | self.d)"),
    )
    signed = (
        Mutant(_FILE, "i & 1 ^ (~(i >> 1 ^ (i >> 2 & i >> 3))", "i & 1 ^ (~(i >> 1 ^ (i >> 2 | i >> 3))"),
        Mutant("hw/tech/add_signed.py", "self.negative ^ flips) + self.carry", "self.negative ^ flips)"),
        Mutant("hw/tech/add_signed.py", "self.negative ^ flips", "self.negative"),
    )
    shared = (Mutant(_FILE, "i & 1 if i < 8 else 0", "i & 1"),)
    # of more than one bit, which is one cell
    chain = (Mutant(_FILE, "carry = out\n", "carry = low\n"),)
    signed_chain = (
        Mutant(_FILE, "((i >> 1 ^ (i >> 2 & i >> 3)) & 1 if i > 3", "((i >> 1 ^ (i >> 2 | i >> 3)) & 1 if i > 3"),
        Mutant(_FILE, "((i >> 1 ^ (i >> 2 & i >> 3)) & 1 if i > 3", "((i >> 1 ^ (i >> 2 & i >> 3)) & 1 if i > -1"),
    )
    choose = (
        Mutant(_FILE, "i >> 2 if i & 8 else i >> 1 if i & 4", "i >> 2 if i & 8 else i >> 1 if i & 1"),
        Mutant(_FILE, "(i >> 1 if i & 4 else i) if i & 8 else i >> 2", "(i if i & 4 else i >> 1) if i & 8 else i >> 2"),
        Mutant("hw/tech/choose.py", "Choices(self.words)", "Choices(self.words[::-1])"),
    )
    return [
        Proof(
            f"{name} w{width}",
            lambda width=width, script=script: script(width),
            (*mutants, *(wider if width > 1 else ())),
            fast=width in (1, 24),
        )
        for name, script, mutants, wider in (
            ("add and select", add_select_script, (*select, *shared), chain),
            ("add and merge", add_merge_script, (*merge, *shared), chain),
            ("add signed", add_signed_script, (*signed, *shared), (*chain, *signed_chain)),
            ("choose", choose_script, choose, ()),
        )
        for width in WIDTHS
    ]
