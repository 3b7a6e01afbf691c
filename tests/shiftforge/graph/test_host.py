"""Full-precision layers against a sum in Python, product by product, and what they refuse to be."""

from dataclasses import replace

import numpy as np
import pytest

from shiftforge.activation import Activation
from shiftforge.errors import InputError
from shiftforge.graph import Conv, Linear, Window
from shiftforge.graph.host import host_layer


def conv(groups: int = 1) -> Conv:
    rng = np.random.default_rng(3)
    shape = (3 * 2 * 4 // groups, 6)
    return Conv(
        "conv",
        "x",
        np.zeros(shape, np.uint8),
        3,
        0,
        rng.normal(size=6).astype(np.float32),
        rng.normal(size=6).astype(np.float32),
        Activation.relu(),
        residual="r",
        residual_scale=0.75,
        real=rng.normal(size=shape).astype(np.float32),
        window=Window.of((3, 2), (2, 1), ((1, 1), (0, 1)), (1, 2)),
        groups=groups,
    )


@pytest.mark.parametrize("groups", [1, 2])
def test_every_sum_in_the_order_of_k(groups):
    """Output pixel by output pixel: double precision sums in the order of K, one rounding, then float32 steps."""
    layer, rng = conv(groups), np.random.default_rng(4)
    x = np.ldexp(rng.normal(size=(2, 6, 5, 4)), rng.integers(-8, 9, (2, 6, 5, 4))).astype(np.float32)
    residual = rng.normal(size=(2, 3, 4, 6)).astype(np.float32)
    got = host_layer(layer, x, residual)
    assert got.dtype == np.float32
    assert got.shape == (2, 3, 4, 6)
    padded = np.pad(x, ((0, 0), (1, 1), (0, 1), (0, 0)))
    assert layer.real is not None
    each, out = 4 // groups, 6 // groups
    for b, y, column, n in np.ndindex(*got.shape):
        total, row = 0.0, 0
        for ky in range(3):
            for kx in range(2):
                for c in range(each):
                    value = padded[b, 2 * y + ky, column + 2 * kx, n // out * each + c]
                    total += float(value) * float(layer.real[row, n])
                    row += 1
        value = np.float32(np.float32(total) * layer.scale[n]) + layer.bias[n]
        value = value + residual[b, y, column, n] * np.float32(0.75)
        assert got[b, y, column, n] == max(value, np.float32(0))


def test_nan_is_canonical_and_infinities_are_as_ieee_754_says():
    layer = Linear(
        "fc", "x", np.zeros((2, 2), np.uint8), 3, 0, np.ones(2, np.float32), np.zeros(2, np.float32),
        real=np.array([[1, -2], [1, 0]], np.float32),
    )  # fmt: skip
    x = np.array([[np.inf, 1.0], [np.inf, -np.inf]], np.float32)
    bits = host_layer(layer, x, None).view(np.uint32)
    assert bits[0].tolist() == [0x7F800000, 0xFF800000]
    assert bits[1].tolist() == [0x7FC00000, 0x7FC00000]


def test_what_is_no_full_precision_layer():
    layer = conv()
    with pytest.raises(
        InputError, match="^full-precision weights of 'conv' must be float32 of its shape .24, 6., of one term"
    ):
        replace(layer, real=np.zeros((24, 5), np.float32))
    with pytest.raises(InputError, match="^layer 'conv' must have full-precision weights to be computed by the host$"):
        host_layer(replace(layer, real=None), np.zeros((1, 6, 5, 4), np.float32), None)
