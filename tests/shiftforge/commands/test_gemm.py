"""`gemm`: the product of what lies in files, on both back ends, and everything that it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

from golden.codec import decode, encode
from shiftforge.formats import FORMATS
from shiftforge.tools import TOOLS, Tool
from sim import verilate

GEMM = ("gemm", "--config", "c.toml", "--acts", "X.npy", "--weights", "W.npy", "--out", "Y.npy", "--backend")


@pytest.mark.parametrize("backend", ["golden", "rtl"])
def test_integers_exactly(backend, operands, shiftforge):
    x, w = operands
    code, out, _ = shiftforge(*GEMM, backend, "--json")
    assert code == 0
    y = np.load("Y.npy")
    assert y.dtype == np.uint16
    np.testing.assert_array_equal(y.view(np.int16), x @ w.astype(np.int64))
    told = json.loads(out)
    assert (told["m"], told["k"], told["n"], told["flags"]) == (5, 7, 3, [])


@pytest.mark.parametrize("backend", ["golden", "rtl"])
def test_weights_of_zero_with_a_mask(backend, operands, shiftforge):
    Path("c.toml").write_text(Path("c.toml").read_text() + "mask = true\n")
    x, w = operands
    w = w * (np.arange(w.size).reshape(w.shape) % 3 != 1)
    w[:, 2] = 0
    np.save("W.npy", w)
    assert shiftforge(*GEMM, backend)[0] == 0
    np.testing.assert_array_equal(np.load("Y.npy").view(np.int16), x @ w.astype(np.int64))


def test_both_back_ends_take_the_same_cycles(operands, shiftforge):
    told = [json.loads(shiftforge(*GEMM, backend, "--stalls", "3", "--json")[1]) for backend in ("golden", "rtl")]
    assert told[0]["cycles"] == told[1]["cycles"] > 0
    assert told[0]["counters"] == told[1]["counters"]


@pytest.mark.parametrize("name", FORMATS)
def test_values_are_rounded_once_from_their_own_type(name, work, shiftforge):
    fmt = FORMATS[name]
    text = Path("c.toml").read_text().replace('"int8"', f'"{name}"').replace('"int16"', '"fp32"')
    Path("c.toml").write_text(text)
    rng = np.random.default_rng(3)
    x = rng.normal(0, 3, (4, 16)) if fmt.is_float else rng.integers(-100, 100, (4, 16)).astype(float)
    if fmt.is_float:
        x[0, :5] = np.nan, np.inf, -np.inf, -0.0, 2.0**fmt.lsb_exponent
    np.save("X.npy", x)
    np.save("W.npy", np.full((16, 2), 0.5))
    assert shiftforge(*GEMM, "golden", "--float", "--exponent-bias", "-1")[0] == 0
    rounded = decode(fmt, encode(fmt, x))
    expected = (rounded * 0.5).sum(axis=1, keepdims=True).repeat(2, axis=1)
    y = np.load("Y.npy")
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y[1:], expected[1:].astype(np.float32))
    assert np.isnan(y[0]).all() == fmt.is_float


def test_a_table_is_printed(operands, shiftforge):
    code, out, _ = shiftforge(*GEMM, "golden")
    assert code == 0
    assert "5 x 7 x 3" in out
    assert "predicted" in out


BAD = [
    ("X.npy", np.full((5, 7), 0.5), "acts: value at index (0, 0) must be an integer in -128..127 for int8, not 0.5"),
    ("X.npy", np.full((5, 7), 128), "acts: value at index (0, 0) must be an integer in -128..127 for int8, not 128"),
    ("X.npy", np.zeros((5, 6)), "weights must have K = 6 rows as the acts have columns, not 7"),
    ("X.npy", np.zeros(7), "acts must be a matrix (M, K) without empty axes, not of shape (7,)"),
    ("X.npy", np.zeros((0, 7)), "acts must be a matrix (M, K) without empty axes, not of shape (0, 7)"),
    ("X.npy", np.zeros((5, 7), complex), "acts: values must be real numbers of at most 64 bits, not complex128"),
    (
        "W.npy",
        np.zeros((7, 3)),
        "weight at index (0, 0) must be ±2**e with e in 0..1 for 2 bits, not 0.0; set array.mask = true for weights of zero",
    ),
    ("W.npy", np.full((7, 3), 3), "weight at index (0, 0) must be ±2**e with e in 0..1 for 2 bits, not 3"),
    ("W.npy", np.full((7, 3), 4.0), "weight at index (0, 0) must be ±2**e with e in 0..1 for 2 bits, not 4.0"),
    ("W.npy", np.full((7, 3), np.nan), "weight at index (0, 0) must be ±2**e with e in 0..1 for 2 bits, not nan"),
    ("W.npy", np.ones((7, 0)), "weights must be a matrix (K, N) without empty axes, not of shape (7, 0)"),
]


@pytest.mark.parametrize(("file", "array", "message"), BAD, ids=[message[:60] for _, _, message in BAD])
def test_wrong_operands(file, array, message, operands, shiftforge):
    np.save(file, array)
    assert shiftforge(*GEMM, "golden") == (2, "", message)
    assert not Path("Y.npy").exists()


def test_the_first_wrong_weight_is_named(operands, shiftforge):
    w = operands[1].copy()
    w[4, 1] = 0
    w[5, 0] = 3
    np.save("W.npy", w)
    assert shiftforge(*GEMM, "golden")[2].startswith("weight at index (4, 1) must be ±2**e")


def test_k_beyond_the_maximum(work, shiftforge):
    np.save("X.npy", np.zeros((2, 17)))
    np.save("W.npy", np.ones((17, 2)))
    assert shiftforge(*GEMM, "golden") == (2, "", "K must be at most array.max_k = 16, not 17")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("golden", "--rtl-dir", "x"), "--rtl-dir must be given with the backend rtl, not with 'golden'"),
        (("gold",), "backend must be one of golden, rtl, not 'gold'"),
        (("netlist",), "backend must be one of golden, rtl in this version, not 'netlist'"),
        (("serial:/dev/ttyUSB0",), "backend must be one of golden, rtl in this version, not 'serial:/dev/ttyUSB0'"),
        (("golden", "--exponent-bias", "128"), "--exponent-bias must be -128..127, not 128"),
        (("rtl", "--stalls", "-1"), "--stalls must be a seed of 0 or more, not -1"),
        (("rtl", "--rtl-dir", "no"), "the Verilog folder must hold *.v or *.sv files, not none: 'no'"),
    ],
)
def test_wrong_options(words, message, operands, shiftforge):
    assert shiftforge(*GEMM, *words) == (2, "", message)
    assert not Path("Y.npy").exists()


def test_wrong_files(operands, shiftforge):
    Path("X.npy").write_bytes(Path("X.npy").read_bytes()[:-8])
    code, _, message = shiftforge(*GEMM, "golden")
    assert code == 2
    assert message.startswith("acts must be a whole .npy file, not 'X.npy' (")
    Path("X.npy").unlink()
    message = "acts must be a readable file, not 'X.npy' (no such file or directory)"
    assert shiftforge(*GEMM, "golden") == (2, "", message)


def test_unknown_keys_suggest_the_nearest(operands, shiftforge):
    Path("c.toml").write_text(Path("c.toml").read_text() + "rowz = 3\n")
    assert shiftforge(*GEMM, "golden") == (2, "", "c.toml: key array.rowz is unknown; did you mean 'rows'?")


def test_a_format_without_gateware_is_refused_on_rtl_alone(operands, shiftforge):
    Path("c.toml").write_text(Path("c.toml").read_text().replace("[array]", '[array]\naccumulator = "banked"'))
    assert shiftforge(*GEMM, "golden")[0] == 0
    Path("Y.npy").unlink()
    code, _, message = shiftforge(*GEMM, "rtl")
    assert code == 2
    assert message.endswith("not 'banked'; the golden backend runs it")
    assert not Path("Y.npy").exists()


def test_an_output_that_cannot_be_written_is_refused_first(operands, shiftforge, monkeypatch):
    monkeypatch.setattr("sim.backends.open_transport", None)  # would fail if it came to that
    words = [word if word != "Y.npy" else "no/Y.npy" for word in GEMM]
    assert shiftforge(*words, "rtl") == (2, "", "output file must be writable, not 'no/Y.npy' (no such folder)")
    words = [word if word != "Y.npy" else "." for word in GEMM]
    assert shiftforge(*words, "rtl") == (2, "", "output file must be writable, not '.' (is a folder)")


def test_a_missing_compiler_is_named_with_its_mend(operands, shiftforge, monkeypatch):
    monkeypatch.setenv("PATH", "")
    verilate.find_toolchain.cache_clear()
    try:
        code, _, message = shiftforge(*GEMM, "rtl")
    finally:
        verilate.find_toolchain.cache_clear()
    tool: Tool = TOOLS["g++"]
    assert (code, message) == (3, f"g++ must be installed ({tool.purpose}): {tool.mend}")
    assert not Path("Y.npy").exists()
