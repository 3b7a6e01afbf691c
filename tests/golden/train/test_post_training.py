"""Sums of powers of two: optimal by brute force, exact in Fractions, and accurate on the digits without training."""

import copy
import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from golden.codec import decode_weights
from golden.gemm import exact_sums
from golden.train import digits, runner
from golden.train.calibrated import fit_calibrated
from golden.train.loop import accuracy
from golden.train.post_training import TermSumLayer, convert_pretrained
from golden.train.term_sums import fit_greedy, fit_optimal, magnitudes, terms_within
from shiftforge.errors import InputError
from shiftforge.formats import FORMATS, WeightCode

BITS = (2, 3, 4)


def weights(seed, shape=(5, 9)):
    return np.random.default_rng(seed).standard_normal(shape)


def all_sums(bits, terms):
    powers = [s * 2**e for e in range(2 ** (bits - 1)) for s in (1, -1)]
    return sorted({sum(p) for p in itertools.product(powers, repeat=terms)})


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("terms", [1, 2, 3])
def test_magnitudes_are_all_sums(bits, terms):
    assert magnitudes(bits, terms).tolist() == [v for v in all_sums(bits, terms) if v >= 0]


@pytest.mark.parametrize("bits, terms", [(2, 1), (2, 2), (3, 1), (3, 2)])
def test_the_optimal_fit_beats_every_assignment(bits, terms):
    for seed in range(4):
        weight = weights(seed, (1, 3))
        # Each assignment with its own best scale; the sign of the scale is free in the assignment.
        choices = np.array(list(itertools.product(all_sums(bits, terms), repeat=3)), float)
        choices = choices[(choices != 0).any(1)]
        gain = np.square(choices @ weight[0]) / np.square(choices).sum(1)
        least = (np.square(weight).sum() - gain.max()) / np.square(weight).sum()
        assert fit_optimal(weight, bits, terms).error(weight) == pytest.approx(least, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize(
    "fit", [fit_optimal, fit_greedy, lambda w, b, t: fit_calibrated(w, b, t, weights(8, (40, 9))).fit]
)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("terms", [1, 2, 3])
def test_concatenation_is_exact(fit, bits, terms):
    weight = weights(10 * bits + terms)
    weight[1] = 0.0
    weight[2, 4] = 0.0
    found = fit(weight, bits, terms)
    assert found.codes.shape == (terms, 5, 9)
    assert found.codes.max() < 2**bits
    assert found.scale[1] == 0
    codes = found.concatenated()
    assert codes.shape == (9 * terms, 5)
    x = [Fraction(int(v), 1024) for v in np.random.default_rng(terms).integers(-9999, 9999, 9)]
    long = [*x] * terms
    for n in range(5):
        layer = [Fraction(float(v)) for v in decode_weights(codes[:, n], bits)]
        assert all(abs(v) in [2**e for e in range(2 ** (bits - 1))] for v in layer)
        sums = [sum(layer[t * 9 + k] for t in range(terms)) for k in range(9)]
        assert sums == [Fraction(float(v)) for v in found.sums()[n]]
        exact = sum((w * v for w, v in zip(layer, long, strict=True)), Fraction(0))
        scale = Fraction(float(found.scale[n]))
        assert scale * exact == sum(Fraction(float(w)) * v for w, v in zip(found.weights()[n], x, strict=True))


@pytest.mark.parametrize("bits, terms, k_bias_bits", [(2, 1, 1), (3, 1, 2), (3, 2, 3), (4, 3, 8), (2, 2, 2)])
def test_exponents_per_k_index_are_exact_and_never_worse(bits, terms, k_bias_bits):
    rng = np.random.default_rng(bits)
    weight = rng.standard_normal((6, 9)) * np.exp2(rng.integers(-3, 4, 9))
    weight[1] = 0.0
    weight[:, 4] = 0.0
    fit = fit_optimal(weight, bits, terms, k_bias_bits)
    assert fit.error(weight) <= fit_optimal(weight, bits, terms).error(weight)
    assert fit.k_bias is not None
    assert fit.k_bias.shape == (1, 9)
    assert fit.k_bias.min() >= -(2 ** (k_bias_bits - 1))
    assert fit.k_bias.max() < 2 ** (k_bias_bits - 1)
    # The golden model's sums with a bias per product, against the weights in Fractions.
    x = rng.integers(-128, 128, (1, 9)).astype(np.int8)
    sums = exact_sums(
        np.tile(x.view(np.uint8), terms),
        fit.concatenated(),
        FORMATS["int8"],
        WeightCode(bits),
        k_bias=np.tile(fit.k_bias[0], terms),
    )
    for n in range(6):
        exact = sum(Fraction(float(w)) * int(v) for w, v in zip(fit.weights()[n], x[0], strict=True))
        assert Fraction(float(fit.scale[n])) * sums.integers()[0, n] * Fraction(2) ** sums.lsb_exponent == exact


def test_exponents_per_k_index_find_columns_of_unlike_sizes():
    rng = np.random.default_rng(0)
    shifts = np.array([-2, 1, 0, 1, -1, 0, -2, 0])
    exact = rng.choice([-8, -4, -2, -1, 1, 2, 4, 8], (40, 8)) * np.exp2(shifts)
    assert fit_optimal(exact, 3, 1, 2).error(exact) == 0.0
    assert fit_optimal(exact, 3, 1).error(exact) > 1e-3


@pytest.mark.parametrize("bits", BITS)
def test_more_terms_and_better_fits_err_less(bits):
    weight = weights(bits, (8, 40))
    errors = [fit_optimal(weight, bits, terms).error(weight) for terms in (1, 2, 3)]
    assert errors[0] > errors[1] > errors[2]
    for terms, error in enumerate(errors, 1):
        assert fit_greedy(weight, bits, terms).error(weight) >= error
        assert fit_greedy(weight, bits, terms).error(weight) < 0.5
    assert [terms_within(weight, bits, e) for e in errors] == [1, 2, 3]


def test_a_model_converts_layer_by_layer():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect"),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, groups=2, stride=2, bias=False),
        nn.Flatten(),
        nn.Linear(36, 5),
    )
    x = torch.randn(3, 1, 8, 8)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    twin = convert_pretrained(model, 4, {"0": 3, "4": 2}, keep=("2",), calibration=x)
    assert type(twin.get_submodule("2")) is nn.Conv2d
    assert [m.fit.terms for m in twin.modules() if isinstance(m, TermSumLayer)] == [3, 2]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    # The same network with the sums times the scales as plain weights.
    plain = copy.deepcopy(model)
    with torch.no_grad():
        for index in ("0", "4"):
            made = twin.get_submodule(index)
            assert isinstance(made, TermSumLayer)
            assert made.layer.weight.flatten(1).tolist() == made.fit.sums().tolist()
            weight = plain.get_parameter(f"{index}.weight")
            weight.copy_(torch.from_numpy(made.fit.weights()).reshape(weight.shape))
            plain.get_parameter(f"{index}.bias").copy_(made.bias)
        torch.testing.assert_close(twin(x), plain(x), rtol=1e-4, atol=1e-5)
    chosen = convert_pretrained(model, 3, None, budget=0.02)
    for index in ("0", "2", "4"):
        made = chosen.get_submodule(index)
        assert isinstance(made, TermSumLayer)
        weight = before[f"{index}.weight"].flatten(1).double().numpy()
        errors = [fit_optimal(weight, 3, terms).error(weight) for terms in range(1, made.fit.terms + 1)]
        assert made.fit.error(weight) == errors[-1] <= 0.02
        assert all(error > 0.02 for error in errors[:-1])


