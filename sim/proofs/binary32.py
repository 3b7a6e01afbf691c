"""Claims about `hw.fp32` and `hw.activation`, and about the parts of the multiplication around its four partial products.

The partial products themselves are the synthesiser's own ``*`` of 12 bits, which SAT here does not reach: the sum of free partial
products is proven to be their weighted sum, and the rest for a free product within the bounds that any product keeps.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise

from amaranth.hdl import Const, Module, Mux, Signal, Value, ValueLike, signed

import hw.fp32
from hw.activation import Activate
from hw.delay import register
from hw.fp32 import Fp32Add, Fp32Multiply
from shiftforge import timing
from shiftforge.activation import ACTIVATION_KINDS
from shiftforge.formats import FP32
from sim.proofs.miter import Mutant, Pipeline, Proof, Script
from sim.proofs.spec import Exact, Result, claim_rounded

NONE, RELU, CLAMP, LEAKY = range(len(ACTIVATION_KINDS))
INFINITY = 0x7F80_0000
FAR = 28
"""Exponents of the operands of a sum that lie further apart: the smaller one is below a quarter of the larger one's last place."""


class Number:
    """A binary32 pattern decoded: ``significand * 2**exponent``, and its class."""

    def __init__(self, m: Module, bits: Value) -> None:
        magnitude = bits[:31]
        self.sign = bits[31]
        self.nan, self.inf, self.zero = magnitude > INFINITY, magnitude == INFINITY, magnitude == 0
        self.normal = magnitude >= 1 << 23
        self.significand = Signal(24)
        self.exponent = Signal(signed(10))
        m.d.comb += [
            self.significand.eq(magnitude - Mux(self.normal, (magnitude >> 23) * (1 << 23) - (1 << 23), 0)),
            self.exponent.eq(Mux(self.normal, magnitude >> 23, 1) + FP32.lsb_exponent - 1),
        ]


@contextmanager
def cut(replaced: Mapping[str, Value], seen: Mapping[str, Signal]) -> Iterator[None]:
    """While it lasts, units of `hw.fp32` elaborate with other registers.

    A register named in `seen` drives that signal. One named in `replaced` holds that value instead of what the unit computes.
    """

    def cutting(m: Module, value: ValueLike, name: str) -> Signal:
        held = register(m, value, name)
        if name in seen:
            m.d.comb += seen[name].eq(held)
        return register(m, replaced[name], f"free_{name}") if name in replaced else held

    usual = hw.fp32.register
    hw.fp32.register = cutting
    try:
        yield
    finally:
        hw.fp32.register = usual


def add_script(apart: range | None) -> Script:
    """`Fp32Add` for all operands whose exponents differ by a value in `apart` (None: not by less than `FAR`)."""
    p = Pipeline(Fp32Add, timing.FP32_ADD)
    m = p.m
    bits_a, bits_b = p.inputs["a"], p.inputs["b"]
    a, b = Number(m, bits_a), Number(m, bits_b)
    # Named so that the first has the larger exponent; a sum does not depend on the order.
    swapped = a.exponent < b.exponent
    high, low = Signal(24), Signal(24)
    high_sign, low_sign = Signal(), Signal()
    exponent = Signal(signed(10))
    distance = Signal(range(FAR + 1))
    gap = Mux(swapped, b.exponent - a.exponent, a.exponent - b.exponent)
    m.d.comb += [
        high.eq(Mux(swapped, b.significand, a.significand)),
        low.eq(Mux(swapped, a.significand, b.significand)),
        high_sign.eq(Mux(swapped, b.sign, a.sign)),
        low_sign.eq(Mux(swapped, a.sign, b.sign)),
        distance.eq(Mux(gap > FAR, FAR, gap)),
        # Where the gap is larger the smaller operand is taken at FAR places: both lie strictly between the same two midpoints.
        exponent.eq(Mux(swapped, b.exponent, a.exponent) - distance),
    ]
    p.assume(gap >= FAR if apart is None else (gap >= apart.start) & (gap < apart.stop))
    wide = 24 + FAR + 2
    first, total = Signal(signed(wide)), Signal(signed(wide))
    magnitude = Signal(wide - 1)
    with m.Switch(distance):
        for n in range(FAR + 1):
            with m.Case(n):
                m.d.comb += first.eq(high << n)
    m.d.comb += [
        total.eq(Mux(high_sign, -first, first) + Mux(low_sign, -low, low)),
        magnitude.eq(Mux(total < 0, -total, total)),
    ]
    nan = Signal()
    m.d.comb += nan.eq(a.nan | b.nan | (a.inf & b.inf & (a.sign != b.sign)))
    inf = a.inf | b.inf
    # A sum of zeros is -0 only if both are; an exact cancellation is +0 (IEEE 754-2019 clause 6.3).
    sign = Signal()
    with m.If(inf):
        m.d.comb += sign.eq(Mux(a.inf, a.sign, b.sign))
    with m.Elif(total == 0):
        m.d.comb += sign.eq(a.sign & b.sign)
    with m.Else():
        m.d.comb += sign.eq(total < 0)
    claim_rounded(p, FP32, Exact(magnitude, exponent), sign, nan, inf, Const(0, 1), Result(p.outputs["code"]))
    return p.script()


