"""Claims about the lane's way from an exact sum to a code, and about every normaliser in it."""

from collections.abc import Callable
from unittest.mock import patch

from amaranth.hdl import Const, Elaboratable, Module, Mux, Signal, Value

import hw.lane
from hw.lane import Lane
from hw.normalize import Normalize
from hw.rounding import SIGNIFICAND_BITS
from shiftforge import timing
from shiftforge.config import ALIGNED_FORMATS, BANKED_FORMATS
from shiftforge.errors import InputError
from shiftforge.formats import FORMATS
from sim.proofs.element import config_for
from sim.proofs.miter import Mutant, Pipeline, Proof, Script
from sim.proofs.rounding import Jammed, normalize_script, order_script
from sim.proofs.spec import Exact, Result, claim_rounded

_RESIDUAL = ("residual", "residual_scale", "add_residual")
_POST_PROCESSING = ("scale", "bias", "post", "to_activation", "act_kind", "act_shift", "clamp_lo", "clamp_hi")


class _AnyNormalised(Elaboratable):
    """In the place of a lane's `Normalize`: what goes in is seen, what comes out is free."""

    def __init__(self, width: int, levels: int) -> None:
        self._made_for = (width, SIGNIFICAND_BITS, levels)
        self.value, self.result, self.left = Signal(width), Signal(SIGNIFICAND_BITS), Signal(levels)

    def __call__(self, *parameters: int) -> "_AnyNormalised":
        """Instead of the class: the lane's own parameters must be those that the normaliser is proven for."""
        if parameters != self._made_for:
            raise InputError(f"normaliser must be {self._made_for}, not {parameters}")
        return self

    def elaborate(self, platform: object) -> Module:
        return Module()


def resolve_script(activation: str, output: str, *, residual: bool = False) -> Script:
    """`Lane` without post-processing: sum, flags and exponent bias to the code and flags, in one rounding.

    Sums of banked accumulators are too wide for this in one piece. There the normaliser, which has a proof of its own, is taken
    out: its input is claimed to be the sum's magnitude; its outputs are free within what is proven of them, and what they stand
    for is claimed to be rounded.
    """
    config = config_for(activation, 3, output=output, residual=residual)
    fmt, width = config.output, config.accumulator_bits
    latency, levels, wait = timing.lane(config), timing.resolve_levels(config), timing.lane_resolve(config)
    zero = (*_POST_PROCESSING, *(_RESIDUAL if residual else ()))
    p = Pipeline(lambda: Lane(config), latency, stable=("exponent_bias", "saturate"), zero=zero)
    total, bias = p.inputs["sum"], p.inputs["exponent_bias"]
    flags = p.inputs.get("flags", Const(0, 0))
    nan, positive, negative = (flags[i] if i < len(flags) else Const(0, 1) for i in range(3))
    magnitude = Signal(width)
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
    exact = Exact(magnitude, Value.cast(bias + config.activation.lsb_exponent))
    made: Callable[..., Normalize | _AnyNormalised] = Normalize
    if config.banked:
        made = normalize = _AnyNormalised(width, levels)
        before = wait - timing.normalize(levels)
        p.claim(p.after(normalize.value, latency - before) == magnitude)
        given = [p.after(p.free(port.name, len(port)), wait) for port in (normalize.result, normalize.left)]
        p.m.d.comb += [normalize.result.eq(given[0]), normalize.left.eq(given[1])]
        result, left = (p.after(value, latency - wait) for value in given)
        p.assume((result == 0) | (result[-1] & (left < width)))
        exact = Jammed(result, Value.cast(exact.exponent + (width - SIGNIFICAND_BITS) - left), p)
    claim_rounded(
        p,
        fmt,
        exact,
        sign,
        nan | both,
        positive | negative,
        p.inputs["saturate"],
        Result(outputs["code"][: fmt.bits], nv, outputs["of"], outputs["nx"]),
    )
    with patch.object(hw.lane, "Normalize", made):
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
_LEFT = Mutant(_LANE, "(top - normalize.left)", "(top + normalize.left)")
_WITHIN_WIDTH = (
    Mutant("sim/proofs/spec.py", "clamped(apart, its)", "clamped(apart, its - 1)"),
    Mutant("sim/proofs/spec.py", "clamped(-apart, mine)", "clamped(-apart, mine - 1)"),
)
"""Of the specification: one place less than there must be in its comparison."""
_WIDE = tuple(name for name in BANKED_FORMATS if name not in ALIGNED_FORMATS)
"""Formats whose accumulators are banked and nothing else. Where they can be both, the lane is the same."""
_LIMIT_S = 600.0
"""Of normalisers and orders, for the wide ones on a busy core."""


def lane_proofs() -> list[Proof]:
    """Normalisers by width; resolve and round from every built format to itself, to binary32, bfloat16 and int8, and wide sums to
    binary16 as well."""
    shapes = {
        "fp32 product": (48, timing.FP32_LEVELS, 0, (*_NORMALIZE, _STICKY)),
        "fp32 sum": (28, timing.FP32_LEVELS, 8, (*_NORMALIZE, _BUDGET)),
    }
    for name in (*ALIGNED_FORMATS, *_WIDE):
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
                limit_s=_LIMIT_S,
            )
        )
    for name in _WIDE:
        width = config_for(name, 3).accumulator_bits
        found.append(
            Proof(
                f"order of a jammed {name} accumulator",
                lambda w=width: order_script(w, SIGNIFICAND_BITS),
                (_STICKY, *_WITHIN_WIDTH),
                limit_s=_LIMIT_S,
            )
        )
    for name in (*ALIGNED_FORMATS, *_WIDE):
        wide = (_LEFT,) if name in _WIDE else ()
        for output in dict.fromkeys((name, "fp32", "bf16", "int8", *(("fp16",) if wide else ()))):
            extra = (*((_RESOLVE_FLAGS,) if FORMATS[name].flag_bits == 3 else ()), *wide)
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
                (*_RESOLVE, _SHORT_WAY, *wide),
            )
        )
    return found
