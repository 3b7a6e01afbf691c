"""Matrix products and error handling of the driver, on the golden emulator."""

from collections.abc import Sequence

import numpy as np
import pytest

from golden.codec import encode
from golden.emulator import EmulatorTransport
from golden.gemm import gemm
from shiftforge.config import Config, from_dict
from shiftforge.errors import DeviceError, InputError
from shiftforge.formats import FORMATS
from shiftforge.packets import Header, Opcode
from shiftforge.registers import Flag
from shiftforge.transport import ProgressCallback, TransferResult
from sw_driver import accelerator as accelerator_module
from sw_driver.accelerator import Accelerator
from sw_driver.layout import storage_dtype


def config_of(rows=3, cols=5, activation="fp16", output="fp16", bits=3, max_k=40, mask=False, **memory) -> Config:
    array = {
        "rows": rows,
        "cols": cols,
        "activation": activation,
        "output": output,
        "weight_bits": bits,
        "max_k": max_k,
        "mask": mask,
    }
    return from_dict({"array": array, "memory": memory})


def operands(config, rng, m, k, n):
    x = rng.integers(0, 1 << config.activation.bits, (m, k)).astype(storage_dtype(config.activation))
    return x, rng.integers(0, 1 << config.weights.element_bits, (k, n)).astype(np.uint8)


def check(config, accelerator, x, w, **options):
    got = accelerator.gemm(x, w, **options)
    options.setdefault("overflow", config.overflow)
    want, flags = gemm(x, w, config.activation, config.weights, config.output, **options)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)
    assert accelerator.flags == (Flag.NV * flags.nv | Flag.OF * flags.of | Flag.NX * flags.nx)


@pytest.mark.parametrize("activation", FORMATS)
@pytest.mark.parametrize(
    "rows, cols, bits, mask", [(1, 1, 3, False), (3, 5, 4, True), (8, 8, 3, False), (16, 4, 2, True)]
)
def test_gemm_equals_the_golden_product(rows, cols, bits, mask, activation):
    output = "fp16" if activation.startswith("int") else activation
    config = config_of(rows, cols, activation, output, bits, mask=mask)
    accelerator = Accelerator(EmulatorTransport(config), config)
    rng = np.random.default_rng(rows * 100 + cols)
    for m, k, n in [(1, 1, 1), (rows, 40, cols), (7, 13, 11), (rows + 1, rows, cols + 1), (29, 39, 2)]:
        x, w = operands(config, rng, m, k, n)
        check(config, accelerator, x, w, exponent_bias=int(rng.integers(-3, 4)))


@pytest.mark.parametrize("m, k, n", [(700, 40, 9), (9, 40, 700), (300, 40, 300), (64, 3, 2000), (3000, 1, 1)])
def test_gemm_splits_over_small_memories(m, k, n):
    """Shapes that need many chunks of pixels, many pieces of weights, and both ways of ordering them."""
    config = config_of(4, 6, activation_words=128, weight_words=128)
    x, w = operands(config, np.random.default_rng(m), m, k, n)
    check(config, Accelerator(EmulatorTransport(config), config), x, w)


def test_gemm_loads_the_larger_operand_once():
    """Of operands that both exceed their memories, the one that is cheaper to repeat is repeated."""
    config = config_of(4, 4, "int8", "int16", 4, activation_words=128, weight_words=128)
    rng = np.random.default_rng(5)
    for m, n in [(600, 24), (24, 600)]:
        x, w = operands(config, rng, m, 40, n)
        transport = Recorder(config)
        check(config, Accelerator(transport, config), x, w)
        sent = {op: sum(h.length for h in transport.headers if h.opcode == op) for op in Opcode}
        x_bytes, w_bytes = m * 40, 40 * n // 2
        repeats = {"activations": sent[Opcode.ACTIVATIONS] / x_bytes, "weights": sent[Opcode.WEIGHTS] / w_bytes}
        assert min(repeats.values()) == pytest.approx(1), repeats
        assert sent[Opcode.ACTIVATIONS] + sent[Opcode.WEIGHTS] < 1.05 * min(
            x_bytes + m // 4 * w_bytes, w_bytes + n // 4 * x_bytes
        )


def test_gemm_with_a_large_batch_takes_several_transfers(monkeypatch):
    config = config_of(4, 4, activation_words=128)
    monkeypatch.setattr(accelerator_module, "TRANSFER_BYTES", 2000)
    x, w = operands(config, np.random.default_rng(2), 500, 30, 7)
    transport = Recorder(config)
    accelerator = Accelerator(transport, config)
    check(config, accelerator, x, w)
    assert transport.transfers > 5
    assert accelerator.counters["packets"] == len(transport.headers) - 1  # the first one is where counting begins


def test_sequence_numbers_wrap():
    config = config_of(2, 2, activation_words=128)
    accelerator = Accelerator(EmulatorTransport(config), config)
    rng = np.random.default_rng(3)
    accelerator._sequence = 0xFFFE
    for _ in range(2):
        x, w = operands(config, rng, 5, 20, 5)
        check(config, accelerator, x, w)
    assert 0 < accelerator._sequence < 100


def test_saturating_gemm_and_flags():
    config = config_of(2, 2)
    accelerator = Accelerator(EmulatorTransport(config), config)
    x = encode(FORMATS["fp16"], np.full((1, 4), 60000.0))
    w = np.full((4, 1), 3, np.uint8)
    assert accelerator.gemm(x, w).tolist() == [[0x7C00]]
    assert accelerator.flags == Flag.OF | Flag.NX
    assert accelerator.gemm(x, w, overflow="saturate").tolist() == [[0x7BFF]]
    assert accelerator.gemm(x[:, :1], w[:1], exponent_bias=-3).tolist() == [[int(x[0, 0])]]
    assert accelerator.flags == Flag(0)


