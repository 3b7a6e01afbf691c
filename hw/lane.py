"""The post-processing lane: an exact sum in, a code of the destination format out, one per cycle."""

from amaranth.hdl import Cat, Const, Module, Mux, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.activation import EXPONENT_BITS as ACTIVATED_EXPONENT_BITS
from hw.activation import Activate
from hw.delay import delayed, register
from hw.fp32 import Fp32Add, Fp32Multiply
from hw.normalize import Normalize
from hw.parts import Parts
from hw.rounding import SIGNIFICAND_BITS, Round
from hw.widen import Widen
from shiftforge import timing
from shiftforge.config import Config
from shiftforge.formats import FP32

EXACT_EXPONENT_BITS = 10
"""Signed width of the exponent of an exact sum: any accumulator's, shifted by -128..127."""


class Lane(wiring.Component):
    """Resolve and round, post-process, round. Fully pipelined: one result per cycle, latency ``timing.lane(config)``.

    ::

        sum -> magnitude, normalise -+-> round to fp32 -> * scale -> + bias -> [+ r] -> activation -+-> round -> code
                                     +------------------- post = 0: the exact sum ------------------+

    ``[+ r]``, on machines with residuals alone: the residual's element as binary32, times its scale; -0 where there is none, which
    changes no number.

    Nothing stalls it and it has no valid bits; whoever feeds it keeps them, and masks the flags with them.
    Source: docs, number contract; `golden.rounding` and `golden.post` are the same in software.

    Parameters
    ----------
    config : Config

    Members
    -------
    sum : In(signed(config.accumulator_bits))
        In units of ``2**config.activation.lsb_exponent``.
    flags : In(config.activation.flag_bits), absent for integers
        Bit 0 a NaN, bit 1 a +infinity, bit 2 a -infinity was among the products. Sampled with `sum`.
    scale, bias : In(32)
        Binary32, sampled ``timing.lane_parameters(config)`` cycles after their `sum`.
    residual : In(activation.bits), absent without `residual` in the configuration, as the two that follow
        A code, sampled ``timing.lane_residual(config)`` cycles after its `sum`.
    residual_scale : In(32), add_residual : In(1)
        Stable while results are in flight.
    exponent_bias : In(signed(8))
        Stable while results are in flight, as all that follow.
    post : In(1)
        1: post-processing in binary32; 0: the exact sum is rounded to the destination.
    saturate : In(1)
        Finite overflow of the last rounding gives the largest finite value.
    to_activation : In(1)
        Destination: 1 `config.activation`, 0 `config.output`.
    act_kind, act_shift, clamp_lo, clamp_hi : In
        As `hw.activation.Activate`.
    code : Out(max(config.activation.bits, config.output.bits))
        Unused upper bits are zero.
    nv, of, nx : Out(1)
        Flags of this result.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.latency = timing.lane(config)
        flags = {"flags": In(config.activation.flag_bits)} if config.activation.flag_bits else {}
        residual = {"residual": In(config.activation.bits), "residual_scale": In(32), "add_residual": In(1)}
        super().__init__(
            {
                **(residual if config.residual else {}),
                "sum": In(signed(config.accumulator_bits)),
                **flags,
                "scale": In(32),
                "bias": In(32),
                "exponent_bias": In(signed(8)),
                "post": In(1),
                "saturate": In(1),
                "to_activation": In(1),
                "act_kind": In(2),
                "act_shift": In(4),
                "clamp_lo": In(32),
                "clamp_hi": In(32),
                "code": Out(max(config.activation.bits, config.output.bits)),
                "nv": Out(1),
                "of": Out(1),
                "nx": Out(1),
            }
        )

    @property
    def module_name(self) -> str:
        """Name of the generated module, with the parameters that shape it."""
        c = self.config
        residual = "_residual" if c.residual else ""
        return f"sf_lane_{c.activation.name}_{c.output.name}_acc{c.accumulator_bits}{residual}"

    def elaborate(self, platform: object) -> Module:
        m, config = Module(), self.config
        formats = {f.name: f for f in (config.activation, config.output)}
        to_output = ~self.to_activation if len(formats) == 2 else Const(1, 1)

        exact, invalid = self._resolve(m)

        # Post-processing in binary32. Its own overflow is IEEE's; `saturate` holds here only if this is the last rounding.
        m.submodules.to_fp32 = to_fp32 = Round(FP32, EXACT_EXPONENT_BITS)
        m.submodules.multiply = multiply = Fp32Multiply()
        m.submodules.add = add = Fp32Add()
        m.submodules.activate = activate = Activate()
        m.d.comb += [
            _value_of(to_fp32).eq(exact),
            to_fp32.saturate.eq(self.saturate & ~self.post),
            multiply.a.eq(to_fp32.code),
            multiply.b.eq(self.scale),
            add.a.eq(multiply.code),
            add.b.eq(delayed(m, self.bias, timing.FP32_MULTIPLY, "bias")),
            activate.x.eq(self._with_residual(m, add.code) if config.residual else add.code),
            activate.kind.eq(self.act_kind),
            activate.shift.eq(self.act_shift),
            activate.lo.eq(self.clamp_lo),
            activate.hi.eq(self.clamp_hi),
        ]
        activated = _value_of(activate)
        code_fp32: Value = Const(0, 32)
        if timing.lane_rounds_activation(config):
            m.submodules.round_activated = rounding = Round(FP32, ACTIVATED_EXPONENT_BITS)
            m.d.comb += _value_of(rounding).eq(activated)
            code_fp32 = rounding.code
            parts = Parts.of(code_fp32)
            exponent = Cat(parts.exponent, Const(0, 1)).as_signed() - FP32.bias
            activated = Cat(
                parts.sign,
                parts.nan,
                parts.inf,
                exponent[:ACTIVATED_EXPONENT_BITS],
                Const(0, SIGNIFICAND_BITS - FP32.precision),
                parts.significand,
            )

        # The way around it: the exact value, or where binary32 is the destination, its first rounding; and the flags so far.
        wait = self.latency - timing.lane_parameters(config) - timing.ROUND
        direct = Cat(delayed(m, exact, timing.ROUND, "exact"))
        first = self.post
        if FP32.name in formats:
            to_binary32 = to_output if config.output == FP32 else ~to_output
            direct = Mux(to_binary32, to_fp32.code, direct)
            first = self.post | to_binary32
        carried = Cat(delayed(m, invalid, timing.ROUND, "invalid"), to_fp32.of & first, to_fp32.nx & first, direct)
        carried = delayed(m, carried, wait, "carried")
        flags, direct = delayed(m, carried[:3], timing.ROUND, "first_flags"), carried[3:]

        # The last rounding, one for each destination; binary32 has had it.
        results: dict[str, Value] = {}
        widened = Cat(activated[: 3 + ACTIVATED_EXPONENT_BITS], activated[2 + ACTIVATED_EXPONENT_BITS], activated[-26:])
        for name, fmt in formats.items():
            if fmt == FP32:
                code = delayed(m, Mux(self.post, code_fp32, direct[:32]), timing.ROUND, "code_fp32")
                results[name] = Cat(Const(0, 3), code)
            else:
                m.submodules[f"round_{name}"] = rounding = Round(fmt, EXACT_EXPONENT_BITS)
                m.d.comb += [
                    _value_of(rounding).eq(Mux(self.post, widened, direct)),
                    rounding.saturate.eq(self.saturate),
                ]
                results[name] = Cat(rounding.nv, rounding.of, rounding.nx, rounding.code)
        result = Mux(to_output, results[config.output.name], results[config.activation.name])
        m.d.comb += [Cat(self.nv, self.of, self.nx).eq(result[:3] | flags), self.code.eq(result[3:])]
        return m

    def _with_residual(self, m: Module, code: Value) -> Value:
        """`code` and the residual's product, which meets it, added."""
        m.submodules.widen = widen = Widen(self.config.activation)
        m.submodules.multiply_residual = multiply = Fp32Multiply()
        m.submodules.add_residual = add = Fp32Add()
        m.d.comb += [
            widen.x.eq(self.residual),
            multiply.a.eq(widen.code),
            multiply.b.eq(self.residual_scale),
            add.a.eq(code),
            add.b.eq(Mux(self.add_residual, multiply.code, 1 << 31)),
        ]
        return add.code

    def _resolve(self, m: Module) -> tuple[Value, Value]:
        """The exact sum in the order of `_value_of`, normalised, and whether it is an invalid operation."""
        config, width = self.config, self.config.accumulator_bits
        wait = timing.lane_resolve(config)
        negative = self.sum[-1]
        magnitude = ((self.sum ^ negative.replicate(width)) + negative)[:width]
        m.submodules.normalize = normalize = Normalize(width, SIGNIFICAND_BITS, timing.resolve_levels(config))
        m.d.comb += normalize.value.eq(register(m, magnitude, "magnitude"))
        top = register(m, self.exponent_bias + (config.activation.lsb_exponent + width - 1), "top_exponent")
        exponent = (top - normalize.left)[:EXACT_EXPONENT_BITS]

        count = self.config.activation.flag_bits
        seen = [self.flags[i] if i < count else Const(0, 1) for i in range(3)]
        nan, positive, negative_infinity = seen
        infinite, both = positive | negative_infinity, positive & negative_infinity
        special = Cat(Mux(infinite, negative_infinity, negative), nan | both, infinite, both & ~nan)
        special = delayed(m, special, wait, "special")
        return Value.cast(Cat(special[:3], exponent, normalize.result)), Value.cast(special[3])


def _value_of(unit: Round | Activate) -> Value:
    """The ports that hold a value on its way to a rounding, as one word."""
    return Value.cast(Cat(unit.sign, unit.nan, unit.inf, unit.exponent, unit.significand))
