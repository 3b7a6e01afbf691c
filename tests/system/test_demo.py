"""The demo, without synthesis: it ends with equal bits and cycles, and a difference is exit code 1."""

import re
import sys
from pathlib import Path

import pytest

from examples import demo

DEMO = Path(demo.__file__).with_name("demo.toml")
README = DEMO.parents[1] / "README.md"


def rows_of(text: str) -> list[tuple[str, str]]:
    """Of a printed table, but for what synthesis found, the time, and accuracies, which depend on the machine's arithmetic."""
    rows = re.findall(r"^│ (.+?) +│ (.+?) +│$", text, re.MULTILINE)
    return [row for row in rows if not row[0].startswith(("ECP5", "time", "accuracy"))]


@pytest.mark.slow
def test_everything_is_equal(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["demo", "--out", str(tmp_path / "out"), "--no-synth"])
    assert demo.main() == 0
    out = capsys.readouterr().out
    assert out.count("all 3,600 equal, bit for bit") == 3
    for predicted, counted in re.findall(r"([\d,]+) and ([\d,]+), every beat equal", out):
        assert predicted == counted
    accuracy = {name: float(share) for name, share in re.findall(r"accuracy, (.+?) +│ ([\d.]+) %", out)}
    assert accuracy["golden model"] == accuracy["RTL"] >= 96.0
    assert accuracy["float32 twin (torch)"] - accuracy["golden model"] <= 2.0
    assert rows_of(README.read_text(encoding="utf-8")) == rows_of(out), "the README shows what the demo prints"


@pytest.mark.slow
def test_a_difference_is_exit_code_1(tmp_path, monkeypatch, capsys):
    """One bit of one logit wrong on the RTL side."""
    whole = demo.run_both

    def one_bit_off(*arguments: object) -> demo.Run:
        run = whole(*arguments)  # pyright: ignore[reportArgumentType]
        run.rtl[100, 3] ^= 1
        return run

    monkeypatch.setattr(demo, "run_both", one_bit_off)
    assert demo.demo(DEMO, tmp_path / "out", synth=False) == 1
    assert "DIFFERENT" in capsys.readouterr().out
