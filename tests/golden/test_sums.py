"""Sums: integers in, integers out, units, merging and the rounding to odd, against Python integers."""

from fractions import Fraction

import numpy as np
import pytest

from golden.sums import Sums, odd_float64
from shiftforge.errors import InputError


def wide(rng: np.random.Generator, count: int, bits: int) -> np.ndarray:
    """Python integers of every length up to ``bits``, corners of each limb included, of both signs."""
    values = [0, -1]
    for e in {31, 32, 33, 61, 62, 63, 64, 65, 95, 96, 127, 128, bits - 1}:
        if e < bits:
            values += [s * ((1 << e) + d) for s in (1, -1) for d in (-1, 0, 1)]
    while len(values) < count:
        value = (int.from_bytes(rng.bytes(bits // 8 + 1), "little") & ((1 << bits) - 1)) >> int(rng.integers(0, bits))
        values.append(value if rng.random() < 0.5 else -value)
    result = np.empty(len(values), object)
    result[:] = values
    return result


def behaves_as_exact(got: float, value: int) -> bool:
    """Exact below 2**53; beyond, strictly between the same neighbours of 30 bits, or exact."""
    if abs(value) < 1 << 53:
        return got == value
    unit = 1 << (abs(value).bit_length() - 30)
    return got == value or (int(got) // unit == value // unit and int(got) % unit != 0 and value % unit != 0)


@pytest.mark.parametrize("bits", [20, 62, 63, 64, 65, 95, 96, 97, 300])
def test_integers_come_back(bits):
    values = wide(np.random.default_rng(bits), 120, bits)
    sums = Sums.from_integers(values.reshape(2, -1), -24)
    assert sums.shape == (2, values.size // 2)
    assert sums.integers().ravel().tolist() == values.tolist()
    assert sums.fixed.ravel().tolist() == values.tolist()
    if bits < 62:
        assert sums.fixed.dtype == np.int64


def test_from_int64():
    values = np.array([0, 1, -1, np.iinfo(np.int64).min, np.iinfo(np.int64).max])
    sums = Sums.from_integers(values, 0)
    assert sums.fixed.dtype == np.int64
    assert sums.integers().tolist() == values.tolist()
    assert Sums.from_integers(np.array([2**64 - 1], np.uint64), 0).integers().tolist() == [2**64 - 1]


@pytest.mark.parametrize("bits", [40, 63, 64, 120])
@pytest.mark.parametrize("shift", [0, 1, 31, 32, 33, 64, 100])
def test_a_smaller_unit(bits, shift):
    values = wide(np.random.default_rng(shift), 80, bits)
    sums = Sums.from_integers(values, 5).at(5 - shift)
    assert sums.lsb_exponent == 5 - shift
    assert sums.integers().tolist() == [int(v) << shift for v in values]


def test_a_larger_unit_is_refused():
    with pytest.raises(InputError, match=r"^unit of sums must be at most 2\*\*-3, not 2\*\*-2$"):
        Sums.from_integers([1], -3).at(-2)


@pytest.mark.parametrize("bits, other", [(30, 30), (63, 63), (64, 20), (96, 95), (200, 64)])
@pytest.mark.parametrize("shift", [-40, 0, 3])
def test_merging_adds(bits, other, shift):
    rng = np.random.default_rng(bits)
    a, b = wide(rng, 100, bits)[:100], wide(rng, 100, other)[:100]
    merged = Sums.from_integers(a, 0) + Sums.from_integers(b, shift)
    unit = Fraction(2) ** merged.lsb_exponent
    assert [v * unit for v in merged.integers()] == [
        x + y * Fraction(2) ** shift for x, y in zip(a.tolist(), b.tolist(), strict=True)
    ]


@pytest.mark.parametrize("value", [-(1 << 63), -(1 << 62) - 1, 1 << 62, (1 << 63) - 1])
def test_merging_many_extremes_never_wraps(value):
    extreme = Sums.from_integers(np.array([value]), 0)
    total = extreme
    for count in range(2, 20):
        total = total + extreme
        assert total.integers().tolist() == [count * value]


def test_merging_conditions():
    yes, no = np.array([True]), np.array([False])
    a = Sums.from_integers([1], 0, pos_inf=yes)
    b = Sums.from_integers([2], 0, neg_inf=yes)
    c = Sums.from_integers([3], 0, nan=yes)
    assert [(a + b).pos_inf, (a + b).neg_inf, (a + b).nan] == [yes, yes, no]
    assert [(a + c).pos_inf, (a + c).neg_inf, (a + c).nan] == [yes, no, yes]
    with pytest.raises(InputError, match=r"^shape of merged sums must be \(1,\), not \(2,\)$"):
        _ = a + Sums.from_integers([1, 2], 0)


def test_bad_parts_are_refused():
    no = np.zeros(2, bool)
    with pytest.raises(InputError, match=r"^limbs of sums must be an int64 array \(n >= 1, \.\.\.\), not float64$"):
        Sums(np.zeros((1, 2)), 0, no, no, no)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=r"^neg_inf of sums must be bool of shape \(2,\), not bool \(3,\)$"):
        Sums(np.zeros((1, 2), np.int64), 0, no, np.zeros(3, bool), no)


@pytest.mark.parametrize("bits", [53, 54, 63])
def test_odd_rounding_of_int64(bits):
    values = wide(np.random.default_rng(bits), 400, bits)
    got = odd_float64(values.astype(np.int64))
    assert all(behaves_as_exact(float(g), int(v)) for g, v in zip(got, values, strict=True))
    tops = np.array([2**63 - 1, -(2**63), 2**53 + 1, -(2**53) - 1, 2**53])
    assert all(behaves_as_exact(float(g), int(v)) for g, v in zip(odd_float64(tops), tops, strict=True))


def test_odd_rounding_of_uint64():
    values = np.array([0, 1, 2**53 - 1, 2**53 + 1, 2**63 + 1, 2**64 - 1], np.uint64)
    assert all(behaves_as_exact(float(g), int(v)) for g, v in zip(odd_float64(values), values, strict=True))


@pytest.mark.parametrize("bits", [64, 90, 97, 128, 300])
def test_odd_rounding_of_limbs(bits):
    values = wide(np.random.default_rng(bits), 400, bits)
    got = Sums.from_integers(values, -7).odd_values()
    assert all(behaves_as_exact(float(g), int(v)) for g, v in zip(got, values, strict=True))
