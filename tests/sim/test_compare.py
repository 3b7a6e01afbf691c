"""The comparison itself: a result that an RTL gets wrong is named, with the cycle of its beat."""

from collections.abc import Sequence

import numpy as np
import pytest

from golden.emulator import EmulatorTransport
from shiftforge.errors import CheckFailed, DeviceError, InputError
from shiftforge.packets import HEADER_BYTES, STATUS_FIELDS, Header, Opcode
from shiftforge.transport import ProgressCallback, TransferResult
from sim.backends import check_backend, open_transport, stall_patterns
from sim.bisect import window_of
from sim.compare import compare_program
from sw_driver import layout
from sw_driver.compiler.pipeline import assemble, compile_graph
from tests.sw_driver.networks import config_of, network

WIDTHS = [7, 11, 4]


class FaultyTransport:
    """The emulator, with one bit of one RESULT flipped: bit 0 of payload byte `byte` of result packet `result`."""

    name = "faulty"

    def __init__(self, config, result: int, byte: int, refuses: bool = False) -> None:
        self._good = EmulatorTransport(config)
        self._left, self._byte, self._refuses = result, byte, refuses

    def hardware_hash(self) -> int:
        return self._good.hardware_hash()

    def transfer(
        self, packets: Sequence[bytes], expected_packets: int, *, progress: ProgressCallback | None = None
    ) -> TransferResult:
        if self._refuses:
            raise DeviceError("the output side waits")
        result = self._good.transfer(packets, expected_packets, progress=progress)
        for i, data in enumerate(result.packets):
            if Header.decode(data).opcode == Opcode.RESULT:
                if self._left == 0:
                    changed = bytearray(data)
                    changed[HEADER_BYTES + self._byte] ^= 1
                    result.packets[i] = bytes(changed)
                self._left -= 1
        return result


def setup(batch=9, **memory):
    config = config_of(activation="int8", output="int16", **memory)
    rng = np.random.default_rng(4)
    program = compile_graph(network(rng, WIDTHS, size=0.02), config)
    codes = rng.integers(0, 256, (batch, WIDTHS[0])).astype(np.uint8)
    return config, program, codes


def results_of(program, layer: int) -> int:
    part = program
    if layer == 0:
        part = assemble(program.graph.up_to("fc0"), program.config)
    return sum(step.fields["to_stream"] for step in part.recipe.steps)


def test_equal_sides_are_equal():
    config, program, codes = setup()
    found = compare_program(program, codes, EmulatorTransport(config), EmulatorTransport(config))
    assert [layer.layer for layer in found] == ["fc0", "fc1"]
    assert all(layer.equal and layer.first is None for layer in found)
    assert [layer.results for layer in found] == [9 * 11, 9 * 4]


@pytest.mark.parametrize("layer", [0, 1])
def test_every_place_is_found_with_its_cycle(layer):
    """Each byte of each result in turn: index and bits as the driver's unpacking has them, cycle as the beat has it."""
    config, program, codes = setup()
    skip = 0 if layer == 0 else results_of(program, 0)
    length = layout.result_bytes(config, len(codes), WIDTHS[layer + 1])
    assert results_of(program, layer) == 1
    seen = set()
    for byte in range(0, length, 2):
        good = EmulatorTransport(config)
        found = compare_program(program, codes, good, FaultyTransport(config, skip, byte))
        payload = bytearray(length)
        payload[byte] = 1
        place = np.argwhere(layout.unpack_result(config, bytes(payload), len(codes), WIDTHS[layer + 1]))
        if not len(place):  # a lane without a channel
            assert all(each.equal for each in found)
            continue
        first = found[layer].first
        assert first is not None
        assert (found[layer].layer, found[layer].differing) == (f"fc{layer}", 1)
        assert [first.row, first.channel] == place[0].tolist()
        assert first.golden ^ first.rtl == 1
        seen.add((first.row, first.channel))
        assert first.cycle is not None
    assert len(seen) == len(codes) * WIDTHS[layer + 1]


