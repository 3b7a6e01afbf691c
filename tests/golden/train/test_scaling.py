"""Every method under torch.compile, automatic mixed precision and DistributedDataParallel: the same weights and gradients."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from golden.train.convert import convert
from golden.train.geometry import ShiftLayer
from golden.train.methods import METHODS

ROOT = Path(__file__).parents[3]


def network(name, bits=3):
    plain = nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1, padding_mode="circular"),
        nn.BatchNorm1d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 5),
    )
    return convert(plain, bits, method=name)


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


# torch's tracer makes an instance of autograd.Function, and torch warns of it.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", list(METHODS))
def test_compiled_gives_the_same_numbers(name):
    # aot_eager traces forward and backward whole, without a C++ compiler; fullgraph refuses every break.
    model = network(name)
    twin = copy.deepcopy(model)
    x = torch.randn(4, 2, 8)
    torch._dynamo.reset()
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    y, expected = compiled(x), model(x)
    assert torch.equal(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    got, wanted = gradients(twin), gradients(model)
    assert got.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(got[key], value, rtol=1e-5, atol=1e-6)
    for key, value in model.state_dict().items():
        assert torch.equal(twin.state_dict()[key], value)


@pytest.mark.parametrize("name", list(METHODS))
def test_mixed_precision_keeps_latents_and_gradients_in_float32(name):
    model = network(name)
    x = torch.randn(4, 2, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(x)
        if name != "full":
            conv = model.get_submodule("0")
            assert isinstance(conv, ShiftLayer)
            assert conv.weight.dtype is torch.float32
            if name not in ("apot", "inq"):  # powers of two lose nothing in bfloat16
                assert torch.equal(conv.weight.bfloat16().float(), conv.weight)
    assert y.dtype is torch.bfloat16
    y.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.dtype is torch.float32 for p in model.parameters())
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    assert any(bool((p.grad != 0).any()) for p in model.get_submodule("0").parameters() if p.grad is not None)


WORKER = """
import sys
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from golden.train.convert import convert
from golden.train.methods import METHODS

rank = int(sys.argv[1])
distributed.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
torch.set_num_threads(1)
x, y = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
for name in METHODS:
    for bits in (2, 3):
        torch.manual_seed(rank)  # other latents on each process, until DistributedDataParallel sends those of the first
        plain = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3, bias=False))
        model = convert(plain, bits, method=name)
        ddp = DistributedDataParallel(model)
        mine = slice(4 * rank, 4 * rank + 4)
        for _ in range(2):
            ddp.zero_grad()
            nn.functional.cross_entropy(ddp(x[mine]), y[mine]).backward()
        together = {k: p.grad.clone() for k, p in model.named_parameters()}
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        for key, p in model.named_parameters():
            torch.testing.assert_close(together[key], p.grad, rtol=1e-5, atol=1e-6)
            both = [torch.empty_like(p) for _ in range(2)]
            distributed.all_gather(both, p.detach())
            assert torch.equal(*both), (name, bits, key)
        print("same", name, bits)
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_the_whole_batch(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), str(tmp_path / "meet")],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for worker in workers:
        out, err = worker.communicate(timeout=240)
        assert worker.returncode == 0, err
        assert out.count("same") == 2 * len(METHODS)
