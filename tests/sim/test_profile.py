"""Cycles per layer: equal to the gateware's counters layer by layer, and they add up."""

import time
from collections.abc import Sequence

import numpy as np
import pytest

from bench.golden_network import resnet18
from golden import schedule
from golden.clock import ClockTransport
from golden.emulator import EmulatorTransport
from shiftforge.config import Config, from_dict
from shiftforge.errors import InputError
from shiftforge.packets import Header, Opcode, decode_status, packet
from shiftforge.program import Program
from shiftforge.transport import ProgressCallback, TransferResult, Transport
from sim.backends import open_transport, stall_patterns
from sim.profile import profile
from sw_driver.accelerator import Accelerator
from sw_driver.compiler.pipeline import compile_graph
from tests.sw_driver.networks import network

ASKS = 0xFFFF
"""Sequence number of our own requests: the driver begins with 0."""

MACHINES = {
    "2x3": {"rows": 2, "cols": 3, "activation": "fp16", "output": "fp32", "weight_bits": 3, "max_k": 40},
    "3x5 banked": {
        "rows": 3,
        "cols": 5,
        "activation": "bf16",
        "output": "bf16",
        "weight_bits": 3,
        "max_k": 40,
    },
}


class StatusBetween:
    """A transport that asks for the status after every LAYER packet, and keeps what each layer added to the counters."""

    def __init__(self, transport: Transport, config: Config) -> None:
        self.name = transport.name
        self.layers: list[dict[str, int]] = []
        self._transport, self._config = transport, config
        self._told: dict[str, int] = dict.fromkeys(("busy_cycles", "slots", "stall_drain", "stall_output"), 0)

    def hardware_hash(self) -> int | None:
        return self._transport.hardware_hash()

    def transfer(
        self, packets: Sequence[bytes], expected_packets: int, *, progress: ProgressCallback | None = None
    ) -> TransferResult:
        ask = packet(Header(Opcode.STATUS, ASKS), b"", self._config.stream_bits)
        sent = [
            data for one in packets for data in ([one, ask] if Header.decode(one).opcode == Opcode.LAYER else [one])
        ]
        result = self._transport.transfer(sent, expected_packets + len(sent) - len(packets), progress=progress)
        kept = []
        for data in result.packets:
            header = Header.decode(data)
            if header.opcode != Opcode.STATUS_REPLY:
                kept.append(data)
                continue
            told = decode_status(data[16:])
            if header.sequence == ASKS:
                self.layers.append({name: told[name] - before for name, before in self._told.items()})
            else:
                kept.append(data)
            self._told = {name: told[name] for name in self._told}
        return TransferResult(kept, result.cycles, result.input_beats, result.output_beats)


def machine(name: str) -> Config:
    """With memories so small that weights are loaded piece by piece."""
    return from_dict({"array": MACHINES[name], "memory": {"weight_words": 128, "activation_words": 128}})


def compiled(config: Config, sizes: Sequence[int] = (30, 17, 11, 4)) -> Program:
    return compile_graph(network(np.random.default_rng(3), list(sizes), bits=3, size=1.0), config)


def operands(program: Program, batch: int) -> np.ndarray:
    return np.random.default_rng(4).normal(size=(batch, *program.input_shape))


@pytest.mark.parametrize("stalls", [None, 7])
@pytest.mark.parametrize("name", MACHINES)
def test_every_layer_has_the_gatewares_counters(name, stalls) -> None:
    config = machine(name)
    program = compiled(config)
    x = operands(program, 13)
    with (
        open_transport("golden", config, stalls=stalls) as golden,
        open_transport("rtl", config, stalls=stalls) as rtl,
    ):
        predicted, counted = StatusBetween(golden, config), StatusBetween(rtl, config)
        expected = Accelerator(predicted, config).run(program, x)
        assert np.array_equal(Accelerator(counted, config).run(program, x), expected)
    assert len(predicted.layers) > 4
    assert counted.layers == predicted.layers
    clock = ClockTransport(config, **patterns(stalls))
    Accelerator(StatusBetween(clock, config), config).run(program, x)
    times = [record.time for record in clock.layers]
    found = [(layer["busy_cycles"], layer["slots"], layer["stall_drain"]) for layer in counted.layers]
    assert found == [(time.busy, time.slots, time.stall_drain) for time in times]
    # A status reply, too, waits for the sink.
    waits = [time.stall_output <= layer["stall_output"] for time, layer in zip(times, counted.layers, strict=True)]
    assert all(waits)


