"""A second truth: the floating-point theory of SMT-LIB, as z3 understands it, instead of our own specification.

IEEE formats alone: SMT-LIB has no E4M3. Source: SMT-LIB 2.7, theory FloatingPoint (`to_fp`, `fp.add`, rounding mode RNE).
"""

from amaranth.back import rtlil
from amaranth.hdl import Signal, Value

from hw.rounding import SIGNIFICAND_BITS, Round
from hw.row_edge import RowEdge
from shiftforge import timing
from shiftforge.config import ALIGNED_FORMATS
from shiftforge.formats import FORMATS, Format
from sim.proofs.element import config_for
from sim.proofs.miter import Mutant, Pipeline, Proof, Script
from sim.proofs.rounding import EXPONENT_BITS

_DOUBLE_BIAS = (1 << 10) - 1


def _script(p: Pipeline, output: str, stable: tuple[str, ...], latency: int, assertions: list[str]) -> Script:
    port = Value.cast(p.outputs[output])
    result = Signal(len(port), name="result")
    p.m.d.comb += result.eq(port)
    text = rtlil.convert(p.m, name="top", ports=[*p.ports, result], emit_src=False)
    smt = "\n".join(["(declare-const s |top_s|)", *assertions])
    return Script(text, latency, tuple(f"in_{name}" for name in stable), output="result", smt=smt)


def _port(name: str) -> str:
    return f"(|top_n {name}| s)"


def _to(fmt: Format, value: str) -> str:
    return f"((_ to_fp {fmt.exponent_bits} {fmt.precision}) {value})"


def round_script(fmt: Format) -> Script:
    """`Round` of any normalised value is `to_fp` with RNE."""
    p = Pipeline(lambda: Round(fmt, EXPONENT_BITS), timing.ROUND, stable=("saturate",))
    top = SIGNIFICAND_BITS - 1
    significand = _port("in_significand")
    exponent = f"(bvadd ((_ sign_extend 1) {_port('in_exponent')}) (_ bv{_DOUBLE_BIAS} 11))"
    value = f"(fp (ite {_port('in_sign')} #b1 #b0) {exponent} ((_ extract {top - 1} 0) {significand}))"
    assertions = [
        f"(assert (= ((_ extract {top} {top}) {significand}) #b1))",
        *(f"(assert (not {_port(f'in_{name}')}))" for name in ("nan", "inf", "saturate")),
        # `=` tells -0 from +0.
        f"(assert (not (= {_to(fmt, f'RNE {value}')} {_to(fmt, _port('result'))})))",
    ]
    return _script(p, "code", ("saturate",), timing.ROUND, assertions)


def row_edge_script(name: str) -> Script:
    """`RowEdge` of any finite code, taken as a signed integer, is the code's value times a power of two."""
    config = config_for(name, 3)
    fmt = config.activation
    p = Pipeline(lambda: RowEdge(config), timing.ROW_EDGE)
    scale = f"(fp #b0 (_ bv{_DOUBLE_BIAS - fmt.lsb_exponent} 11) (_ bv0 52))"
    code = _to(fmt, _port("in_code"))
    value = f"(fp.mul RNE ((_ to_fp 11 53) RNE {code}) {scale})"
    assertions = [
        f"(assert (not (or (fp.isNaN {code}) (fp.isInfinite {code}))))",
        f"(assert (not (fp.eq {value} ((_ to_fp 11 53) RNE {_port('result')}))))",
    ]
    return _script(p, "x", (), timing.ROW_EDGE, assertions)


_ROUND = (
    Mutant("hw/rounding.py", "self.aligned[1] & (self.aligned[0] | kept[0])", "self.aligned[1] & self.aligned[0]"),
    Mutant("hw/rounding.py", "Cat(value[: last + 1].any(), value[last + 1 :]", "Cat(value[last], value[last + 1 :]"),
)
_EDGE = (Mutant("hw/parts.py", "Cat(field[0] | ~normal, field[1:])", "field"),)


def second_proofs() -> list[Proof]:
    """Rounding to every IEEE format, and the row edge of those that are built."""
    formats = [f for f in FORMATS.values() if f.has_inf]
    return [
        *(
            Proof(
                f"second truth: round to {f.name}",
                lambda f=f: round_script(f),
                _ROUND,
                fast=f.name in ("fp16", "fp8_e5m2"),
            )
            for f in formats
        ),
        *(
            Proof(f"second truth: row edge {f.name}", lambda f=f: row_edge_script(f.name), _EDGE, fast=f.bits == 8)
            for f in formats
            if f.name in ALIGNED_FORMATS
        ),
    ]
