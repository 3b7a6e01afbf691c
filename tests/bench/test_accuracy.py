"""The experiment runner: its grid, its file, and what a second call does."""

import json

import pytest

from bench import accuracy
from shiftforge.errors import InputError

GRID = ["--methods", "denseshift", "pot", "--bits", "3", "--epochs", "2"]


def test_runs_are_kept_and_only_missing_ones_are_done(tmp_path, capsys, monkeypatch):
    out = tmp_path / "accuracy.json"
    accuracy.main([*GRID, "--seeds", "1", "--out", str(out)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["full", "32", "1"],
        ["denseshift", "3", "1"],
        ["pot", "3", "1"],
    ]
    first = json.loads(out.read_text())
    assert [(r["method"], r["bits"], r["seed"], r["epochs"]) for r in first["runs"]] == [
        ("denseshift", 3, 0, 2),
        ("pot", 3, 0, 2),
    ]
    assert f"{100 * first['runs'][1]['accuracy']:6.2f} ± 0.00" in lines[3]
    trained = []

    def spy(task, **options):
        trained.append((options["method"], options["seed"]))
        return train(task, **options)

    train = accuracy.train
    monkeypatch.setattr(accuracy, "train", spy)
    accuracy.main([*GRID, "--seeds", "2", "--out", str(out), "--json"])
    assert trained == [("denseshift", 1), ("pot", 1)]
    second = json.loads(capsys.readouterr().out)
    assert second["runs"][:2] == first["runs"]
    assert second == json.loads(out.read_text())


def run(method, seed, twin, value):
    return {
        "method": method,
        "bits": 3,
        "seed": seed,
        "epochs": None,
        "float32_accuracy": twin,
        "accuracy": value,
        "seconds": 1.0,
    }


def test_table_has_mean_spread_and_least():
    runs = [run("s3", 0, 0.99, 0.9), run("s3", 1, 0.97, 0.94), run("denseshift", 0, 0.99, 0.98)]
    lines = accuracy.table(runs).splitlines()  # pyright: ignore[reportArgumentType]
    assert lines[1].split() == ["full", "32", "2", "98.00", "±", "1.41", "97.00"]  # each seed's twin once
    assert lines[2].split() == ["denseshift", "3", "1", "98.00", "±", "0.00", "98.00"]
    assert lines[3].split() == ["s3", "3", "2", "92.00", "±", "2.83", "90.00"]


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"task": "digits-mlp"}', '{"task": 1, "activation": 2, "torch": 3, "runs": []}']
)
def test_a_file_of_something_else_is_left_alone(tmp_path, content):
    out = tmp_path / "accuracy.json"
    out.write_text(content)
    with pytest.raises(InputError, match=r"accuracy.json must hold .*; move it away$"):
        accuracy.main([*GRID, "--out", str(out)])
    assert out.read_text() == content
