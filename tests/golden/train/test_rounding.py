"""Rounding of activations in training against ml_dtypes and NumPy."""

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn

from golden.train.layers import DenseShiftLinear
from golden.train.rounding import round_to_format, rounded_inputs
from shiftforge.formats import FORMATS

NUMPY_TYPES = {
    "fp32": np.float32,
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "fp8_e5m2": ml_dtypes.float8_e5m2,
    "fp8_e4m3": ml_dtypes.float8_e4m3fn,
}


def values():
    rng = np.random.default_rng(3)
    x = (rng.standard_normal(4096) * 2.0 ** rng.integers(-12, 9, 4096)).astype(np.float32)
    return np.concatenate([x, np.array([0.0, 1.0, 1.0625, 1.1875, 2.5, 3.5], np.float32)])


@pytest.mark.parametrize("name", FORMATS)
def test_rounds_to_nearest_even_within_the_scale(name):
    fmt, x = FORMATS[name], values()
    if name in ("fp32", "fp16", "bf16"):
        scale = np.float32(1)
    else:
        # A peak that makes the scale 1/4: a power of two, so that scaling is exact and the rounding alone is seen.
        largest = (1 << (fmt.bits - 1)) - 1 if not fmt.is_float else float(ml_dtypes.finfo(NUMPY_TYPES[name]).max)
        scale = np.float32(0.25)
        x = np.clip(x, -largest / 4, largest / 4).astype(np.float32)
        x[0] = largest / 4
    got = round_to_format(torch.from_numpy(x), fmt).numpy()
    exact = x / scale
    expected = exact.astype(NUMPY_TYPES[name]).astype(np.float32) if fmt.is_float else np.rint(exact)
    np.testing.assert_array_equal(got, expected * scale)
    if name != "fp32":
        assert (got != x).any()


def test_too_large_values_saturate():
    assert round_to_format(torch.tensor([1e9, -1e9]), FORMATS["fp16"]).tolist() == [65504.0, -65504.0]


@pytest.mark.parametrize("name", FORMATS)
def test_zeros_stay_and_gradients_pass(name):
    x = torch.zeros(3, requires_grad=True)
    y = round_to_format(x, FORMATS[name])
    assert y.tolist() == [0.0, 0.0, 0.0]
    (y * torch.tensor([1.0, 2.0, -3.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 2.0, -3.0]


def test_rounds_the_inputs_of_layers_only_while_it_lasts():
    model = nn.Sequential(DenseShiftLinear(4, 3, dtype=torch.float32), nn.LeakyReLU())
    x = torch.tensor([[1.0, 1 / 3, 0.1, 0.7]])
    plain = model(x)
    with rounded_inputs(model, "bf16"):
        inside = model(x)
    assert torch.equal(inside, model(x.bfloat16().float()))
    assert not torch.equal(inside, plain)
    assert torch.equal(model(x), plain)
