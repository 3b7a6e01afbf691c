"""The matrices that layers read, by the layers' own outputs; the calibrated fit of convolutions."""

import numpy as np
import pytest
import torch
from torch import nn

from golden.train.calibration import LARGEST_ROWS, layer_inputs, patches
from golden.train.post_training import TermSumLayer, convert_pretrained, fit_groups

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


def test_groups_are_fitted_by_themselves():
    rng = np.random.default_rng(3)
    weight, inputs = rng.standard_normal((6, 5)), rng.standard_normal((2, 30, 5))
    whole = fit_groups(weight, 3, 2, inputs)
    assert whole.codes.shape == (2, 6, 5)
    for group in range(2):
        part = fit_groups(weight[3 * group : 3 * group + 3], 3, 2, inputs[group : group + 1])
        assert np.array_equal(whole.codes[:, 3 * group : 3 * group + 3], part.codes)
        assert np.array_equal(whole.scale[3 * group : 3 * group + 3], part.scale)
