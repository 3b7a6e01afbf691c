"""Claims about `hw.row_edge` and `hw.pe`, and that no accumulator can wrap."""

from amaranth.back import rtlil
from amaranth.hdl import Cat, ClockDomain, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring

from hw.column import BlockSum
from hw.delay import register
from hw.pe import PE
from hw.row_edge import RowEdge
from hw.tech.add_signed import AddSigned
from shiftforge import timing
from shiftforge.config import ALIGNED_FORMATS, Config, from_dict
from shiftforge.formats import WEIGHT_BITS, Format, format_named
from sim.proofs.miter import Claims, Mutant, Pipeline, Proof, Script

MAX_KS = (1, 3, 1024, 65536)
ROWS = (1, 2, 8, 20, 256)


def config_for(
    activation: str,
    weight_bits: int,
    max_k: int = 1024,
    output: str | None = None,
    stream_bits: int = 64,
    *,
    rows: int = 2,
    mask: bool = False,
    residual: bool = False,
) -> Config:
    """An array of that kind with two columns, whose number is nothing that these units see; aligned wherever that is built."""
    array: dict[str, object] = {"rows": rows, "cols": 2, "activation": activation, "output": output or activation}
    array |= {"weight_bits": weight_bits, "max_k": max_k, "mask": mask, "residual": residual}
    array["accumulator"] = "aligned" if activation in ALIGNED_FORMATS else "banked"
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
    """`PE` as a state machine: the accumulator is the running sum of exact products, one less for each negative weight, whatever
    comes when; the capture is the reading of it, with the flags of just this block. A masked product is none."""
    config = config_for(name, weight_bits, mask=mask)
    m = Module()
    m.domains.sync = domain = ClockDomain(reset_less=True)  # no token comes while a machine resets
    unit = PE(config)
    m.submodules.unit = unit
    claims = Claims(m)
    ports: list[Signal] = [domain.clk]
    for port in ("x", "token", "w") + (("special",) if config.activation.flag_bits else ()):
        target = Value.cast(getattr(unit, port))
        source = Signal(config.weights.element_bits if port == "w" else len(target), name=f"in_{port}")
        ports.append(source)
        m.d.comb += target.eq(unit.wires(source, {}) if port == "w" else source)
    x, token, w = ports[1:4]
    product_width = config.product_bits + 1  # x may be -2**(n - 1), which a row edge never gives for a float
    stages = timing.pe(config) - 2  # registers before the accumulator

    def late(value: Value, cycles: int, label: str) -> Value:
        for i in range(cycles):
            value = register(m, value, f"spec_{label}_{i}")
        return value

    exact = product_of(m, x.as_signed(), w, config.weights.exponent_bits, product_width)
    product = late(exact, stages, "product")
    tokens: list[Value] = [token]
    for i in range(stages + 1):
        # As it starts nothing is read.
        tokens.append(register(m, tokens[-1], f"spec_token_{i}", 7 if i == stages else 0))
    now, added = tokens[stages : stages + 2]
    sign, masked = w[weight_bits - 1], w[weight_bits:].any() if mask else Const(0, 1)
    enable, negative = Signal(name="spec_enable"), late(sign, stages, "sign")
    m.d.comb += enable.eq(now[0] & ~late(masked, stages, "masked"))

    bits = config.block_bits
    spec_acc = Signal(bits)
    with m.If(enable):
        m.d.sync += spec_acc.eq(spec_acc + product - negative)
    spec_negated = register(m, enable & negative, "spec_negated")
    equal = [("acc", "spec_acc"), ("negated", "spec_negated")]
    idle = register(m, added[1], "spec_idle")
    claims.claim(unit.capture.reading == Mux(idle, 0, late(spec_acc, 1, "reading")))
    claims.claim(Value.cast(unit.tally) == late(Cat(spec_negated, added[0] & ~added[1], added[2]), 1, "tally"))
    claims.claim(Value.cast(unit.token_out) == tokens[1])
    for port in ("x", "w") + (("special",) if config.activation.flag_bits else ()):
        before = late(Value.cast(getattr(unit, port)).as_unsigned(), 1, port)
        claims.claim(Value.cast(getattr(unit, f"{port}_out")).as_unsigned() == before)

    # The unit's registers are those of the specification, so that the induction starts from no state that cannot be.
    negate = Signal(name="spec_negate", init=1, reset_less=True)
    m.d.sync += negate.eq(sign)
    sign_of = negate
    equal.append(("negate", "spec_negate"))
    peeked: list[tuple[str, str]] = []
    select = Signal(name="spec_select", init=1, reset_less=True)
    m.d.sync += select.eq(w[config.weights.exponent_bits - 1])
    if weight_bits > 2:
        equal.append(("select", "spec_select"))
    if weight_bits == 4:
        sign_of = Signal(name="spec_negate_2", init=1, reset_less=True)
        select_2 = Signal(name="spec_select_2", init=1, reset_less=True)
        m.d.sync += [sign_of.eq(negate), select_2.eq(select)]
        equal += [("negate_2", "spec_negate_2"), ("select_2", "spec_select_2")]
    if isinstance(unit.adder, AddSigned):
        # The precondition of the adder: where `negative` is one, so is c or d.
        looks = {port: Signal(bits, name=f"in_{port}") for port in ("c", "d", "negative")}
        for port, look in looks.items():
            ports.append(look)
            peeked.append((look.name, f"adder_{port}"))
        claims.claim((looks["negative"] & ~(looks["c"] | looks["d"])) == 0)
    # one's complement of the shifted activation, before its upper shift
    link = Signal(signed(config.product_bits), name="spec_addend")
    m.d.comb += link.eq(product - sign_of)

    flag_bits = config.activation.flag_bits
    if flag_bits:
        special = Value.cast(unit.special)
        negative = (special[2] ^ sign) if flag_bits == 3 else Const(0, 1)
        marks = special[0] if flag_bits == 1 else Cat(special[0], special[1] & ~negative, special[1] & negative)
        spec_now = late(Mux(masked, 0, marks), stages, "now")
        spec_flags = Signal(flag_bits, reset_less=True)
        with m.If(~added[1]):  # a block has just been read: a new one begins
            m.d.sync += spec_flags.eq(Mux(now[0], spec_now, 0))
        with m.Elif(now[0]):
            m.d.sync += spec_flags.eq(spec_flags | spec_now)
        claims.claim(Value.cast(unit.capture.flags) == Mux(idle, 0, late(spec_flags, 1, "flags_reading")))
        equal += [("flags", "spec_flags")]
    bad = claims.close()
    text = rtlil.convert(m, name="top", ports=[*ports, link, bad], emit_src=False)
    parts = [rtlil.convert(part, name=part.module_name, emit_src=False) for part in unit.units]
    return Script("\n".join([*parts, text]), equal=tuple(equal), peeked=tuple(peeked))


