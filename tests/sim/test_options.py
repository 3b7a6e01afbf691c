"""Machines with residuals, maxima over windows, more pages and other lanes equal the golden machine, beat for beat."""

from pathlib import Path

import numpy as np
import pytest

from golden.decoder import Decoder
from golden.emulator import EmulatorTransport
from shiftforge.config import Config, from_dict
from shiftforge.packets import Opcode, memory_ports
from shiftforge.transport import TransferResult
from sim.rtl import RtlTransport
from sim.stimulus import Programs
from tests.sim.test_machine import check_equal, run, verilog

#                    rows cols activation  output   weights max_k stream pages residual max_pool lanes
MACHINES = {
    "3x5": (3, 5, "fp16", "fp16", 3, 40, 64, 4, True, True, 2),
    "4x4": (4, 4, "int8", "int8", 2, 40, 32, 8, True, True, 4),
    "5x3": (5, 3, "fp8_e4m3", "fp16", 4, 33, 128, 16, True, True, 1),
    "1x1": (1, 1, "fp16", "fp32", 3, 9, 64, 4, True, True, 1),
    "9x2": (9, 2, "fp8_e5m2", "bf16", 2, 40, 64, 4, False, True, 2),
    "1x8": (1, 8, "int16", "int16", 4, 9, 128, 2, False, True, 1),
    "8x8": (8, 8, "fp16", "fp32", 3, 64, 64, 2, True, False, 8),
    "2x7": (2, 7, "int16", "fp16", 3, 20, 32, 8, False, False, 1),
    "3x5 banked": (3, 5, "bf16", "bf16", 3, 60, 64, 4, True, True, 1),
    "4x4 banked": (4, 4, "fp32", "fp32", 4, 64, 128, 2, True, True, 2),
    "2x4 banked": (2, 4, "fp16", "fp16", 4, 40, 64, 4, True, True, 1),
}
FAST = ("3x5",)


