"""Checkpoints: a resumed run is the uninterrupted one bit for bit; a failure leaves the last whole file."""

import dataclasses
import errno
import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from golden.train import runner
from golden.train.checkpoint import Checkpoint, digest
from golden.train.task import Pretraining, Recipe, Split, Task
from shiftforge import files
from shiftforge.errors import CheckFailed, InputError


def jitter(x, generator):
    return x + 0.1 * torch.randn(x.shape, generator=generator)


def data():
    x = np.random.default_rng(1).standard_normal((24, 6)).astype(np.float32)
    return Split(x, (x.sum(1) > 0).astype(np.int64), jitter)


def network():
    return nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


TASK = Task("own", "a test", lambda: (data(), data()), network, Recipe(3, 8, 1e-2, 1e-3, warmup=1, other_decay=0.0))
TRANSFER = dataclasses.replace(
    TASK, pretraining=Pretraining(data, Recipe(2, 8, 1e-2, 1e-3, optimizer="sgd"), fresh=("4",))
)


class Stop(Exception):
    pass


def stop_after(epochs):
    def show(step):
        if step.done == epochs:
            raise Stop

    return show


def same(a, b):
    assert a.losses == b.losses
    assert a.float32_losses == b.float32_losses
    assert (a.frozen, a.unchanged, a.torch_accuracy) == (b.frozen, b.unchanged, b.torch_accuracy)
    for one, other in ((a.model, b.model), (a.float32_model, b.float32_model)):
        states = other.state_dict()
        assert all(torch.equal(value, states[key]) for key, value in one.state_dict().items())


@pytest.mark.parametrize(
    "task, method", [(TASK, "denseshift"), (TASK, "inq"), (TASK, "apot"), (TRANSFER, "s3"), (TRANSFER, "inq")]
)
def test_a_run_stopped_after_any_epoch_gives_the_same_bits(task, method, tmp_path):
    whole = runner.train(task, method=method, seed=3)
    total = len(whole.losses) + len(whole.float32_losses)
    assert total == 6 if task is TASK else 8 if method == "inq" else 10
    for stopped in range(1, total + 1):
        path = tmp_path / f"{stopped}.checkpoint"
        with pytest.raises(Stop):
            runner.train(task, method=method, seed=3, checkpoint=path, progress=stop_after(stopped))
        torch.manual_seed(stopped)  # the state of torch's generator before the call must not matter
        same(whole, runner.train(task, method=method, seed=3, checkpoint=path, resume=True))


def test_a_resumed_run_does_only_what_is_missing(tmp_path):
    path, steps = tmp_path / "c", []
    with pytest.raises(Stop):
        runner.train(TASK, checkpoint=path, progress=stop_after(4))
    runner.train(TASK, checkpoint=path, resume=True, progress=steps.append)
    assert [(s.network, s.epoch, s.done, s.total) for s in steps] == [("3-bit", 2, 5, 6), ("3-bit", 3, 6, 6)]


def test_without_a_file_a_resumed_run_starts_anew(tmp_path):
    same(runner.train(TASK), runner.train(TASK, checkpoint=tmp_path / "c", resume=True))
    with pytest.raises(InputError, match=r"^a checkpoint must be named to resume from, not None$"):
        runner.train(TASK, resume=True)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"seed": 1}, "seed 1, not 0"),
        ({"bits": 2}, "bits 2, not 3"),
        ({"method": "pot"}, "method 'pot', not 'denseshift'"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(change, told, tmp_path):
    path = tmp_path / "c"
    runner.train(TASK, checkpoint=path)
    with pytest.raises(
        InputError, match=f"c must be a checkpoint of a run with {told}; give the arguments of that run"
    ):
        runner.train(TASK, checkpoint=path, resume=True, **change)


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    path = tmp_path / "c"
    runner.train(TASK, checkpoint=path)
    other = data()
    other.x[0, 0] += 1
    with pytest.raises(InputError, match=r"a checkpoint of a run with data '[0-9a-f]{16}', not"):
        runner.train(dataclasses.replace(TASK, load=lambda: (other, other)), checkpoint=path, resume=True)


class _Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


@pytest.mark.parametrize("content", [b"", b"nonsense", pickle.dumps({"version": 1}), pickle.dumps(_Evil())])
def test_a_file_of_something_else_is_refused_and_runs_nothing(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("c").write_bytes(content)
    with pytest.raises(InputError, match=r"^c must be a whole checkpoint of this version, and is not"):
        Checkpoint("c", {}).read()
    archive = io.BytesIO()
    torch.save(_Evil(), archive)
    Path("c").write_bytes(archive.getvalue())
    with pytest.raises(InputError, match=r"^c must be a whole checkpoint of this version, and is not"):
        Checkpoint("c", {}).read()
    assert not Path("evil").exists()


def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
    path = tmp_path / "c"
    whole = runner.train(TASK)
    with pytest.raises(Stop):
        runner.train(TASK, checkpoint=path, progress=stop_after(2))
    before, real = path.read_bytes(), os.fdopen

    def full(descriptor, mode):
        file = real(descriptor, mode)
        write = file.write

        class Full:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def write(self, contents):
                write(contents[: len(contents) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return Full()

    monkeypatch.setattr(files.os, "fdopen", full)
    with pytest.raises(InputError) as caught:
        runner.train(TASK, checkpoint=path, resume=True)
    assert "c' must be writable and is as it was" in str(caught.value)
    assert "(no space left on device)" in str(caught.value)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
    monkeypatch.undo()
    same(whole, runner.train(TASK, checkpoint=path, resume=True))


def test_a_diverging_run_names_the_checkpoint_of_the_last_good_epoch(tmp_path):
    def load():
        split = data()
        return split, split

    calls = 0

    def spoilt(x, generator):
        nonlocal calls
        calls += 1
        return x if calls <= 3 else x * float("inf")  # three batches an epoch: the second epoch overflows

    bad = dataclasses.replace(TASK, load=lambda: (Split(data().x, data().y, spoilt), data()))
    path = tmp_path / "c"
    with pytest.raises(
        CheckFailed, match=r"not nan in epoch 2 \(the outputs overflowed\); .*'.*c' holds the last good epoch$"
    ):
        runner.train(bad, checkpoint=path)
    held = torch.load(path, weights_only=True)["state"]["full"]
    assert held["fitting"]["epoch"] == 1
    assert all(bool(value.isfinite().all()) for value in held["fitting"]["model"].values())


def test_digest_tells_parts_apart():
    assert digest(b"ab", b"c") != digest(b"a", b"bc")
    assert digest(b"a") == digest(b"a")
    assert len(digest()) == 16
