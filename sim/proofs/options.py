"""Claims about what a layer may do besides a dot product: residuals as binary32, and the order that a maximum is taken in."""

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.fp32 import Fp32Add
from hw.pool import code_of_key, lowest_key, order_key
from hw.widen import Widen
from shiftforge import timing
from shiftforge.formats import FORMATS, FP32, Format
from sim.proofs.binary32 import Number
from sim.proofs.element import magnitude_of
from sim.proofs.miter import Mutant, Pipeline, Proof, Script


def widen_script(fmt: Format) -> Script:
    """`Widen`: the value, its sign, NaN and infinity, by a table with one row per exponent field."""
    p = Pipeline(lambda: Widen(fmt), timing.widen(fmt))
    m, x, code = p.m, p.inputs["x"], p.outputs["code"]
    result = Number(m, code)
    if fmt.exponent_bits == FP32.exponent_bits:  # the same fields
        p.claim(code[31] == x[-1])
        p.claim((code >> 23)[:8] == (x >> fmt.fraction_bits)[:8])
        p.claim(code[:23] == x[: fmt.fraction_bits] << (23 - fmt.fraction_bits))
        return p.script()
    magnitude = x[:-1] if fmt.is_float else Mux(x[-1], -x.as_signed(), x)[: fmt.bits]
    if fmt.is_float:
        largest = fmt.inf if fmt.has_inf else fmt.max_finite
        nan, inf = magnitude > largest, (magnitude == fmt.inf if fmt.has_inf else Const(0, 1))
    else:
        nan = inf = Const(0, 1)
    p.claim(result.nan == nan)
    p.claim(code == FP32.nan, when=nan)
    p.claim(result.inf == inf, when=~nan)
    p.claim(result.sign == x[-1], when=~nan)
    p.claim(result.zero == (magnitude == 0))
    # significand * 2**exponent in units of the format's least value, without moving the result's significand right.
    units, room = 24, fmt.fixed_bits + 24
    value, wide = magnitude_of(m, fmt, x) if fmt.is_float else magnitude, Signal(room)
    least = fmt.lsb_exponent - units
    with m.Switch(result.exponent.as_unsigned()):
        for exponent in range(least, least + room):
            with m.Case(exponent % (1 << len(result.exponent))):
                m.d.comb += wide.eq(result.significand << (exponent - least))
    p.claim(wide == value << units, when=~nan & ~inf)
    p.claim((result.exponent >= least) & (result.exponent < least + room), when=~nan & ~inf & (value != 0))
    return p.script()


class _Larger(wiring.Component):
    """One step of a maximum, as `hw.pool.Pool` takes it in three: keys, the larger one, its code."""

    def __init__(self, fmt: Format) -> None:
        self.fmt = fmt
        super().__init__({"a": In(fmt.bits), "b": In(fmt.bits), "code": Out(fmt.bits), "low": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m, fmt = Module(), self.fmt
        a, b = order_key(fmt, self.a), order_key(fmt, self.b)
        m.d.comb += [self.code.eq(code_of_key(fmt, Mux(a > b, a, b))), self.low.eq(a < lowest_key(fmt))]
        return m


def larger_script(fmt: Format) -> Script:
    """Keys: the larger of two codes by their signs; the canonical NaN wins; +0 is above -0; none is below the lowest."""
    p = Pipeline(lambda: _Larger(fmt), 0)
    a, b, code = p.inputs["a"], p.inputs["b"], p.outputs["code"]
    nans: list[Value] = []
    if not fmt.is_float:
        b_larger = a.as_signed() < b.as_signed()
        nans = [Const(0, 1), Const(0, 1)]
    else:
        largest = fmt.inf if fmt.has_inf else fmt.max_finite
        nans = [Value.cast(x[:-1] > largest) for x in (a, b)]
        same_sign = Mux(a[-1], a[:-1] > b[:-1], a[:-1] < b[:-1])
        b_larger = Mux(a[-1] != b[-1], a[-1], same_sign)
        p.claim(code == fmt.nan, when=nans[0] | nans[1])
    p.claim(code == Mux(b_larger, b, a), when=~nans[0] & ~nans[1])
    p.claim(~p.outputs["low"])
    return p.script()


def neutral_script() -> Script:
    """`Fp32Add` of -0: any number stays what it is, so a layer without a residual has the bits of a machine without residuals."""
    p = Pipeline(Fp32Add, timing.FP32_ADD)
    a, nothing = p.inputs["a"], p.inputs["b"]
    p.assume(nothing == 1 << 31)
    p.claim(p.outputs["code"] == Mux(Number(p.m, a).nan, FP32.nan, a))
    return p.script()


_WIDEN, _POOL = "hw/widen.py", "hw/pool.py"
_LATE = Mutant(_WIDEN, 'register(m, self.x, "x")', "self.x")
_FLOAT = (
    Mutant(_WIDEN, "(FP32.bias - fmt.bias)", "(FP32.bias - fmt.bias + 1)"),
    Mutant(_WIDEN, "Mux(normalize.result[-1], (top - normalize.left)[:8], 0)", "(top - normalize.left)[:8]"),
    Mutant(_WIDEN, "Mux(nan, FP32.nan, Mux(inf, infinite, finite))", "Mux(inf, infinite, finite)"),
)
_INTEGER = (
    Mutant(_WIDEN, "replicate(fmt.bits)) + sign)[: fmt.bits]", "replicate(fmt.bits)))[: fmt.bits]"),
    Mutant(_WIDEN, "Const(FP32.bias + fmt.bits - 1, 8)", "Const(FP32.bias + fmt.bits, 8)"),
)
_KEYS = (
    Mutant(_POOL, "Mux(magnitude > largest, fmt.nan | fmt.sign_bit, key)", "key"),
    Mutant(_POOL, "magnitude ^ sign.replicate(len(magnitude)), ~sign", "magnitude, ~sign"),
    Mutant(_POOL, "fmt.lowest ^ ((1 << fmt.bits) - 1) if fmt.is_float else 0", "fmt.lowest"),
)
_INTEGER_KEYS = (Mutant(_POOL, "Cat(code[:-1], ~sign)", "code"),)


def option_proofs() -> list[Proof]:
    """Every format to binary32, the order of every format, the addition of nothing."""
    found = [
        Proof(
            "fp32 add: -0 changes nothing",
            neutral_script,
            (Mutant("hw/fp32.py", "Mux(swap, b.sign, a.sign) & ~cancel", "Mux(swap, b.sign, a.sign) & cancel"),),
            fast=True,
        )
    ]
    for fmt in FORMATS.values():
        widen = (_LATE,) if fmt.exponent_bits == FP32.exponent_bits else _FLOAT if fmt.is_float else _INTEGER
        fast = fmt.name in ("fp16", "int8")
        keys = _KEYS if fmt.is_float else _INTEGER_KEYS
        found += [
            Proof(f"widen {fmt.name} to fp32", lambda f=fmt: widen_script(f), widen, fast=fast),
            Proof(f"maximum of {fmt.name}", lambda f=fmt: larger_script(f), keys, fast=fast),
        ]
    return found
