"""The gateware equals the golden machine: every byte of every answer and the cycle of every beat, for random programs."""

from pathlib import Path

import numpy as np
import pytest

from golden.cycles import predict
from golden.emulator import Emulator, EmulatorTransport
from hw.verilog import emit
from shiftforge.config import Config, from_dict
from shiftforge.packets import STATUS_BYTES, Header, Opcode, decode_status
from shiftforge.registers import Address, Control, Status
from shiftforge.transport import Pattern, TransferResult, random_pattern
from sim.rtl import RtlTransport
from sim.stimulus import Programs
from sw_driver.accelerator import Accelerator
from tests.golden.cases import random_codes

#                 rows cols activation  output     weights max_k stream
MACHINES = {
    "1x1": (1, 1, "fp8_e4m3", "fp16", 4, 5, 128),
    "2x3": (2, 3, "fp16", "fp32", 3, 20, 64),
    "4x4": (4, 4, "int8", "int8", 2, 40, 32),
    "3x5": (3, 5, "fp16", "fp16", 3, 17, 64),
    "5x3": (5, 3, "fp8_e5m2", "bf16", 2, 33, 32),
    "1x8": (1, 8, "int16", "fp8_e4m3", 4, 9, 128),
    "8x8": (8, 8, "fp16", "fp32", 3, 64, 64),
    "1x1 banked": (1, 1, "fp32", "fp32", 3, 9, 32),
    "2x3 banked": (2, 3, "bf16", "fp32", 4, 40, 64),
    "3x5 banked": (3, 5, "fp16", "fp16", 3, 60, 64),
    "5x3 banked": (5, 3, "fp8_e4m3", "bf16", 2, 33, 128),
    "4x4 banked": (4, 4, "fp8_e5m2", "int8", 4, 64, 32),
    "8x8 banked": (8, 8, "fp32", "fp16", 4, 128, 64),
}
FAST = ("2x3", "2x3 banked")


