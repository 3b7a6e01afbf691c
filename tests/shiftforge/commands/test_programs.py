"""`run` and `compare` on a program: equal bits on both back ends, and everything that they refuse."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from golden import network
from shiftforge import program as programs
from shiftforge.config import load
from shiftforge.manifest import MANIFEST, describe
from sim.design import cached_design

RUN = ("run", "p.sfp", "--input", "P.npy", "--out", "Y.npy", "--backend")
COMPARE = ("compare", "p.sfp", "--input", "P.npy")


def test_run_gives_the_golden_networks_values(program, shiftforge):
    loaded, x = programs.load(program), np.load("P.npy")
    codes = network.encode_input(loaded.graph, loaded.config, x, loaded.overflow)
    expected = network.run(loaded.graph, loaded.config, codes, loaded.overflow).output
    assert len(np.unique(expected)) > 10
    for backend in ("golden", "rtl"):
        code, out, _ = shiftforge(*RUN, backend, "--json", "--stalls", "5")
        assert code == 0
        assert json.loads(out)["batch"] == 7
        values = np.load("Y.npy")
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, expected.view(np.int16))
        assert shiftforge(*RUN, backend, "--raw")[0] == 0
        np.testing.assert_array_equal(np.load("Y.npy"), expected)


def test_run_takes_the_batch_of_an_archive_and_tells_the_accuracy(program, shiftforge):
    x = np.load("P.npy")
    np.savez("P.npz", x=x, y=np.zeros(7, np.int64))
    words = [word if word != "P.npy" else "P.npz" for word in RUN]
    code, out, _ = shiftforge(*words, "golden", "--json")
    values = np.load("Y.npy")
    assert code == 0
    assert json.loads(out)["accuracy"] == (values.argmax(axis=1) == 0).mean()
    assert "right answers" in shiftforge(*words, "golden")[1]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((7, 5)), "the input must have the shape (batch, 6), not (7, 5)"),
        (np.zeros(6), "the input must have the shape (batch, 6), not (6,)"),
        (np.zeros((7, 6), complex), "the input must be real numbers of at most 64 bits, not complex128"),
    ],
)
def test_run_refuses_wrong_inputs(array, message, program, shiftforge):
    np.save("P.npy", array)
    assert shiftforge(*RUN, "golden") == (2, "", message)
    assert shiftforge(*COMPARE) == (2, "", message)
    assert not Path("Y.npy").exists()


def test_damaged_programs_are_refused(program, shiftforge):
    whole = program.read_bytes()
    program.write_bytes(whole[:-9])
    message = f"p.sfp must be {len(whole)} bytes long, not {len(whole) - 9}: the file is truncated"
    assert shiftforge(*RUN, "golden") == (2, "", message)
    assert shiftforge(*COMPARE) == (2, "", message)
    program.write_bytes(whole[:100] + b"?" + whole[101:])
    assert shiftforge(*RUN, "golden")[2] == "p.sfp must match its checksum, and does not: the file is damaged"
    program.write_bytes(b"text")
    assert shiftforge(*RUN, "golden")[0] == 2
    program.unlink()
    assert shiftforge(*RUN, "golden")[2] == "program must be a readable file, not 'p.sfp' (no such file or directory)"
    assert not Path("Y.npy").exists()


def test_run_refuses_an_output_that_cannot_be_written(program, shiftforge):
    words = [word if word != "Y.npy" else "no/Y.npy" for word in RUN]
    assert shiftforge(*words, "golden") == (2, "", "output file must be writable, not 'no/Y.npy' (no such folder)")


def test_compare_finds_everything_equal(program, shiftforge):
    code, out, _ = shiftforge(*COMPARE, "--stalls", "2", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["equal"]
    assert [layer["layer"] for layer in told["layers"]] == ["fc0", "fc1"]
    assert [layer["results"] for layer in told["layers"]] == [35, 21]
    assert all(layer["predicted_cycles"] == layer["cycles"] and layer["same_beats"] for layer in told["layers"])
    code, out, _ = shiftforge(*COMPARE)
    assert code == 0
    assert "every bit equal" in out


def test_compare_refuses_verilog_of_another_configuration(program, shiftforge):
    folder = Path("rtl")
    shutil.copytree(cached_design(load("c.toml")), folder)
    Path("d.toml").write_text(Path("c.toml").read_text().replace("max_k = 16", "max_k = 8"))
    mine, other = load("c.toml"), load("d.toml")
    (folder / MANIFEST).write_text(describe(other, {}, {}))
    code, _, message = shiftforge(*COMPARE, "--rtl-dir", "rtl")
    assert code == 2
    assert message == (
        f"the manifest in 'rtl' must have the configuration hash {mine.hash:#010x}, not {other.hash:#010x}; "
        "generate it from this configuration"
    )
