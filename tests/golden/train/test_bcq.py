"""Binary-coded weights run as K-concatenated powers of two, exactly."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from golden.codec import decode, encode
from golden.gemm import exact_sums
from golden.train.bcq import fit_alternating, fit_bcq
from shiftforge.errors import InputError
from shiftforge.formats import FORMATS, WeightCode


def weights(seed, shape=(6, 200)):
    return np.random.default_rng(seed).standard_normal(shape)


def error(weight, signs, alpha):
    return np.square(np.einsum("in,ink->nk", alpha, signs) - weight).sum() / np.square(weight).sum()


@pytest.mark.parametrize("bases, low, high", [(1, 0.33, 0.40), (2, 0.10, 0.135), (3, 0.028, 0.05)])
def test_errors_are_near_those_of_the_best_quantisers(bases, low, high):
    # Max (1960): the least error of 2, 4 and 8 levels for Gaussian weights is 0.363, 0.118 and 0.035.
    weight = weights(bases)
    errors = [error(weight, *fit_alternating(weight, bases, rounds)) for rounds in range(6)]
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in pairwise(errors))
    signs, alpha = fit_alternating(weight, bases)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert low < error(weight, signs, alpha) < high


def test_one_base_is_the_sign_and_the_mean():
    weight = weights(9)
    signs, alpha = fit_alternating(weight, 1)
    assert np.array_equal(signs[0], np.where(weight >= 0, 1.0, -1.0))
    np.testing.assert_allclose(alpha[0], np.abs(weight).mean(1), rtol=1e-12)


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("powers", [1, 2, 3])
def test_a_three_bit_binary_code_runs_exactly(bits, powers):
    weight = weights(20 * bits + powers, (5, 30))
    weight[3] = 0
    fit = fit_bcq(weight, 3, powers, bits)
    assert fit.codes.shape == (3 * powers, 5, 30)
    # The algebra of the publication in Fractions: the signs b and factors alpha, read back from the terms.
    fmt = FORMATS["fp16"]
    x = encode(fmt, np.random.default_rng(powers).standard_normal((4, 30)))
    values = [[Fraction(float(v)) for v in row] for row in decode(fmt, x)]
    terms = np.ldexp(1.0, (fit.codes & WeightCode(bits).max_exponent).astype(int))
    signs = np.where(fit.codes & WeightCode(bits).sign_bit, -1, 1).reshape(powers, 3, 5, 30)
    sums = exact_sums(np.tile(x, (1, fit.terms)), fit.concatenated(), fmt, WeightCode(bits)).integers()
    for n in range(5):
        scale = Fraction(float(fit.scale[n]))
        b = [[int(s) for s in signs[0, i, n]] for i in range(3)]
        alpha = []
        for i in range(3):
            total = Fraction(0)
            for j in range(powers):
                flips = signs[j, i, n] * signs[0, i, n]
                assert len(set(flips)) == len(set(terms[j * 3 + i, n])) == 1  # one factor per base and channel
                total += int(flips[0]) * Fraction(float(terms[j * 3 + i, n, 0])) * scale
            alpha.append(total)
        for m in range(4):
            published = sum(alpha[i] * sum((b[i][k] * values[m][k] for k in range(30)), Fraction(0)) for i in range(3))
            assert published == scale * int(sums[m, n]) * Fraction(2) ** fmt.lsb_exponent
    assert fit.scale[3] == 0
    assert fit.error(weight) < (0.2, 0.07, 0.06)[powers - 1]


def test_bad_arguments():
    with pytest.raises(InputError, match=r"^bases must be an integer from 1 to 4, not 5$"):
        fit_bcq(weights(0), 5)
    with pytest.raises(InputError, match=r"^powers must be a positive integer, not 0$"):
        fit_bcq(weights(0), 3, 0)