def machine(name: str, *, mask: bool = False) -> Config:
    rows, cols, activation, output, weight_bits, max_k, stream_bits = MACHINES[name]
    array = {"rows": rows, "cols": cols, "activation": activation, "output": output}
    array["accumulator"] = "banked" if name.endswith("banked") else "aligned"
    return from_dict(
        {
            "array": {**array, "weight_bits": weight_bits, "max_k": max_k, "mask": mask},
            "interface": {"stream_bits": stream_bits},
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("machines")


def verilog(config: Config, folder: Path) -> Path:
    directory = folder / f"{config.hash:08x}"
    if not directory.exists():
        directory.mkdir()
        emit(config, directory)
    return directory


def answers(config: Config, packets: list[bytes]) -> int:
    """How many packets come back."""
    return len(Emulator(config).feed(packets))


def patterns(rng: np.random.Generator) -> tuple[Pattern, Pattern]:
    def one() -> Pattern:
        if rng.random() < 0.3:
            return None
        return random_pattern(rng, int(rng.integers(1, 200)), float(rng.choice([0.05, 0.5, 0.9])))

    return one(), one()


def check_equal(golden: TransferResult, rtl: TransferResult) -> None:
    assert np.array_equal(golden.input_beats, rtl.input_beats)
    for mine, theirs in zip(golden.packets, rtl.packets, strict=True):
        if mine != theirs and Header.decode(mine).opcode == Opcode.STATUS_REPLY:
            assert decode_status(mine[16:]) == decode_status(theirs[16:])
        assert mine == theirs
    assert np.array_equal(golden.output_beats, rtl.output_beats)
    assert golden.cycles == rtl.cycles


def run(config: Config, folder: Path, cache: Path, seed: int, broken: float = 0.1) -> None:
    rng = np.random.default_rng(seed)
    program = Programs(config, rng).program(14, broken=broken)
    valid, ready = (None, None) if seed % 3 == 0 else patterns(rng)
    expected = answers(config, program)
    golden = EmulatorTransport(config, input_valid=valid, output_ready=ready).transfer(program, expected)
    with RtlTransport(
        verilog(config, folder), stream_bits=config.stream_bits, input_valid=valid, output_ready=ready, cache=cache
    ) as device:
        check_equal(golden, device.transfer(program, expected))
    predicted = predict(config, program, input_valid=valid, output_ready=ready)
    assert np.array_equal(predicted.input_beats, golden.input_beats)
    assert np.array_equal(predicted.output_beats, golden.output_beats)
    assert predicted.cycles == golden.cycles
    told = decode_status(golden.packets[-1][16 : 16 + STATUS_BYTES])
    assert {name: told[name] for name in predicted.counters} == predicted.counters | {
        "stall_output": told["stall_output"]
    }


@pytest.mark.parametrize("name", FAST)
def test_random_programs(name, folder, rtl_cache):
    for seed in range(20):
        run(machine(name), folder, rtl_cache, seed)


@pytest.mark.parametrize("name", FAST)
def test_random_programs_with_masks(name, folder, rtl_cache):
    """Half of the random weight elements have their mask bit set."""
    for seed in range(50, 60):
        run(machine(name, mask=True), folder, rtl_cache, seed)


def test_a_slow_sink_fills_the_output_fifo(folder, rtl_cache):
    """The drain waits for room, the tiles wait for the drain, and every result still comes once."""
    config = machine("2x3")
    programs = Programs(config, np.random.default_rng(4))
    steps = 100 * 3 * config.groups
    run_long = {"to_stream": 1, "pixels": 100, "n_tiles": 3, "n_tail": 3, "k_words": 1, "k_tail": 2}
    size = steps * config.lanes * config.output.bytes
    program = [*programs.ready(), programs.layer(**run_long, result_bytes=size), programs.status()]
    ready = random_pattern(np.random.default_rng(5), 97, 0.05)
    golden = EmulatorTransport(config, output_ready=ready).transfer(program, 2)
    with RtlTransport(verilog(config, folder), stream_bits=64, output_ready=ready, cache=rtl_cache) as device:
        check_equal(golden, device.transfer(program, 2))
    free = predict(config, program)
    told = decode_status(golden.packets[1][16 : 16 + STATUS_BYTES])
    assert told["stall_drain"] > 2 * free.counters["stall_drain"] > 0
    assert len(golden.output_beats) == 2 + size // 8 + 2 + STATUS_BYTES // 8


@pytest.mark.slow
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("name", MACHINES)
def test_many_random_programs(name, mask, folder, rtl_cache):
    for seed in range(1000, 1050 if mask else 1150):
        run(machine(name, mask=mask), folder, rtl_cache, seed, broken=0.3 if seed % 2 else 0.0)


def test_transfers_one_packet_at_a_time(folder, rtl_cache):
    """The clock goes on from transfer to transfer, and what a layer still sends belongs to the next."""
    config = machine("2x3")
    rng = np.random.default_rng(5)
    program = Programs(config, rng).program(25)
    valid, ready = random_pattern(rng, 50, 0.7), random_pattern(rng, 60, 0.7)
    golden = EmulatorTransport(config, input_valid=valid, output_ready=ready)
    with RtlTransport(
        verilog(config, folder), stream_bits=64, input_valid=valid, output_ready=ready, cache=rtl_cache
    ) as device:
        for data in program:
            # A status request is answered unless it is broken: magic number, opcode, and a length of 0 in a single header.
            answered = data[:3] == bytes([*b"SF", Opcode.STATUS]) and data[12:] == bytes(4)
            check_equal(golden.transfer([data], int(answered)), device.transfer([data], int(answered)))


@pytest.mark.parametrize("name", ["2x3 banked", "4x4 banked", "2x3", "4x4"])
def test_a_reset_in_a_layer_leaves_nothing_in_the_array(name, folder, rtl_cache):
    """Whenever a reset comes, by pin or by register, the next product is right: the banks are cleared before it, and columns take
    nothing that elements still hand over, which they always do in a layer of the shortest tiles."""
    config = machine(name)
    rng = np.random.default_rng(7)
    programs, depth = Programs(config, rng), min(config.max_k, 40)
    endless = {"pixels": 200, "n_tiles": 3, "k_words": config.max_k_words, "to_stream": 0, "result_bytes": 0}
    endless |= dict.fromkeys(("input_width", "output_width", "output_height", "tap_words"), 0)
    with RtlTransport(verilog(config, folder), stream_bits=config.stream_bits, cache=rtl_cache) as device:
        for wait in range(16):
            short = {"k_words": 1} if wait % 4 > 1 else {}
            device.transfer([*programs.ready(), programs.layer(**endless | short)], 0)
            for reads in range(wait):  # the first may come before the layer starts
                assert device.read_register(Address.STATUS)[0] & Status.BUSY or reads == 0
            if wait % 2:
                device.write_register(Address.CONTROL, Control.ENABLE | Control.SOFT_RESET)
                while device.read_register(Address.CONTROL)[0] & Control.SOFT_RESET:
                    pass
            else:
                device.reset()
            x = random_codes(config.activation, (5, depth), rng, specials=False)
            w = rng.integers(0, 1 << config.weights.bits, (depth, 4)).astype(np.uint8)
            expected = Accelerator(EmulatorTransport(config), config).gemm(x, w)
            assert np.array_equal(Accelerator(device, config).gemm(x, w), expected)


def test_a_reset_forgets_everything_but_the_memories(folder, rtl_cache):
    config = machine("2x3")
    programs = Programs(config, np.random.default_rng(6))
    first, second = programs.program(10), programs.program(10)
    golden = EmulatorTransport(config)
    with RtlTransport(verilog(config, folder), stream_bits=64, cache=rtl_cache) as device:
        for program in (first, second):
            expected = answers(config, program)
            check_equal(golden.transfer(program, expected), device.transfer(program, expected))
            device.reset()
            golden.reset()
