"""Claims about `hw.row_edge` and `hw.pe`, and that no accumulator can wrap."""

from amaranth.back import rtlil
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

from hw.pe import PE
from hw.row_edge import RowEdge
from shiftforge import timing
from shiftforge.config import HARDWARE_FORMATS, Config, from_dict
from shiftforge.formats import WEIGHT_BITS, Format, format_named
from sim.proofs.miter import Claims, Mutant, Pipeline, Proof, Script

MAX_KS = (1, 3, 1024, 65536)


def config_for(
    activation: str,
    weight_bits: int,
    max_k: int = 1024,
    output: str | None = None,
    stream_bits: int = 64,
    *,
    mask: bool = False,
) -> Config:
    """A 2x2 array of that kind; its size is nothing that these units see."""
    array: dict[str, object] = {"rows": 2, "cols": 2, "activation": activation, "output": output or activation}
    array |= {"weight_bits": weight_bits, "max_k": max_k, "mask": mask}
    return from_dict({"array": array, "interface": {"stream_bits": stream_bits}})


def magnitude_of(m: Module, fmt: Format, code: Value) -> Signal:
    """|value| of a finite float code in units of the least subnormal: one row of a table per exponent field, by constants."""
    magnitude = Signal(fmt.fixed_bits)
    f = fmt.fraction_bits
    with m.Switch(code[f : fmt.bits - 1]):
        with m.Case(0):
            m.d.comb += magnitude.eq(code[:f])
        for field in range(1, fmt.max_exponent_field + 1):
            with m.Case(field):
                m.d.comb += magnitude.eq((code[:f] << (field - 1)) + (1 << (f + field - 1)))
    return magnitude


def row_edge_script(name: str) -> Script:
    """`RowEdge`: every code, all latencies."""
    config = config_for(name, 3)
    fmt = config.activation
    p = Pipeline(lambda: RowEdge(config), timing.ROW_EDGE)
    code, x = p.inputs["code"], p.outputs["x"]
    if not fmt.is_float:
        p.claim(x == code.as_signed())
        return p.script()
    magnitude = code[: fmt.bits - 1]
    finite = magnitude <= fmt.max_finite
    value = magnitude_of(p.m, fmt, code)
    p.claim(x == 0, when=~finite)
    p.claim(Mux(code[-1], x + value == 0, x == value), when=finite)
    special = Value.cast(p.outputs["special"])
    if fmt.has_inf:
        p.claim(special[0] == (magnitude > fmt.inf))
        p.claim(special[1] == (magnitude == fmt.inf))
        p.claim(special[2] == code[-1], when=special[1])
    else:
        p.claim(special[0] == ~finite)
    return p.script()


def product_of(m: Module, x: Value, w: Value, exponent_bits: int, width: int) -> Signal:
    """x times the value of a weight code, by a table of its exponents and signed arithmetic."""
    scaled = Signal(signed(width))
    product = Signal(signed(width))
    with m.Switch(w[:exponent_bits]):
        for e in range(1 << exponent_bits):
            with m.Case(e):
                m.d.comb += scaled.eq(x * (1 << e))
    m.d.comb += product.eq(Mux(w[exponent_bits], -scaled, scaled))
    return product


