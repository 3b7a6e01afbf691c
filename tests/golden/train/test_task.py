"""Recipes and splits: the schedule against its formula, augmentation in training alone."""

import math

import numpy as np
import pytest
import torch

from golden.train.task import Recipe, Split
from shiftforge.errors import InputError


def test_the_rate_rises_and_then_follows_a_cosine_to_zero():
    recipe = Recipe(epochs=5, batch=1, learning_rate=0.4, weight_decay=0.0, warmup=2)
    rates = [recipe.rate(step, 4) for step in range(20)]
    assert rates[:8] == [pytest.approx(0.05 * (i + 1)) for i in range(8)]
    assert rates[8:] == [pytest.approx(0.2 * (1 + math.cos(math.pi * i / 12))) for i in range(12)]
    assert rates[8] == 0.4
    assert recipe.rate(20, 4) == pytest.approx(0.0, abs=1e-12)
    plain = Recipe(epochs=5, batch=1, learning_rate=0.4, weight_decay=0.0)
    assert [plain.rate(0, 4), plain.rate(10, 4)] == [0.4, pytest.approx(0.2)]


def test_the_schedule_is_torchs():
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)
    recipe = Recipe(epochs=3, batch=1, learning_rate=0.3, weight_decay=0.0)
    for step in range(30):
        assert recipe.rate(step, 10) == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize(
    "values, message",
    [
        ({"warmup": -1}, "warmup must be an integer of 0 or more, not -1"),
        ({"optimizer": "adam"}, "optimizer must be 'adamw' or 'sgd', not 'adam'"),
        ({"other_decay": -1.0}, "other_decay must be 0 or more, not -1.0"),
        ({"batch": 0}, "batch must be a positive integer, not 0"),
    ],
)
def test_bad_recipes(values, message):
    with pytest.raises(InputError) as caught:
        Recipe(**{"epochs": 1, "batch": 1, "learning_rate": 1.0, "weight_decay": 0.0, **values})
    assert str(caught.value) == message


def test_only_training_batches_are_augmented():
    split = Split(np.zeros((3, 2), np.float32), np.arange(3), lambda x, g: x + torch.rand((), generator=g))
    rows = torch.tensor([2, 0])
    x, y = split.batch(rows, None)
    assert x.tolist() == [[0, 0], [0, 0]]
    assert y.tolist() == [2, 0]
    assert float(split.batch(rows, torch.Generator().manual_seed(0))[0][0, 0]) > 0
    assert len(split) == 3


def test_splits_that_differ_have_other_digests():
    x, y = np.zeros((3, 2), np.float32), np.arange(3)
    assert Split(x, y).digest() != Split(x, y[::-1].copy()).digest()
    assert Split(x, y).digest() == Split(x.copy(), y.copy()).digest()
