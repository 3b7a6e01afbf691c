"""Two processes under torchrun train the network that one process trains."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from golden.train import workers
from golden.train.workers import Workers
from shiftforge.errors import InputError

ROOT = Path(__file__).parents[3]

SCRIPT = """
import sys
import numpy as np, torch
from torch import nn
from golden.train import runner
from golden.train.task import Recipe, Split, Task
from golden.train.workers import from_environment

x = np.random.default_rng(1).standard_normal((32, 6)).astype(np.float32)
split = Split(x, (x.sum(1) > 0).astype(np.int64))
# No BatchNorm: its statistics are those of each process's share of a batch.
build = lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
task = Task("own", "a test", lambda: (split, split), build, Recipe(3, 8, 1e-2, 1e-3))
result = runner.train(task, checkpoint=sys.argv[1], seed=2, activation="fp32")
states = {k: v for k, v in result.float32_model.state_dict().items()}
torch.save({"losses": result.float32_losses, "state": states}, f"{sys.argv[1]}.{from_environment().rank}")
"""


def environment():
    kept = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_two_processes_train_the_network_of_one(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    one = subprocess.run(
        [sys.executable, "script.py", "one"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert one.returncode == 0, one.stderr
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "script.py",
        "two",
    ]
    two = subprocess.run(
        launch, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=280, check=False
    )
    assert two.returncode == 0, two.stderr
    alone, first, second = (torch.load(tmp_path / name, weights_only=True) for name in ("one.0", "two.0", "two.1"))
    assert first["losses"] == second["losses"]
    assert first["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    for key, value in alone["state"].items():
        assert torch.equal(first["state"][key], second["state"][key])
        torch.testing.assert_close(first["state"][key], value, rtol=1e-3, atol=1e-5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "one.0", "script.py", "two", "two.0", "two.1"]


def test_the_environment_names_the_workers(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert workers.from_environment() == Workers(0, 1)
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(InputError, match="RANK must be 0..0, not 1"):
        workers.from_environment()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert workers.from_environment() == Workers(1, 2)
    assert not workers.from_environment().first
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(InputError, match="RANK and WORLD_SIZE must be integers, as torchrun sets them"):
        workers.from_environment()


def test_one_worker_is_its_own_mean():
    value = torch.tensor(3.0)
    assert Workers().mean(value) is value
