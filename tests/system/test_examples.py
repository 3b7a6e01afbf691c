"""The examples of networks end with equal bits and cycles; the long ones simulate the Verilog."""

import re
import sys
from pathlib import Path

import pytest

from examples import keywords, network, resnet18, resnet20, transformer

FOLDER = Path(network.__file__).parent


def run(module, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    monkeypatch.setattr(sys, "argv", ["example", *options])
    assert module.main() == 0
    return capsys.readouterr().out


def on_both_sides(out: str) -> None:
    pairs = re.findall(r"([\d,]+) cycles predicted, ([\d,]+) counted", out)
    assert pairs
    assert all(predicted == counted for predicted, counted in pairs)


@pytest.mark.parametrize("module", [keywords, transformer])
def test_small_networks_on_the_golden_model(module, monkeypatch, capsys):
    out = run(module, monkeypatch, capsys, "--no-rtl", "--batch", "2")
    assert "every bit and beat equal" in out
    assert "DIFFERENT" not in out


@pytest.mark.parametrize("activation, output", [("fp16", "fp16"), ("int8", "fp32"), ("fp8_e4m3", "fp8_e4m3")])
def test_resnet20_in_three_formats(activation, output, tmp_path, monkeypatch, capsys):
    """Calibrated where the format needs it; the classifier on the host reads what left the chip."""
    text = (FOLDER / "resnet20.toml").read_text()
    text = text.replace('activation = "fp16"', f'activation = "{activation}"').replace(
        'output = "fp16"', f'output = "{output}"'
    )
    (tmp_path / "c.toml").write_text(text)
    out = run(resnet20, monkeypatch, capsys, "--no-rtl", "--config", str(tmp_path / "c.toml"))
    assert "every bit and beat equal" in out
    assert "on the host: stem.0, classifier" in out


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("module", [keywords, transformer, resnet20, resnet18])
def test_networks_on_the_verilog(module, monkeypatch, capsys):
    on_both_sides(run(module, monkeypatch, capsys))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("activation, output", [("int8", "fp32"), ("fp8_e4m3", "fp8_e4m3")])
def test_resnet20_in_other_formats_on_the_verilog(activation, output, tmp_path, monkeypatch, capsys):
    text = (FOLDER / "resnet20.toml").read_text().replace("rows = 16", "rows = 8").replace("cols = 16", "cols = 8")
    text = text.replace('activation = "fp16"', f'activation = "{activation}"').replace(
        'output = "fp16"', f'output = "{output}"'
    )
    (tmp_path / "c.toml").write_text(text.replace("weight_words = 32768", "weight_words = 131072"))
    on_both_sides(run(resnet20, monkeypatch, capsys, "--config", str(tmp_path / "c.toml"), "--stalls", "3"))