# ---- refusals


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"x": np.zeros((2, 3), np.uint8)},
            r"the activations must be codes of fp16, uint16 of shape \(M, 3\), not uint8 of shape \(2, 3\)",
        ),
        (
            {"x": np.zeros((2, 4), np.uint16)},
            r"the activations must be codes of fp16, uint16 of shape \(M, 3\), not uint16 of shape \(2, 4\)",
        ),
        ({"w": np.zeros((3, 2))}, r"weights must be a uint8 matrix \(K, N\), not float64 of shape \(3, 2\)"),
        ({"w": np.zeros((3, 0), np.uint8)}, r"weights must be a uint8 matrix \(K, N\), not uint8 of shape \(3, 0\)"),
        (
            {"w": np.array([[0], [1], [9]], np.uint8)},
            r"weight code at \(2, 0\) must have 3 bits, not the value 9",
        ),
        ({"exponent_bias": 128}, r"exponent_bias must be -128\.\.127, not 128"),
        ({"overflow": "wrap"}, r"overflow must be 'inf' or 'saturate', not 'wrap'"),
    ],
)
def test_wrong_operands_are_refused(change, message):
    config = config_of()
    accelerator = Accelerator(EmulatorTransport(config), config)
    given = {"x": np.zeros((2, 3), np.uint16), "w": np.zeros((3, 2), np.uint8), **change}
    x, w = given.pop("x"), given.pop("w")
    with pytest.raises(InputError, match=f"^{message}$"):
        accelerator.gemm(x, w, **given)


def test_k_over_max_k_is_refused():
    config = config_of(max_k=40)
    accelerator = Accelerator(EmulatorTransport(config), config)
    x, w = np.zeros((2, 41), np.uint16), np.zeros((41, 2), np.uint8)
    message = (
        r"^K of layer 'gemm' must be at most max_k = 40, not 41; generate the accelerator with a larger array.max_k$"
    )
    with pytest.raises(InputError, match=message):
        accelerator.gemm(x, w)


def test_a_device_of_another_configuration_is_refused():
    config, other = config_of(), config_of(rows=4)
    message = (
        f"^the device behind the golden transport must have the configuration hash {config.hash:#010x}, "
        f"not {other.hash:#010x}; generate it from this configuration$"
    )
    with pytest.raises(InputError, match=message):
        Accelerator(EmulatorTransport(other), config)
    with pytest.raises(DeviceError, match=f"hash {config.hash:#010x}, not {other.hash:#010x}$"):
        Accelerator(Silent(other), config).gemm(np.zeros((1, 1), np.uint16), np.zeros((1, 1), np.uint8))


class Recorder:
    """The emulator, noting the headers that it is sent; `damage` may change a packet on its way."""

    def __init__(self, config: Config) -> None:
        self.name = "golden"
        self.inner = EmulatorTransport(config)
        self.headers: list[Header] = []
        self.transfers = 0

    def damage(self, data: bytes) -> bytes:
        return data

    def hardware_hash(self) -> int | None:
        return self.inner.hardware_hash()

    def transfer(
        self, packets: Sequence[bytes], expected_packets: int, *, progress: ProgressCallback | None = None
    ) -> TransferResult:
        self.transfers += 1
        self.headers += [Header.decode(data) for data in packets]
        return self.inner.transfer([self.damage(data) for data in packets], expected_packets, progress=progress)


class Silent(Recorder):
    """A device that does not say who it is."""

    def hardware_hash(self) -> int | None:
        return None


class Noisy(Recorder):
    """A cable that cuts the last beat off the first weights."""

    noisy = True

    def damage(self, data: bytes) -> bytes:
        if self.noisy and Header.decode(data).opcode == Opcode.WEIGHTS:
            self.noisy = False
            return data[:-8]
        return data


def test_a_refused_packet_is_named_and_the_next_run_works():
    config = config_of()
    transport = Noisy(config)
    accelerator = Accelerator(transport, config)
    x, w = operands(config, np.random.default_rng(0), 5, 20, 5)
    message = (
        r"^the device must accept every packet, and refused packet 3 \(weights of gemm\): a packet ended before its "
        r"length \(early tlast\) and was discarded; a layer needed a buffer that no complete packet or layer had filled$"
    )
    with pytest.raises(DeviceError, match=message):
        accelerator.gemm(x, w)
    check(config, accelerator, x, w)


class Wrong(Recorder):
    """A device whose results are a lane short."""

    def transfer(
        self, packets: Sequence[bytes], expected_packets: int, *, progress: ProgressCallback | None = None
    ) -> TransferResult:
        result = super().transfer(packets, expected_packets, progress=progress)
        short = []
        for data in result.packets:
            header = Header.decode(data)
            if header.opcode == Opcode.RESULT:
                data = Header(header.opcode, header.sequence, 0, header.length - 2).encode() + data[16:]
            short.append(data)
        return TransferResult(short, result.cycles, result.input_beats, result.output_beats)


def test_a_short_result_is_refused():
    config = config_of()
    x, w = operands(config, np.random.default_rng(0), 1, 2, 1)
    message = r"^the result of layer gemm, channels 0\.\.0, rows 0\.\.0 must have \d+ bytes, not \d+$"
    with pytest.raises(DeviceError, match=message):
        Accelerator(Wrong(config), config).gemm(x, w)