def product_script() -> Script:
    """`Fp32Multiply` up to its product: the significands, their halves, and the weighted sum of free partial products."""
    cycles = 4  # significands after 1, partial products after 2, the product after 4
    seen = {name: Signal(width, name=f"seen_{name}") for name, width in (("x", 24), ("y", 24), ("product", 48))}
    halves = {"p00": (0, 0), "p01": (0, 12), "p10": (12, 0), "p11": (12, 12)}
    seen |= {name: Signal(24, name=f"seen_{name}") for name in halves}
    p = Pipeline(Fp32Multiply, cycles)
    for name in "ab":
        number = Number(p.m, p.inputs[name])
        p.claim(p.after(seen["x" if name == "a" else "y"], cycles - 1) == number.significand)
    replaced: dict[str, Value] = {}
    total: Value = Const(0, 50)
    for name, (i, j) in halves.items():
        p.claim(p.after(seen[name], 2) == p.after(seen["x"][i : i + 12] * seen["y"][j : j + 12], cycles - 1))
        free = p.free(name, 24)
        replaced[name] = p.after(free, 1)
        here = p.after(free, cycles)
        p.assume(here <= 4095 * 4095)
        total = Value.cast(total + (here << (i + j)))
    p.claim(seen["product"] == total)
    with cut(replaced, seen):
        return p.script()


def multiply_script() -> Script:
    """`Fp32Multiply` around its product, which is free within the bounds that the factors set."""
    p = Pipeline(Fp32Multiply, timing.FP32_MULTIPLY)
    a, b = Number(p.m, p.inputs["a"]), Number(p.m, p.inputs["b"])
    free = p.free("product", 48)
    product = p.after(free, timing.FP32_MULTIPLY)
    p.assume((product == 0) == (a.zero | b.zero | (a.significand == 0) | (b.significand == 0)))
    for one, other in ((a, b), (b, a)):
        # 2**23 <= a normal significand < 2**24, and 1 <= any other but 0.
        p.assume(~one.normal | ((product >= other.significand << 23) & (product <= other.significand << 24)))
        p.assume((product == 0) | (product >= other.significand))
    p.assume(a.normal | b.normal | (product < 1 << 46))
    nan = a.nan | b.nan | (a.inf & b.zero) | (a.zero & b.inf)
    exact = Exact(product, Value.cast(a.exponent + b.exponent))
    result = Result(p.outputs["code"])
    claim_rounded(p, FP32, exact, a.sign ^ b.sign, nan, a.inf | b.inf, Const(0, 1), result)
    with cut({"product": p.after(free, 3)}, {}):
        return p.script()


def activate_script(kind: int) -> Script:
    """`Activate` of one kind: the value that its outputs stand for."""
    p = Pipeline(Activate, timing.ACTIVATION, stable=("kind", "shift", "lo", "hi"))
    m = p.m
    i, o = p.inputs, p.outputs
    p.assume(i["kind"] == kind)
    x = Number(m, i["x"])

    def key(bits: Value) -> Value:
        """Orders numbers, -0 just below +0: negative ones from -1 down."""
        return Mux(bits[31], -1 - bits[:31], bits[:31])

    chosen = Signal(32)
    m.d.comb += chosen.eq(i["x"])
    if kind == RELU:
        with m.If(x.sign & ~x.nan):
            m.d.comb += chosen.eq(0)
    if kind == CLAMP:
        lo, hi = i["lo"], i["hi"]
        p.assume((lo[:31] <= INFINITY) & (hi[:31] <= INFINITY) & (key(lo) <= key(hi)))
        with m.If(~x.nan & (key(i["x"]) < key(lo))):
            m.d.comb += chosen.eq(lo)
        with m.Elif(~x.nan & (key(i["x"]) > key(hi))):
            m.d.comb += chosen.eq(hi)
    y = Number(m, chosen)
    p.claim(o["nan"] == y.nan)
    p.claim(o["inf"] == y.inf, when=~y.nan)
    finite = ~(y.nan | y.inf)
    p.claim(o["sign"] == y.sign, when=~y.nan)
    # significand * 2**(exponent - 25) is |y|, or |y| * 2**-shift, or zero where binary32 rounds that to zero.
    significand, exponent = o["significand"], o["exponent"]
    unit = Value.cast(exponent - (len(significand) - 1))
    expected = Exact(y.significand, Value.cast(y.exponent - Mux((kind == LEAKY) & y.sign, i["shift"], 0)))
    # At most half of the least subnormal: a tie goes to zero, which is even.
    vanishes = ~expected.compare(m, Const(1, 1), Const(FP32.lsb_exponent - 1, signed(10))).greater
    p.claim(significand == 0, when=finite & vanishes)
    p.claim(expected.compare(m, significand, unit).equal, when=finite & ~vanishes)
    p.claim(significand[-1] | (exponent <= FP32.min_exponent) | (significand == 0), when=finite)
    return p.script()


