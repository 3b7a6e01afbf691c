"""The matrices that layers read, by the layers' own outputs; the calibrated fit of convolutions."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from golden.train.calibrated import fit_calibrated, fit_groups
from golden.train.calibration import LARGEST_ROWS, layer_inputs, patches
from golden.train.post_training import TermSumLayer, convert_pretrained
from golden.train.term_sums import fit_optimal, magnitudes

LAYERS = [
    nn.Linear(6, 4),
    nn.Conv1d(4, 6, 3, padding=1, stride=2),
    nn.Conv1d(4, 6, 3, padding="same", dilation=2, groups=2, padding_mode="circular"),
    nn.Conv2d(4, 6, 3),
    nn.Conv2d(4, 6, (3, 2), padding=(1, 2), stride=(2, 1), groups=2),
    nn.Conv2d(4, 4, 3, padding=1, groups=4, padding_mode="reflect"),
    nn.Conv2d(4, 6, (2, 4), padding="same", dilation=(1, 2)),
    nn.Conv2d(4, 2, 3, padding=2, padding_mode="replicate"),
]


def input_of(layer):
    generator = torch.Generator().manual_seed(0)
    shape = (3, 6) if isinstance(layer, nn.Linear) else (3, 4, 9) if isinstance(layer, nn.Conv1d) else (3, 4, 7, 8)
    return torch.randn(shape, generator=generator)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_the_matrix_times_the_weight_is_the_layer(layer):
    x = input_of(layer)
    rows = patches(layer, x)
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    weight = layer.weight.detach().flatten(1).unflatten(0, (groups, -1))
    assert rows.shape[0] == groups
    made = torch.einsum("grk,gnk->rgn", rows, weight).flatten(1) + layer.bias
    expected = layer(x)
    flat = expected if isinstance(layer, nn.Linear) else expected.movedim(1, -1).flatten(0, -2)
    torch.testing.assert_close(made, flat.detach() if flat.requires_grad else flat, rtol=1e-4, atol=1e-5)


def test_long_inputs_are_thinned_evenly():
    model = nn.Sequential(nn.Linear(1, 1))
    rows = layer_inputs(model, torch.arange(10 * LARGEST_ROWS, dtype=torch.float32).unsqueeze(1))["0"][0, :, 0]
    assert len(rows) == LARGEST_ROWS
    assert rows[0] == 0
    assert rows[-1] == 10 * LARGEST_ROWS - 1
    assert np.abs(np.diff(rows) - 10).max() <= 1


def test_calibrated_convolutions_have_less_error_of_their_outputs():
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(2)
    # Neighbouring pixels are alike, as in images: what GPTQ makes use of.
    x = torch.randn(16, 4, 6, 6, generator=generator).repeat_interleave(2, 2).repeat_interleave(2, 3)
    for layer in (nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(4, 4, 3, groups=4)):
        model = nn.Sequential(layer).eval()
        errors = []
        for calibration in (None, x):
            made = convert_pretrained(model, 3, 1, calibration=calibration)
            assert isinstance(made.get_submodule("0"), TermSumLayer)
            with torch.no_grad():
                errors.append(float((made(x) - model(x)).square().sum()))
        assert errors[1] < 0.95 * errors[0]


def correlated(seed, rows, k):
    """Inputs of low rank and a mean, as activations are."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, 4)) @ rng.standard_normal((4, k)) + 0.2 * rng.standard_normal((rows, k)) + 0.5


def errors_of(made, bias, weight, inputs, reference):
    """Squared errors of the outputs by channel."""
    return np.square(inputs @ made.weights().T + bias - reference @ weight.T).sum(0)