def patterns(stalls: int | None) -> dict:
    return dict(zip(("input_valid", "output_ready"), stall_patterns(stalls), strict=True))


@pytest.mark.parametrize("stalls", [None, 3])
@pytest.mark.parametrize("batch", [1, 29])
@pytest.mark.parametrize("name", MACHINES)
def test_the_layers_add_up_to_the_run(name, batch, stalls) -> None:
    config = machine(name)
    program = compiled(config)
    told = profile(program, batch, stalls=stalls)
    golden = EmulatorTransport(config, **patterns(stalls))
    accelerator = Accelerator(golden, config)
    accelerator.run(program, operands(program, batch))
    assert told.cycles == accelerator.last_cycles
    sums = {
        "slots": sum(layer.slots for layer in told.layers),
        "stall_drain": sum(layer.stall_drain for layer in told.layers),
        "busy_cycles": sum(layer.cycles - layer.stall_load for layer in told.layers),
    }
    assert {name: accelerator.counters[name] for name in sums} == sums
    assert [layer.layer for layer in told.layers] == ["fc0", "fc1", "fc2"]
    assert [layer.macs for layer in told.layers] == [batch * 30 * 17, batch * 17 * 11, batch * 11 * 4]
    assert all(layer.rest > 0 and layer.cycles > 0 for layer in told.layers)
    assert told.tail >= 1
    beat = config.stream_bits // 8
    result = accelerator.last_result
    assert result is not None
    into = told.setup_bytes + sum(layer.bytes_in for layer in told.layers)
    out = told.status_bytes + sum(layer.bytes_out for layer in told.layers)
    assert (into, out) == (beat * len(result.input_beats), beat * len(result.output_beats))


def test_the_clock_answers_zeros_of_the_right_length_at_the_right_time() -> None:
    config = machine("2x3")
    program = compiled(config)
    clock, golden = ClockTransport(config), EmulatorTransport(config)
    runs = [Accelerator(transport, config) for transport in (clock, golden)]
    x = operands(program, 5)
    zeros, results = (run.run(program, x) for run in runs)
    assert zeros.shape == results.shape
    assert not zeros.any()
    assert results.any()
    mine, theirs = (run.last_result for run in runs)
    assert mine is not None
    assert theirs is not None
    assert np.array_equal(mine.input_beats, theirs.input_beats)
    assert np.array_equal(mine.output_beats, theirs.output_beats)
    clock.reset()
    assert clock.layers == []


def test_utilization_by_hand() -> None:
    """A product of 8 x 4 by 4 x 4 on 4 x 4: 2 tiles of 4 cycles, of which every product is useful."""
    config = from_dict({"array": {**MACHINES["2x3"], "rows": 4, "cols": 4, "max_k": 4}})
    told = profile(compiled(config, (4, 4)), 8)
    (layer,) = told.layers
    assert (layer.slots, layer.macs, layer.runs) == (8, 8 * 16, 1)
    assert layer.utilization(config) == 8 / layer.cycles
    assert told.utilization(config) == 8 / told.cycles


def resnet(size: int) -> Program:
    """ResNet-18 with all that it has: residuals, a maximum, spills between phases."""
    array = {**MACHINES["2x3"], "rows": 16, "cols": 16, "max_k": 4608, "residual": True, "max_pool": True, "mask": True}
    memory = {"activation_words": 1 << 17, "weight_words": 1 << 17, "parameter_words": 1 << 12}
    config = from_dict({"array": {**array, "output": "fp16"}, "memory": memory, "interface": {"stream_bits": 128}})
    return compile_graph(resnet18(np.random.default_rng(0), size), config)


def test_resnet_18_takes_less_than_a_second() -> None:
    program = resnet(224)
    started = time.process_time()
    told = profile(program)
    assert time.process_time() - started < 1
    assert told.macs == sum(line.macs * line.pixels for line in program.report) > 1_800_000_000
    assert told.cycles > told.macs // 256


def test_resnet_18_tile_by_tile_is_the_same(monkeypatch) -> None:
    program = resnet(64)
    at_once = profile(program)
    monkeypatch.setattr(schedule, "LONGEST_PERIOD", 0)
    assert profile(program) == at_once


def test_no_batch_is_refused() -> None:
    with pytest.raises(InputError, match="the batch must be at least 1, not 0"):
        profile(compiled(machine("2x3")), 0)