_FP32, _ACTIVATION, _PARTS = "hw/fp32.py", "hw/activation.py", "hw/parts.py"
_SUBNORMAL = Mutant(_PARTS, "field[0] | ~normal", "field[0]")
_HIDDEN = Mutant(_PARTS, "Cat(fraction, normal)", "Cat(fraction, Const(1, 1))")
_CARRY = Mutant(_FP32, "total[27] & ~drop_carry", "total[27]")
_ADD_NEAR = (
    _CARRY,
    _SUBNORMAL,
    Mutant(_FP32, "Mux(swap, b.sign, a.sign) & ~cancel", "Mux(swap, b.sign, a.sign)"),
    Mutant(_FP32, "a.inf & b.inf & (a.sign ^ b.sign)", "Const(0, 1)"),
)
_EXPONENT = Mutant(
    _FP32, 'Mux(swap, b.exponent, a.exponent), "exponent"', 'Mux(swap, a.exponent, b.exponent), "exponent"'
)
_ADD_CLOSE = (_CARRY, _EXPONENT)
_ADD_MIDDLE = (  # from here on bits are lost below the sticky one
    _CARRY,
    Mutant(_FP32, "Cat(small[: last + 1].any(), small[last + 1 :]", "Cat(small[last], small[last + 1 :]"),
)
_ADD_FAR = (_CARRY, Mutant(_FP32, "Mux(far, 0, small)", "small"))
_PRODUCT = (
    _HIDDEN,
    Mutant(_FP32, 'register(m, p01 + p10, "middle")', 'register(m, p01 | p10, "middle")'),
    Mutant(_FP32, "x[low] * y[high]", "x[low] * y[low]"),
)
_MULTIPLY = (
    _SUBNORMAL,
    Mutant(_FP32, "(a.inf & b.zero) | (a.zero & b.inf)", "a.zero & b.inf"),
    Mutant(_FP32, "2 * FP32.bias - 1", "2 * FP32.bias"),
    Mutant(
        _FP32,
        "delayed(m, Cat(sign, nan | invalid, inf), 3 + wait",
        "delayed(m, Cat(sign, nan | invalid, inf), 2 + wait",
    ),
)
_ACTIVATE = {
    "none": (Mutant(_ACTIVATION, "clamping = self.kind == CLAMP", "clamping = self.kind != RELU"),),
    "relu": (Mutant(_ACTIVATION, "result.sign & ~to_zero", "result.sign"),),
    "clamp": (Mutant(_ACTIVATION, "order(self.x) < order(self.lo)", "order(self.x) < self.lo.as_signed()"),),
    "leaky": (
        Mutant(_ACTIVATION, "Mux(leaks, self.shift, 0)", "Mux(leaks, self.shift[:3], 0)"),
        Mutant(_ACTIVATION, "(self.x[:15] <= half)", "(self.x[:15] < half)"),
    ),
}


def binary32_proofs() -> list[Proof]:
    """Multiplication in two parts, addition by the distance of the exponents, the activations."""
    bounds = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 17, 20, FAR)
    gaps: list[tuple[str, range | None, tuple[Mutant, ...]]] = [
        (
            f"{low}" if high == low + 1 else f"{low} to {high - 1}",
            range(low, high),
            _ADD_NEAR if low < 1 else _ADD_CLOSE if low < 4 else _ADD_MIDDLE,
        )
        for low, high in pairwise(bounds)
    ]
    gaps.append((f"{FAR} and more", None, _ADD_FAR))
    return [
        Proof("fp32 multiply: product", product_script, _PRODUCT, fast=True),
        Proof("fp32 multiply: normalise, round, specials", multiply_script, _MULTIPLY),
        *(
            Proof(f"fp32 add, exponents {name} apart", lambda apart=apart: add_script(apart), m)
            for name, apart, m in gaps
        ),
        *(
            Proof(f"activation {kind}", lambda i=i: activate_script(i), _ACTIVATE[kind], fast=True)
            for i, kind in enumerate(ACTIVATION_KINDS)
        ),
    ]
