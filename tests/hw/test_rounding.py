"""The rounding unit against Fractions, for every format of the table: ties, range ends, subnormals, specials, both overflows."""

import random
from fractions import Fraction

import pytest

from golden.reference import round_to
from hw.rounding import SIGNIFICAND_BITS, Round, kept_bits, target_exponent
from shiftforge import timing
from shiftforge.formats import FORMATS, Format
from tests.hw.pipeline import stream

EXPONENT_BITS = 10


def cases(fmt: Format, rng: random.Random) -> list[dict[str, int]]:
    """Significands whose tails are 0, just off 0, half, just off half or any, at all exponents that matter."""
    top = 1 << (SIGNIFICAND_BITS - 1)
    target = target_exponent(fmt)
    largest = fmt.max_exponent if fmt.is_float else target
    exponents = [*range(target - kept_bits(fmt) - 3, target + 2), *range(largest - 1, largest + 3), -400, 300]
    found = []
    for exponent in exponents:
        # The place of the last kept bit: higher when the result is subnormal or an integer.
        tail = SIGNIFICAND_BITS - kept_bits(fmt) + max(0, target - exponent)
        for _ in range(6):
            head = rng.getrandbits(SIGNIFICAND_BITS) | top
            if rng.random() < 0.3:
                head = (1 << SIGNIFICAND_BITS) - 1
            tail = min(tail, SIGNIFICAND_BITS)
            low = rng.choice(
                (
                    0,
                    1,
                    1 << (tail - 1),
                    (1 << (tail - 1)) - 1,
                    (1 << (tail - 1)) + 1,
                    (1 << tail) - 1,
                    rng.getrandbits(tail),
                )
            )
            significand = ((head >> tail << tail) | (low & ((1 << tail) - 1))) | top
            found.append(
                {"exponent": exponent, "significand": significand, "sign": rng.getrandbits(1), "nan": 0, "inf": 0}
            )
    subnormal = {"exponent": min(target, -126), "significand": top >> 3 | 1 << 5, "sign": 1, "nan": 0, "inf": 0}
    zeros = [{"exponent": e, "significand": 0, "sign": s, "nan": 0, "inf": 0} for e in (-400, 0, 300) for s in (0, 1)]
    specials = [
        {"exponent": 128, "significand": top, "sign": s, "nan": n, "inf": i}
        for s in (0, 1)
        for n, i in ((1, 0), (0, 1), (1, 1))
    ]
    return [*found, subnormal, *zeros, *specials]


@pytest.mark.parametrize("saturate", [0, 1])
@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
def test_it_equals_the_fractions(fmt, saturate):
    rng = random.Random(f"{fmt.name} {saturate}")
    inputs = cases(fmt, rng)
    unit = Round(fmt, EXPONENT_BITS)
    results = stream(unit, [{**case, "saturate": saturate} for case in inputs], timing.ROUND)
    for case, found in zip(inputs, results, strict=True):
        if case["nan"]:
            value = "nan"
        elif case["inf"]:
            value = "-inf" if case["sign"] else "+inf"
        else:
            value = Fraction(case["significand"]) * Fraction(2) ** (case["exponent"] - SIGNIFICAND_BITS + 1)
            value = -value if case["sign"] else value
        code, nv, of, nx = round_to(fmt, value, negative_zero=bool(case["sign"]), saturate=bool(saturate))
        assert found == {"code": code, "nv": nv, "of": of, "nx": nx}, case
