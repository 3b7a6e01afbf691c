"""`train` when it is interrupted, resumed, or started beside an old checkpoint."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from golden.train import loop
from golden.train.metrics import TrainingState
from shiftforge import cli
from tests.limits import files_of_at_most

ROOT = Path(__file__).parents[3]


def weights(path) -> TrainingState:
    return dict(torch.export.load(path).state_dict)


def test_an_interrupted_run_goes_on_to_the_same_network(work, shiftforge, monkeypatch, capsys):
    words = ("train", "digits-mlp", "--epochs", "2", "--seed", "4")
    assert shiftforge(*words, "--out", "whole.pt2")[0] == 0
    real, calls = loop.Fitting.run_epoch, 0

    def interrupted(self):
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return real(self)

    monkeypatch.setattr(loop.Fitting, "run_epoch", interrupted)
    assert cli.main([*words, "--out", "part.pt2"]) == 130
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1] == (
        "shiftforge: interrupted; 'part.checkpoint' holds the last whole epoch, and the same command with --resume goes on from it"
    )
    assert not Path("part.pt2").exists()
    monkeypatch.undo()
    monkeypatch.chdir(work)
    code, _, message = shiftforge(*words, "--out", "part.pt2")
    assert code == 2
    assert message == (
        "'part.checkpoint' must not be there when a run starts: it is what an interrupted one left; add --resume to go on from it, "
        "or delete it"
    )
    assert shiftforge(*words, "--out", "part.pt2", "--resume")[0] == 0
    assert not Path("part.checkpoint").exists()
    whole, part = weights("whole.pt2"), weights("part.pt2")
    assert whole.keys() == part.keys()
    for key, value in whole.items():
        assert isinstance(value, torch.Tensor)
        other = part[key]
        assert isinstance(other, torch.Tensor)
        assert torch.equal(value, other)


def test_ctrl_c_in_a_process_keeps_the_checkpoint(tmp_path):
    command = [sys.executable, "-m", "shiftforge.cli", "train", "digits-mlp", "--epochs", "100000", "--out", "m.pt2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    try:
        end = time.monotonic() + 120
        while not (tmp_path / "m.checkpoint").exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("shiftforge: interrupted; 'm.checkpoint' holds the last whole epoch")
    assert torch.load(tmp_path / "m.checkpoint", weights_only=True)["run"]["epochs"] == 100000
    assert [p.name for p in tmp_path.iterdir()] == ["m.checkpoint"]


@pytest.mark.parametrize(
    "words, message",
    [
        (("cifar10",), "the folder of the data of cifar10 must be named with --data FOLDER, and is not"),
        (
            ("imagenet", "--data", "no"),
            "the data of imagenet must be in a folder that exists, not 'no'; name it with --data",
        ),
        (
            ("imagenet", "--data", ".", "--classes", "3"),
            "'train' must hold 3 classes, not 2; give the number that it has with --classes 2",
        ),
        (("digits-mlp", "--threads", "0"), "threads must be a positive integer, not 0"),
    ],
)
def test_what_is_refused(words, message, work, shiftforge):
    for part in ("train", "val"):
        for name in ("n01", "n02"):
            Path(part, name).mkdir(parents=True)
    assert shiftforge("train", *words, "--out", "m.pt2") == (2, "", message)


def test_a_diverging_run_names_the_last_good_checkpoint(work, shiftforge, monkeypatch):
    real, calls = loop.Fitting.run_epoch, 0

    def overflowing(self):
        nonlocal calls
        calls += 1
        if calls == 2:
            with torch.no_grad():
                next(self.model.parameters()).fill_(torch.inf)
        return real(self)

    monkeypatch.setattr(loop.Fitting, "run_epoch", overflowing)
    code, out, message = shiftforge("train", "digits-mlp", "--epochs", "2", "--out", "m.pt2")
    assert (code, out) == (1, "")
    assert message == (
        "loss and parameters of the float32 network must stay finite, not nan in epoch 2 (0.weight is no longer finite); "
        "lower the learning rate of 0.01; 'm.checkpoint' holds the last good epoch"
    )
    assert sorted(p.name for p in work.iterdir()) == ["c.toml", "m.checkpoint"]


def test_a_full_disk_is_one_sentence(work, shiftforge):
    assert shiftforge("train", "digits-mlp", "--epochs", "1", "--out", "m.pt2")[0] == 0
    old = {p.name: p.read_bytes() for p in work.iterdir()}
    with files_of_at_most(1000):
        code, out, message = shiftforge("train", "digits-mlp", "--epochs", "1", "--out", "m.pt2")
    assert (code, out) == (2, "")
    assert message.startswith("the checkpoint 'm.checkpoint' must be writable: ")
    assert {p.name: p.read_bytes() for p in work.iterdir()} == old


def test_an_unknown_device_is_one_sentence(work, shiftforge):
    code, _, message = shiftforge("train", "digits-mlp", "--device", "nonsense", "--out", "m.pt2")
    assert code == 2
    assert message.startswith("device must be one that torch finds here, not 'nonsense' (")


def test_mixed_precision_trains(work, shiftforge):
    assert shiftforge("train", "digits-mlp", "--mixed", "--epochs", "3", "--out", "m.pt2", "--json")[0] == 0