def test_digits_without_training():
    result = runner.train("digits-mlp", seed=1)
    calibration = torch.from_numpy(digits.load()[0].x[:256])
    found = {}
    for terms in (1, 2, 3):
        found[terms] = accuracy(convert_pretrained(result.float32_model, 3, terms), result.test)
        found[terms, "gptq"] = accuracy(
            convert_pretrained(result.float32_model, 3, terms, calibration=calibration), result.test
        )
    assert found[2] >= result.float32_accuracy - 0.01
    assert found[2, "gptq"] >= result.float32_accuracy - 0.01
    assert found[3] >= result.float32_accuracy - 0.01


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: fit_optimal(np.zeros((2, 2)), 3, 5), "terms must be an integer from 1 to 4, not 5"),
        (lambda: fit_optimal(np.zeros(2), 3, 1), "the weight must be a matrix (N, K), not of shape (2,)"),
        (
            lambda: fit_greedy(np.array([[1.0, np.inf]]), 3, 1),
            "every weight must be finite, not inf at index (0, 1)",
        ),
        (
            lambda: fit_calibrated(np.ones((2, 3)), 3, 1, np.ones((4, 2))),
            "inputs must be of shape (rows, 3), not (4, 2)",
        ),
        (
            lambda: fit_calibrated(np.ones((2, 3)), 3, 1, np.ones((4, 3)), np.ones((5, 3))),
            "inputs must be of shape (rows, 3), not (5, 3)",
        ),
        (lambda: fit_optimal(np.ones((2, 2)), 3, 1, 9), "k_bias_bits must be an integer from 0 to 8, not 9"),
        (
            lambda: convert_pretrained(nn.Linear(2, 2), 3, 2, budget=0.1),
            "either terms or budget must be given, and the other be None",
        ),
        (
            lambda: convert_pretrained(nn.Linear(2, 2), fit="best"),  # pyright: ignore[reportArgumentType]
            "fit must be 'optimal' or 'greedy', not 'best'",
        ),
        (
            lambda: convert_pretrained(nn.Linear(2, 2), fit="greedy", calibration=torch.ones(1, 2)),
            "calibration and k_bias_bits must be left out for the greedy fit, which does not use them",
        ),
        (lambda: convert_pretrained(nn.Linear(2, 2), keep="0"), "keep must be a collection of layer names, not '0'"),
        (
            lambda: convert_pretrained(nn.Sequential(nn.Linear(2, 2)), 3, 2, keep=("1",)),
            "every name must be a Linear or a convolution of the model, not '1'",
        ),
        (
            lambda: convert_pretrained(nn.Sequential(nn.Linear(2, 2)), 3, {}),
            "terms must name every layer that is not kept, also '0'",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value) == message


def test_a_budget_out_of_reach_names_what_can_be_had():
    with pytest.raises(InputError, match=r"^the error budget must be .* or more for 4 terms, not 0.0$"):
        terms_within(weights(0), 2, 0.0)