def pe_script(name: str, weight_bits: int, *, mask: bool = False) -> Script:
    """`PE` as a state machine: the accumulator is the running sum of exact products, whatever comes when; the capture is
    the reading of it, with the flags of just this dot product. A masked product is none, whatever its operands."""
    config = config_for(name, weight_bits, mask=mask)
    m = Module()
    unit = PE(config)
    m.submodules.unit = unit
    claims = Claims(m)
    ports: list[Signal] = []
    for port in ("x", "token", "w") + (("special",) if config.activation.flag_bits else ()):
        target = Value.cast(getattr(unit, port))
        source = Signal(len(target), name=f"in_{port}")
        ports.append(source)
        m.d.comb += target.eq(source)
    x, token, w = (Value.cast(getattr(unit, port)) for port in ("x", "token", "w"))
    product_width = config.product_bits + 1  # x may be -2**(n - 1), which a row edge never gives for a float
    exact = product_of(m, x.as_signed(), w, config.weights.exponent_bits, product_width)
    valid, first, last = token[0], token[1], token[2]
    sign, masked = w[weight_bits - 1], w[weight_bits:].any() if mask else Const(0, 1)

    product = Signal(signed(product_width), reset_less=True)
    valid_1, first_1, last_1, masked_1 = Signal(), Signal(), Signal(), Signal(reset_less=True)
    spec_sum = Signal(config.accumulator_bits)
    done = Signal()
    m.d.sync += [product.eq(exact), valid_1.eq(valid), first_1.eq(first), last_1.eq(last), done.eq(valid_1 & last_1)]
    m.d.sync += masked_1.eq(masked)
    with m.If(valid_1 & ~masked_1):
        m.d.sync += spec_sum.eq(spec_sum + product)
    spec_capture = Signal(1 + config.accumulator_bits)
    m.d.sync += spec_capture.eq(Mux(done, Cat(Const(1, 1), spec_sum), 0))
    capture = unit.capture
    claims.claim(Cat(Value.cast(capture.valid), Value.cast(capture.sum)) == spec_capture)
    claims.claim(Value.cast(unit.token_out) == Cat(valid_1, first_1, last_1))
    for port in ("x", "w") + (("special",) if config.activation.flag_bits else ()):
        passed = Value.cast(getattr(unit, port))
        before = Signal(len(passed), name=f"spec_{port}_out", reset_less=True)
        m.d.sync += before.eq(passed)
        claims.claim(Value.cast(getattr(unit, f"{port}_out")).as_unsigned() == before)

    # The unit's registers are those of the specification, so that the induction starts from no state that cannot be.
    link, negate = Signal(config.product_bits, name="spec_addend"), Signal(name="spec_negate", reset_less=True)
    m.d.sync += negate.eq(sign)
    m.d.comb += link.eq(product - negate)
    equal = [("acc", "spec_sum"), ("addend", "spec_addend"), ("negate", "spec_negate"), ("last_2", "done")]

    flag_bits = config.activation.flag_bits
    if flag_bits:
        special = Value.cast(unit.special)
        negative = (special[2] ^ sign) if flag_bits == 3 else Const(0, 1)
        marks = special[0] if flag_bits == 1 else Cat(special[0], special[1] & ~negative, special[1] & negative)
        seen = Mux(masked, 0, marks)
        now, spec_flags, spec_flags_out = (
            Signal(flag_bits, name=label, reset_less=label != "spec_flags_out")
            for label in ("spec_now", "spec_flags", "spec_flags_out")
        )
        m.d.sync += [now.eq(seen), spec_flags_out.eq(Mux(done, spec_flags, 0))]
        with m.If(valid_1 & first_1):
            m.d.sync += spec_flags.eq(now)
        with m.Elif(valid_1):
            m.d.sync += spec_flags.eq(spec_flags | now)
        claims.claim(Value.cast(capture.flags) == spec_flags_out)
        equal += [("flags", "spec_flags"), ("now", "spec_now")]
    bad = claims.close()
    text = rtlil.convert(m, name="top", ports=[*ports, link, bad], emit_src=False)
    return Script(text, equal=tuple(equal))


def wrap_script(name: str, weight_bits: int) -> Script:
    """No sum wraps: the bound of one product, from the code on, and one step of the induction over the number of products."""
    m = Module()
    claims = Claims(m)
    ports: list[Signal] = []

    def free(label: str, width: int) -> Signal:
        port = Signal(width, name=f"in_{label}")
        ports.append(port)
        return port

    fmt = format_named(name)
    code, w = free("code", fmt.bits), free("w", weight_bits)
    config = config_for(name, weight_bits)
    width = config.product_bits + 1
    if fmt.is_float:
        finite = code[: fmt.bits - 1] <= fmt.max_finite
        magnitude = magnitude_of(m, fmt, code)
        x = Signal(signed(fmt.fixed_bits))
        m.d.comb += x.eq(Mux(finite, Mux(code[-1], -magnitude, magnitude), 0))
    else:
        x = code.as_signed()
    product = product_of(m, x, w, config.weights.exponent_bits, width)
    # The largest from the formats' definition: (2 - 2**-f) * 2**(largest field - 1) units; E4M3 ends one code lower.
    if fmt.is_float:
        significand = (2 << fmt.fraction_bits) - (1 if fmt.has_inf else 2)
        largest = significand << (fmt.max_exponent_field - 1 + (1 << (weight_bits - 1)) - 1)
    else:
        largest = 1 << (fmt.bits - 1 + (1 << (weight_bits - 1)) - 1)
    claims.claim((product <= largest) & (product >= -largest))
    for max_k in MAX_KS:
        bits = config_for(name, weight_bits, max_k).accumulator_bits
        wide = bits + 2
        k = free(f"k_{max_k}", 17)
        before = free(f"sum_{max_k}", wide).as_signed()
        bound = Signal(signed(wide + 4))
        m.d.comb += bound.eq(sum(Mux(k[i], largest << i, 0) for i in range(17)))
        inside = (before <= bound) & (before >= -bound) & (k < max_k)
        after = before + product
        claims.claim((after <= bound + largest) & (after >= -bound - largest), when=inside)
        claims.claim((after < (1 << (bits - 1))) & (after >= -(1 << (bits - 1))), when=inside)
    bad = claims.close()
    text = rtlil.convert(m, name="top", ports=[*ports, bad], emit_src=False)
    return Script(text, latency=0)