class _InStep(wiring.Component):
    """`BlockSum` with all inputs in one cycle."""

    def __init__(self, config: Config) -> None:
        self.inner = BlockSum(config)
        super().__init__(dict(self.inner.signature.members.items()))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.inner = self.inner
        m.d.comb += [
            self.inner.reading.eq(self.reading),
            self.inner.previous.eq(self.previous),
            self.inner.negatives.eq(register(m, self.negatives, "negatives_late")),
            self.sum.eq(self.inner.sum),
        ]
        return m


def block_sum_script(name: str, weight_bits: int) -> Script:
    """`BlockSum`: readings `added` apart give `added` and the number of negatives, for whatever the accumulator can tell apart."""
    config = config_for(name, weight_bits)
    bits = config.block_bits
    p = Pipeline(lambda: _InStep(config), BlockSum.LATENCY)
    added = p.after(p.free("added", bits), BlockSum.LATENCY).as_signed()
    inputs = p.inputs
    p.assume(inputs["negatives"] <= config.rows)
    p.assume(inputs["reading"] == (inputs["previous"] + added)[:bits])
    p.claim(p.outputs["sum"] == added + inputs["negatives"])
    return p.script()


def wrap_script(name: str, weight_bits: int) -> Script:
    """No sum wraps, neither a block's nor a dot product's: the bound of one product, from the code on, and one step each of the
    induction over the number of products."""
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
    # A block's products as the PE adds them: one less where the weight is negative.
    addend = product - w[weight_bits - 1]
    half = 1 << (fmt.fixed_bits - 1 + (1 << (weight_bits - 1)) - 1)
    for rows in ROWS:
        bits = config_for(name, weight_bits, rows=rows).block_bits
        k, before = free(f"k_of_{rows}", 9), free(f"block_{rows}", bits + 2).as_signed()
        inside = (before >= -(k * half)) & (before <= k * (half - 1)) & (k < rows)
        after = before + addend
        claims.claim((after >= -((k + 1) * half)) & (after <= (k + 1) * (half - 1)), when=inside)
        claims.claim((after < (1 << (bits - 1))) & (after >= -(1 << (bits - 1))), when=inside)
    bad = claims.close()
    text = rtlil.convert(m, name="top", ports=[*ports, bad], emit_src=False)
    return Script(text, latency=0)


