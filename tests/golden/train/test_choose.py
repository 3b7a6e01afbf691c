"""Terms by an accuracy budget: the costs by hand, the search against every assignment."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from golden.train.choose import choose_terms, products_per_input
from golden.train.loop import accuracy
from golden.train.post_training import convert_pretrained
from golden.train.task import Split
from shiftforge.errors import InputError


def trained(seed):
    """A network and the data on which it is always right: its own answers."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 5)).eval()
    x = torch.randn(400, 12)
    with torch.no_grad():
        labels = model(x).argmax(1)
    return model, Split(x.numpy(), labels.numpy())


def test_products_are_weights_times_positions():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(8, 8, 3, padding=1, groups=4), nn.Flatten(), nn.Linear(8 * 9, 2)
    )
    assert products_per_input(model, torch.zeros(5, 3, 7, 7)) == {"0": 9 * 8 * 27, "1": 9 * 8 * 18, "3": 144}
    assert products_per_input(nn.Sequential(nn.Linear(4, 3)), torch.zeros(2, 7, 4)) == {"0": 84}


@pytest.mark.parametrize("drop", [0.02, 0.1])
def test_the_budget_is_kept_with_fewer_products_than_even_terms(drop):
    model, data = trained(0)
    steps = choose_terms(model, data, 3, drop=drop)
    last = steps[-1]
    assert last.accuracy == accuracy(convert_pretrained(model, 3, dict(last.terms)), data) >= 1 - drop
    assert all(step.accuracy < 1 - drop for step in steps[:-1])
    assert steps[0].terms == {"0": 1, "2": 1, "4": 1}
    assert last.products == 192 * last.terms["0"] + 192 * last.terms["2"] + 60 * last.terms["4"]
    enough = [t for t in (1, 2, 3) if accuracy(convert_pretrained(model, 3, t), data) >= 1 - drop]
    assert last.products <= enough[0] * 444
    # It cannot beat the cheapest of all assignments.
    best = min(
        192 * a + 192 * b + 60 * c
        for a, b, c in itertools.product((1, 2, 3), repeat=3)
        if accuracy(convert_pretrained(model, 3, {"0": a, "2": b, "4": c}), data) >= 1 - drop
    )
    assert best <= last.products


def test_a_budget_of_everything_needs_one_term():
    model, data = trained(1)
    (only,) = choose_terms(model, data, 2, drop=1.0)
    assert set(only.terms.values()) == {1}


def test_kept_layers_have_no_terms():
    model, data = trained(1)
    assert choose_terms(model, data, drop=1.0, keep=("0",))[0].terms == {"2": 1, "4": 1}


def test_what_is_refused():
    model, data = trained(2)
    with pytest.raises(InputError, match=r"^drop must be 0..1, not 2$"):
        choose_terms(model, data, drop=2)
    with pytest.raises(InputError, match=r"^most must be an integer from 1 to 4, not 5$"):
        choose_terms(model, data, most=5)
    with pytest.raises(InputError, match="the model must have a layer to convert, and has none"):
        choose_terms(model, data, keep=("0", "2", "4"))
    one = accuracy(convert_pretrained(model, 3, 1), data)
    with pytest.raises(InputError, match=rf"^drop must be {1 - one:.4f} or more for 1 terms in every layer, not 0.0$"):
        choose_terms(model, data, drop=0.0, most=1)
    with pytest.raises(InputError, match="eval mode"):
        choose_terms(model.train(), Split(np.zeros((1, 12), np.float32), np.zeros(1, np.int64)))
