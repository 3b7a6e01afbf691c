"""The activation object: what it holds and what it refuses."""

import math

import pytest

from shiftforge.activation import Activation, fp32_bits, fp32_order, fp32_value
from shiftforge.errors import InputError


def test_constructors():
    assert Activation.none() == Activation("none")
    assert Activation.relu() == Activation("relu")
    assert Activation.clamp(-1.0, 6.0) == Activation("clamp", 0xBF800000, 0x40C00000)
    assert Activation.clamp(0.1, math.inf) == Activation("clamp", 0x3DCCCCCD, 0x7F800000)
    assert Activation.leaky(3) == Activation("leaky", shift=3)


def test_order_is_the_order_of_values_with_minus_zero_below_plus_zero():
    rising = [-math.inf, -3.4e38, -1.0, -1e-45, -0.0, 0.0, 1e-45, 1.0, 3.4e38, math.inf]
    keys = [fp32_order(fp32_bits(v)) for v in rising]
    assert keys == sorted(set(keys))
    assert keys[4:6] == [-1, 0]
    assert [fp32_value(fp32_bits(v)) for v in (-0.0, 1.5, math.inf)] == [0.0, 1.5, math.inf]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Activation("gelu"), r"activation kind must be one of none, relu, clamp, leaky, not 'gelu'"),
        (lambda: Activation.clamp(1.0, 0.0), r"activation lo must be at most hi = 0\.0, not 1\.0"),
        (lambda: Activation.clamp(0.0, -0.0), r"activation lo must be at most hi = -0\.0, not 0\.0"),
        (lambda: Activation.clamp(math.nan, 1.0), r"activation lo must be a number, not nan"),
        (lambda: Activation.clamp(0.0, math.nan), r"activation hi must be a number, not nan"),
        (lambda: Activation.clamp(0.0, 1e39), r"activation bound must be within the range of fp32, not 1e\+39"),
        (lambda: Activation("clamp", 0, 1 << 32), r"activation hi must be a 32-bit pattern, not 4294967296"),
        (lambda: Activation("relu", 0, 1), r"activation bounds must be 0 for kind relu, not \(0, 1\)"),
        (lambda: Activation.leaky(16), r"activation shift must be 0\.\.15, not 16"),
        (lambda: Activation.leaky(-1), r"activation shift must be 0\.\.15, not -1"),
        (lambda: Activation("relu", shift=1), r"activation shift must be 0 for kind relu, not 1"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        make()
