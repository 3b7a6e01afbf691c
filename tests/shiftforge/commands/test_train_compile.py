"""`train` and `compile`: files that the other commands read, and everything that they refuse."""

import json
from pathlib import Path

import numpy as np
import pytest

from shiftforge import program as programs

FP16 = """[array]
rows = 2
cols = 2
activation = "fp16"
output = "fp16"
weight_bits = 3
max_k = 64
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, dict]:
    """d.pt2 and d.test.npz after two epochs, and what `train --json` printed."""
    from contextlib import redirect_stdout
    from io import StringIO

    from shiftforge import cli

    folder = tmp_path_factory.mktemp("trained")
    with redirect_stdout(StringIO()) as out:
        assert cli.main(["train", "digits-mlp", "--epochs", "2", "--out", str(folder / "d.pt2"), "--json"]) == 0
    return folder, json.loads(out.getvalue())


@pytest.fixture
def model(trained, work) -> str:
    Path("f.toml").write_text(FP16)
    return str(trained[0] / "d.pt2")


def test_train_writes_the_model_and_the_test_split(trained):
    folder, told = trained
    split = np.load(folder / "d.test.npz")
    assert split["x"].shape == (told["test_rows"], 64)
    assert (told["bits"], told["activation"], told["seed"]) == (3, "fp16", 0)
    assert told["torch_accuracy"] > 0.8
    assert told["float32_accuracy"] > 0.8
    assert sorted(path.name for path in folder.iterdir()) == ["d.pt2", "d.test.npz"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("digits", "--out", "d.pt2"),
            "task must be one of digits-mlp, digits-cnn, digits-transfer, keywords, chars, cifar10, imagenet, not 'digits'",
        ),
        (("digits-mlp", "--out", "d.onnx"), "the model's file name must end in .pt2, not 'd.onnx'"),
        (("digits-mlp", "--out", "no/d.pt2"), "the folder of the model's file must exist, not 'no'"),
        (("digits-mlp", "--out", "d.pt2", "--bits", "5"), "weight_bits must be 2, 3 or 4, not 5"),
        (("digits-mlp", "--out", "d.pt2", "--epochs", "0"), "epochs must be a positive integer, not 0"),
        (("digits-mlp", "--out", "d.pt2", "--seed", "-1"), "seed must be an integer from 0 to 2**32 - 1, not -1"),
    ],
)
def test_train_refuses(words, message, work, shiftforge):
    assert shiftforge("train", *words) == (2, "", message)
    assert [path.name for path in Path().iterdir()] == ["c.toml"]


def test_train_without_torch_says_how_to_get_it(work, shiftforge, monkeypatch):
    import sys

    for name in [name for name in sys.modules if name.startswith("golden.train")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, message = shiftforge("train", "digits-mlp", "--out", "d.pt2")
    assert (code, message) == (3, "torch must be installed to train: pip install 'shiftforge[train]'")


def test_compile_writes_a_program_that_runs(model, trained, shiftforge):
    split = str(trained[0] / "d.test.npz")
    words = ("compile", model, "--config", "f.toml", "--out", "d.sfp")
    code, out, _ = shiftforge(*words, "--check", split, "--json")
    assert code == 0
    told = json.loads(out)
    assert [(layer["k"], layer["n"]) for layer in told["layers"]] == [(64, 64), (64, 10)]
    assert {check["rule"] for check in told["checks"]} >= {"=="}
    assert told["overflow"] == programs.load("d.sfp").overflow == "saturate"
    code, out, _ = shiftforge("run", "d.sfp", "--input", split, "--out", "y.npy", "--backend", "golden", "--json")
    assert code == 0
    # The golden model rounds activations as the training did; an image or two may fall differently than in torch's float32.
    assert abs(json.loads(out)["accuracy"] - trained[1]["torch_accuracy"]) < 0.01
    code, out, _ = shiftforge(*words, "--overflow", "inf")
    assert code == 0
    assert "64 -> 10" in out
    assert programs.load("d.sfp").overflow == "inf"


def test_compile_calibrates_for_integers(model, trained, work, shiftforge):
    """Tensor scales from the inputs: without them every pixel (0..1) would be 0 or 1 in int8."""
    Path("i.toml").write_text(FP16.replace("fp16", "int8"))
    split = str(trained[0] / "d.test.npz")
    words = ("compile", model, "--config", "i.toml", "--out", "i.sfp")
    assert shiftforge(*words, "--calibrate", split, "--check", split)[0] == 0
    code, out, _ = shiftforge("run", "i.sfp", "--input", split, "--out", "y.npy", "--backend", "golden", "--json")
    assert code == 0
    assert json.loads(out)["accuracy"] > trained[1]["torch_accuracy"] - 0.05


def test_compile_refuses(model, work, shiftforge):
    def refused(*words: str) -> str:
        code, out, message = shiftforge("compile", *words)
        assert (code, out) == (2, "")
        assert not Path("d.sfp").exists()
        return message

    def options(config: str = "f.toml", out: str = "d.sfp") -> tuple[str, ...]:
        return "--config", config, "--out", out

    assert refused("d.tflite", *options()) == "model must be a .pt2 program or an .onnx model, not 'd.tflite'"
    assert refused("d.pt", *options()) == "model must be a .pt2 program or an .onnx model, not 'd.pt'"
    assert refused("no.pt2", *options()) == "model must be a readable file, not 'no.pt2' (no such file or directory)"
    assert (
        refused(model, *options("no.toml"))
        == "configuration no.toml must be a readable file: No such file or directory"
    )
    message = "output file must be writable, not 'no/d.sfp' (no such folder)"
    assert refused(model, *options(out="no/d.sfp")) == message
    Path("half.pt2").write_bytes(Path(model).read_bytes()[:5000])
    assert refused("half.pt2", *options()).startswith(
        "model must be a whole torch.export program (.pt2), not 'half.pt2' ("
    )
    Path("k.toml").write_text(FP16.replace("max_k = 64", "max_k = 32"))
    assert "must be at most max_k = 32, not 64" in refused(model, *options("k.toml"))
    np.save("x.npy", np.zeros((3, 63)))
    assert refused(model, *options(), "--check", "x.npy") == "check must have the shape (batch, 64), not (3, 63)"
    assert (
        refused(model, *options(), "--calibrate", "x.npy") == "calibrate must have the shape (batch, 64), not (3, 63)"
    )