_EDGE = "hw/row_edge.py"
_NEGATION = Mutant(_EDGE, "self.x.eq(ones + sign_3)", "self.x.eq(ones)")
_SUBNORMAL = Mutant("hw/parts.py", "Cat(field[0] | ~normal, field[1:])", "field")
_EDGE_MUTANTS = {
    0: (Mutant(_EDGE, "self.x.eq(third.as_signed())", "self.x.eq(second.as_signed())"),),
    1: (_NEGATION, _SUBNORMAL, Mutant("hw/parts.py", "nan, inf = top & fraction.all()", "nan, inf = top")),
    3: (_NEGATION, _SUBNORMAL, Mutant(_EDGE, "special_1.negative.eq(parts.sign)", "special_1.negative.eq(0)")),
}
_PE = "hw/pe.py"
_PE_MUTANTS = (
    Mutant(_PE, "self.w[code.exponent_bits], self.w[: code.exponent_bits]", "self.w[0], self.w[: code.exponent_bits]"),
    Mutant(_PE, 'self.w_out.eq(register(m, self.w, "w_held"))', "self.w_out.eq(self.w)"),
    Mutant(_PE, 'unless(m, added.hold, acc, "capture_reading")', 'unless(m, token.hold, acc, "capture_reading")'),
    Mutant(_PE, "register(m, enable & negative,", "register(m, token.valid,"),
    Mutant(_PE, "Cat(negated, added.valid & ~added.hold,", "Cat(negated, ~added.hold,"),
)
_PE_SELECT = (
    Mutant(_PE, "c=_extended(addend, bits)", "c=_extended(Cat(addend, 0), bits)"),
    Mutant(_PE, "Cat(negate.replicate(distance), addend)", "Cat(Const(0, distance), addend)"),
)
_PE_SIGNED = (
    Mutant(_PE, "raised.eq(ones)", "raised.eq(0)"),
    Mutant(_PE, "with m.If(self.w[-1])", "with m.If(self.w[0])"),
    Mutant(_PE, "c=_extended(direct, bits)", "c=_extended(Cat(direct, 1), bits)"),
    # the same sum in plain Verilog, but not in carry cells: only the precondition tells
    Mutant(_PE, "d=_extended(Cat(1, raised), bits)", "d=_extended(Cat(direct[0], raised), bits)"),
)
_COLUMN = "hw/column.py"
_BLOCK_SUM_MUTANTS = (
    Mutant(_COLUMN, "(self.reading - self.previous)", "(self.reading)"),
    Mutant(_COLUMN, "[: self.config.block_bits].as_signed()", "[: self.config.block_bits]"),
    Mutant(_COLUMN, "change + self.negatives", "change"),
)
_PE_FLAGS = (
    Mutant(_PE, "flags.as_value() & added.hold.replicate(len(now))", "flags.as_value()"),
    Mutant(_PE, "now & token.valid.replicate(len(now))", "now"),
)
_PE_MASK = (
    Mutant(_PE, "token.valid & ~masked", "token.valid"),
    Mutant(_PE, "register(m, enable & negative,", "register(m, token.valid & negative,"),
)
_PE_MASK_FLAGS = Mutant(_PE, "self.special.nan & ~self.w[code.bits]", "self.special.nan")
_CONFIG = "shiftforge/config.py"
_WRAP_MUTANTS = (
    Mutant(_CONFIG, "(largest * self.max_k).bit_length() + 1", "(largest * self.max_k).bit_length()"),
    Mutant(_CONFIG, "(self.rows - 1).bit_length()", "(self.rows // 2).bit_length()"),
)


def element_proofs() -> list[Proof]:
    """Row edge of every format that is built; PE and accumulator width of every one with every width of weights."""
    found = []
    for name in ALIGNED_FORMATS:
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
            fast_pe = fast or (name == "int8" and bits == 2)
            mutants = (*_PE_MUTANTS, *(_PE_SIGNED if bits == 2 else _PE_SELECT), *(_PE_FLAGS if flag_bits else ()))
            found += [
                Proof(
                    f"block sum {name} w{bits}",
                    lambda name=name, bits=bits: block_sum_script(name, bits),
                    _BLOCK_SUM_MUTANTS,
                    fast=fast,
                ),
                Proof(f"PE {name} w{bits}", lambda name=name, bits=bits: pe_script(name, bits), mutants, fast=fast_pe),
                Proof(
                    f"no wrap {name} w{bits}",
                    lambda name=name, bits=bits: wrap_script(name, bits),
                    _WRAP_MUTANTS,
                    fast=fast,
                ),
            ]
    return found
