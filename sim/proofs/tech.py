"""Claims about `hw.tech`: a target's implementation of a technology module is the module that is simulated, for every input."""

from amaranth.hdl import Value

from hw.tech.add_merge import AddMerge
from hw.tech.add_select import AddSelect
from hw.tech.ecp5 import Ecp5AddMerge, Ecp5AddSelect
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
    one, other = inputs["a"] + inputs["c"], inputs["a"] + inputs["d"]
    p.claim(total == (one + inputs["carry"])[:width], when=~inputs["select"])
    p.claim(total == (other + inputs["carry"])[:width], when=inputs["select"])
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
    shared = (Mutant(_FILE, "i & 1 if i < 8 else 0", "i & 1"),)
    chain = (Mutant(_FILE, "carry = out\n", "carry = low\n"),)
    return [
        Proof(
            f"{name} w{width}",
            lambda width=width, script=script: script(width),
            (*mutants, *shared, *(chain if width > 1 else ())),  # one bit is one cell
            fast=width in (1, 24),
        )
        for name, script, mutants in (
            ("add and select", add_select_script, select),
            ("add and merge", add_merge_script, merge),
        )
        for width in WIDTHS
    ]
