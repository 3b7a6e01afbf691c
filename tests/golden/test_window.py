"""Convolutions and pooling on codes: against loops in Fractions, and against torch in float64."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.nn import functional

from golden.codec import decode, decode_weights, storage_dtype
from golden.gemm import exact_sums
from golden.post import post_process
from golden.reference import Value, round_to, value_of, weight_of
from golden.rounding import round_sums
from golden.window import layer_sums, max_pool
from shiftforge.activation import Activation
from shiftforge.errors import InputError
from shiftforge.formats import FORMATS, FP32, WeightCode
from shiftforge.graph import Conv, Linear, Window

WINDOWS = [
    Window.of((3, 3), 1, 1),
    Window.of((2, 3), (2, 1), ((0, 1), (2, 0)), (1, 2)),
    Window.of((1, 1), 2),
    Window.of((3,), 2, 2, 2),
    Window.of((4,), 1, ((0, 3),)),
]


def conv(rng, channels, features, window, groups=1, terms=1, bits=3, mask=False, biased=False):
    shape = (terms * window.positions * channels // groups, features)
    return Conv(
        "conv",
        "x",
        rng.integers(0, 1 << bits, shape).astype(np.uint8),
        bits,
        0,
        np.ones(features, np.float32),
        np.zeros(features, np.float32),
        terms=terms,
        mask=rng.random(shape) < 0.6 if mask else None,
        k_bias=rng.choice([-128, -2, -1, 0, 1, 127], terms * window.positions * channels).astype(np.int8)
        if biased
        else None,
        window=window,
        groups=groups,
    )


def products_of(x, layer, fmt):
    """Every output element's products (input code, weight code, bias), one by one, by the definition of a convolution."""
    batch, *pixels, channels = x.shape
    window, inputs, outputs = layer.window, channels // layer.groups, layer.features // layer.groups
    result = np.empty((batch, *window.sizes("conv", tuple(pixels)), layer.features), object)
    for index in np.ndindex(*result.shape):
        image, *at, feature = index
        group, row, pairs = feature // outputs, 0, []
        for term in range(layer.terms):
            for place, position in enumerate(np.ndindex(*window.kernel)):
                spot = [
                    o * s + p * d - b
                    for o, s, p, d, (b, _) in zip(
                        at, window.stride, position, window.dilation, window.padding, strict=True
                    )
                ]
                inside = all(0 <= i < n for i, n in zip(spot, pixels, strict=True))
                for channel in range(inputs):
                    if inside and (layer.mask is None or layer.mask[row, feature]):
                        code = int(x[(image, *spot, group * inputs + channel)])
                        k = (term * window.positions + place) * channels + group * inputs + channel
                        bias = 0 if layer.k_bias is None else int(layer.k_bias[k])
                        pairs.append((code, int(layer.codes[row, feature]), bias))
                    row += 1
        result[index] = pairs
    return result


def exact(pairs, fmt, bits) -> tuple[Value, bool]:
    total, seen = Fraction(0), set()
    for code, weight, bias in pairs:
        x, w = value_of(fmt, code), weight_of(bits, weight, bias)
        if isinstance(x, Fraction):
            total += x * w
        else:
            seen.add(x if x == "nan" or w > 0 else ("-inf" if x == "+inf" else "+inf"))
    if "nan" in seen or len(seen) == 2:
        return "nan", "nan" not in seen
    return (seen.pop(), False) if seen else (total, False)


@pytest.mark.parametrize("name", list(FORMATS))
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize(
    "groups, channels, features, biased",
    [(1, 3, 2, False), (2, 4, 6, False), (3, 3, 3, False), (2, 2, 6, False), (1, 3, 2, True), (2, 4, 6, True)],
)
def test_convolutions_equal_loops_in_fractions(groups, channels, features, biased, window, name):
    """All codes, infinities and NaN included, so that a group that saw another's would show."""
    fmt = FORMATS[name]
    rng = np.random.default_rng([groups, window.positions, fmt.bits])
    terms, mask = (1, False) if groups == 1 else (2, True)
    layer = conv(rng, channels, features, window, groups, terms, mask=mask, biased=biased)
    pixels = (4, 5)[: window.axes]
    x = rng.integers(0, 1 << fmt.bits, (2, *pixels, channels), np.uint64).astype(storage_dtype(fmt))
    specials = [fmt.inf, fmt.inf | fmt.sign_bit, fmt.nan] if fmt.has_inf else [0]
    finite = np.where(np.isfinite(decode(fmt, x)), x, 0)
    x = np.where(rng.random(x.shape) < 0.03, rng.choice(specials, x.shape), finite).astype(x.dtype)
    codes, flags = round_sums(layer_sums(x, layer, fmt), FP32)
    want = products_of(x, layer, fmt)
    assert codes.shape == want.shape
    invalid = False
    for index in np.ndindex(*want.shape):
        value, bad = exact(want[index], fmt, 3)
        invalid |= bad
        assert int(codes[index]) == round_to(FP32, value)[0], index
    assert flags.nv == invalid


