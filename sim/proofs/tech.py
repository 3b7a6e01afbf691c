"""Claims about `hw.tech`: a target's implementation of a technology module is the module that is simulated, for every input."""

from collections.abc import Callable

from amaranth.hdl import Cat, Mux, Value
from amaranth.lib import wiring

from hw.tech.add_gated import AddGated
from hw.tech.add_merge import AddMerge
from hw.tech.add_select import AddSelect
from hw.tech.add_signed import AddSigned
from hw.tech.choose import Choose
from hw.tech.ecp5 import Ecp5AddGated, Ecp5AddMerge, Ecp5AddSelect, Ecp5AddSigned, Ecp5Choose
from sim.proofs.miter import Mutant, Pipeline, Proof, Script

ECP5_CELLS = ("+/ecp5/ccu2c_sim.vh", "+/ecp5/common_sim.vh")
"""Lattice's carry cell and LUT as yosys models them."""
WIDTHS = (1, 2, 9, 24, 47)
_FILE = "hw/tech/ecp5.py"


def _beside(cells: Callable[[], wiring.Component], plain: wiring.Component) -> tuple[Pipeline, dict[str, Value]]:
    """The miter of a unit in cells and the plain one on the same inputs, with the claim that their outputs are equal; its ports."""
    p = Pipeline(cells, 0)
    p.m.submodules.plain = plain
    for name, value in p.inputs.items():
        p.m.d.comb += getattr(plain, name).eq(value)
    for name, value in p.outputs.items():
        p.claim(value == getattr(plain, name))
    return p, {name: Value.cast(value) for name, value in (p.inputs | p.outputs).items()}


def add_select_script(width: int, carries: int) -> Script:
    """`Ecp5AddSelect` against `AddSelect` and against a sum written once more."""
    p, port = _beside(lambda: Ecp5AddSelect(width, carries), AddSelect(width, carries))
    summand = Cat(Mux(port["select"][i], port["d"][i], port["c"][i]) for i in range(width))
    p.claim(port["sum"] == (port["a"] + summand + (port["carry"] if carries else 0))[:width])
    return p.script(library=ECP5_CELLS)


def add_merge_script(width: int, carries: int) -> Script:
    """`Ecp5AddMerge` against `AddMerge` and against a sum written once more."""
    p, port = _beside(lambda: Ecp5AddMerge(width, carries), AddMerge(width, carries))
    both = (port["a"] | port["b"]) + (port["c"] | port["d"])
    p.claim(port["sum"] == (both + (port["carry"] if carries else 0))[:width])
    return p.script(library=ECP5_CELLS)


def add_gated_script(width: int) -> Script:
    """`Ecp5AddGated` against `AddGated` and against a sum written once more."""
    p, port = _beside(lambda: Ecp5AddGated(width), AddGated(width))
    p.claim(port["sum"] == ((port["a"] | port["b"]) + (port["c"] & port["d"]))[:width])
    return p.script(library=ECP5_CELLS)


def add_signed_script(width: int) -> Script:
    """`Ecp5AddSigned` against `AddSigned` and against a sum written once more, wherever the precondition holds."""
    p, port = _beside(lambda: Ecp5AddSigned(width), AddSigned(width))
    both, either, negative = port["c"] & port["d"], port["c"] | port["d"], port["negative"]
    p.assume((negative & ~either) == 0)
    summand = Cat(Mux(sign, ~bit, bit) for sign, bit in zip(negative, both, strict=True))
    p.claim(port["sum"] == (port["a"] + summand)[:width])
    return p.script(library=ECP5_CELLS)


def choose_script(width: int) -> Script:
    """`Ecp5Choose` against `Choose` and against selections written once more."""
    p, port = _beside(lambda: Ecp5Choose(width), Choose(width))
    for i in range(4):
        p.claim((port["index"] != i) | (port["chosen"] == port[f"word_{i}"]))
    return p.script(library=ECP5_CELLS)


def tech_proofs() -> list[Proof]:
    """Odd and even widths, from one bit on."""
    select = (Mutant(_FILE, "i >> 3 if i & 2 else i >> 2", "i >> 2 if i & 2 else i >> 3"),)
    carries = (
        Mutant("hw/tech/add_select.py", "total + self.carry if self.carries", "total if self.carries"),
        Mutant(_FILE, "i & 1 if i < 8 else 0", "i & 1"),
    )
    merge = (
        Mutant(_FILE, "(i | i >> 1) & 1 ^ (i >> 2 | i >> 3) & 1", "i & 1 ^ (i >> 2 | i >> 3) & 1"),
        Mutant(_FILE, "(i >> 2 | i >> 3) & 1 for", "(i >> 2 ^ i >> 3) & 1 for"),
        Mutant("hw/tech/add_merge.py", "(self.a | self.b)", "(self.a ^ self.b)"),
    )
    merge_carries = (
        Mutant("hw/tech/add_merge.py", "total + self.carry if self.carries", "total if self.carries"),
        Mutant(_FILE, "i & 1 if i < 8 else 0", "i & 1"),
    )
    gated = (
        Mutant(_FILE, "(i | i >> 1) & 1 ^ (i >> 2 & i >> 3)", "(i | i >> 1) & 1 ^ (i >> 2 | i >> 3)"),
        Mutant(_FILE, "(i | i >> 1) & 1 ^ (i >> 2 & i >> 3)", "(i & i >> 1) & 1 ^ (i >> 2 & i >> 3)"),
        Mutant("hw/tech/add_gated.py", "(self.c & self.d)", "self.c"),
    )
    signed = (
        Mutant(_FILE, "((i >> 1 ^ (i >> 2 & i >> 3)) & 1 if i > 3", "((i >> 1 ^ (i >> 2 | i >> 3)) & 1 if i > 3"),
        Mutant("hw/tech/add_signed.py", "(self.c & self.d) ^ self.negative", "self.c & self.d"),
    )
    # of more than one bit, which is one cell; of more than two without a carry in
    chain = (Mutant(_FILE, "carry = out\n", "carry = low\n"),)
    signed_chain = (
        *chain,
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
            (*mutants, *(wider if width > wide else ())),
            fast=width in (1, 24),
        )
        for name, script, mutants, wider, wide in (
            ("add and select", lambda width: add_select_script(width, 1), (*select, *carries), chain, 1),
            ("add and select, no carry", lambda width: add_select_script(width, 0), select, chain, 2),
            ("add and merge", lambda width: add_merge_script(width, 1), (*merge, *merge_carries), chain, 1),
            ("add and merge, no carry", lambda width: add_merge_script(width, 0), merge, chain, 2),
            ("add gated", add_gated_script, gated, chain, 2),
            ("add signed", add_signed_script, signed, signed_chain, 2),
            ("choose", choose_script, choose, (), 0),
        )
        for width in WIDTHS
    ]
