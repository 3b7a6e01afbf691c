"""The table, the page and the plot against values by hand; the stored page against its file."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import accuracy
from bench.accuracy_report import checked, grouped, markdown, percents, plot, table

ROOT = Path(__file__).parents[2]


def run(method, bits, seed, value, task="digits-mlp"):
    return {
        "task": task,
        "method": method,
        "bits": bits,
        "seed": seed,
        "epochs": 40,
        "activation": "fp16",
        "accuracy": value,
        "loss": 0.1,
        "frozen_at_half": 0.5,
        "cpu_seconds": 1800.0,
        "torch": "2.0",
        "python": "3.11.0",
    }


RUNS = [
    run("s3", 3, 1, 0.94),
    run("s3", 3, 0, 0.90),
    run("full", 32, 0, 0.99),
    run("full", 32, 1, 0.97),
    run("denseshift", 3, 0, 0.98),
    run("denseshift", 2, 0, 0.80),
    run("pot", 3, 0, 0.50, "keywords"),
]


def test_table_has_mean_spread_and_least():
    lines = table([checked(r) for r in RUNS]).splitlines()[1:]
    assert [line.split() for line in lines] == [
        ["digits-mlp", "full", "32", "2", "98.00", "±", "1.41", "97.00"],
        ["digits-mlp", "denseshift", "2", "1", "80.00", "±", "0.00", "80.00"],
        ["digits-mlp", "denseshift", "3", "1", "98.00", "±", "0.00", "98.00"],
        ["digits-mlp", "s3", "3", "2", "92.00", "±", "2.83", "90.00"],
        ["keywords", "pot", "3", "1", "50.00", "±", "0.00", "50.00"],
    ]


def test_the_page_says_what_the_runs_say():
    page = markdown([checked(r) for r in RUNS], "the command", "r.json", "r.svg")
    assert "from the 7 runs in [r.json](r.json)" in page
    assert "`the command` made (210 minutes of one core in all; Python 3.11.0, torch 2.0)" in page
    assert "Full precision: 98.00 ± 1.41 (2)" in page
    assert "| `denseshift` | 80.00 ± 0.00 (1) | 98.00 ± 0.00 (1) |" in page
    assert "| `s3` |  | 92.00 ± 2.83 (2) |" in page
    assert (
        "- DenseShift, 3 bits, 1 seeds: 98.00 ± 0.00; +0.00 points from full precision; fewer than 3 seeds are too few"
        in page
    )


@pytest.mark.parametrize(
    "ours, points, place",
    [
        (0.93, "-3.00 points", "below it by more than the larger spread, 2.00"),
        (0.95, "-1.00 points", "within the larger spread, 2.00"),
        (0.99, "+3.00 points", "above it by more than the larger spread, 2.00"),
    ],
)
def test_the_page_compares_where_there_are_seeds_enough(ours, points, place):
    runs = [run("pot", 3, seed, value) for seed, value in enumerate((0.94, 0.96, 0.98))]  # 96 ± 2
    runs += [run("denseshift", 3, seed, ours) for seed in range(3)] + [run("s3", 3, 0, 0.5)]
    told = f"{points} from the best other method of this width, `pot` with 96.00 ± 2.00 ({place})."
    page = markdown([checked(r) for r in runs], "c", "r.json", "r.svg")
    assert f"- DenseShift, 3 bits, 3 seeds: {100 * ours:.2f} ± 0.00; {told}" in page
    runs += [run("full", 32, seed, value) for seed, value in enumerate((0.94, 0.96, 0.98))]
    page = markdown([checked(r) for r in runs], "c", "r.json", "r.svg")
    assert f"± 0.00; {points} from full precision ({place}); {told}" in page


def test_the_plot_is_an_svg_with_a_dot_per_cell():
    picture = plot([checked(r) for r in RUNS])
    root = ElementTree.fromstring(picture)
    dots = [e for e in root.iter() if e.tag.endswith("circle") and e.get("r") == "2.5"]
    assert len(dots) == len([c for c in grouped([checked(r) for r in RUNS]) if c[0]["method"] != "full"]) == 4
    assert all(120 <= float(d.get("cx", "0")) <= 580 for d in dots)
    texts = [e.text for e in root.iter() if e.tag.endswith("text")]
    assert "80.0" in texts  # more than 15 points below the best: at the edge, with its value


@pytest.mark.parametrize(
    "broken", [[], {**RUNS[0], "accuracy": 1.5}, {**RUNS[0], "method": "none"}, {"task": "digits-mlp"}]
)
def test_what_is_no_run(broken):
    with pytest.raises((KeyError, TypeError, ValueError)):
        checked(broken)


def test_collected_runs_make_the_same_page(tmp_path):
    for r in RUNS:
        path = accuracy.path_of(tmp_path / "runs", (str(r["task"]), str(r["method"]), int(r["bits"]), int(r["seed"])))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(r))
    target = tmp_path / "results.json"
    accuracy.main(
        ["--out", str(tmp_path / "runs"), "--collect", str(target), "--command", "mine", "--report", str(target)]
    )
    runs = accuracy.read_runs(target)
    assert len(runs) == 7
    assert (tmp_path / "results.md").read_text() == markdown(runs, "mine", "results.json", "results.svg")
    assert (tmp_path / "results.svg").read_text() == plot(runs)
    assert percents(grouped(runs)[0]) == pytest.approx((98.0, 2**0.5, 97.0))


def test_the_stored_page_is_that_of_the_stored_runs(tmp_path):
    stored = ROOT / "docs" / "results.json"
    if not stored.exists():
        pytest.skip("no runs are stored")
    copy = tmp_path / "results.json"
    copy.write_bytes(stored.read_bytes())
    accuracy.report(copy)
    for name in ("results.md", "results.svg"):
        assert (tmp_path / name).read_bytes() == (ROOT / "docs" / name).read_bytes()
