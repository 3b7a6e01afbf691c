"""The experiment runner: its grid, its files, and what a second call does."""

import json

import pytest

from bench import accuracy
from bench.accuracy import Trainer, cells, path_of
from shiftforge.errors import InputError

GRID = ["--tasks", "digits-mlp", "--methods", "denseshift", "inq", "--bits", "3", "--epochs", "2"]


def test_runs_are_kept_and_only_missing_ones_are_done(tmp_path, capsys, monkeypatch):
    out = tmp_path / "runs"
    words = [*GRID, "--out", str(out)]
    trained, run = [], Trainer.run
    monkeypatch.setattr(Trainer, "run", lambda self, cell: trained.append(cell) or run(self, cell))
    accuracy.main([*words, "--seeds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["digits-mlp", "full", "32", "1"],
        ["digits-mlp", "denseshift", "3", "1"],
        ["digits-mlp", "inq", "3", "1"],
    ]
    assert sorted(p.name for p in (out / "digits-mlp").iterdir()) == [
        "denseshift-3-0.json",
        "full-32-0.json",
        "inq-3-0.json",
    ]
    first = {p.name: p.read_text() for p in (out / "digits-mlp").iterdir()}
    kept = json.loads(first["denseshift-3-0.json"])
    assert (kept["epochs"], kept["activation"], kept["bits"]) == (2, "fp16", 3)
    assert f"{100 * kept['accuracy']:6.2f} ± 0.00" in lines[2]
    assert 0 < kept["frozen_at_half"] < 1
    assert json.loads(first["full-32-0.json"])["frozen_at_half"] is None
    trained.clear()
    accuracy.main([*words, "--seeds", "2", "--json"])
    assert [cell[1:] for cell in trained] == [("full", 32, 1), ("denseshift", 3, 1), ("inq", 3, 1)]
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert len(runs) == 6
    assert {name: (out / "digits-mlp" / name).read_text() for name in first} == first
    # INQ alone, its twin trained again for it, is the same run.
    (out / "digits-mlp" / "inq-3-1.json").unlink()
    accuracy.main([*words, "--seeds", "2", "--json"])
    again = json.loads(capsys.readouterr().out)["runs"]
    assert [r["accuracy"] for r in again] == [r["accuracy"] for r in runs]
    assert [r["loss"] for r in again] == [r["loss"] for r in runs]


def test_a_run_is_the_command_lines(tmp_path, capsys):
    from golden.train.runner import train

    result = train("digits-mlp", epochs=1, seed=3, method="s3")
    trainer = Trainer("fp16", 1)
    run = trainer.run(("digits-mlp", "s3", 3, 3))
    assert (run["accuracy"], run["loss"]) == (result.torch_accuracy, result.losses[-1])
    assert trainer.run(("digits-mlp", "full", 32, 3))["accuracy"] == result.float32_accuracy


def test_the_default_grid_is_seed_by_seed():
    found = cells(["digits-mlp", "keywords"], ["denseshift", "pot"], None, 2)
    assert found[:9] == [
        ("digits-mlp", "full", 32, 0),
        *(("digits-mlp", method, bits, 0) for bits in (2, 3, 4) for method in ("denseshift", "pot")),
        ("keywords", "full", 32, 0),
        ("keywords", "denseshift", 3, 0),
    ]
    assert len(found) == 20
    assert len(set(found)) == 20


@pytest.mark.parametrize("content", ["{", "[]", '{"task": "digits-mlp"}'])
def test_a_file_of_something_else_is_one_sentence(tmp_path, content):
    path = path_of(tmp_path, ("digits-mlp", "full", 32, 0))
    path.parent.mkdir()
    path.write_text(content)
    for words in (
        ["--collect", str(tmp_path / "all.json")],
        [*GRID[:2], "--methods", "pot", "--bits", "3", "--epochs", "1", "--seeds", "1"],
    ):
        with pytest.raises(
            InputError, match=r"full-32-0.json must hold a run of this command, and does not .*; delete it$"
        ):
            accuracy.main([*words, "--out", str(tmp_path)])
    assert path.read_text() == content
    with pytest.raises(InputError, match=r"must hold collected runs, and does not"):
        accuracy.main(["--report", str(path)])
    with pytest.raises(InputError, match=r"must hold finished runs, and has none; run python -m bench.accuracy first"):
        accuracy.main(["--collect", str(tmp_path / "all.json"), "--out", str(tmp_path / "none")])
    with pytest.raises(InputError, match="activation must be one of fp32, .*, not 'fp17'"):
        accuracy.main([*GRID, "--activation", "fp17", "--out", str(tmp_path)])
