"""The one rounding of the hardware: a normalised exact value to any format, to nearest with ties to even, with its flags."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.delay import delayed, register
from hw.normalize import jam
from shiftforge import timing
from shiftforge.formats import FP32, Format

SIGNIFICAND_BITS = FP32.precision + 2
"""A significand on its way to a rounding: the most precise format's, a rounding bit, a sticky bit."""

SPECIAL = {"sign": In(1), "nan": In(1), "inf": In(1)}


def target_exponent(fmt: Format) -> int:
    """Exponent of the top bit of a significand in place: of the smallest normal (floats), of the sign bit (integers)."""
    return fmt.min_exponent if fmt.is_float else fmt.bits - 1


def kept_bits(fmt: Format) -> int:
    """Bits that a rounding keeps: the significand (floats), or a magnitude that reaches ``2**(bits - 1)`` (integers)."""
    return fmt.precision if fmt.is_float else fmt.bits


class Pack(wiring.Component):
    """Round an aligned significand and put the code together. Fully pipelined, latency ``timing.PACK``.

    Parameters
    ----------
    fmt : Format

    Members
    -------
    sign, nan, inf : In(1)
        The value's sign; it is a NaN, or an infinity (NaN counts first and `aligned` is then ignored).
    biased : In
        Floats only: exponent field of a normal result less one; must be 0 when the top bit of `aligned` is 0.
    huge : In(1)
        The value is beyond the format whatever `aligned` says; must be set, in formats with infinities, where the rounded code
        would lie past infinity's.
    aligned : In(kept_bits(fmt) + 2)
        Kept bits, rounding bit, sticky bit.
    saturate : In(1)
        Finite overflow gives the largest finite value instead of infinity (NaN where there is none). Stable.
    code : Out(fmt.bits)
    nv, of, nx : Out(1)
        As `golden.rounding.Flags`, for this value.
    """

    def __init__(self, fmt: Format) -> None:
        self.fmt = fmt
        biased = {"biased": In(fmt.exponent_bits)} if fmt.is_float else {}
        super().__init__(
            {
                **SPECIAL,
                **biased,
                "huge": In(1),
                "aligned": In(kept_bits(fmt) + 2),
                "saturate": In(1),
                "code": Out(fmt.bits),
                "nv": Out(1),
                "of": Out(1),
                "nx": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m, fmt = Module(), self.fmt
        kept = self.aligned[2:]
        up = Signal()
        m.d.comb += up.eq(self.aligned[1] & (self.aligned[0] | kept[0]))
        sign, nan, inf, huge = (register(m, v, f"packed_{v.name}") for v in (self.sign, self.nan, self.inf, self.huge))
        inexact = register(m, self.aligned[:2].any(), "inexact")
        finite = Signal()
        over = Signal()
        m.d.comb += finite.eq(~(nan | inf))
        code = Signal(fmt.bits)
        if fmt.is_float:
            # A carry out of the significand runs into the exponent field, and the hidden bit adds the missing one to it.
            f = fmt.fraction_bits
            rounded = Cat(kept[:f], self.biased) + Cat(up, Const(0, f - 1), kept[f])
            magnitude = register(m, rounded[: fmt.bits], "magnitude")
            # With infinities nothing but the code of infinity itself can come out above the largest finite one.
            above = magnitude[f : fmt.bits - 1].all() if fmt.has_inf else magnitude > fmt.max_finite
            m.d.comb += over.eq(finite & (huge | above))
            infinity = fmt.inf if fmt.has_inf else fmt.nan
            to_infinity = Signal()
            m.d.comb += to_infinity.eq(inf | (over & ~self.saturate))
            with m.If(nan | (to_infinity & (not fmt.has_inf))):
                m.d.comb += code.eq(fmt.nan)
            with m.Else():
                body = Mux(to_infinity, infinity, Mux(over, fmt.max_finite, magnitude))
                m.d.comb += code.eq(Cat(body[: fmt.bits - 1], sign))
            invalid: Value = Const(0, 1)
        else:
            # -(kept + up) is ~kept + 1 - up.
            flipped = Cat(kept ^ self.sign.replicate(len(kept)), self.sign, self.sign).as_signed()
            value = register(m, (flipped + (up ^ self.sign))[: fmt.bits + 2].as_signed(), "value")
            beyond = Signal()
            m.d.comb += [
                beyond.eq(huge | inf | (value[fmt.bits - 1 :] != value[fmt.bits - 1].replicate(3))),
                over.eq(finite & beyond),
            ]
            with m.If(nan):
                m.d.comb += code.eq(0)
            with m.Elif(beyond):
                m.d.comb += code.eq(Cat((~sign).replicate(fmt.bits - 1), sign))
            with m.Else():
                m.d.comb += code.eq(value[: fmt.bits])
            invalid = nan | inf
        outputs = (self.code, code), (self.nv, invalid), (self.of, over), (self.nx, finite & (inexact | over))
        m.d.comb += [port.eq(register(m, value, f"next_{port.name}")) for port, value in outputs]
        return m


class Round(wiring.Component):
    """Round a value to `fmt`, subnormal results included. Fully pipelined, latency ``timing.ROUND``.

    Parameters
    ----------
    fmt : Format
    exponent_bits : int
        Width of `exponent`.

    Members
    -------
    sign, nan, inf : In(1)
    exponent : In(signed(exponent_bits))
        Exponent of the top bit of `significand`.
    significand : In(SIGNIFICAND_BITS)
        Normalised (top bit 1), or any with its top bit 0 if `exponent` is at most ``target_exponent(fmt)`` or it is zero.
        The lowest bit is sticky.
    saturate : In(1)
        As in `Pack`.
    code, nv, of, nx
        As in `Pack`.
    """

    def __init__(self, fmt: Format, exponent_bits: int) -> None:
        self.fmt, self.exponent_bits = fmt, exponent_bits
        super().__init__(
            {
                **SPECIAL,
                "exponent": In(signed(exponent_bits)),
                "significand": In(SIGNIFICAND_BITS),
                "saturate": In(1),
                "code": Out(fmt.bits),
                "nv": Out(1),
                "of": Out(1),
                "nx": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m, fmt = Module(), self.fmt
        width = kept_bits(fmt) + 2
        levels = (width - 1).bit_length()
        target = target_exponent(fmt)

        # Cycle 1: how far right of its place the value lies, or how large its exponent field is.
        below = Signal(signed(max(self.exponent_bits, 8) + 2))
        normal, top = Signal(), self.significand[-1]
        m.d.comb += [below.eq(target - self.exponent), normal.eq(below[-1] & top)]
        distance = register(m, Mux(below[-1], 0, below[:levels]), "distance")
        far = register(m, ~below[-1] & below[levels:-1].any(), "far")
        largest = fmt.max_exponent if fmt.is_float else target
        huge = register(m, top & (self.exponent > largest), "huge")
        value: Value = register(m, jam(self.significand, width), "unshifted")

        # Cycles 2 and 3: shift right, long distances first, never losing a one.
        half = levels // 2
        for level in reversed(range(levels)):
            last = 1 << level
            shifted = Cat(value[: last + 1].any(), value[last + 1 :], Const(0, last))
            value = Mux(distance[level], shifted, value)
            if level == half:
                value = Mux(far, value.any(), value)
                value, distance = register(m, value, "half_shifted"), register(m, distance[:half], "rest")
        value = register(m, value, "aligned")

        m.submodules.pack = pack = Pack(fmt)
        m.d.comb += [
            pack.aligned.eq(value),
            pack.huge.eq(delayed(m, huge, 2, "huge")),
            pack.saturate.eq(self.saturate),
            self.code.eq(pack.code),
            self.nv.eq(pack.nv),
            self.of.eq(pack.of),
            self.nx.eq(pack.nx),
        ]
        if fmt.is_float:
            biased = register(m, Mux(normal, (self.exponent - target)[: fmt.exponent_bits], 0), "biased")
            m.d.comb += pack.biased.eq(delayed(m, biased, 2, "biased"))
        for name in SPECIAL:
            m.d.comb += getattr(pack, name).eq(delayed(m, getattr(self, name), timing.ROUND - timing.PACK, name))
        return m
