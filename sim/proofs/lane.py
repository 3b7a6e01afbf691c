"""Claims about the lane's way from an exact sum to a code, and about every normaliser in it."""

from amaranth.hdl import Const, Mux, Signal, Value

from hw.lane import Lane
from hw.rounding import SIGNIFICAND_BITS
from shiftforge import timing
from shiftforge.config import HARDWARE_FORMATS
from shiftforge.formats import FORMATS
from sim.proofs.element import config_for
from sim.proofs.miter import Mutant, Pipeline, Proof, Script
from sim.proofs.rounding import normalize_script
from sim.proofs.spec import Exact, Result, claim_rounded

_RESIDUAL = ("residual", "residual_scale", "add_residual")
_POST_PROCESSING = ("scale", "bias", "post", "to_activation", "act_kind", "act_shift", "clamp_lo", "clamp_hi")


def resolve_script(activation: str, output: str, *, residual: bool = False) -> Script:
    """`Lane` without post-processing: sum, flags and exponent bias to the code and flags, in one rounding."""
    config = config_for(activation, 3, output=output, residual=residual)
    fmt = config.output
    zero = (*_POST_PROCESSING, *(_RESIDUAL if residual else ()))
    p = Pipeline(lambda: Lane(config), timing.lane(config), stable=("exponent_bias", "saturate"), zero=zero)
    total, bias = p.inputs["sum"], p.inputs["exponent_bias"]
    flags = p.inputs.get("flags", Const(0, 0))
    nan, positive, negative = (flags[i] if i < len(flags) else Const(0, 1) for i in range(3))
    magnitude = Signal(config.accumulator_bits)
    sign = Signal()
    p.m.d.comb += [
        magnitude.eq(Mux(total < 0, -total, total)),
        sign.eq(Mux(positive | negative, negative, total < 0)),
    ]
    both = positive & negative
    outputs = p.outputs
    p.claim(outputs["code"][fmt.bits :] == 0)
    if fmt.is_float:
        p.claim(outputs["nv"] == (both & ~nan))
    nv = Const(0, 1) if fmt.is_float else outputs["nv"]
    claim_rounded(
        p,
        fmt,
        Exact(magnitude, Value.cast(bias + config.activation.lsb_exponent)),
        sign,
        nan | both,
        positive | negative,
        p.inputs["saturate"],
        Result(outputs["code"][: fmt.bits], nv, outputs["of"], outputs["nx"]),
    )
    return p.script()


_LANE = "hw/lane.py"
_RESOLVE = (
    Mutant(_LANE, "(config.activation.lsb_exponent + width - 1)", "(config.activation.lsb_exponent + width)"),
    Mutant(_LANE, "replicate(width)) + negative)[:width]", "replicate(width)))[:width]"),
)
_SHORT_WAY = Mutant(
    _LANE, "timing.lane_parameters(config) - timing.ROUND", "timing.lane_parameters(config) - timing.FP32_ADD"
)
_RESOLVE_FLAGS = Mutant(_LANE, "nan | both, infinite, both & ~nan", "nan, infinite, both & ~nan")
_ANY = "~value[max(0, len(value) - distance) :].any() & self"
_NORMALIZE = (Mutant("hw/normalize.py", _ANY, "~value[max(0, len(value) - distance)] & self"),)
_STICKY = Mutant("hw/normalize.py", "Cat(value[:lost].any(), value[lost:])", "Cat(value[lost - 1], value[lost:])")
_BUDGET = Mutant("hw/normalize.py", "Mux(taken, above != 1, above.any()) | left[level]", "above.any() | left[level]")


def lane_proofs() -> list[Proof]:
    """Normalisers by width; resolve and round from every built format to itself, to binary32, bfloat16 and int8."""
    shapes = {
        "fp32 product": (48, timing.FP32_LEVELS, 0, (*_NORMALIZE, _STICKY)),
        "fp32 sum": (28, timing.FP32_LEVELS, 8, (*_NORMALIZE, _BUDGET)),
    }
    for name in HARDWARE_FORMATS:
        config = config_for(name, 3)
        width = config.accumulator_bits
        mutants = (*_NORMALIZE, _STICKY) if width > SIGNIFICAND_BITS else _NORMALIZE
        shapes[f"{name} accumulator"] = (width, timing.resolve_levels(config), 0, mutants)
    found = []
    for name, (width, levels, budget, mutants) in shapes.items():
        found.append(
            Proof(
                f"normalize {name}",
                lambda w=width, n=levels, b=budget: normalize_script(w, SIGNIFICAND_BITS, n, b),
                mutants,
                fast=budget > 0,
            )
        )
    for name in HARDWARE_FORMATS:
        for output in dict.fromkeys((name, "fp32", "bf16", "int8")):
            extra = (_RESOLVE_FLAGS,) if FORMATS[name].flag_bits == 3 else ()
            found.append(
                Proof(
                    f"resolve {name} to {output}",
                    lambda name=name, output=output: resolve_script(name, output),
                    (*_RESOLVE, *extra),
                    fast=name == output == "fp8_e4m3",
                )
            )
        found.append(
            Proof(
                f"resolve {name} to {name}, on a machine with residuals",
                lambda name=name: resolve_script(name, name, residual=True),
                (*_RESOLVE, _SHORT_WAY),
            )
        )
    return found