def machine(name: str) -> Config:
    rows, cols, activation, output, weight_bits, max_k, stream_bits, pages, residual, max_pool, lanes = MACHINES[name]
    array = {"rows": rows, "cols": cols, "activation": activation, "output": output}
    array["accumulator"] = "banked" if name.endswith("banked") else "aligned"
    options = {"residual": residual, "max_pool": max_pool, "lanes": lanes}
    return from_dict(
        {
            "array": {**array, "weight_bits": weight_bits, "max_k": max_k, **options},
            "memory": {"activation_pages": pages},
            "interface": {"stream_bits": stream_bits},
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("options")


def check_program(config: Config, program: list[bytes], folder: Path, cache: Path) -> TransferResult:
    """The machine and the golden one, always ready, give one answer to the program; returns the golden one's transfer."""
    golden = EmulatorTransport(config).transfer(program, 1)
    with RtlTransport(verilog(config, folder), stream_bits=config.stream_bits, cache=cache) as device:
        check_equal(golden, device.transfer(program, 1))
    return golden


@pytest.mark.parametrize("name", FAST)
def test_random_programs(name: str, folder: Path, rtl_cache: Path) -> None:
    for seed in range(30):
        run(machine(name), folder, rtl_cache, seed, broken=0.2 if seed % 2 else 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", MACHINES)
def test_many_random_programs(name: str, folder: Path, rtl_cache: Path) -> None:
    for seed in range(2000, 2150):
        run(machine(name), folder, rtl_cache, seed, broken=0.3 if seed % 2 else 0.0)


def test_the_programs_hold_what_is_to_be_compared() -> None:
    """Layers with a residual, in the input's page and not; maxima; packets whose words wait for a layer's writes."""
    config = machine("3x5")
    page, kinds, refused = config.activation_page, dict.fromkeys(("residual", "same page", "pool", "plain"), 0), 0
    for seed in range(30):
        decoder = Decoder(config)
        for data in Programs(config, np.random.default_rng(seed)).program(14, broken=0.2 if seed % 2 else 0.0):
            outcome = decoder.take(data)
            refused += outcome.received.header.opcode == Opcode.LAYER and bool(outcome.error)
            layer = outcome.layer
            if layer is not None:
                kinds["pool"] += layer["pool_kind"]
                kinds["residual"] += layer["residual"]
                kinds["plain"] += not layer["residual"] and not layer["pool_kind"]
                same = layer["residual_address"] // page == layer["input_address"] // page
                kinds["same page"] += layer["residual"] and same
    assert min(kinds.values()) > 5, kinds
    assert refused > 10


@pytest.mark.parametrize("name", FAST)
def test_maxima_of_every_bank_are_read_again(name: str, folder: Path, rtl_cache: Path) -> None:
    """Layers of maxima over a page without a word of zeros, and after each a layer of what it wrote, to the stream."""
    config = machine(name)
    rng = np.random.default_rng(12)
    programs = Programs(config, rng)
    _, _, port = memory_ports(config)
    program = programs.ready()
    common = dict.fromkeys(("output_width", "input_width", "residual", "output_bank", "post"), 0) | {"exponent_bias": 0}
    for _ in range(8):
        words = rng.normal(size=(port.page, port.stride_bits // 16)).astype(np.float16)
        program.append(programs.send(port.opcode, words.tobytes(), 0))
        windows, pixels = int(rng.integers(1, 4)), int(rng.integers(4, 12))
        pool = {"pool_kind": 1, "to_stream": 0, "k_words": windows, "k_tail": config.rows, "n_tiles": 1}
        pool |= {"input_address": 0, "input_stride": windows, "output_address": port.page, "output_stride": 1}
        program.append(programs.layer(**{**common, **pool, "pixels": pixels, "result_bytes": 0}))
        total = {
            "pool_kind": 0,
            "to_stream": 1,
            "k_words": 1,
            "k_tail": config.rows,
            "n_tiles": 1,
            "n_tail": config.cols,
        }
        total |= {"input_address": port.page, "input_stride": 1}
        total |= {"result_bytes": pixels * config.groups * config.lanes * config.output.bytes}
        program += [programs.load(0, 0), programs.layer(**{**common, **total, "pixels": pixels})]
    program.append(programs.status())
    check_program(config, program, folder, rtl_cache)


@pytest.mark.parametrize("name", FAST)
def test_words_wait_for_a_layers_writes(name: str, folder: Path, rtl_cache: Path) -> None:
    """Long layers that write one page, and packets of one word to a whole page into another, at any distance."""
    config = machine(name)
    rng = np.random.default_rng(11)
    programs = Programs(config, rng)
    page = config.activation_page
    common = {"pixels": 60, "to_stream": 0, "output_address": page, "input_address": 0, "residual": 0, "output_bank": 0}
    common |= dict.fromkeys(("input_width", "output_width", "result_bytes"), 0)
    kinds = (
        {"pool_kind": 1, "k_words": 1, "k_tail": config.rows, "n_tiles": 2, "post": 0},
        {"pool_kind": 1, "k_words": 2, "k_tail": config.rows, "n_tiles": 1, "post": 0},
        {"pool_kind": 0, "k_words": 1, "n_tiles": 3},
        {"pool_kind": 0, "k_words": config.max_k_words, "k_tail": 1, "n_tiles": 2},
    )
    program = programs.ready()
    for _ in range(20):
        for kind in kinds:
            program.append(programs.layer(**{**common, **kind}))
            program += [programs.load(2, int(rng.integers(2, 4))) for _ in range(int(rng.integers(1, 4)))]
    program.append(programs.status())
    golden = check_program(config, program, folder, rtl_cache)
    # A packet's words come one per beat, without a pause unless they wait.
    first = waited = 0
    for data in program:
        beats = golden.input_beats[first : first + len(data) * 8 // config.stream_bits]
        waited += data[2] == Opcode.ACTIVATIONS and bool((np.diff(beats[2:]) > 1).any())
        first += len(beats)
    assert waited > 30, waited
