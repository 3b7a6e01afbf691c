"""Post-processing against NumPy float32 scalars, one operation at a time, between two roundings by the reference."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest

from golden import reference
from golden.post import post_process
from golden.rounding import Flags, storage_dtype
from golden.sums import Sums
from shiftforge.activation import Activation
from shiftforge.binary32 import apply_activation
from shiftforge.errors import InputError
from shiftforge.formats import FORMATS, FP32, Format
from tests.golden.cases import ALL, random_codes

ACTIVATIONS = [
    Activation.none(),
    Activation.relu(),
    Activation.clamp(0.0, 6.0),
    Activation.clamp(-1.5, math.inf),
    Activation.clamp(-0.0, 0.0),
    Activation.leaky(0),
    Activation.leaky(3),
    Activation.leaky(15),
]


def fp32(bits: int) -> np.float32:
    return np.array([bits], np.uint32).view(np.float32)[0]


def pattern(value: np.float32) -> int:
    """The bits of a scalar, NaN canonical."""
    return FP32.nan if np.isnan(value) else int(np.array([value], np.float32).view(np.uint32)[0])


def scalar_activation(x: np.float32, activation: Activation) -> np.float32:
    """The definition in words, written out for one value."""
    if np.isnan(x):
        return fp32(FP32.nan)
    if activation.kind == "relu":
        return x if x > 0 else np.float32(0)
    if activation.kind == "leaky":
        return x if x > 0 else x * np.float32(2.0**-activation.shift)
    if activation.kind == "clamp":
        lo, hi = fp32(activation.lo), fp32(activation.hi)
        if x == 0 and hi == 0:
            x = hi if np.signbit(hi) else x
        elif x > hi:
            x = hi
        if x == 0 and lo == 0:
            return x if np.signbit(lo) else lo
        return lo if x < lo else x
    return x


def scalar_post(value, scale, bias, activation, output, saturate, exponent_bias, residual, residual_scale):
    """One element: the code and the flags."""
    if isinstance(value, Fraction):
        value *= Fraction(2) ** exponent_bias
    bits, *first = reference.round_to(FP32, value)
    with np.errstate(all="ignore"):
        x = fp32(bits) * scale
        x = fp32(pattern(x)) + bias
        if residual is not None:
            x = fp32(pattern(x)) + fp32(pattern(fp32(pattern(residual)) * residual_scale))
        x = fp32(pattern(scalar_activation(fp32(pattern(x)), activation)))
    bits = pattern(x)
    code, *last = reference.round_to(
        output, reference.value_of(FP32, bits), negative_zero=bool(bits >> 31), saturate=saturate
    )
    return code, Flags(*first) | Flags(*last)


def random_sums(rng: np.random.Generator, m: int, n: int) -> tuple[Sums, list[list[reference.Value]]]:
    """Sums of every size with some conditions, and their values."""
    integers = np.empty((m, n), object)
    for i in np.ndindex(m, n):
        integers[i] = (
            int(rng.integers(-(1 << 40), 1 << 40)) << int(rng.choice([0, 0, 0, 30, 100])) >> int(rng.integers(0, 60))
        )
    pos, neg, nan = (rng.random((m, n)) < 0.05 for _ in range(3))
    sums = Sums.from_integers(integers, -24, pos_inf=pos, neg_inf=neg, nan=nan)
    values: list[list[reference.Value]] = [
        [
            "nan" if nan[i, j] or (pos[i, j] and neg[i, j]) else "+inf" if pos[i, j] else "-inf" if neg[i, j]
            else Fraction(integers[i, j]) / 2**24
            for j in range(n)
        ]
        for i in range(m)
    ]  # fmt: skip
    return sums, values


@pytest.mark.parametrize("overflow", ["inf", "saturate"])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: f"{a.kind}-{a.lo:x}-{a.hi:x}-{a.shift}")
@pytest.mark.parametrize("output", ALL, ids=lambda f: f.name)
def test_as_scalars(output: Format, activation: Activation, overflow):
    rng = np.random.default_rng([output.bits, ACTIVATIONS.index(activation)])
    for case in range(2):
        residual_format = ALL[int(rng.integers(len(ALL)))] if case else None
        sums, values = random_sums(rng, 8, 6)
        scale, bias = (
            np.where(
                rng.random(6) < 0.7,
                rng.standard_normal(6).astype(np.float32),
                random_codes(FP32, (6,), rng).view(np.float32),
            ).astype(np.float32)
            for _ in range(2)
        )
        exponent_bias = int(rng.integers(-20, 10))
        residual = None if residual_format is None else random_codes(residual_format, (8, 6), rng)
        residual_scale = np.float32(rng.choice([1.0, 0.37, -2.5e-3, 0.0, np.inf]))
        codes, flags = post_process(
            sums, scale, bias, exponent_bias=exponent_bias, activation=activation, output=output, overflow=overflow,
            residual=residual, residual_format=residual_format, residual_scale=residual_scale,
        )  # fmt: skip
        assert codes.dtype == storage_dtype(output)
        seen = Flags(nv=bool((sums.pos_inf & sums.neg_inf & ~sums.nan).any()))
        for i, j in np.ndindex(8, 6):
            widened = None
            if residual is not None and residual_format is not None:
                widened = np.float32(float(reference.value_of(residual_format, int(residual[i, j]))))
                if residual_format.is_float and int(residual[i, j]) == residual_format.sign_bit:
                    widened = np.float32(-0.0)
            code, raised = scalar_post(
                values[i][j], scale[j], bias[j], activation, output, overflow == "saturate", exponent_bias, widened, residual_scale
            )  # fmt: skip
            assert int(codes[i, j]) == code, (i, j, values[i][j], scale[j], bias[j])
            seen |= raised
        assert flags == seen


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: f"{a.kind}-{a.lo:x}-{a.hi:x}-{a.shift}")
def test_activation_of_corner_and_random_values(activation):
    corners = np.array([-6.5, -1.5, -1.0, 6.0, np.nextafter(np.float32(6), np.float32(7)), 3.0], np.float32)
    values = np.concatenate([random_codes(FP32, (3000,), np.random.default_rng(0)).view(np.float32), corners])
    got = apply_activation(values, activation).view(np.uint32)
    with np.errstate(all="ignore"):
        assert got.tolist() == [pattern(scalar_activation(v, activation)) for v in values]


def test_activations_of_zeros_and_subnormals():
    def bits(activation: Activation, *values: float) -> list[int]:
        return apply_activation(np.array(values, np.float32), activation).view(np.uint32).tolist()

    minus_zero = 0x80000000
    assert bits(Activation.relu(), -0.0, 0.0, -1e-45, 1e-45) == [0, 0, 0, 1]
    assert bits(Activation.clamp(0.0, 6.0), -0.0, 0.0, -1.0, 7.0) == [0, 0, 0, 0x40C00000]
    assert bits(Activation.clamp(-0.0, 6.0), -0.0, -1.0) == [minus_zero, minus_zero]
    assert bits(Activation.clamp(-1.0, -0.0), 0.0, 1.0, -0.0) == [minus_zero] * 3
    # -3 * 2**-149 / 2 is a tie: to even, -2 * 2**-149; -1 * 2**-149 / 2 ties to -0.
    assert bits(Activation.leaky(1), -3 * 2.0**-149, -(2.0**-149), -0.0) == [0x80000002, minus_zero, minus_zero]
    assert bits(Activation.leaky(2), np.inf, -np.inf, 5.0) == [0x7F800000, 0xFF800000, 0x40A00000]


def test_clamp_at_zero_is_relu():
    values = random_codes(FP32, (3000,), np.random.default_rng(1)).view(np.float32)
    relu, clamp = (
        apply_activation(values, a).view(np.uint32) for a in (Activation.relu(), Activation.clamp(0.0, math.inf))
    )
    assert np.array_equal(relu, clamp)


def test_the_first_rounding_overflows_to_infinity_also_when_the_output_saturates():
    sums = Sums.from_integers([[1, -1]], 127)
    scale, bias = np.full(2, 2.0**-100, np.float32), np.zeros(2, np.float32)
    codes, flags = post_process(
        sums, scale, bias, exponent_bias=1, activation=Activation.none(), output=FORMATS["fp16"], overflow="saturate"
    )
    assert codes.tolist() == [[0x7C00, 0xFC00]]
    assert flags == Flags(of=True, nx=True)


def test_operations_between_the_roundings_raise_no_flag():
    sums = Sums.from_integers([[1, 1, 1]], 0)
    scale = np.array([0.1, 1e38, np.inf], np.float32)
    bias = np.array([0.7, 3.4e38, -np.inf], np.float32)
    codes, flags = post_process(sums, scale, bias, activation=Activation.none(), output=FP32)
    with np.errstate(all="ignore"):
        expected = [pattern(s + b) for s, b in zip(scale, bias, strict=True)]
    assert codes.tolist() == [expected]
    assert expected[1:] == [0x7F800000, FP32.nan]
    assert flags == Flags()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"scale": np.ones(3)}, "scale must be float32 of shape (3,), not float64 of shape (3,)"),
        ({"bias": np.ones(2, np.float32)}, "bias must be float32 of shape (3,), not float32 of shape (2,)"),
        ({"residual": np.zeros((2, 3), np.uint8)}, "residual_format must be given with a residual, not None"),
        (
            {"residual": np.zeros((1, 3), np.uint8), "residual_format": FORMATS["int8"]},
            "residual must be of shape (2, 3), not (1, 3)",
        ),
        (
            {"residual": np.zeros((2, 3), np.uint8), "residual_format": FORMATS["int8"], "residual_scale": 0.1},
            "residual_scale must be a binary32 value, not 0.1",
        ),
    ],
)
def test_refusals(change, message):
    given = {"scale": np.ones(3, np.float32), "bias": np.zeros(3, np.float32)} | change
    sums = Sums.from_integers(np.zeros((2, 3), np.int64), 0)
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        post_process(sums, activation=Activation.none(), output=FP32, **given)
