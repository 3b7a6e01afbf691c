"""The training loop against the recipe written out step by step."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from golden.train.loop import accuracy, fit, one_thread
from golden.train.task import Recipe, Split


def data(rows):
    rng = np.random.default_rng(4)
    x = rng.standard_normal((rows, 3)).astype(np.float32)
    return Split(x, (x.sum(1) > 0).astype(np.int64))


def network():
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(torch.arange(6).reshape(2, 3) / 10)
        model.bias.zero_()
    return model


def test_fit_is_adamw_under_a_cosine_over_whole_batches_in_a_seeded_order():
    split, recipe, seed = data(14), Recipe(epochs=3, batch=4, learning_rate=0.1, weight_decay=0.01), 9
    model, expected = network(), network()
    losses = list(fit(model, "test", split, recipe, seed))

    # AdamW as published (Loshchilov and Hutter, 2019, algorithm 2), torch's default moments.
    order = torch.Generator().manual_seed(seed)
    parameters = list(expected.parameters())
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    x, y = torch.from_numpy(split.x), torch.from_numpy(split.y)
    step, expected_losses = 0, []
    for _ in range(3):
        shuffled = torch.randperm(14, generator=order)
        batch_losses = []
        for batch in range(3):
            chosen = shuffled[4 * batch : 4 * batch + 4]
            rate = 0.1 * 0.5 * (1 + math.cos(math.pi * step / 9))
            step += 1
            loss = functional.cross_entropy(expected(x[chosen]), y[chosen])
            batch_losses.append(loss.item())
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for p, gradient, (first, second) in zip(parameters, gradients, moments, strict=True):
                    p.mul_(1 - rate * 0.01)
                    first.copy_(0.9 * first + 0.1 * gradient)
                    second.copy_(0.999 * second + 0.001 * gradient**2)
                    p.sub_(rate * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8))
        expected_losses.append(sum(batch_losses) / 3)
    assert losses == pytest.approx(expected_losses, rel=1e-4)
    for got, want in zip(model.parameters(), parameters, strict=True):
        np.testing.assert_allclose(got.detach().numpy(), want.detach().numpy(), rtol=1e-3, atol=1e-5)


def test_accuracy_is_the_share_of_right_answers():
    split = Split(np.eye(3, dtype=np.float32)[[0, 1, 2, 0]], np.array([0, 1, 1, 0]))
    assert accuracy(nn.Identity(), split) == 0.75


def test_one_thread_gives_the_threads_back():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
