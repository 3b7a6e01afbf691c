"""Top: packets against the golden emulator byte for byte under random pauses; registers; resets; broken packets.

Parameters: ``config`` (as `Config.to_dict`), ``seed``.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge, with_timeout
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiStreamBus, AxiStreamFrame, AxiStreamSink, AxiStreamSource
from cocotbext.axi.axil_master import AxiLiteReadResp, AxiLiteWriteResp

from golden.emulator import Emulator, EmulatorTransport
from shiftforge import timing
from shiftforge.activation import Activation
from shiftforge.config import Config, from_dict
from shiftforge.formats import FORMATS
from shiftforge.graph import Graph, Input, Linear, Node
from shiftforge.packets import HEADER_BYTES, Header, Opcode, decode_status, encode_layer, memory_ports, packet
from shiftforge.registers import ADDRESS_BITS, ID_VALUE, REGISTERS, VERSION_VALUE, Address, Control, Error, Flag
from shiftforge.transport import ProgressCallback, TransferResult
from sim.clock import start_clock
from sim.runner import bench_parameters
from sw_driver.accelerator import Accelerator
from sw_driver.compiler.pipeline import assemble
from sw_driver.layout import storage_dtype

OKAY, SLVERR = 0, 2
TIMEOUT_US = 300
STATIC_STATUS = ("hash", "errors", "flags", "status")
"""What a status reply says of the script that it ends: the other words count, or tell of an error only while one is set."""


@dataclass
class Tape:
    """The golden emulator as a device that writes down both sides of the talk."""

    emulator: EmulatorTransport
    sent: list[bytes]
    answers: list[bytes]
    name: str = "tape"

    def hardware_hash(self) -> int:
        return self.emulator.hardware_hash()

    def transfer(
        self, packets: Sequence[bytes], expected_packets: int, *, progress: ProgressCallback | None = None
    ) -> TransferResult:
        result = self.emulator.transfer(packets, expected_packets)
        self.sent += packets
        self.answers += result.packets
        return result


def a_script(config: Config, rng: np.random.Generator) -> Tape:
    """Matrix products of random shapes and a network of two layers: packets in, and packets out as the emulator answers."""
    tape = Tape(EmulatorTransport(config), [], [])
    device = Accelerator(tape, config)
    for m, k, n in [
        (1, 1, 1),
        (config.rows + 1, min(config.rows + 1, config.max_k), config.cols + 1),
        (5, config.max_k, 3),
    ]:
        x = rng.integers(0, 1 << config.activation.bits, (m, k)).astype(storage_dtype(config.activation))
        w = rng.integers(0, 1 << config.weights.element_bits, (k, n)).astype(np.uint8)
        device.gemm(x, w, exponent_bias=int(rng.integers(-2, 3)))
    widths = (config.max_k, min(config.cols + 1, config.max_k), config.cols)
    program = assemble(_network(config, rng, widths), config)
    codes = rng.integers(0, 1 << config.activation.bits, (config.rows + 2, widths[0]))
    device.run_codes(program, codes.astype(storage_dtype(config.activation)))
    return tape


def _network(config: Config, rng: np.random.Generator, widths: Sequence[int]) -> Graph:
    nodes: list[Node] = [Input("x", (widths[0],))]
    for i, (k, n) in enumerate(pairwise(widths)):
        codes = rng.integers(0, 1 << config.weights.bits, (k, n)).astype(np.uint8)
        scale, bias = (rng.normal(0, size, n).astype(np.float32) for size in (0.1, 1.0))
        activation = (Activation.relu(), Activation.leaky(3))[i % 2]
        nodes.append(Linear(f"fc{i}", nodes[-1].name, codes, config.weights.bits, 0, scale, bias, activation))
    return Graph(tuple(nodes))


class Bench:
    """The models around the design, and a monitor of the output stream's rules."""

    def __init__(self, dut, config: Config, seed: int) -> None:
        self.dut, self.config = dut, config
        self.rng = np.random.default_rng(seed)
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), dut.clk, dut.rst)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), dut.clk, dut.rst)
        self.lite = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        for port in (self.source, self.sink):
            port.set_pause_generator(_pauses(int(self.rng.integers(1 << 30))))
        self.monitor = cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        """An offered output beat stays as it is until it is taken (AMBA AXI4-Stream, 2.2.1), and has no null bytes."""
        held: tuple[int, ...] | None = None
        full = (1 << (self.config.stream_bits // 8)) - 1
        d = self.dut
        while True:
            await FallingEdge(d.clk)
            if int(d.rst.value):
                held = None
                continue
            valid = int(d.m_axis_tvalid.value)
            beat = (int(d.m_axis_tdata.value), int(d.m_axis_tkeep.value), int(d.m_axis_tlast.value)) if valid else None
            assert held is None or beat == held, f"m_axis must hold {held} until it is taken, not change to {beat}"
            assert beat is None or beat[1] == full, f"m_axis_tkeep must be all ones, not {beat}"
            held = None if int(d.m_axis_tready.value) else beat

    async def send(self, data: bytes, tkeep: list[int] | None = None) -> None:
        await self.source.send(AxiStreamFrame(data, tkeep=tkeep))

    async def receive(self) -> bytes:
        frame = await with_timeout(self.sink.recv(), TIMEOUT_US, "us")
        return bytes(frame.tdata)

    async def play(self, tape: Tape) -> None:
        """Send a script; every answer must be the emulator's, byte for byte (of status replies what has no clock)."""
        for data in tape.sent:
            await self.send(data)
        for i, expected in enumerate(tape.answers):
            found = await self.receive()
            if Header.decode(expected).opcode == Opcode.STATUS_REPLY:
                assert found[:HEADER_BYTES] == expected[:HEADER_BYTES], (
                    f"answer {i} must begin with {expected[:16].hex()}, not {found[:16].hex()}"
                )
                if i:  # the first clears what came before the script, so it shows that
                    a, b = (decode_status(data[HEADER_BYTES:]) for data in (expected, found))
                    for name in STATIC_STATUS:
                        assert a[name] == b[name], f"{name} of status reply {i} must be {a[name]:#x}, not {b[name]:#x}"
            else:
                assert found == expected, f"answer {i} must be {expected.hex()}, not {found.hex()}"
        await ClockCycles(self.dut.clk, 100)
        assert self.sink.empty(), "nothing may come after the last answer"

    async def read(self, address: int) -> tuple[int, int]:
        answer = cast("AxiLiteReadResp", await self.lite.read(address, 4))
        return int.from_bytes(answer.data, "little"), int(answer.resp)

    async def write(self, address: int, value: int) -> int:
        answer = cast("AxiLiteWriteResp", await self.lite.write(address, value.to_bytes(4, "little")))
        return int(answer.resp)

    async def register(self, address: Address) -> int:
        value, response = await self.read(address)
        assert response == OKAY, f"register {address.name} must answer OKAY, not {response}"
        return value


def _pauses(seed: int) -> Iterator[bool]:
    """Random pauses: half of the cycles, in bursts now and then."""
    rng = random.Random(seed)
    while True:
        if rng.random() < 0.02:
            for _ in range(rng.randrange(20)):
                yield True
        yield rng.random() < 0.4


async def _start(dut) -> Bench:
    parameters = bench_parameters()
    table = parameters["config"]
    assert isinstance(table, dict)
    for port in ("s_axis_tvalid", "m_axis_tready", "s_axil_awvalid", "s_axil_wvalid", "s_axil_bready", "s_axil_arvalid",
                 "s_axil_rready"):  # fmt: skip
        getattr(dut, port).value = 0
    bench = Bench(dut, from_dict(table), int(str(parameters["seed"])))
    await start_clock(dut, reset_cycles=4)
    return bench


@cocotb.test()
async def packets_under_random_pauses(dut) -> None:
    """Matrix products and a network of two layers: every answer is the emulator's, under three sets of pauses and operands."""
    bench = await _start(dut)
    for _ in range(3):
        await bench.play(a_script(bench.config, bench.rng))
    assert await bench.register(Address.ERRORS) == 0
    assert await bench.register(Address.STALL_INPUT) > 0
    assert await bench.register(Address.STALL_OUTPUT) > 0


@cocotb.test()
async def register_file(dut) -> None:
    """Every register's value and access, every other address SLVERR, write-1-to-clear, enable."""
    bench = await _start(dut)
    config = bench.config
    names = list(FORMATS)
    formats = names.index(config.activation.name) | names.index(config.output.name) << 8
    options = config.activation_pages.bit_length() - 2 | config.residual << 2 | config.max_pool << 3
    constants = {
        Address.ID: ID_VALUE,
        Address.VERSION: VERSION_VALUE,
        Address.CONFIG_HASH: config.hash,
        Address.SHAPE: config.rows | config.cols << 16,
        Address.FORMATS: (
            formats | config.weights.bits << 16 | options << 19 | config.weights.mask << 23 | config.lanes << 24
        ),
        Address.MAX_K: config.max_k,
        Address.CONTROL: int(Control.ENABLE),
        Address.STATUS: 0,
        Address.ERRORS: 0,
    }
    for address, value in constants.items():
        found = await bench.register(address)
        assert found == value, f"{address.name} must be {value:#x}, not {found:#x}"
    known = {int(register.address): register for register in REGISTERS}
    others = [a for a in range(0, 0x100, 4) if a not in known] + [0x200, 0x400, 0x800, (1 << ADDRESS_BITS) - 4]
    for address in others:
        assert (await bench.read(address))[1] == SLVERR, f"a read of {address:#x} must answer SLVERR"
        assert await bench.write(address, 0xFFFF_FFFF) == SLVERR, f"a write to {address:#x} must answer SLVERR"
    for register in REGISTERS:
        if register.access == "ro":
            response = await bench.write(register.address, 0xFFFF_FFFF)
            assert response == SLVERR, f"a write to {register.name} must answer SLVERR, not {response}"

    # Write 1 to clear: a wrong magic number sets MAGIC, an unknown opcode OPCODE; each goes with its own bit alone.
    await bench.send(_broken(config)["magic"][0])
    await bench.send(_broken(config)["opcode"][0])
    await _settle(bench, int(Error.MAGIC | Error.OPCODE))
    assert await bench.write(Address.ERRORS, int(Error.OPCODE)) == OKAY
    assert await bench.register(Address.ERRORS) == int(Error.MAGIC)
    assert await bench.write(Address.ERRORS, 0) == OKAY
    assert await bench.register(Address.ERRORS) == int(Error.MAGIC)
    assert await bench.write(Address.ERRORS, int(Error.MAGIC)) == OKAY
    assert await bench.register(Address.ERRORS) == 0

    # Cleared, no packet begins; set again, what waited runs.
    assert await bench.write(Address.CONTROL, 0) == OKAY
    await bench.send(packet(Header(Opcode.STATUS, 7), b"", config.stream_bits))
    await ClockCycles(dut.clk, 200)
    assert bench.sink.empty(), "a disabled machine must take no packet"
    assert await bench.write(Address.CONTROL, int(Control.ENABLE)) == OKAY
    assert Header.decode(await bench.receive()).sequence == 7
    first = await bench.register(Address.CYCLES)
    second = await bench.register(Address.CYCLES)
    assert 0 < first < second, f"CYCLES must count, not go from {first} to {second}"
    await bench.play(a_script(config, bench.rng))
    flags = await bench.register(Address.FLAGS)
    assert await bench.write(Address.FLAGS, int(Flag.NV | Flag.OF | Flag.NX)) == OKAY
    assert await bench.register(Address.FLAGS) == 0, f"FLAGS {flags:#x} must be cleared by ones"


async def _beats(clk, valid, ready, count: int) -> None:
    """Waits for that many beats of a stream."""
    seen = 0
    while seen < count:
        await RisingEdge(clk)
        seen += int(valid.value) & int(ready.value)


@cocotb.test()
async def soft_reset_in_a_packet(dut) -> None:
    """A soft reset while a packet comes in: nothing stays configured, the packet's rest is refused, the next run is right."""
    bench = await _start(dut)
    config = bench.config
    for run in range(3):
        await bench.play(a_script(config, bench.rng))
        port = memory_ports(config)[run]
        words = min(port.page, 64)
        payload = bytes(words * port.stride_bits // 8)
        await bench.send(packet(Header(port.opcode, 9, 0, len(payload)), payload, config.stream_bits))
        half = (HEADER_BYTES + len(payload)) // (config.stream_bits // 8) // 2
        await with_timeout(_beats(dut.clk, dut.s_axis_tvalid, dut.s_axis_tready, half), TIMEOUT_US, "us")
        assert await bench.write(Address.CONTROL, int(Control.ENABLE | Control.SOFT_RESET)) == OKAY
        await ClockCycles(dut.clk, timing.reset(config) + 8)
        assert await bench.register(Address.STATUS) == 0, "a soft reset must leave nothing running or configured"
        assert await bench.register(Address.CONTROL) == int(Control.ENABLE), "the soft reset bit must clear itself"
        await with_timeout(bench.source.wait(), TIMEOUT_US, "us")


@cocotb.test()
async def reset_in_an_answer(dut) -> None:
    """The reset pin while a result leaves: afterwards nothing of it comes, and the next run is right."""
    bench = await _start(dut)
    tape = a_script(bench.config, bench.rng)
    for data in tape.sent:
        await bench.send(data)
    for stop_after in (3, 12):
        await with_timeout(_beats(dut.clk, dut.m_axis_tvalid, dut.m_axis_tready, stop_after), TIMEOUT_US, "us")
        dut.rst.value = 1
        await ClockCycles(dut.clk, 2)
        bench.source.clear()
        await ClockCycles(dut.clk, 2)
        dut.rst.value = 0
        bench.sink.clear()
        await ClockCycles(dut.clk, 200)
        assert bench.sink.empty(), "nothing stale may leave after a reset"
        tape = a_script(bench.config, bench.rng)
        if stop_after == 3:
            for data in tape.sent:
                await bench.send(data)
    await bench.play(tape)


@cocotb.test()
async def reset_of_one_cycle(dut) -> None:
    """The core's reset comes one cycle late and lasts; both streams rest, though it was ready and had something to send."""
    bench = await _start(dut)
    config = bench.config

    async def reset() -> None:
        await RisingEdge(dut.clk)
        dut.rst.value = 1
        await RisingEdge(dut.clk)
        dut.rst.value = 0
        for cycle in range(timing.reset(config)):
            await FallingEdge(dut.clk)
            streams = int(dut.s_axis_tready.value), int(dut.m_axis_tvalid.value)
            assert streams == (0, 0), (
                f"s_axis_tready and m_axis_tvalid must be low {cycle} cycles after rst, not {streams}"
            )

    await ClockCycles(dut.clk, timing.reset(config) + 2)
    await FallingEdge(dut.clk)
    assert int(dut.s_axis_tready.value), "an idle machine must take a packet"
    await reset()
    bench.sink.clear_pause_generator()
    bench.sink.pause = True
    await bench.send(packet(Header(Opcode.STATUS, 7), b"", config.stream_bits))
    if not int(dut.m_axis_tvalid.value):
        await with_timeout(RisingEdge(dut.m_axis_tvalid), TIMEOUT_US, "us")
    await ClockCycles(dut.clk, 10)
    await reset()
    bench.source.clear()
    bench.sink.pause = False
    await ClockCycles(dut.clk, 200)
    assert bench.sink.empty(), "nothing stale may leave after a reset"
    await bench.play(a_script(config, bench.rng))


Broken = tuple[bytes, list[int] | None, Error]


def _broken(config: Config) -> dict[str, Broken]:
    """Bad packets with sequence number 77, their tkeep (None: all ones), and the one error that each must set."""
    bits, beat = config.stream_bits, config.stream_bits // 8
    weights = memory_ports(config)[0]
    stride = weights.stride_bits // 8
    count = 8 * beat // stride if stride < 8 * beat else 2
    payload = bytes(range(1, 1 + stride)) * count if stride < 200 else bytes(stride) * count

    def weight_packet(length: int = len(payload), address: int = 0, body: bytes = payload) -> bytes:
        whole = Header(Opcode.WEIGHTS, 77, address, length).encode() + body
        return whole + bytes(-len(whole) % beat)

    good = weight_packet()
    hole = [1] * len(good)
    hole[HEADER_BYTES + beat] = 0
    layer = encode_layer(
        {"to_stream": 1, "pixels": 1, "k_words": 1, "k_tail": 1, "n_tiles": 1, "n_tail": 1, "input_stride": 1}
    )
    cases: dict[str, Broken] = {
        "magic": (b"\0\0" + good[2:], None, Error.MAGIC),
        "opcode": (packet(Header(0x7F, 77, 0, 0), b"", bits), None, Error.OPCODE),
        "an answer's opcode": (packet(Header(Opcode.RESULT, 77, 0, 0), b"", bits), None, Error.OPCODE),
        "no payload": (packet(Header(Opcode.WEIGHTS, 77, 0, 0), b"", bits), None, Error.LENGTH),
        "length of CONFIG": (packet(Header(Opcode.CONFIG, 77, 0, 8), bytes(8), bits), None, Error.LENGTH),
        "early tlast": (good[:-beat], None, Error.EARLY_TLAST),
        "late tlast": (good + bytes(beat), None, Error.LATE_TLAST),
        "very late tlast": (good + bytes(20 * beat), None, Error.LATE_TLAST),
        "address": (weight_packet(address=weights.words), None, Error.ADDRESS),
        "across the pages": (weight_packet(address=weights.page - 1), None, Error.ADDRESS),
        "tkeep": (good, hole, Error.TKEEP),
        "hash": (packet(Header(Opcode.CONFIG, 77, 0, 4), bytes(4), bits), None, Error.HASH),
        "layer without configuration": (packet(Header(Opcode.LAYER, 77, 0, len(layer)), layer, bits), None, Error.NOT_CONFIGURED),
    }  # fmt: skip
    if stride > 1:
        odd = weight_packet(length=len(payload) - 1, body=payload[:-1])
        cases["odd length"] = (odd, None, Error.LENGTH)
    return cases


async def _settle(bench: Bench, expected: int) -> None:
    """Wait until the input is taken, then until ERRORS is what is expected."""
    await with_timeout(bench.source.wait(), TIMEOUT_US, "us")
    found = 0
    for _ in range(20):
        found = await bench.register(Address.ERRORS)
        if found == expected:
            return
    raise AssertionError(f"ERRORS must be {Error(expected)!r}, not {Error(found)!r}")


@cocotb.test()
async def broken_packets(dut) -> None:
    """Each sets its own sticky error and its sequence number, as in the emulator, and the next packets work."""
    bench = await _start(dut)
    config = bench.config
    for name, (data, tkeep, error) in _broken(config).items():
        await bench.send(data, tkeep)
        await _settle(bench, int(error))
        if tkeep is None:
            model = Emulator(config)
            model.feed([data])
            assert model.decoder.errors == error, (
                f"the emulator must set {error!r} for {name}, not {model.decoder.errors!r}"
            )
        sequence = await bench.register(Address.ERROR_SEQUENCE)
        assert sequence == 77, f"ERROR_SEQUENCE after {name} must be 77, not {sequence}"
        if error is Error.HASH:  # no longer configured: the next case is a layer
            assert await bench.write(Address.ERRORS, int(error)) == OKAY
            continue
        await bench.play(a_script(config, bench.rng))
        assert await bench.register(Address.ERRORS) == 0, f"a good run after {name} must leave no error"
