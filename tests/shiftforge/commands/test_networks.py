"""Convolutional networks through the commands: compiled with checks, run on the golden network, refused elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from golden import network
from golden.train.interchange import save_onnx
from golden.train.runner import export
from shiftforge import program as programs
from tests.sw_driver.importers.models import MODELS, inputs


@pytest.fixture
def model(work):
    """net.pt2, X.npy and X.npz of a small residual network, whose weights have 3 bits."""
    text = Path("c.toml").read_text().replace("weight_bits = 2", "weight_bits = 3").replace('"int16"', '"fp16"')
    Path("c.toml").write_text(text)
    build, shape = MODELS["resnet"]
    torch.export.save(export(build(), torch.zeros(2, *shape)), "net.pt2")
    x = inputs(shape, 9)
    np.save("X.npy", x)
    np.savez("X.npz", x=x, y=np.zeros(9, np.int64))
    return x


def test_a_residual_network_is_compiled_checked_and_run(model, shiftforge):
    compile_it = (
        "compile",
        "net.pt2",
        "--config",
        "c.toml",
        "--out",
        "net.sfp",
        "--check",
        "X.npy",
        "--calibrate",
        "X.npy",
    )
    code, out, _ = shiftforge(*compile_it, "--json")
    assert code == 0
    told = json.loads(out)
    assert told["unplaced"] == "max-pool '3' needs array.max_pool = true in the configuration"
    assert [layer["kind"] for layer in told["layers"]][-2:] == ["conv", "linear"]
    assert [check["name"] for check in told["checks"]][-2:] == ["fuse", "the program's graph"]
    out = shiftforge(*compile_it)[1]
    assert "its machine does not run it: max-pool '3' needs array.max_pool" in out
    code, out, _ = shiftforge("run", "net.sfp", "--input", "X.npz", "--out", "Y.npy", "--backend", "golden", "--json")
    assert code == 0
    program = programs.load("net.sfp")
    codes = network.encode_input(program.graph, program.config, model)
    result = network.run(program.graph, program.config, codes).output
    values = network.output_values(program.graph, program.config, result)
    np.testing.assert_array_equal(np.load("Y.npy"), values)
    told = json.loads(out)
    assert (told["batch"], told["outputs"], told["cycles"]) == (9, 5, None)
    assert told["accuracy"] == (values.argmax(1) == 0).mean()
    assert "NX" in told["flags"]
    out = shiftforge("run", "net.sfp", "--input", "X.npy", "--out", "Y.npy", "--backend", "golden", "--raw")[1]
    assert "none" in out
    np.testing.assert_array_equal(np.load("Y.npy"), result)


def test_an_onnx_model_becomes_the_same_program(model, shiftforge):
    build, shape = MODELS["resnet"]
    save_onnx(build(), "net.onnx", shape)
    made = []
    for source in ("net.onnx", "net.pt2"):
        code, out, _ = shiftforge("compile", source, "--config", "c.toml", "--out", "net.sfp", "--json")
        assert code == 0
        layers = programs.load("net.sfp").graph.layers()
        made.append((json.loads(out)["layers"], [(layer.codes.tobytes(), layer.scale.tobytes()) for layer in layers]))
    assert made[0] == made[1]


def test_what_needs_the_machine_refuses_it(model, shiftforge):
    assert shiftforge("compile", "net.pt2", "--config", "c.toml", "--out", "net.sfp")[0] == 0
    message = (
        "the program 'net' must be one that its machine runs, and max-pool '3' needs array.max_pool = true in the configuration; "
        "the golden network runs it: run --backend golden"
    )
    assert shiftforge("run", "net.sfp", "--input", "X.npy", "--out", "Y.npy", "--backend", "rtl") == (2, "", message)
    assert shiftforge("compare", "net.sfp", "--input", "X.npy") == (2, "", message)
    assert not Path("Y.npy").exists()
    np.save("X.npy", model[:, :2])
    assert shiftforge("run", "net.sfp", "--input", "X.npy", "--out", "Y.npy", "--backend", "golden") == (
        2,
        "",
        "the input must have the shape (batch, 3, 12, 12), not (9, 2, 12, 12)",
    )


def test_layers_that_the_host_keeps_and_the_batch_to_cut_for(model, shiftforge):
    Path("whole.toml").write_text(
        '[array]\nrows = 4\ncols = 3\nactivation = "fp16"\noutput = "fp16"\nweight_bits = 3\nmax_k = 256\n'
        "residual = true\nmax_pool = true\nmask = true\n[memory]\nactivation_pages = 4\n"
    )
    compile_it = ("compile", "net.pt2", "--config", "whole.toml", "--out", "net.sfp")
    code, out, _ = shiftforge(*compile_it, "--host", "0", "--batch", "4", "--check", "X.npy", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["unplaced"] == ""
    assert [layer["place"] for layer in told["layers"]][:2] == ["host", "chip"]
    assert told["checks"][-1]["name"] == "place and emit"
    assert set(told["marks"]) == {"activation_words", "weight_words", "parameter_words"}
    out = shiftforge(*compile_it, "--host", "0")[1]
    assert "memory words: activations " in out
    assert "on the host between layers: 0" in out
    assert shiftforge(*compile_it, "--batch", "0") == (2, "", "--batch must be 1 or more, not 0")
    code, _, message = shiftforge(*compile_it, "--host", "stem")
    assert code == 2
    assert message.startswith("a layer that the host keeps must be one of the network's, 0, ")
    assert message.endswith(", not 'stem'")
