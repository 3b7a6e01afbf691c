"""The emulator against packets built by hand: contents, order, every error rule."""

import struct
from fractions import Fraction

import numpy as np
import pytest

from golden.emulator import Emulator, EmulatorTransport
from golden.gemm import exact_sums, gemm
from golden.post import post_process
from shiftforge.activation import Activation
from shiftforge.errors import DeviceError, InputError
from shiftforge.formats import FORMATS
from shiftforge.packets import Header, HeaderFlag, Opcode, encode_layer, memory_ports, packet
from shiftforge.registers import Error, Flag, Status
from shiftforge.transport import Transport
from tests.golden.host import Host, config, results


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (4, 4), (3, 2), (1, 5), (5, 1)])
def test_a_product_of_any_format_and_shape(name: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng([*map(ord, name), *shape])
    for weight_bits in (2, 3, 4):
        for stream_bits in (32, 64, 128):
            mask = stream_bits == 64
            host = Host(config(*shape, name, name, weight_bits, mask=mask, stream_bits=stream_bits))
            fmt = host.config.activation
            m, k, n = (int(v) for v in rng.integers(1, (8, 20, 11)))
            x = rng.integers(0, 1 << fmt.bits, (m, k)).astype(np.uint32)
            w = rng.integers(0, 1 << host.config.weights.element_bits, (k, n)).astype(np.uint8)
            bias = int(rng.integers(-8, 8))
            host.configure()
            host.activations(x)
            host.weights(w)
            (reply,) = host.layer(m, k, n, exponent_bias=bias)
            expected, flags = gemm(x, w, fmt, host.config.weights, fmt, exponent_bias=bias)
            assert np.array_equal(results(host, reply, m, n), expected)
            raised = (Flag.NV if flags.nv else 0) | (Flag.OF if flags.of else 0) | (Flag.NX if flags.nx else 0)
            status = host.status()
            assert status["flags"] == raised
            assert (status["errors"], status["packets"]) == (0, 4)


def test_the_anchor_of_one_number() -> None:
    """1.5 * 4 - 2 * 1 = 4, in fp16 codes and 3-bit weight codes written out."""
    host = Host(config(1, 1, output="fp16"))
    host.configure()
    host.activations(np.array([[0x3E00, 0x4000]]))
    host.weights(np.array([[0b010], [0b100]]))
    (reply,) = host.layer(1, 2, 1)
    assert reply == struct.pack("<HBBHHII", 0x4653, 0x81, 0, 4, 0, 0, 2) + b"\x00\x44" + bytes(6)


@pytest.mark.parametrize("name", ["int8", "fp8_e4m3", "fp16", "bf16"])
def test_layers_that_stay_on_chip(name: str) -> None:
    """Two layers, the first into the other half at an odd bank, against the model called layer by layer."""
    rng = np.random.default_rng(7)
    host = Host(config(3, 4, activation=name, max_k=32))
    fmt, code = host.config.activation, host.config.weights
    half = host.config.activation_words // 2
    m, k, n, last = 7, 10, 9, 5
    x = rng.integers(0, 1 << (fmt.bits - 3), (m, k)).astype(np.uint32)
    w1, w2 = (rng.integers(0, 8, shape).astype(np.uint8) for shape in ((k, n), (n, last)))
    scale = rng.normal(size=n).astype(np.float32)
    bias = rng.normal(size=n).astype(np.float32)
    host.configure()
    host.activations(x)
    host.weights(w1)
    host.weights(w2, host.config.weight_words // 2)
    host.parameters(scale, bias, host.config.parameter_words // 2)
    stride = 6
    chip = {"to_stream": 0, "result_bytes": 0, "post": 1, "act_kind": 1, "saturate": 1, "exponent_bias": -4}
    chip |= {"output_address": half + 5, "output_stride": stride, "parameter_address": host.config.parameter_words // 2}
    assert host.layer(m, k, n, **chip, output_bank=2) == []
    hidden, _ = post_process(
        exact_sums(x, w1, fmt, code),
        scale,
        bias,
        exponent_bias=-4,
        activation=Activation.relu(),
        output=fmt,
        overflow="saturate",
    )
    memory = host.device.memories.activations.elements
    for p in range(m):
        flat = memory[half + 5 + p * stride : half + 5 + (p + 1) * stride].reshape(-1)
        assert np.array_equal(flat[2 : 2 + n], hidden[p])
        assert not flat[:2].any()
        assert not flat[2 + n :].any()
    # Bank 2 of rows = 3 is no word boundary, so write again at bank 0 for the layer after.
    assert host.layer(m, k, n, **chip) == []
    (reply,) = host.layer(
        m, n, last, input_address=half + 5, input_stride=stride, weight_address=host.config.weight_words // 2
    )
    expected, _ = gemm(hidden, w2, fmt, code, host.config.output)
    assert np.array_equal(results(host, reply, m, last), expected)
    assert host.status()["errors"] == 0


def ready(**kwargs) -> Host:
    """A configured machine with one committed half of each memory."""
    host = Host(config(**kwargs))
    host.configure()
    host.activations(np.full((2, 2), 0x3C00))
    host.weights(np.zeros((2, 2), np.uint8))
    host.parameters(np.ones(2, np.float32), np.zeros(2, np.float32))
    return host


def raw(
    host: Host, opcode: int, payload: bytes, length: int | None = None, address: int = 0, magic: int = 0x4653
) -> bytes:
    host.sequence += 1
    header = struct.pack(
        "<HBBHHII", magic, opcode, 0, host.sequence, 0, address, len(payload) if length is None else length
    )
    data = header + payload
    return data + bytes(-len(data) % (host.config.stream_bits // 8))


def broken(host: Host) -> dict[Error, list[bytes]]:
    """For each error the packets that set it, on a `ready` machine."""
    beat = host.config.stream_bits // 8
    weights, _, activations = memory_ports(host.config)
    stride = weights.stride_bits // 8
    good = raw(host, Opcode.WEIGHTS, bytes(16 * stride))
    descriptor = {"pixels": 1, "k_words": 1, "k_tail": 1, "n_tiles": 1, "n_tail": 1, "to_stream": 1}

    def layer(**fields: int) -> bytes:
        return raw(host, Opcode.LAYER, encode_layer({**descriptor, **fields}))

    rows, cols = host.config.rows, host.config.cols
    return {
        Error.MAGIC: [raw(host, Opcode.STATUS, b"", magic=0x4654)],
        Error.OPCODE: [raw(host, 0, b""), raw(host, 7, b""), raw(host, 0x81, b"")],
        Error.LENGTH: [
            raw(host, Opcode.CONFIG, bytes(8)),
            raw(host, Opcode.STATUS, bytes(4)),
            raw(host, Opcode.LAYER, bytes(92)),
            raw(host, Opcode.WEIGHTS, b""),
            raw(host, Opcode.ACTIVATIONS, bytes(activations.stride_bits // 8 + 1)),
        ],
        Error.EARLY_TLAST: [good[:-beat], good[:beat], raw(host, Opcode.LAYER, bytes(64), length=96)],
        Error.LATE_TLAST: [good + bytes(beat), good + bytes(5 * beat), raw(host, Opcode.STATUS, b"") + bytes(beat)],
        Error.ADDRESS: [
            raw(host, Opcode.WEIGHTS, bytes(stride), address=weights.words),
            raw(host, Opcode.WEIGHTS, bytes(2 * stride), address=weights.page - 1),
            raw(host, Opcode.WEIGHTS, bytes(2 * stride), address=weights.words - 1),
            raw(host, Opcode.WEIGHTS, bytes(stride), address=1 << 31),
        ],
        Error.HASH: [raw(host, Opcode.CONFIG, (host.config.hash ^ 1).to_bytes(4, "little"))],
        Error.UNCOMMITTED: [
            layer(input_address=activations.page),
            layer(weight_address=weights.page),
            layer(post=1, parameter_address=host.config.parameter_words // 2),
        ],
        Error.DESCRIPTOR: [
            layer(pixels=0),
            layer(k_words=0),
            layer(k_words=host.config.max_k_words + 1),
            layer(k_tail=0),
            layer(k_tail=rows + 1),
            layer(n_tiles=0),
            layer(n_tail=0),
            layer(n_tail=cols + 1),
            layer(output_bank=rows),
            layer(to_stream=0, output_address=1),
        ],
        Error.UNSUPPORTED: [
            *(layer(pool_kind=1), layer(residual=1), layer(residual_stride=1), layer(residual_bank=256)),
            *(layer(residual_address=1), layer(residual_scale=1), layer(reserved_kind=1)),
        ],
    }


@pytest.mark.parametrize("stream_bits", [32, 64, 128])
@pytest.mark.parametrize("error", [e for e in Error if e not in (Error.NOT_CONFIGURED, Error.TKEEP)])
def test_each_broken_packet_sets_its_error_and_the_next_works(error: Error, stream_bits: int) -> None:
    count = len(broken(ready(stream_bits=stream_bits))[error])
    for index in range(count):
        host = ready(stream_bits=stream_bits)
        bad = broken(host)[error][index]
        assert host.device.feed([bad]) == [], f"{error.name} {index}"
        sequence = int.from_bytes(bad[4:6], "little")
        status = host.status()
        assert Error(status["errors"]) == error, f"{error.name} {index}"
        assert status["error_sequence"] == (sequence if len(bad) >= 16 else 0)
        assert status["packets"] == 4
        assert status["status"] == (0 if error == Error.HASH else Status.CONFIGURED)
        host.configure()
        assert host.layer(1, 1, 1) == []  # the commits are gone
        assert Error(host.status(HeaderFlag.CLEAR)["errors"]) == error | Error.UNCOMMITTED
        assert host.status()["errors"] == 0
        host.activations(np.full((2, 2), 0x3C00))
        host.weights(np.zeros((2, 2), np.uint8))
        (reply,) = host.layer(2, 2, 2)
        assert np.array_equal(results(host, reply, 2, 2).view(np.float32), np.full((2, 2), 2, np.float32))


def test_a_layer_before_configuration() -> None:
    host = Host(config())
    host.activations(np.zeros((1, 1)))
    host.weights(np.zeros((1, 1)))
    assert host.layer(1, 1, 1) == []
    assert Error(host.status()["errors"]) == Error.NOT_CONFIGURED


def test_the_first_sticky_error_names_its_packet() -> None:
    host = ready()
    first = raw(host, 99, b"")
    second = raw(host, Opcode.CONFIG, bytes(4))
    host.device.feed([first, second])
    status = host.status()
    assert Error(status["errors"]) == Error.OPCODE | Error.HASH
    assert status["error_sequence"] == int.from_bytes(first[4:6], "little")


def test_stale_words_survive_a_bad_packet_beside_it() -> None:
    """What came before the beat with the error is written, the rest keeps what it held."""
    host = Host(config(1, 1, activation="int8", output="int16", stream_bits=32))
    host.activations(np.arange(8, dtype=np.int64)[None])
    whole = raw(host, Opcode.ACTIVATIONS, bytes([101, 102, 103, 104, 105, 106, 107, 108]))
    host.device.feed([whole[:-4]])
    assert host.device.memories.activations.elements[:8, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    host.device.feed([whole + whole[-4:]])
    assert host.device.memories.activations.elements[:8, 0].tolist() == [101, 102, 103, 104, 4, 5, 6, 7]


def test_sums_are_those_of_fractions() -> None:
    """A product through packets equals Python fractions, independently of the golden GEMM."""
    host = Host(config(2, 3, activation="fp16", output="fp32"))
    rng = np.random.default_rng(1)
    x = rng.integers(0, 0x7C00, (3, 5)).astype(np.uint16)
    w = rng.integers(0, 8, (5, 4))
    host.configure()
    host.activations(x)
    host.weights(w)
    (reply,) = host.layer(3, 5, 4)
    y = results(host, reply, 3, 4).view(np.float32)
    values = x.view(np.float16)
    for m in range(3):
        for n in range(4):
            exact = sum(
                Fraction(float(values[m, k])) * 2 ** (int(w[k, n]) & 3) * (-1 if w[k, n] & 4 else 1) for k in range(5)
            )
            assert abs(Fraction(float(y[m, n])) - exact) * 2 <= Fraction(float(np.spacing(np.abs(y[m, n]))))


def test_partial_beats_are_refused() -> None:
    with pytest.raises(InputError, match="a packet must be a whole number of 8-byte beats, at least one, not 20 bytes"):
        Emulator(config()).feed([bytes(20)])


def test_the_transport() -> None:
    cfg = config()
    transport = EmulatorTransport(cfg)
    assert isinstance(transport, Transport)
    assert transport.hardware_hash() == cfg.hash
    ask = packet(Header(Opcode.STATUS, 9), b"", cfg.stream_bits)
    seen: list[tuple[int, int]] = []
    result = transport.transfer([ask, ask], 2, progress=lambda done, total: seen.append((done, total)))
    assert [Header.decode(p).sequence for p in result.packets] == [9, 9]
    assert seen[-1] == (6, 6)
    with pytest.raises(DeviceError, match="must answer with 3 packets, not 1"):
        transport.transfer([ask], 3)
    with pytest.raises(InputError, match="whole number of 8-byte beats"):
        transport.transfer([b""], 0)