@pytest.mark.parametrize("name", ["fp16", "int8", "fp8_e4m3", "bf16"])
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_larger_convolutions_equal_torch(name, groups):
    """Several blocks of patches, float32 and float64 products, and images of many sizes."""
    fmt, rng = FORMATS[name], np.random.default_rng(groups)
    for window, size in ((Window.of((3, 3), 1, 1), 40), (Window.of((7, 7), 2, 3), 61), (Window.of((1, 1)), 33)):
        layer = conv(rng, 8, 16, window, groups, bits=3)
        x = rng.integers(0, 1 << fmt.bits, (3, size, size + 2, 8), np.uint64).astype(storage_dtype(fmt))
        values = decode(fmt, x)
        small = np.isfinite(values) & (np.abs(values) < 64)  # so that float64 sums are exact
        if name == "bf16":
            small &= np.abs(values) > 2.0**-20
        x, values = np.where(small, x, 0).astype(x.dtype), np.where(small, values, 0.0)
        weight = layer.weights().reshape(*window.kernel, 8 // groups, 16).transpose(3, 2, 0, 1)
        want = functional.conv2d(
            torch.from_numpy(values).permute(0, 3, 1, 2),
            torch.from_numpy(np.ascontiguousarray(weight)),
            stride=window.stride,
            padding=window.padding[0][0],
            groups=groups,
        )
        sums = layer_sums(x, layer, fmt)
        got = sums.integers().astype(np.float64) * 2.0**sums.lsb_exponent
        np.testing.assert_array_equal(got, want.permute(0, 2, 3, 1).numpy())


def test_a_long_depthwise_sum_beyond_float64():
    """200 products of up to 2**46 units: exact products whose sum needs more than 53 bits."""
    layer = conv(np.random.default_rng(0), 1, 1, Window.of((200,)))
    layer.codes[:] = 3
    layer.codes[100] = 0
    x = np.full((1, 200, 1), (2**24 - 1) * 2.0 ** (19 - 149), np.float32)
    x[0, 100] = 2.0**-149
    grouped = Conv(
        "conv", "x", np.tile(layer.codes, (1, 2)), 3, 0, np.ones(2), np.zeros(2), window=layer.window, groups=2
    )
    sums = layer_sums(np.tile(x, (1, 1, 2)).view(np.uint32), grouped, FP32)
    assert sums.lsb_exponent == -149
    assert sums.integers().tolist() == [[[199 * (2**24 - 1) * 2**22 + 1] * 2]]


def test_a_linear_layer_runs_over_every_axis_but_the_last():
    rng, fmt = np.random.default_rng(0), FORMATS["fp16"]
    codes = rng.integers(0, 8, (6, 5)).astype(np.uint8)
    ones, zeros = np.ones(5, np.float32), np.zeros(5, np.float32)
    layer = Linear("fc", "x", codes, 3, 0, ones, zeros, terms=2)
    x = rng.normal(0, 1, (2, 4, 3)).astype(np.float16)
    sums = layer_sums(x.view(np.uint16), layer, fmt)
    want = x.astype(np.float64) @ layer.weights()
    np.testing.assert_array_equal(sums.limbs[0] * 2.0**sums.lsb_exponent, want)
    out, _ = post_process(sums, ones, zeros, activation=Activation.relu(), output=fmt)
    np.testing.assert_array_equal(out.view(np.float16), np.maximum(want.astype(np.float32), 0).astype(np.float16))


@pytest.mark.parametrize("name", list(FORMATS))
def test_exponent_biases_of_a_linear_layer_are_those_of_a_matrix_product(name):
    fmt, rng = FORMATS[name], np.random.default_rng(7)
    k_bias = rng.integers(-4, 4, 12).astype(np.int8)
    codes = rng.integers(0, 8, (12, 5)).astype(np.uint8)
    layer = Linear("fc", "x", codes, 3, 0, np.ones(5), np.zeros(5), terms=2, k_bias=k_bias)
    x = rng.integers(0, 1 << fmt.bits, (9, 6), np.uint64).astype(storage_dtype(fmt))
    want = exact_sums(np.tile(x, 2), codes, fmt, WeightCode(3), k_bias=k_bias)
    assert np.array_equal(round_sums(layer_sums(x, layer, fmt), FP32)[0], round_sums(want, FP32)[0])
    by_term = layer.codes.reshape(2, 6, 5)
    values = sum(decode_weights(by_term[t], 3) * 2.0 ** k_bias.reshape(2, 6)[t][:, None] for t in range(2))
    assert np.array_equal(layer.weights(), values)


def test_exponent_biases_of_another_shape_are_refused():
    codes, ones = np.zeros((4, 2), np.uint8), np.ones(2)
    message = "k_bias of 'fc' must be 4 int8 numbers, not {}"
    for k_bias, told in (
        (np.zeros(3, np.int8), "int8 of shape (3,)"),
        (np.zeros(4, np.int64), "int64 of shape (4,)"),
    ):
        with pytest.raises(InputError) as caught:
            Linear("fc", "x", codes, 2, 0, ones, ones, k_bias=k_bias)  # pyright: ignore[reportArgumentType]
        assert str(caught.value) == message.format(told)
    with pytest.raises(InputError, match=r"^k_bias of 'c' must be 8 int8 numbers, not int8 of shape \(4,\)$"):
        Conv("c", "x", codes, 2, 0, ones, ones, window=Window.of((2,)), groups=2, k_bias=np.zeros(4, np.int8))


@pytest.mark.parametrize("name", list(FORMATS))
@pytest.mark.parametrize(
    "window", [Window.of((3, 2), (2, 1), ((1, 1), (1, 0)), (1, 2)), Window.of((2,), 2), Window.of((3,), 1, 1)], ids=str
)
def test_max_pool_equals_loops(window, name):
    fmt, rng = FORMATS[name], np.random.default_rng(3)
    pixels = (7, 9)[: window.axes]
    x = rng.integers(0, 1 << fmt.bits, (3, *pixels, 4), np.uint64).astype(storage_dtype(fmt))
    if fmt.is_float:  # zeros of both signs, which random codes seldom are
        x[0] = np.where(rng.random(x[0].shape) < 0.5, 0, fmt.sign_bit)
        x[1] = np.where(np.isfinite(decode(fmt, x[1])), x[1], 0)
    got = max_pool(x, window, fmt)
    values = decode(fmt, x)
    for index in np.ndindex(*got.shape):
        image, *at, channel = index
        codes = []
        for position in np.ndindex(*window.kernel):
            spot = [
                o * s + p * d - b
                for o, s, p, d, (b, _) in zip(at, window.stride, position, window.dilation, window.padding, strict=True)
            ]
            if all(0 <= i < n for i, n in zip(spot, pixels, strict=True)):
                codes.append((image, *spot, channel))
        seen = [values[c] for c in codes]
        if np.isnan(seen).any():
            assert int(got[index]) == fmt.nan
            continue
        best = max(seen)
        assert decode(fmt, got[index].reshape(1))[0] == best
        if best == 0:
            plus = any(int(x[c]) == 0 for c in codes)
            assert int(got[index]) == (0 if plus else fmt.sign_bit)


def test_max_pool_equals_torch():
    rng = np.random.default_rng(4)
    x = rng.normal(0, 1, (2, 15, 14, 3)).astype(np.float32)
    want = functional.max_pool2d(torch.from_numpy(x).permute(0, 3, 1, 2), 3, 2, 1).permute(0, 2, 3, 1).numpy()
    got = max_pool(x.view(np.uint32), Window.of((3, 3), 2, 1), FP32)
    np.testing.assert_array_equal(got.view(np.float32), want)
