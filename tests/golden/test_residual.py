"""Residual additions and the pages of the activation memory, on the emulator: against NumPy float32 and the golden network."""

import numpy as np
import pytest

from golden.codec import decode
from golden.gemm import exact_sums
from golden.network import run
from golden.rounding import round_fp32, round_sums
from shiftforge.activation import ACTIVATION_KINDS, Activation
from shiftforge.formats import FORMATS, FP32
from shiftforge.graph import Add, Graph, Input, Linear
from shiftforge.registers import Error
from tests.golden.cases import random_codes
from tests.golden.host import Host, config, results


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (4, 2)])
def test_a_residual_is_added_in_binary32(name: str, shape: tuple[int, int]) -> None:
    """At an odd element, in a page that wraps, scaled: operation by operation in NumPy; flags are the roundings' alone."""
    rng = np.random.default_rng([*map(ord, name), *shape])
    rows, cols = shape
    host = Host(config(*shape, name, "fp32", max_k=20, residual=True, pages=4, words=2048))
    fmt, code, page = host.config.activation, host.config.weights, host.config.activation_page
    m, k, n = 7, 9, 2 * cols + 1
    x = random_codes(fmt, (m, k), rng, specials=False)
    w = rng.integers(0, 8, (k, n)).astype(np.uint8)
    r = random_codes(fmt, (m, n), rng)
    scale, bias = (rng.normal(size=n).astype(np.float32) for _ in range(2))
    factor = np.float32(rng.normal())
    bank, stride, at = rows - 1, -(-(rows - 1 + n) // rows) + 1, 2 * page - 3  # three words before the end of page 1
    host.configure()
    host.activations(x)
    host.activations(np.zeros((1, 1)), page)
    host.weights(w)
    host.parameters(scale, bias)
    for p in range(m):
        for c in range(n):
            offset = p * stride + (bank + c) // rows
            host.device.memories.activations.elements[page + (page - 3 + offset) % page, (bank + c) % rows] = r[p, c]
    fields = {"residual": 1, "residual_address": at, "residual_stride": stride, "residual_bank": bank}
    fields |= {"residual_scale": int(factor.view(np.uint32)), "post": 1, "act_kind": ACTIVATION_KINDS.index("relu")}
    (reply,) = host.layer(m, k, n, **fields)
    bits, first = round_sums(exact_sums(x, w, fmt, code), FP32)
    with np.errstate(all="ignore"):
        widened = decode(fmt, r).astype(np.float32)
        values = bits.view(np.float32) * scale
        values = values + bias
        values = values + widened * factor
        values = np.where((values > 0) | np.isnan(values), values, np.float32(0))
    expected, last = round_fp32(values.view(np.uint32), FP32)
    assert np.array_equal(results(host, reply, m, n), expected)
    assert host.status()["flags"] == (first | last).nx * 4 + (first | last).of * 2 + (first | last).nv


@pytest.mark.parametrize("name", ["fp16", "fp8_e4m3", "int8", "bf16"])
def test_an_addition_of_a_network(name: str) -> None:
    """y = a(x) + b(x): b into a page of its own, then a with b as its residual, on chip and to the stream."""
    rng = np.random.default_rng(len(name))
    host = Host(config(3, 4, name, name, residual=True, pages=4))
    fmt, page = host.config.activation, host.config.activation_page
    m, k, n = 8, 7, 6
    a, b = (
        Linear(
            name=which,
            source="x",
            codes=rng.integers(0, 8, (k, n)).astype(np.uint8),
            weight_bits=3,
            exponent_bias=-6,
            scale=rng.normal(size=n).astype(np.float32),
            bias=rng.normal(size=n).astype(np.float32),
        )
        for which in "ab"
    )
    x = random_codes(fmt, (m, k), rng, specials=False)
    graph = Graph((Input("x", (k,)), b, a, Add("y", "a", "b")))
    expected = run(graph, host.config, x).output
    host.configure()
    host.activations(x)
    for layer, half in ((b, 0), (a, 1)):
        host.weights(layer.codes, half * host.config.weight_words // 2)
    parameters = host.config.parameter_words // 2
    words = -(-n // 3)
    chip = {"to_stream": 0, "result_bytes": 0, "post": 1, "saturate": 1, "exponent_bias": -6, "output_stride": words}
    host.parameters(b.scale, b.bias)
    host.parameters(a.scale, a.bias, parameters)
    assert host.layer(m, k, n, **chip, output_address=2 * page) == []
    second = {"parameter_address": parameters, "weight_address": host.config.weight_words // 2, "residual": 1}
    second |= {"residual_address": 2 * page, "residual_stride": words, "residual_scale": 0x3F80_0000}
    (reply,) = host.layer(m, k, n, **second, post=1, saturate=1, exponent_bias=-6)
    assert np.array_equal(results(host, reply, m, n), expected)
    assert host.layer(m, k, n, **{**chip, **second}, output_address=3 * page) == []
    found = host.device.memories.activations.elements[3 * page : 3 * page + m * words].reshape(m, -1)[:, :n]
    assert np.array_equal(found, expected)
    assert host.status()["errors"] == 0


def test_the_input_may_be_the_residual() -> None:
    """A residual in the input's own page; -0 stays what it is without one."""
    host = Host(config(2, 2, "fp32", "fp32", residual=True))
    host.configure()
    x = np.array([[1.5, -2.0], [0.25, 8.0]], np.float32)
    host.activations(x.view(np.uint32))
    host.weights(np.array([[0, 1], [0, 1]], np.uint8))
    host.parameters(np.ones(2, np.float32), np.full(2, -0.0, np.float32))
    (reply,) = host.layer(2, 2, 2, post=1, residual=1, residual_stride=1, residual_scale=0x4000_0000)
    assert np.array_equal(results(host, reply, 2, 2).view(np.float32), x @ np.array([[1, 2], [1, 2.0]]) + 2 * x)
    host.parameters(np.full(2, -0.0, np.float32), np.full(2, -0.0, np.float32))
    (reply,) = host.layer(2, 1, 1, post=1, input_stride=1)
    assert results(host, reply, 2, 1).tolist() == [[0x8000_0000], [0x8000_0000]]


def ready(activation: str = "fp16") -> Host:
    """Four pages with the input in page 0 and the residual in page 1; pages 2 and 3 are not committed."""
    host = Host(config(2, 2, residual=True, max_pool=True, pages=4, activation=activation))
    host.configure()
    for page in range(2):
        host.activations(np.full((2, 2), 0x3C00), page * host.config.activation_page)
    host.weights(np.zeros((2, 2), np.uint8))
    host.parameters(np.ones(2, np.float32), np.zeros(2, np.float32))
    return host


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"residual_address": 128}, Error(0)),
        ({"residual_address": 128, "to_stream": 0, "output_address": 256}, Error(0)),
        ({"residual_address": 128, "post": 0}, Error.DESCRIPTOR),
        ({"residual_address": 128, "to_stream": 0, "output_address": 130}, Error.DESCRIPTOR),
        ({"residual_address": 128, "to_stream": 0, "output_address": 127}, Error.DESCRIPTOR),
        ({"residual_address": 512}, Error.DESCRIPTOR),
        ({"residual_bank": 2}, Error.DESCRIPTOR),
        ({"residual": 0, "residual_bank": 2}, Error.DESCRIPTOR),
        ({"residual_address": 256}, Error.UNCOMMITTED),
        ({"residual": 0, "residual_address": 256}, Error(0)),
        ({"residual": 0, "input_address": 256}, Error.UNCOMMITTED),
        ({"residual": 0, "residual_address": 128, "to_stream": 0, "output_address": 128}, Error(0)),
    ],
    ids=str,
)
def test_what_a_layer_with_a_residual_must_satisfy(fields: dict[str, int], error: Error) -> None:
    host = ready()
    host.layer(2, 2, 2, **{"post": 1, "residual": 1, "residual_stride": 1, **fields})
    assert Error(host.status()["errors"]) == error