def test_the_cycle_is_that_of_the_beat():
    """One layer, one result packet: the status reply before it has a known length, so the beat can be counted by hand."""
    config = config_of(rows=2, cols=2, activation="int8", output="int16", stream_bits=32)
    rng = np.random.default_rng(5)
    program = compile_graph(network(rng, [3, 4], size=0.02), config)
    codes = rng.integers(0, 256, (5, 3)).astype(np.uint8)
    transport = EmulatorTransport(config)
    kept: list[TransferResult] = []

    class Keep(FaultyTransport):
        def transfer(self, packets, expected_packets, *, progress=None) -> TransferResult:
            kept.append(super().transfer(packets, expected_packets))
            return kept[-1]

    found = compare_program(program, codes, transport, Keep(config, 0, 12))
    first = found[0].first
    status_beats = (HEADER_BYTES + 48) // 4
    assert first is not None
    assert first.cycle == kept[0].output_beats[status_beats + HEADER_BYTES // 4 + 12 // 4]
    sentence = found[0].sentence()
    assert f"layer 'fc0' must have the golden model's bits, and at [{first.row}, {first.channel}]" in sentence
    assert f"in the beat that left in cycle {first.cycle} (1 of 20 results differ)" in sentence


def test_a_difference_in_a_later_transfer_and_a_later_piece_is_found(monkeypatch):
    """Small memories cut batch and channels: the fault is in the last result packet of all."""
    monkeypatch.setattr("sw_driver.accelerator.TRANSFER_BYTES", 64)
    config = config_of(rows=2, cols=2, activation="int8", output="int8", max_k=8, activation_words=16, weight_words=16)
    rng = np.random.default_rng(6)
    program = compile_graph(network(rng, [8, 7], size=0.02), config)
    codes = rng.integers(0, 256, (9, 8)).astype(np.uint8)
    steps = len(program.recipe.steps)
    chunks = -(-9 // program.recipe.phases[0].chunk)
    assert steps > 1
    assert chunks > 1
    found = compare_program(program, codes, EmulatorTransport(config), FaultyTransport(config, steps * chunks - 1, 0))
    first = found[0].first
    assert first is not None
    last = program.recipe.steps[-1]
    assert (first.row, first.channel) == ((chunks - 1) * program.recipe.phases[0].chunk, last.first)
    assert first.cycle is not None


def test_a_device_that_does_not_answer_is_a_failed_comparison():
    config, program, codes = setup()
    with pytest.raises(
        CheckFailed, match="layer 'fc0' must run on the RTL as on the golden model, but: the output side"
    ):
        compare_program(program, codes, EmulatorTransport(config), FaultyTransport(config, 0, 0, refuses=True))


def test_other_cycles_are_a_difference():
    config, program, codes = setup()
    valid, ready = stall_patterns(1)
    slow = EmulatorTransport(config, input_valid=valid, output_ready=ready)
    found = compare_program(program, codes, EmulatorTransport(config), slow)
    assert [layer.layer for layer in found] == ["fc0"]
    assert not found[0].equal
    assert found[0].first is None
    assert f"must take the predicted {found[0].predicted} cycles" in found[0].sentence()


def test_another_counter_is_a_difference():
    config, program, codes = setup()

    class Forgetful(FaultyTransport):
        """Its status replies tell of one stall more."""

        def transfer(self, packets, expected_packets, *, progress=None) -> TransferResult:
            result = super().transfer(packets, expected_packets)
            field = HEADER_BYTES + 4 * [name for name, _ in STATUS_FIELDS].index("stall_drain")
            last = bytearray(result.packets[-1])
            last[field] += 1
            result.packets[-1] = bytes(last)
            return result

    found = compare_program(program, codes, EmulatorTransport(config), Forgetful(config, 99, 0))
    ((name, predicted, told),) = found[0].status
    assert (name, told) == ("stall_drain", predicted + 1)
    assert found[0].sentence() == (
        f"layer 'fc0' must end with stall_drain {predicted} in the status reply, and the RTL tells {told}"
    )


def test_back_ends_are_checked_before_anything_is_made():
    with pytest.raises(InputError, match="backend must be one of golden, rtl, not 'x'"):
        check_backend("x")
    config = config_of()
    with open_transport("golden", config) as transport:
        assert transport.hardware_hash() == config.hash


@pytest.mark.parametrize(("stream", "beat"), [("input", 5), ("output", 11)])
def test_the_first_beat_in_another_cycle_is_named(stream, beat):
    config, program, codes = setup()

    class Late(FaultyTransport):
        def transfer(self, packets, expected_packets, *, progress=None) -> TransferResult:
            result = super().transfer(packets, expected_packets)
            getattr(result, f"{stream}_beats")[beat:] += 2
            return result

    (layer,) = compare_program(program, codes, EmulatorTransport(config), Late(config, -1, 0))
    assert not layer.equal
    assert layer.first is None
    assert layer.beat is not None
    assert (layer.beat.stream, layer.beat.index) == (stream, beat)
    assert layer.beat.predicted is not None
    assert layer.beat.cycle == layer.beat.predicted + 2
    assert layer.where() == (
        f"the first beat that moves in another cycle is {stream} beat {beat}: predicted in cycle {layer.beat.predicted}, "
        f"counted in cycle {layer.beat.cycle}"
    )
    window = window_of(config, layer)
    assert window.first < layer.beat.predicted < window.end


def test_tile_and_element_are_those_of_the_result():
    """Every result in turn, of a batch of three pixel tiles and three channel tiles; sums come in the order of the skew."""
    config, program, codes = setup()
    length = layout.result_bytes(config, len(codes), WIDTHS[1])
    summed = {}
    for byte in range(0, length, 2):
        found = compare_program(program, codes, EmulatorTransport(config), FaultyTransport(config, 0, byte))
        first = found[0].first
        if first is None:  # a lane without a channel
            continue
        place = first.place
        assert place is not None
        assert place.packet.startswith("layer fc0, channels 0..10")
        (nt, mt), (r, c) = place.tile, place.element
        assert (first.row, first.channel) == (mt * config.rows + r, nt * config.cols + c)
        assert first.cycle is not None
        assert place.summed < first.cycle
        summed[first.row, first.channel] = place.summed
    assert len(summed) == len(codes) * WIDTHS[1]
    for (row, channel), cycle in summed.items():
        if channel % config.cols:
            assert cycle == summed[row, channel - 1] + 1
        if row % config.rows:
            assert cycle == summed[row - 1, channel] + 1
