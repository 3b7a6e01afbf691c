"""Specifications that share nothing with the gateware: a result is decoded and compared with its neighbours' midpoints.

Nothing here shifts a significand into place, counts leading zeros or adds a rounding bit. A code is right when twice the exact
value lies between the midpoints to the codes below and above it, on them only if the code is even (IEEE 754-2019 clause 4.3.1).
"""

from dataclasses import dataclass

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed

from shiftforge.formats import Format
from sim.proofs.miter import Claims


@dataclass(frozen=True)
class Order:
    """How an exact value compares with another number."""

    less: Value
    equal: Value
    greater: Value


@dataclass(frozen=True)
class Exact:
    """An exact magnitude, ``significand * 2**exponent``: unsigned times signed."""

    significand: Value
    exponent: Value

    def compare(self, m: Module, other: Value, exponent: Value) -> Order:
        """This against ``other * 2**exponent``, without ever building the wide fixed-point numbers.

        A number of n bits shifted left by n' or more is above every number of n' bits unless it is zero, so no shift by more
        than the other's width is needed.
        """
        mine, its = len(self.significand), len(other)
        left = self.exponent - exponent
        apart = Signal(signed(len(left)))
        m.d.comb += apart.eq(left)

        def clamped(value: Value, most: int) -> Value:
            bits = most.bit_length()
            amount = Signal(bits)
            m.d.comb += amount.eq(Mux(value < 0, 0, Mux(value > most, most, value)))
            return amount

        a = Signal(mine + its)
        b = Signal(mine + its)
        m.d.comb += [a.eq(self.significand << clamped(apart, its)), b.eq(other << clamped(-apart, mine))]
        return Order(a < b, a == b, a > b)


@dataclass(frozen=True)
class Result:
    """What a rounding unit gave. `of`, `nx`, `nv` are None where it has no flags."""

    code: Value
    nv: Value | None = None
    of: Value | None = None
    nx: Value | None = None


def claim_rounded(
    claims: Claims,
    fmt: Format,
    exact: Exact,
    sign: Value,
    nan: Value,
    inf: Value,
    saturate: Value,
    result: Result,
    huge: Value | None = None,
) -> None:
    """Claim that `result` is `exact` with that sign rounded once to `fmt`, or what becomes of a NaN (first) or an infinity."""
    check = _claim_float if fmt.is_float else _claim_integer
    check(claims, fmt, exact, sign, nan, inf, saturate, result, Const(0, 1) if huge is None else huge)


def _claim_float(
    claims: Claims,
    fmt: Format,
    exact: Exact,
    sign: Value,
    nan: Value,
    inf: Value,
    saturate: Value,
    result: Result,
    huge: Value,
) -> None:
    m, bits, f = claims.m, fmt.bits, fmt.fraction_bits
    infinity = fmt.inf if fmt.has_inf else fmt.nan
    code, magnitude = result.code, result.code[: bits - 1]
    finite = ~(nan | inf)
    # Past the midpoint above the largest finite value, or on it if that one's significand is odd.
    field = fmt.max_finite >> f
    largest = (1 << f) | (fmt.max_finite & ((1 << f) - 1))
    limit = exact.compare(m, Const(4 * largest + 2), Const(fmt.lsb_exponent + field - 1 - 2, signed(12)))
    over = Signal()
    m.d.comb += over.eq(huge | limit.greater | (limit.equal & bool(largest & 1)))

    negative_infinity = infinity | fmt.sign_bit if fmt.has_inf else infinity
    claims.claim(code == fmt.nan, when=nan)
    claims.claim(code == Mux(sign, negative_infinity, infinity), when=inf & ~nan)
    claims.claim(code == Mux(sign, negative_infinity, infinity), when=finite & over & ~saturate)
    claims.claim(code == Mux(sign, fmt.max_finite | fmt.sign_bit, fmt.max_finite), when=finite & over & saturate)

    # In quarters of a unit of the code's last place, so that midpoints and the halved spacing below a power of two are whole.
    normal = magnitude[f:].any()
    significand = Signal(f + 1)
    quarter = Signal(signed(12))
    edge = Signal()
    m.d.comb += [
        significand.eq(Mux(normal, magnitude[:f] | (1 << f), magnitude[:f])),
        quarter.eq(Mux(normal, magnitude[f:], 1) + (fmt.lsb_exponent - 1 - 2)),
        edge.eq(~magnitude[:f].any() & (magnitude[f:] > 1)),
    ]
    four = Signal(f + 4)
    above, below = Signal(f + 4), Signal(f + 4)
    m.d.comb += [
        four.eq(significand * 4),
        above.eq(four + 2),
        below.eq(Mux(four == 0, 0, four - Mux(edge, 1, 2))),  # of 0 no claim looks at it
    ]
    even = ~code[0]
    up, down, at = (exact.compare(m, bound, quarter) for bound in (above, below, four))
    plain = finite & ~over
    claims.claim(magnitude <= fmt.max_finite, when=plain)
    claims.claim(code[-1] == sign, when=plain)
    claims.claim(up.less | (up.equal & even), when=plain)
    claims.claim((magnitude == 0) | down.greater | (down.equal & even), when=plain)
    if result.nv is not None and result.of is not None and result.nx is not None:
        claims.claim(~result.nv)
        claims.claim(result.of == (finite & over))
        claims.claim(result.nx == (finite & (over | ~at.equal)))


def _claim_integer(
    claims: Claims,
    fmt: Format,
    exact: Exact,
    sign: Value,
    nan: Value,
    inf: Value,
    saturate: Value,
    result: Result,
    huge: Value,
) -> None:
    m, bits = claims.m, fmt.bits
    finite = ~(nan | inf)
    highest, lowest = (1 << (bits - 1)) - 1, 1 << (bits - 1)  # the lowest as a pattern, and as a magnitude
    half = Const(-1, signed(12))
    above = exact.compare(m, Const(2 * highest + 1), half)  # on the midpoint, even is beyond
    below = exact.compare(m, Const(2 * lowest + 1), half)  # on the midpoint, even is the lowest
    over = Signal()
    m.d.comb += over.eq(huge | Mux(sign, below.greater, ~above.less))
    end = Mux(sign, lowest, highest)
    claims.claim(result.code == 0, when=nan)
    claims.claim(result.code == end, when=inf & ~nan)
    claims.claim(result.code == end, when=finite & over)

    code = result.code.as_signed()
    magnitude = Signal(bits)
    m.d.comb += magnitude.eq(Mux(code < 0, -code, code))
    up = exact.compare(m, Value.cast(magnitude * 2 + 1), half)
    down = exact.compare(m, Value.cast(magnitude * 2 - 1)[: bits + 1], half)
    at = exact.compare(m, Value.cast(magnitude * 2), half)
    even = ~result.code[0]
    plain = finite & ~over
    claims.claim((magnitude == 0) | (result.code[-1] == sign), when=plain)
    claims.claim(up.less | (up.equal & even), when=plain)
    claims.claim((magnitude == 0) | down.greater | (down.equal & even), when=plain)
    if result.nv is not None and result.of is not None and result.nx is not None:
        claims.claim(result.nv == (nan | inf))
        claims.claim(result.of == (finite & over))
        claims.claim(result.nx == (finite & (over | ~at.equal)))
