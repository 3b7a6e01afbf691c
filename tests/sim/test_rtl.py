"""The rtl transport against a Python model of a loopback with stalls, and everything that can go wrong with a device."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from shiftforge.errors import DeviceError, InputError
from shiftforge.transport import Pattern, Transport, random_pattern
from sim.rtl import OKAY, SLVERR, RtlTransport

SOURCE = Path(__file__).with_name("loopback.v").read_text()
MODE = 0x020
REFUSE, MUTE, CHANGE, WITHDRAW, FINISH, WIRE, HALF, NO_LAST = (1 << i for i in range(8))


@pytest.fixture(scope="session")
def open_loopback(tmp_path_factory, rtl_cache):
    def make(stream_bits=64, mode=0, **options):
        folder = tmp_path_factory.mktemp("verilog")
        (folder / "top.v").write_text(SOURCE.replace("parameter W = 64", f"parameter W = {stream_bits}"))
        transport = RtlTransport(folder, stream_bits=stream_bits, cache=rtl_cache, **options)
        if mode:
            assert transport.write_register(MODE, mode) == OKAY
        return transport

    return make


@dataclass
class Model:
    """The loopback and both ends, cycle by cycle, written from the text of the rules alone."""

    valid: Pattern
    ready: Pattern
    t: int = 0
    fifo: list = field(default_factory=list)
    out: tuple | None = None
    open: bytes = b""

    def transfer(self, packets, expected, beat_bytes):
        beats = [
            (packet[i : i + beat_bytes], i + beat_bytes == len(packet))
            for packet in packets
            for i in range(0, len(packet), beat_bytes)
        ]
        inputs, outputs, received = [], [], []
        held = False
        while beats or len(received) < expected:
            t = self.t
            offer = bool(beats) and (held or self.valid is None or bool(self.valid[t % len(self.valid)]))
            take = self.ready is None or bool(self.ready[t % len(self.ready)])
            accepted = offer and len(self.fifo) < 4 and t % 4 != 3
            moved = self.out if take else None
            if moved is not None:
                outputs.append(t)
                self.open += moved[0]
                if moved[1]:
                    received.append(self.open)
                    self.open = b""
            free = self.out is None or moved is not None
            if free:
                self.out = self.fifo.pop(0) if self.fifo and t % 16 >= 3 else None
            if accepted:
                inputs.append(t)
                self.fifo.append(beats.pop(0))
            held = offer and not accepted
            self.t += 1
        return received, inputs, outputs


def frames(rng, count, beat_bytes, longest=12):
    return [rng.bytes(beat_bytes * int(n)) for n in rng.integers(1, longest + 1, count)]


@pytest.mark.parametrize("stream_bits", [32, 64, 128])
def test_every_beat_of_400_frames_moves_in_the_cycle_of_the_model(open_loopback, stream_bits):
    rng = np.random.default_rng(stream_bits)
    with open_loopback(stream_bits) as transport:
        for valid, ready in [
            (None, None),
            (random_pattern(rng, 97, 0.3), None),
            (None, random_pattern(rng, 64, 0.2)),
            (random_pattern(rng, 1009, 0.6), random_pattern(rng, 503, 0.5)),
            (np.array([False, True]), np.array([True, False, False])[::-1]),
        ]:
            transport.input_valid, transport.output_ready = valid, ready
            transport.reset()
            model = Model(valid, ready)
            for _ in range(4):
                packets = frames(rng, 20, stream_bits // 8)
                start = transport.cycle
                got = transport.transfer(packets, len(packets))
                received, inputs, outputs = model.transfer(packets, len(packets), stream_bits // 8)
                assert got.packets == packets == received
                assert got.input_beats.tolist() == inputs
                assert got.output_beats.tolist() == outputs
                assert start + got.cycles == transport.cycle == model.t


def test_a_transfer_ends_with_its_input_and_the_rest_of_the_output_comes_with_the_next(open_loopback):
    rng = np.random.default_rng(5)
    packets = frames(rng, 3, 8) + [rng.bytes(8 * 30)]
    with open_loopback() as transport:
        model = Model(None, None)
        first = transport.transfer(packets, 0)
        assert (first.packets, first.input_beats.tolist(), first.output_beats.tolist()) == model.transfer(packets, 0, 8)
        assert first.packets == packets[:3]  # more than expected; the long one has begun
        second = transport.transfer([], 1)
        assert (second.packets, [], second.output_beats.tolist()) == model.transfer([], 1, 8)
        assert second.packets == packets[3:]
        assert transport.transfer([], 0).cycles == 0


def test_paths_from_input_to_output_without_a_register_are_sampled_at_the_edge(open_loopback):
    rng = np.random.default_rng(6)
    valid, ready = random_pattern(rng, 31, 0.5), random_pattern(rng, 37, 0.5)
    packets = frames(rng, 30, 8)
    with open_loopback(mode=WIRE, input_valid=valid, output_ready=ready) as transport:
        t = transport.cycle
        got = transport.transfer(packets, 30)
    moves, held = [], False
    while len(moves) < sum(map(len, packets)) // 8:
        held = held or bool(valid[t % 31])
        if held and ready[t % 37]:
            moves.append(t)
            held = False
        t += 1
    assert got.packets == packets
    assert got.input_beats.tolist() == got.output_beats.tolist() == moves


def test_null_bytes_are_dropped(open_loopback):
    with open_loopback(mode=HALF) as transport:
        got = transport.transfer([bytes(range(16)), bytes(range(16, 24))], 2)
    assert got.packets == [bytes(range(12)), bytes(range(16, 20))]


def test_recording_can_be_left_out(open_loopback):
    with open_loopback(record_beats=False) as transport:
        got = transport.transfer([bytes(80)], 1)
    assert len(got.input_beats) == len(got.output_beats) == 0
    assert got.packets == [bytes(80)]
    assert transport.cpu_seconds > 0


def test_progress_rises_to_its_total(open_loopback, monkeypatch):
    monkeypatch.setattr("sim.rtl.BATCH_CYCLES", 7)
    calls = []
    with open_loopback() as transport:
        transport.transfer([bytes(8 * 20)] * 3, 3, progress=lambda done, total: calls.append((done, total)))
    assert len(calls) > 5
    assert calls == sorted(calls)
    assert calls[-1] == (63, 63)
    assert {total for _, total in calls} == {63}


def test_a_device_that_takes_nothing_is_named_with_the_beat(open_loopback):
    with open_loopback(mode=REFUSE, timeout_cycles=50) as transport:
        with pytest.raises(DeviceError, match=r"input side waits: .* beat 0 of packet 0 for 50 cycles .*\(0 of 1 pack"):
            transport.transfer([bytes(16)], 1)


def test_an_input_that_stalls_behind_the_output_is_named_with_packet_and_beat(open_loopback):
    with open_loopback(mode=MUTE, timeout_cycles=50) as transport:
        with pytest.raises(DeviceError, match=r"beat 2 of packet 1 .*\(0 of 2 packets received\)"):
            transport.transfer([bytes(24), bytes(80)], 2)  # four beats in the FIFO and one in the register
        transport.reset()  # which also clears the mode
        assert transport.cycle == 0
        assert transport.transfer([bytes(24)], 1).packets == [bytes(24)]


def test_a_device_that_does_not_answer_is_told_apart(open_loopback):
    with open_loopback(mode=NO_LAST, timeout_cycles=60) as transport:
        start = transport.cycle
        with pytest.raises(
            DeviceError, match=r"output side waits: .* 60 cycles .*\(0 of 1 .*, all 2 input beats accep"
        ):
            transport.transfer([bytes(16)], 1)
        assert 60 <= transport.cycle - start < 90


def test_the_packet_after_a_failed_transfer_is_whole(open_loopback):
    begun, rest = bytes(range(8, 32)), bytes(range(100, 116))
    with open_loopback(mode=NO_LAST, timeout_cycles=60) as transport:
        with pytest.raises(DeviceError, match="output side waits"):
            transport.transfer([begun], 1)
        assert transport.write_register(MODE, 0) == OKAY
        assert transport.transfer([rest], 1).packets == [begun + rest]


def test_cycles_in_which_the_host_holds_the_device_up_do_not_count_as_stuck(open_loopback):
    rarely = np.zeros(500, dtype=bool)
    rarely[499] = True
    for patterns in ({"input_valid": rarely}, {"output_ready": rarely}):
        with open_loopback(timeout_cycles=40, **patterns) as transport:
            assert transport.transfer([bytes(24)], 1).packets == [bytes(24)]


@pytest.mark.parametrize("mode", [CHANGE, WITHDRAW])
def test_an_output_that_changes_while_it_waits_is_an_error(open_loopback, mode):
    with open_loopback(mode=mode, output_ready=np.array([False, False, False, True])) as transport:
        with pytest.raises(DeviceError, match="an output beat must stay until it is taken"):
            transport.transfer([bytes(range(80))], 1)


def test_finish_in_the_verilog_ends_the_transfer_and_not_python(open_loopback):
    with open_loopback(mode=FINISH) as transport:
        for _ in range(2):
            with pytest.raises(DeviceError, match=r"simulator stopped: \$finish at .*top.v"):
                transport.transfer([bytes(16)], 1)


def test_it_is_a_transport(open_loopback):
    with open_loopback() as transport:
        assert isinstance(transport, Transport)
        assert transport.name == "rtl"


def test_registers_answer_with_their_value_and_response(open_loopback):
    with open_loopback() as transport:
        assert transport.hardware_hash() == 0xCAFE1234
        assert transport.write_register(0x010, 0x11223344) == OKAY
        assert transport.write_register(0x010, 0xAABBCCDD, strobe=0b0101) == OKAY
        assert transport.read_register(0x010) == (0x11BB33DD, OKAY)
        assert transport.read_register(0x014) == (0, SLVERR)
        assert transport.write_register(0x008, 1) == SLVERR
        with pytest.raises(DeviceError, match="answer the read of register 0x0f0 within 1000 cycles"):
            transport.read_register(0x0F0)
        with pytest.raises(InputError, match="address must be within 0..0xfff, not 4096"):
            transport.read_register(0x1000)
        with pytest.raises(InputError, match="must fit 32 bits"):
            transport.write_register(0x010, 1 << 32)


def test_two_designs_and_two_models_of_one_design_live_side_by_side(open_loopback):
    with open_loopback() as one, open_loopback() as two, open_loopback(128) as wide:
        one.write_register(0x010, 1)
        two.write_register(0x010, 2)
        wide.write_register(0x010, 3)
        assert [t.read_register(0x010)[0] for t in (one, two, wide)] == [1, 2, 3]


def test_waves_cover_the_window_alone(open_loopback, tmp_path):
    waves = tmp_path / "waves.vcd"
    with open_loopback(waves=(waves, 10, 20)) as transport:
        transport.transfer([bytes(8 * 40)], 1)
    text = waves.read_text()
    times = [int(line[1:]) for line in text.splitlines() if line.startswith("#")]
    assert times[0] == 10_000
    assert times[-1] == 19_500
    assert "s_axis_tvalid" in text


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda t: t.transfer([bytes(8), bytes(9)], 1),
            "packet 1 must be a whole number of 8-byte beats .*, not 9 bytes",
        ),
        (lambda t: t.transfer([b""], 1), "packet 0 must be .* at least one, not 0 bytes"),
        (lambda t: t.transfer([], -1), "expected_packets must be 0 or more, not -1"),
    ],
)
def test_wrong_requests_are_refused(open_loopback, call, message):
    with open_loopback() as transport:
        with pytest.raises(InputError, match=message):
            call(transport)


def test_wrong_options_are_refused(open_loopback, tmp_path):
    with pytest.raises(InputError, match="timeout_cycles must be at least 1, not 0"):
        open_loopback(timeout_cycles=0)
    with pytest.raises(InputError, match=r"must hold \*\.v or \*\.sv files, not none"):
        RtlTransport(tmp_path, stream_bits=64)
    with open_loopback(input_valid=np.zeros(3, dtype=bool)) as transport:
        with pytest.raises(InputError, match="input_valid must be true in at least one of its cycles"):
            transport.transfer([bytes(8)], 1)
    with pytest.raises(InputError, match="must be open"):
        transport.transfer([bytes(8)], 1)
