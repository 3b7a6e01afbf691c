"""Technology modules in Lattice ECP5 cells.

A CCU2C holds two bits of a carry chain (Lattice FPGA-TN-02200, as yosys' ``ecp5/cells_sim.v`` models it). For each::

    p = INIT[8*D + 4*C + 2*B + A]        S    = p ^ carry
    g = INIT[2*B + A]                    COUT = p ? carry : g

where g is the same table with C = D = 0. An adder of A and any f(B, C, D) has p = A ^ f; where p = 0, A is the carry, so that
g = A will do, which is so when f(B, 0, 0) = 0. A multiplexer is such an f: it costs no LUT. So do the ORs of (A | B) + (C | D),
and the AND of (A | B) + (C & D): g = A | B. (C & D) ^ B is no such f, unless B = 1 never meets C = D = 0: then p there may be A all
the same.

A choice of four words takes two LUT4 for a bit: the first tells what the lower pair gives, or, where the upper pair is wanted,
which of it.
"""

import re
from collections.abc import Callable
from types import MappingProxyType

from amaranth.hdl import Cat, Const, Instance, Module, Signal, Value

from hw.instance import Unit
from hw.tech.add_gated import AddGated
from hw.tech.add_merge import AddMerge
from hw.tech.add_select import AddSelect
from hw.tech.add_signed import AddSigned
from hw.tech.choose import Choose


def _table(function: list[int]) -> Const:
    """INIT of `function`'s values for A + 2*B + 4*C + 8*D."""
    return Const(sum(bit << i for i, bit in enumerate(function)), 16)


_ADD_SELECT = _table([i & 1 ^ (i >> 3 if i & 2 else i >> 2) & 1 for i in range(16)])
"""p = A ^ (B ? D : C)."""
_ADD_MERGE = _table([(i | i >> 1) & 1 ^ (i >> 2 | i >> 3) & 1 for i in range(16)])
"""p = (A | B) ^ (C | D)."""
_ADD_GATED = _table([(i | i >> 1) & 1 ^ (i >> 2 & i >> 3) & 1 for i in range(16)])
"""p = (A | B) ^ (C & D)."""
_ADD_SIGNED = _table([i & 1 ^ ((i >> 1 ^ (i >> 2 & i >> 3)) & 1 if i > 3 else 0) for i in range(16)])
"""p = A ^ B ^ (C & D); A where C = D = 0, for g."""
_CARRY = _table([i & 1 if i < 8 else 0 for i in range(16)])
"""With D = 1: p = 0 and g = A, so that A becomes the carry of the bits above."""
_NOTHING = _table([0] * 16)
_LOWER_OR_WHICH = _table([(i >> 2 if i & 8 else i >> 1 if i & 4 else i) & 1 for i in range(16)])
"""D ? C : (C ? B : A)."""
_UPPER_OR_PASS = _table([((i >> 1 if i & 4 else i) if i & 8 else i >> 2) & 1 for i in range(16)])
"""D ? (C ? B : A) : C."""


def _chain(m: Module, carry_in: Value | None, bits: list[tuple[Const, Value, Value, Value, Value]]) -> Value:
    """A carry chain of (INIT, A, B, C, D) for each bit, the lowest first; returns the sum's bits."""
    zero = Const(0, 1)
    if carry_in is not None:
        bits = [(_CARRY, carry_in, zero, zero, Const(1, 1)), *bits]
    count = len(bits)
    if len(bits) % 2:
        bits.append((_NOTHING, zero, zero, zero, zero))
    carry: Const | Signal = zero
    sums: list[Signal] = []
    for i in range(0, len(bits), 2):
        low, high, out = Signal(name=f"s_{i}"), Signal(name=f"s_{i + 1}"), Signal(name=f"carry_{i + 2}")
        ports: dict[str, object] = {"i_CIN": carry, "o_S0": low, "o_S1": high, "o_COUT": out}
        for j, (table, *inputs) in enumerate(bits[i : i + 2]):
            ports[f"p_INIT{j}"] = table
            ports[f"p_INJECT1_{j}"] = "NO"
            ports |= {f"i_{port}{j}": value for port, value in zip("ABCD", inputs, strict=True)}
        m.submodules[f"bits_{i}"] = Instance("CCU2C", **ports)
        carry = out
        sums += [low, high]
    return Value.cast(Cat(sums)[0 if carry_in is None else 1 : count])


class Ecp5AddSelect(AddSelect):
    """`AddSelect` as a carry chain: `width` bits, and one before them for a carry in."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = [(_ADD_SELECT, self.a[i], self.select[i], self.c[i], self.d[i]) for i in range(self.width)]
        m.d.comb += self.sum.eq(_chain(m, self.carry if self.carries else None, bits))
        return m


class Ecp5AddMerge(AddMerge):
    """`AddMerge` as a carry chain: `width` bits, and one before them for a carry in."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = [(_ADD_MERGE, self.a[i], self.b[i], self.c[i], self.d[i]) for i in range(self.width)]
        m.d.comb += self.sum.eq(_chain(m, self.carry if self.carries else None, bits))
        return m


class Ecp5AddGated(AddGated):
    """`AddGated` as a carry chain of `width` bits."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = [(_ADD_GATED, self.a[i], self.b[i], self.c[i], self.d[i]) for i in range(self.width)]
        m.d.comb += self.sum.eq(_chain(m, None, bits))
        return m


class Ecp5AddSigned(AddSigned):
    """`AddSigned` as a carry chain of `width` bits."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = [(_ADD_SIGNED, self.a[i], self.negative[i], self.c[i], self.d[i]) for i in range(self.width)]
        m.d.comb += self.sum.eq(_chain(m, None, bits))
        return m


class Ecp5Choose(Choose):
    """`Choose` in two LUT4 per bit."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        which, upper = self.index[0], self.index[1]
        for i in range(self.width):
            a, b, c, d = (word[i] for word in self.words)
            lower, chosen = Signal(name=f"lower_{i}"), self.chosen[i]
            m.submodules[f"lower_{i}"] = Instance(
                "LUT4", p_INIT=_LOWER_OR_WHICH, i_A=a, i_B=b, i_C=which, i_D=upper, o_Z=lower
            )
            m.submodules[f"upper_{i}"] = Instance(
                "LUT4", p_INIT=_UPPER_OR_PASS, i_A=c, i_B=d, i_C=lower, i_D=upper, o_Z=chosen
            )
        return m


_IMPLEMENTATIONS: MappingProxyType[str, Callable[..., Unit]] = MappingProxyType(
    {
        "sf_add_select": Ecp5AddSelect,
        "sf_add_merge": Ecp5AddMerge,
        "sf_add_gated": Ecp5AddGated,
        "sf_add_signed": Ecp5AddSigned,
        "sf_choose": Ecp5Choose,
    }
)


def implementation(module_name: str) -> Unit | None:
    """The unit in ECP5 cells that may take the place of the module of that name; None where there is none."""
    found = re.fullmatch(r"([a-z_]+?)((?:_\d+)+)", module_name)
    if found is None or found[1] not in _IMPLEMENTATIONS:
        return None
    return _IMPLEMENTATIONS[found[1]](*map(int, found[2].split("_")[1:]))
