"""The demo, without synthesis: it ends with equal bits and cycles, and a difference is exit code 1."""

import re
import sys
from pathlib import Path

import pytest

from examples import demo

DEMO = Path(demo.__file__).with_name("demo.toml")


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