_EDGE = "hw/row_edge.py"
_NEGATION = Mutant(_EDGE, "replicate(fmt.fixed_bits)) + sign_2)", "replicate(fmt.fixed_bits)))")
_SUBNORMAL = Mutant(_EDGE, "Mux(field.any(), field - 1, 0)", "field - 1")
_EDGE_MUTANTS = {
    0: (Mutant(_EDGE, "self.x.eq(second.as_signed())", "self.x.eq(first.as_signed())"),),
    1: (_NEGATION, _SUBNORMAL, Mutant(_EDGE, "nan = top & fraction.all()", "nan = top")),
    3: (_NEGATION, _SUBNORMAL, Mutant(_EDGE, "special_1.negative.eq(sign)", "special_1.negative.eq(0)")),
}
_PE = "hw/pe.py"
_PE_MUTANTS = (
    Mutant(_PE, "Cat(negate, addend, extension)", "Cat(Const(0, 1), addend, extension)"),
    Mutant(_PE, "sign = self.w[code.exponent_bits]", "sign = self.w[0]"),
    Mutant(_PE, "last_2.eq(token.valid & token.last)", "last_2.eq(token.last)"),
    Mutant(_PE, 'self.w_out.eq(register(m, self.w, "w_held"))', "self.w_out.eq(self.w)"),
)
_PE_MASK = (
    Mutant(_PE, "token.valid & ~self.w_out[code.bits]", "token.valid"),
    Mutant(_PE, "last_2.eq(token.valid & token.last)", "last_2.eq(enable & token.last)"),
)
_PE_MASK_FLAGS = Mutant(_PE, "self.special.nan & ~self.w[code.bits]", "self.special.nan")
_PE_FLAGS = Mutant(_PE, "Mux(token.first, 0, flags.as_value())", "flags.as_value()")
_WRAP_MUTANT = Mutant(
    "shiftforge/config.py", "(largest * self.max_k).bit_length() + 1", "(largest * self.max_k).bit_length()"
)


def element_proofs() -> list[Proof]:
    """Row edge of every format that is built; PE and accumulator width of every one with every width of weights."""
    found = []
    for name in HARDWARE_FORMATS:
        flag_bits = format_named(name).flag_bits
        found.append(
            Proof(
                f"row edge {name}",
                lambda name=name: row_edge_script(name),
                _EDGE_MUTANTS[flag_bits],
                fast=name != "int16",
            )
        )
        masks = (*_PE_MASK, _PE_MASK_FLAGS) if flag_bits else _PE_MASK
        found.append(
            Proof(
                f"PE {name} w3 masked", lambda name=name: pe_script(name, 3, mask=True), masks, fast=name == "fp8_e4m3"
            )
        )
        for bits in WEIGHT_BITS:
            fast = name in ("int8", "fp16") and bits == 3
            mutants = (*_PE_MUTANTS, _PE_FLAGS) if flag_bits else _PE_MUTANTS
            found += [
                Proof(f"PE {name} w{bits}", lambda name=name, bits=bits: pe_script(name, bits), mutants, fast=fast),
                Proof(
                    f"no wrap {name} w{bits}",
                    lambda name=name, bits=bits: wrap_script(name, bits),
                    (_WRAP_MUTANT,),
                    fast=fast,
                ),
            ]
    return found