@pytest.mark.parametrize("k_bias_bits", [0, 2])
@pytest.mark.parametrize("bits, terms", [(2, 1), (3, 1), (3, 2), (4, 2)])
def test_calibration_lowers_the_error_of_the_outputs(bits, terms, k_bias_bits):
    weight, inputs = np.random.default_rng(1).standard_normal((12, 20)), correlated(0, 300, 20)
    plain = fit_optimal(weight, bits, terms, k_bias_bits)
    for reference in (None, inputs + 0.1 * np.random.default_rng(2).standard_normal(inputs.shape)):
        found = fit_calibrated(weight, bits, terms, inputs, reference, damping=1e-9, k_bias_bits=k_bias_bits)
        wanted = inputs if reference is None else reference
        ours = errors_of(found.fit, found.bias, weight, inputs, wanted)
        best_bias = (wanted @ weight.T - inputs @ plain.weights().T).mean(0)
        theirs = errors_of(plain, best_bias, weight, inputs, wanted)
        if not k_bias_bits:
            assert (ours <= theirs * (1 + 1e-6)).all()
        assert ours.sum() < (0.8 if reference is None else 0.85) * theirs.sum()
        # No bias is better: the mean of what is left is zero.
        assert np.abs((inputs @ found.fit.weights().T + found.bias - wanted @ weight.T).mean(0)).max() < 1e-9
        # No single weight can be changed for the better, by any level.
        levels = magnitudes(bits, terms)
        sums = found.fit.sums()
        if reference is None and not k_bias_bits:
            for n, k in ((0, 3), (5, 19), (11, 0)):
                for level in (*levels, *-levels):
                    other = sums[n] * found.fit.scale[n]
                    other[k] = level * found.fit.scale[n]
                    left = (inputs - inputs.mean(0)) @ (other - weight[n])
                    assert np.square(left).sum() >= ours[n] * (1 - 1e-6)


def test_inputs_that_do_not_vary_leave_the_weights_own_fit():
    weight = np.random.default_rng(1).standard_normal((12, 20))
    for value in (0.0, 2.0):
        found = fit_calibrated(weight, 3, 2, np.full((5, 20), value))
        assert np.array_equal(found.fit.codes, fit_optimal(weight, 3, 2).codes)
        assert np.allclose(found.bias, value * (weight - found.fit.weights()).sum(1), rtol=0, atol=1e-12)


def test_an_empty_channel_stays_empty():
    weight = np.random.default_rng(1).standard_normal((4, 6))
    weight[2] = 0.0
    found = fit_calibrated(weight, 3, 1, correlated(3, 50, 6))
    assert found.fit.scale[2] == 0
    assert (found.fit.scale[[0, 1, 3]] > 0).all()


def test_each_layer_makes_up_for_those_before_it():
    """Fitted one after another, the network's outputs err less than where each layer is fitted for the original inputs."""
    torch.manual_seed(4)
    layers = [nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)]
    model, x = nn.Sequential(*layers).eval(), torch.from_numpy(correlated(5, 400, 16)).float()
    original = layer_inputs(model, x)
    together = convert_pretrained(model, 3, 1, calibration=x)
    alone = copy.deepcopy(model)
    for name, reads in original.items():
        layer = alone.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        made = fit_groups(layer.weight.detach().double().numpy(), 3, 1, reads)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(made.fit.weights()))
            layer.bias.add_(torch.from_numpy(made.bias))
    with torch.no_grad():
        errors = [float((m(x) - model(x)).square().sum()) for m in (together, alone)]
    assert errors[0] < 0.9 * errors[1]


class Backwards(nn.Module):
    """Runs its second layer first, its first twice, and its third never."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        return self.one(self.one(self.two(x)))


def test_layers_are_taken_in_the_order_in_which_they_run():
    model, x = Backwards(), torch.randn(5, 3)
    seen = layer_inputs(model, x)
    assert list(seen) == ["two", "one"]
    assert seen["one"].shape == (1, 10, 3)
    assert list(layer_inputs(model, x, ["one"])) == ["one"]
    made = convert_pretrained(model, 4, 3, calibration=x)
    assert all(isinstance(layer, TermSumLayer) for layer in made.children())
    with torch.no_grad():
        torch.testing.assert_close(made(x), model(x), rtol=0.05, atol=0.05)


def test_groups_are_fitted_by_themselves():
    rng = np.random.default_rng(3)
    weight, inputs = rng.standard_normal((6, 5)), rng.standard_normal((2, 30, 5))
    for bits in (0, 2):
        whole = fit_groups(weight, 3, 2, inputs, k_bias_bits=bits)
        assert whole.fit.codes.shape == (2, 6, 5)
        assert (whole.fit.k_bias is None) == (bits == 0)
        for group in range(2):
            channels = slice(3 * group, 3 * group + 3)
            part = fit_groups(weight[channels], 3, 2, inputs[group : group + 1], k_bias_bits=bits)
            assert np.array_equal(whole.fit.codes[:, channels], part.fit.codes)
            assert np.array_equal(whole.fit.scale[channels], part.fit.scale)
            assert np.array_equal(whole.bias[channels], part.bias)
            assert np.array_equal(whole.fit.weights()[channels], part.fit.weights())
