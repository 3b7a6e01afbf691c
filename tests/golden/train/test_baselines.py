"""Every method against its published formulas, written out here for single numbers, without autograd."""

import copy
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from golden.train.baselines import APoT, IncrementalPowerOfTwo, advance, sparsity_penalty
from golden.train.convert import convert, freeze
from golden.train.methods import METHODS
from shiftforge.errors import InputError

BITS = (2, 3, 4)
SHAPE = (6, 11)
TRAINED = [name for name in METHODS if name != "full"]


def randoms(seed, shape=SHAPE):
    """Values of many magnitudes, with zeros, and exact powers of two."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) * 2.0 ** rng.integers(-6, 3, shape)
    values[rng.random(shape) < 0.1] = 0.0
    powers = rng.random(shape) < 0.1
    values[powers] = np.sign(values[powers]) * 2.0 ** rng.integers(-5, 3, shape)[powers]
    return values


def layer(method, bits, weights=None, shape=SHAPE, dtype=torch.float64) -> Any:
    linear = METHODS[method].linear
    assert linear is not None
    made = linear(shape[1], shape[0], bits, dtype=dtype)
    if weights is not None:
        made.take_weight(torch.from_numpy(weights))
    return made


def grads(made, upstream):
    made.zero_grad()
    weight = made.weight
    weight.backward(torch.from_numpy(upstream))
    return weight.detach().numpy(), {name: p.grad.numpy() for name, p in made.named_parameters()}


def sign(x):
    return int(x > 0) - int(x < 0)


def nearest_exponent(x):
    """round(log2 |x|), ties to even; far below any window for 0."""
    return round(math.log2(abs(x))) if x else -9999


@pytest.mark.parametrize("bits", BITS)
def test_deepshift_q(bits):
    made, upstream = layer("deepshift-q", bits, randoms(bits)), randoms(100 + bits)
    weight, by = grads(made, upstream)
    low = -(2 ** (bits - 1) - 2)
    expected = [sign(v) * 2.0 ** min(max(nearest_exponent(v), low), 0) for v in made.latent.flatten().tolist()]
    assert weight.flatten().tolist() == expected
    assert set(np.abs(weight).flatten()) == {0.0, *(2.0**e for e in range(low, 1))}
    assert np.array_equal(by["latent"], upstream)
    before = made.latent.detach().clone()
    made(torch.zeros(1, SHAPE[1], dtype=torch.float64))
    held = [sign(v) * min(max(abs(v), 2.0**low), 1.0) for v in before.flatten().tolist()]
    assert made.latent.flatten().tolist() == held
    assert torch.equal(made.weight, torch.from_numpy(weight))


@pytest.mark.parametrize("bits", BITS)
def test_deepshift_ps(bits):
    made, upstream = layer("deepshift-ps", bits), randoms(100 + bits)
    low = -(2 ** (bits - 1) - 2)
    rng = np.random.default_rng(bits)
    shift, signs = rng.uniform(low - 1, 1, SHAPE), rng.uniform(-1.6, 1.6, SHAPE)
    signs[0, :3] = 0.5, -0.5, 0.0
    with torch.no_grad():
        made.shift.copy_(torch.from_numpy(shift))
        made.sign.copy_(torch.from_numpy(signs))
    weight, by = grads(made, upstream)
    for i in np.ndindex(*SHAPE):
        value = 2.0 ** min(max(round(float(shift[i])), low), 0) * sign(round(float(signs[i])))
        assert weight[i] == value
        assert by["shift"][i] == pytest.approx(upstream[i] * value * math.log(2), rel=1e-14)
        assert by["sign"][i] == upstream[i]
    start = randoms(7)
    made.take_weight(torch.from_numpy(start))
    expected = [sign(v) * 2.0 ** min(max(nearest_exponent(v), low), 0) for v in start.flatten().tolist()]
    assert made.weight.flatten().tolist() == expected
    with torch.no_grad():
        made.shift.fill_(9)
        made.sign.fill_(-9)
    made(torch.zeros(1, SHAPE[1], dtype=torch.float64))
    assert (made.shift.max().item(), made.sign.min().item()) == (0, -1)


@pytest.mark.parametrize("bits", BITS)
def test_s3(bits):
    made, upstream = layer("s3", bits), randoms(100 + bits)
    steps = 2 ** (bits - 1) - 2
    latents = {name: randoms(i + 10 * bits, tuple(p.shape)) for i, (name, p) in enumerate(made.named_parameters())}
    assert [len(v) for k, v in latents.items() if k == "weight_shift"] == ([steps] if steps else [])
    for shift in latents.get("weight_shift", []):
        shift[::2] = np.abs(shift[::2])
    with torch.no_grad():
        for name, p in made.named_parameters():
            p.copy_(torch.from_numpy(latents[name]))
    weight, by = grads(made, upstream)

    def run_length(ones):
        s = 0
        for one in ones:
            s = (s + 1) * one
        return s

    for i in np.ndindex(*SHAPE):
        sgn = 1.0 if latents["weight_sign"][i] >= 0 else -1.0
        kept = 1.0 if latents["weight_sparse"][i] > 0 else 0.0
        ones = [1 if latents["weight_shift"][(t, *i)] > 0 else 0 for t in range(steps)]
        s = run_length(ones)
        assert weight[i] == sgn * kept * 2**s
        assert by["weight_sign"][i] == upstream[i] * kept * 2**s
        assert by["weight_sparse"][i] == upstream[i] * sgn * 2**s
        for t in range(steps):
            slope = run_length([*ones[:t], 1, *ones[t + 1 :]]) - run_length([*ones[:t], 0, *ones[t + 1 :]])
            expected = upstream[i] * sgn * kept * 2**s * math.log(2) * slope
            assert by["weight_shift"][(t, *i)] == pytest.approx(expected, rel=1e-13, abs=0)
    assert set(np.abs(weight).flatten()) == {0.0, *(2.0**e for e in range(steps + 1))}
    if bits == 3:  # the demo's own formula for 3 bits, the last latent first
        shift2, shift = (latents["weight_shift"] > 0).astype(float)
        assert np.array_equal(np.abs(weight), (latents["weight_sparse"] > 0) * 2.0 ** (shift * (shift2 + 1)))
    penalty = sparsity_penalty(nn.Sequential(made, nn.ReLU()), 0.5)
    assert penalty.item() == pytest.approx(0.5 * np.maximum(-latents["weight_sparse"], 0).sum(), rel=1e-13)
    assert sparsity_penalty(nn.ReLU()).item() == 0


@pytest.mark.parametrize("bits", BITS)
def test_inq(bits):
    start = randoms(bits)
    made, upstream = layer("inq", bits, start), randoms(100 + bits)
    n1 = math.floor(math.log2(4 * np.abs(start).max() / 3))
    n2 = n1 + 1 - 2 ** (bits - 1) // 2
    grid = [0.0, *(2.0**e for e in range(n2, n1 + 1))]

    def fixed(v):
        for below, at in pairwise(grid):
            if (below + at) / 2 <= abs(v) < 1.5 * at:
                return sign(v) * at
        return sign(v) * grid[-1] if abs(v) >= grid[-1] else 0.0

    done = np.zeros(SHAPE, bool)
    values = start.copy()
    for portion in (0.5, 0.75, 0.875, 1.0):
        advance(nn.Sequential(made), portion)
        free = np.argsort(-np.where(done, -1.0, np.abs(values)), axis=None, kind="stable")
        for flat in free[: round(portion * done.size) - done.sum()]:
            i = np.unravel_index(flat, SHAPE)
            values[i], done[i] = fixed(values[i]), True
        weight, by = grads(made, upstream)
        assert np.array_equal(weight, values)
        assert np.array_equal(by["latent"], np.where(done, 0.0, upstream))
        # The free ones train on, and some grow beyond the window.
        values = np.where(done, values, values * 3)
        with torch.no_grad():
            made.latent.mul_(3)
    assert done.all()
    assert set(np.abs(values).flatten()) == set(grid)
    with pytest.raises(InputError, match=r"^the portion to fix must be 0..1, not 1.5$"):
        made.advance(1.5)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("alpha", [0.7, 3.0])
def test_apot(bits, alpha):
    start, upstream = np.random.default_rng(bits).standard_normal(SHAPE), randoms(100 + bits)
    made = layer("apot", bits, start)
    with torch.no_grad():
        made.alpha.fill_(alpha)
    weight, by = grads(made, upstream)
    # The published sets: one term from each of p_0 and p_1, divided by the largest sum.
    terms = {2: ([1.0], []), 3: ([0.5, 0.25, 0.125], []), 4: ([0.5, 0.25, 0.0625], [0.125])}[bits]
    sums = sorted({a + b for a in (0.0, *terms[0]) for b in (0.0, *terms[1])})
    levels = [s / sums[-1] for s in sums]
    u = (start - start.mean()) / start.std(ddof=1)
    by_u, by_alpha = np.zeros(SHAPE), 0.0
    for i in np.ndindex(*SHAPE):
        level = sign(u[i]) * min(levels, key=lambda v: abs(v - min(abs(u[i]) / alpha, 1)))
        assert weight[i] == pytest.approx(alpha * level, rel=1e-14, abs=0)
        inside = abs(u[i]) <= alpha
        by_u[i] = upstream[i] * inside
        by_alpha += upstream[i] * (level - u[i] / alpha if inside else sign(u[i]))
    assert by["alpha"] == pytest.approx(by_alpha, rel=1e-12)
    # du_j/dv_i = (delta_ij - 1/N - u_i u_j / (N-1)) / std
    n = start.size
    expected = (by_u - by_u.sum() / n - u * (u * by_u).sum() / (n - 1)) / start.std(ddof=1)
    np.testing.assert_allclose(by["latent"], expected, rtol=1e-11, atol=1e-13)
    with pytest.raises(InputError, match=r"^an APoT layer must have two weights or more for their deviation, not 1$"):
        layer("apot", bits, shape=(1, 1))


@pytest.mark.parametrize("bits", BITS)
def test_plain_powers_of_two(bits):
    start, upstream = randoms(bits), randoms(100 + bits)
    made = layer("pot", bits, start)
    weight, by = grads(made, upstream)
    top = nearest_exponent(np.abs(start).max())
    low = top - (2 ** (bits - 1) - 1)
    for i in np.ndindex(*SHAPE):
        assert weight[i] == (1 if start[i] >= 0 else -1) * 2.0 ** min(max(nearest_exponent(start[i]), low), top)
    assert np.array_equal(by["latent"], upstream)
    assert set(np.abs(weight).flatten()) == {2.0**e for e in range(low, top + 1)}


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", TRAINED)
def test_the_table_says_the_truth_of_every_method(name, bits):
    method = METHODS[name]
    for geometry in (method.linear, method.conv1d, method.conv2d):
        assert geometry is not None
        made = geometry(40, 60, bits) if geometry is method.linear else geometry(40, 60, 3, bits)
        start = copy.deepcopy(made.state_dict())
        given = 0.3 * torch.randn_like(made.weight)
        given.view(-1)[:100] = 0.0
        made.take_weight(given)
        changed = any(not torch.equal(v, start[k]) for k, v in made.state_dict().items())
        assert changed == method.from_weights
        advance(made, 1.0)
        values = made.weight.detach().unique()
        assert bool((values == 0).any()) == method.has_zero
        # n bits hold every value; -0 is no value of its own
        assert 2 ** (bits - 1) <= len((values + 0.0).unique()) <= 2**bits


def network():
    return nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))


@pytest.mark.parametrize("name", list(METHODS))
def test_state_freeze_and_export_of_every_method(name):
    model = convert(network(), 3, method=name)
    x = torch.randn(4, 1, 8, 8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    advance(model, 1.0)
    model.eval()
    twin = convert(network(), 3, method=name).eval()
    assert not torch.equal(twin(x), model(x))
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(x), model(x))
    assert torch.equal(freeze(model)(x), model(x))
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    assert torch.equal(program.module()(x[:3]), model(x[:3]))


def _done(model):
    advance(model, 1.0)
    return model


def test_inq_keeps_its_fixed_weights_through_weight_decay_and_a_state_dict():
    model = convert(network(), 3, method="inq")
    advance(model, 0.5)
    inq = model.get_submodule("4")
    assert isinstance(inq, IncrementalPowerOfTwo)
    assert int(inq.fixed.sum()) == inq.fixed.numel() // 2
    before = inq.weight.detach().clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(4, 1, 8, 8)).square().mean().backward()
        optimizer.step()
    assert torch.equal(inq.weight[inq.fixed], before[inq.fixed])
    assert not torch.equal(inq.weight[~inq.fixed], before[~inq.fixed])
    twin = convert(network(), 3, method="inq")
    twin.load_state_dict(model.state_dict())
    advance(twin, 0.75)
    assert torch.equal(freeze(_done(twin)).get_parameter("4.weight")[inq.fixed], before[inq.fixed])


def test_apot_clips_by_its_own_threshold_in_float32():
    made = layer("apot", 4, shape=(8, 9), dtype=torch.float32)
    assert isinstance(made, APoT)
    assert made.weight.abs().max() <= made.alpha