def test_each_page_is_committed_by_itself() -> None:
    """A layer commits the page that it writes; a packet may not leave its page; an error clears them all."""
    host = ready()
    page = host.config.activation_page
    for source, target in ((0, 3), (3, 2), (2, 3)):
        host.layer(1, 2, 2, to_stream=0, input_address=source * page, output_address=target * page, output_stride=1)
    assert host.status()["errors"] == 0
    two = np.zeros((2, 2))
    assert host.activations(two, 4 * page - 2) == 1
    assert host.status()["errors"] == 0
    for boundary in range(1, 5):
        host.activations(two, boundary * page - 1)
        assert Error(host.status(1)["errors"]) == Error.ADDRESS
    host.layer(1, 2, 2)
    assert Error(host.status()["errors"]) == Error.UNCOMMITTED


def test_addresses_count_modulo_their_page() -> None:
    host = ready()
    page = host.config.activation_page
    memory = host.device.memories.activations.elements
    memory[:] = np.arange(len(memory))[:, None]
    host.layer(4, 2, 2, to_stream=0, input_address=2 * page - 2, output_address=4 * page - 1, output_stride=3)
    assert host.status()["errors"] == 0
    written = np.flatnonzero((memory != np.arange(len(memory))[:, None]).any(axis=1))
    assert written.tolist() == [3 * page + 2, 3 * page + 5, 3 * page + 8, 4 * page - 1]
    sums = [memory[3 * page + w, 0] for w in (page - 1, 2, 5, 8)]
    # Subnormals of fp16 add as integers.
    assert sums == [2 * (2 * page - 2), 2 * (2 * page - 1), 2 * page, 2 * (page + 1)]


@pytest.mark.parametrize("kind", ACTIVATION_KINDS)
def test_the_activation_comes_after_the_residual(kind: str) -> None:
    host = ready(activation="fp32")
    activation = {"none": Activation.none(), "relu": Activation.relu(), "leaky": Activation.leaky(2)}.get(
        kind, Activation.clamp(-3.0, 2.0)
    )
    host.activations(np.full((2, 2), 0x3F80_0000))  # 1 + 1, then less 8
    host.activations(np.full((2, 2), 0xC100_0000), host.config.activation_page)
    fields = {"act_kind": ACTIVATION_KINDS.index(kind), "act_shift": activation.shift}
    fields |= {"clamp_lo": activation.lo, "clamp_hi": activation.hi, "residual_scale": 0x3F80_0000}
    (reply,) = host.layer(1, 2, 2, post=1, residual=1, residual_address=host.config.activation_page, **fields)
    expected = {"none": -6.0, "relu": 0.0, "leaky": -1.5, "clamp": -3.0}[kind]
    assert results(host, reply, 1, 2).view(np.float32).tolist() == [[expected, expected]]
