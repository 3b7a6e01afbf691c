"""The layers against the published formulas, written out here with Python loops over single numbers."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from golden.train.layers import DenseShiftConv1d, DenseShiftConv2d, DenseShiftLayer, DenseShiftLinear, shift_weight
from shiftforge.errors import InputError

BITS = (2, 3, 4)


def reference_s(ones):
    """S_T from b(t_1)..b(t_T), which may be any numbers: S_1 = b_1, S_i = (S_{i-1} + 1) * b_i."""
    s = ones[0]
    for one in ones[1:]:
        s = (s + 1) * one
    return s


def reference(sign, latents):
    """The weight, and the derivatives of sgn * sqrt(S_T + 1) by the sign and by every b(t_i), for one element.

    S_T is affine in each b(t_i) alone, so its partial derivative is S_T at 1 less S_T at 0, without any chain rule.
    """
    sgn = 1.0 if sign >= 0 else -1.0
    ones = [1 if t > 0 else 0 for t in latents]
    s = reference_s(ones)
    by_latents = []
    for i in range(len(ones)):
        slope = reference_s([*ones[:i], 1, *ones[i + 1 :]]) - reference_s([*ones[:i], 0, *ones[i + 1 :]])
        by_latents.append(sgn * slope / (2 * math.sqrt(s + 1)))
    return sgn * 2**s, math.sqrt(s + 1), by_latents


def steps(bits):
    return 2 ** (bits - 1) - 1


def latents(rng, bits, shape):
    """Latents of many magnitudes, with a sixth of zeros, of both signs."""
    values = rng.standard_normal((steps(bits) + 1, *shape)) * 10.0 ** rng.integers(-6, 4, (steps(bits) + 1, *shape))
    values[rng.random(values.shape) < 1 / 6] = 0.0
    values[rng.random(values.shape) < 1 / 12] = -0.0
    # Half of the elements get long runs of ones, which random signs reach too rarely for 4 bits.
    values[1:, ..., ::2] = np.abs(values[1:, ..., ::2])
    return values[0], values[1:]


def loaded(layer: DenseShiftLayer, sign, scale):
    with torch.no_grad():
        layer.weight_sign.copy_(torch.from_numpy(sign))
        layer.weight_scale.copy_(torch.from_numpy(scale))
    return layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bits", BITS)
def test_value_and_gradient_follow_the_published_formulas(bits, dtype):
    rng = np.random.default_rng(bits)
    sign, scale = latents(rng, bits, (9, 14))
    upstream = rng.standard_normal((9, 14))
    t_sign = torch.tensor(sign, dtype=dtype, requires_grad=True)
    t_scale = torch.tensor(scale, dtype=dtype, requires_grad=True)
    weight = shift_weight(t_sign, t_scale)
    weight.backward(torch.tensor(upstream, dtype=dtype))
    assert t_sign.grad is not None
    assert t_scale.grad is not None
    rtol = 1e-14 if dtype is torch.float64 else 1e-6
    seen = set()
    for index in np.ndindex(9, 14):
        value, by_sign, by_latents = reference(sign[index], [scale[(i, *index)] for i in range(steps(bits))])
        seen.add(value)
        assert weight[index].item() == value
        assert t_sign.grad[index].item() == pytest.approx(upstream[index] * by_sign, rel=rtol, abs=0)
        for i, slope in enumerate(by_latents):
            assert t_scale.grad[(i, *index)].item() == pytest.approx(upstream[index] * slope, rel=rtol, abs=0)
    assert {abs(v) for v in seen} == {2**e for e in range(steps(bits) + 1)}


@pytest.mark.parametrize("bits", BITS)
def test_every_pattern_of_ones_has_the_run_length_of_its_end(bits):
    patterns = list(itertools.product((-1.0, 1.0), repeat=steps(bits)))
    weight = shift_weight(-torch.ones(len(patterns)), torch.tensor(patterns).T)
    for got, pattern in zip(weight.tolist(), patterns, strict=True):
        run = next((i for i, t in enumerate(reversed(pattern)) if t < 0), len(pattern))
        assert got == -(2**run)


def test_zeros_of_both_signs_give_a_positive_sign_and_no_one():
    weight = shift_weight(torch.tensor([0.0, -0.0]), torch.tensor([[0.0, -0.0], [1.0, 1.0], [0.0, -0.0]]))
    assert weight.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("bits", BITS)
def test_linear_passes_gradients_through_the_surrogate(bits):
    rng = np.random.default_rng(10 + bits)
    sign, scale = latents(rng, bits, (5, 7))
    layer = loaded(DenseShiftLinear(7, 5, bits, bias=True, dtype=torch.float64), sign, scale)
    x, upstream = rng.standard_normal((4, 7)), rng.standard_normal((4, 5))
    y = layer(torch.from_numpy(x))
    y.backward(torch.from_numpy(upstream))
    assert layer.weight_sign.grad is not None
    assert layer.weight_scale.grad is not None
    assert layer.bias is not None
    for n, k in np.ndindex(5, 7):
        by_weight = sum(upstream[m, n] * x[m, k] for m in range(4))
        _, by_sign, by_latents = reference(sign[n, k], scale[:, n, k])
        assert layer.weight_sign.grad[n, k].item() == pytest.approx(by_weight * by_sign, rel=1e-12)
        assert layer.weight_scale.grad[:, n, k].tolist() == pytest.approx(
            [by_weight * s for s in by_latents], rel=1e-12
        )
    for m, n in np.ndindex(4, 5):
        dot = sum(x[m, k] * reference(sign[n, k], scale[:, n, k])[0] for k in range(7))
        assert y[m, n].item() == pytest.approx(dot, rel=1e-12)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3},
        {"kernel_size": (1, 3), "stride": (2, 1), "padding": (0, 1), "bias": True},
        {"kernel_size": 3, "padding": "same", "dilation": 2, "groups": 2},
        {"kernel_size": 1, "padding": "valid", "groups": 4},
    ],
)
def test_convolution_is_torchs_with_the_shift_weight(bits, options):
    rng = np.random.default_rng(20 + bits)
    layer = DenseShiftConv2d(4, 8, bits=bits, dtype=torch.float64, **options)
    sign, scale = latents(rng, bits, tuple(layer.weight_sign.shape))
    loaded(layer, sign, scale)
    plain = nn.Conv2d(4, 8, dtype=torch.float64, **{"bias": False, **options})
    assert layer.weight.shape == plain.weight.shape
    with torch.no_grad():
        for index in np.ndindex(*sign.shape):
            plain.weight[index] = reference(sign[index], scale[(slice(None), *index)])[0]
        if layer.bias is not None and plain.bias is not None:
            layer.bias.copy_(plain.bias)
    x = torch.from_numpy(rng.standard_normal((2, 4, 7, 6)))
    y, expected = layer(x), plain(x)
    assert torch.equal(y, expected)
    (y**2).sum().backward()
    (expected**2).sum().backward()
    assert layer.weight_sign.grad is not None
    assert plain.weight.grad is not None
    slopes = np.array([reference(sign[i], scale[(slice(None), *i)])[1] for i in np.ndindex(*sign.shape)])
    expected_grad = plain.weight.grad.numpy() * slopes.reshape(sign.shape)
    np.testing.assert_allclose(layer.weight_sign.grad.numpy(), expected_grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bits", BITS)
def test_state_holds_the_latents_and_nothing_else(bits):
    layer = DenseShiftLinear(6, 4, bits)
    assert {k: tuple(v.shape) for k, v in layer.state_dict().items()} == {
        "weight_sign": (4, 6),
        "weight_scale": (steps(bits), 4, 6),
    }
    twin = DenseShiftLinear(6, 4, bits)
    assert not torch.equal(layer.weight_sign, twin.weight_sign)
    twin.load_state_dict(layer.state_dict())
    assert torch.equal(layer.weight, twin.weight)
    assert list(DenseShiftLinear(6, 4, bits, bias=True).state_dict()) == ["weight_sign", "weight_scale", "bias"]


def test_initial_latents_have_low_variance_and_exponents_halve_in_frequency():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = DenseShiftLinear(400, 250)
    for latent in (layer.weight_sign, layer.weight_scale):
        assert latent.std().item() == pytest.approx(1e-3, rel=0.01)
        assert abs(latent.mean().item()) < 1e-5
    exponents = layer.weight.detach().abs().log2().round().long().flatten()
    shares = torch.bincount(exponents, minlength=4) / exponents.numel()
    assert shares.tolist() == pytest.approx([1 / 2, 1 / 4, 1 / 8, 1 / 8], abs=0.005)
    assert (layer.weight > 0).float().mean().item() == pytest.approx(0.5, abs=0.01)


def test_repr_names_the_shape_and_the_bits():
    assert repr(DenseShiftLinear(6, 4, 2)) == "DenseShiftLinear(6, 4, bits=2, bias=False)"
    assert repr(DenseShiftConv2d(4, 8, 3, 4, stride=2, padding="valid", groups=2, bias=True)) == (
        "DenseShiftConv2d(4, 8, kernel_size=(3, 3), bits=4, stride=(2, 2), padding='valid', dilation=(1, 1), groups=2, "
        "bias=True)"
    )


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: DenseShiftLinear(6, 4, 5), "weight_bits must be 2, 3 or 4, not 5"),
        (lambda: DenseShiftLinear(0, 4), "in_features must be a positive integer, not 0"),
        (lambda: DenseShiftLinear(6, True), "out_features must be a positive integer, not True"),
        (lambda: DenseShiftConv2d(4, 8, 3, bits=1), "weight_bits must be 2, 3 or 4, not 1"),
        (lambda: DenseShiftConv2d(4, 8, 0), "kernel_size must be an integer of 1 or more, or a pair of them, not 0"),
        (
            lambda: DenseShiftConv2d(4, 8, 3, padding=(1, -1)),
            "padding must be an integer of 0 or more, or a pair of them, not (1, -1)",
        ),
        (lambda: DenseShiftConv2d(4, 8, 3, padding="full"), "padding must be a size, 'same' or 'valid', not 'full'"),
        (
            lambda: DenseShiftConv2d(4, 8, 3, padding="same", stride=2),
            "stride must be 1 with padding 'same', not (2, 2)",
        ),
        (
            lambda: DenseShiftConv2d(4, 8, 3, padding_mode="wrap"),
            "padding_mode must be one of zeros, reflect, replicate, circular, not 'wrap'",
        ),
        (
            lambda: DenseShiftConv1d(4, 8, (3, 3)),
            "kernel_size must be an integer of 1 or more, or a tuple of one, not (3, 3)",
        ),
        (lambda: DenseShiftConv2d(4, 6, 3, groups=4), "out_channels must be divisible by groups=4, not 6"),
        (lambda: DenseShiftConv2d(4, 6, 3, groups=3), "in_channels must be divisible by groups=3, not 4"),
        (
            lambda: shift_weight(torch.zeros(2, 3), torch.zeros(3, 3, 2)),
            "the shape of weight_scale must be (T, *(2, 3)), not (3, 3, 2)",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value) == message
