"""Accuracy against cycles of a network without training: one small run, and what a second call does."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from bench import post_training
from golden.train.loop import accuracy
from golden.train.task import Split
from shiftforge.errors import InputError


def test_rows_are_measured_once_and_the_page_tells_them(tmp_path, capsys, monkeypatch):
    out = tmp_path / "p.json"
    monkeypatch.setattr(
        post_training,
        "variants",
        lambda: iter(
            [
                ("full", 0),
                ("least squares", 1),
                ("calibrated", 2),
                ("calibrated", 0),
                ("calibrated, exponents per K", 2),
            ]
        ),
    )
    words = ["--tasks", "digits-mlp", "--epochs", "4", "--seeds", "1", "--out", str(out)]
    post_training.main(words)
    page = capsys.readouterr().out
    full, one, two, chosen, exponents = json.loads(out.read_text())["rows"]
    assert full["machine_accuracy"] is None
    assert full["products"] == 64 * 64 + 64 * 10
    assert one["per_layer"] == {"0": 1, "3": 1}
    assert two["per_layer"] == {"0": 2, "3": 2}
    assert two["products"] == 2 * one["products"] == 2 * full["products"]
    assert one["cycles"] < two["cycles"] < 2.2 * one["cycles"]
    assert chosen["products"] <= 3 * full["products"]
    # Two terms in fp16 on the machine: within an image or two of torch in float32.
    assert abs(two["machine_accuracy"] - two["torch_accuracy"]) <= 0.006
    assert two["machine_accuracy"] >= full["torch_accuracy"] - 0.02
    assert exponents["cycles"] is None
    assert exponents["why"] == "layer '0' has an exponent bias per K index, which needs array.k_bias_bits"
    assert abs(exponents["machine_accuracy"] - exponents["torch_accuracy"]) <= 0.006
    points = f"{100 * (two['machine_accuracy'] - full['torch_accuracy']):+.2f}"
    assert (
        f"| calibrated | 2 | 2 2 | {100 * two['machine_accuracy']:.2f} | {points} | {points} | {two['cycles']:,.0f} |"
        in page
    )
    assert "does not place" not in page
    assert (tmp_path / "p.md").read_text() in page
    dots = [e for e in ElementTree.parse(tmp_path / "p.svg").iter() if e.tag.endswith("circle")]
    assert len(dots) == 3  # exponents have no cycles
    before = out.read_bytes()
    monkeypatch.setattr(post_training, "_trained", None)
    post_training.main(words)
    assert out.read_bytes() == before


@pytest.mark.slow
def test_two_calibrated_terms_are_within_a_point_of_full_precision_on_keywords():
    trained = post_training._trained("keywords", 0, None)
    row = post_training.measure("keywords", 0, trained, ("calibrated", 2))
    assert row["cycles"] is not None
    assert row["machine_accuracy"] is not None
    assert row["machine_accuracy"] >= accuracy(trained.model, trained.test) - 0.01


def test_rows_are_drawn_from_every_class():
    labels = np.repeat(np.arange(10), 100)
    data = Split(np.zeros((1000, 1), np.float32), labels)
    rows = post_training._some(data, 256)
    assert len(set(rows.tolist())) == 256
    assert np.bincount(labels[rows], minlength=10).min() > 10
    assert torch.equal(rows, post_training._some(data, 256))
    assert len(post_training._some(data, 5000)) == 1000


@pytest.mark.parametrize("content", ["{", "[]", '{"rows": [1]}', '{"rows": [{"task": "digits-mlp"}]}'])
def test_a_file_of_something_else_is_left_alone(tmp_path, content):
    out = tmp_path / "p.json"
    out.write_text(content)
    with pytest.raises(InputError, match=r"p.json must hold rows of this command, and does not .*; move it away$"):
        post_training.main(["--tasks", "digits-mlp", "--out", str(out)])
    assert out.read_text() == content
