"""Decoder: random packets, good and broken, between stalls, running layers and status requests, against the golden decoder.

What the decoder does (words written, layers started, errors, requests) is compared in order with what the packets mean.
"""

from collections.abc import Iterator

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from golden.decoder import Decoder as Golden
from golden.decoder import Outcome, Received, receive
from shiftforge.config import Config
from shiftforge.packets import (
    HEADER_BYTES,
    Opcode,
    memory_ports,
)
from shiftforge.registers import Error
from sim.benches.decoder_packets import Packets
from sim.benches.lockstep import Layer, Values, bench_setup, chance, pack_layer
from sim.clock import start_clock

PACKETS = 1000
NAMES = ("weight", "parameter", "activation")
LONGEST = 3000
"""Cycles after which the next event must have come."""

Event = tuple[object, ...]
STREAM = {name: name for name in ("write", "start", "request", "clear")} | dict.fromkeys(
    ("error", "accepted"), "verdict"
)
"""Events of one stream are compared in order; how the streams stand to one another, to the cycle, is the top's bench's."""


def take(golden: Golden, config: Config, data: bytes, hole: int | None) -> Outcome:
    """What a packet means; `hole` is a beat with null bytes, which the golden decoder does not know of."""
    beat = config.stream_bits // 8
    got = receive(config, data)
    beats, header_beats = len(data) // beat, HEADER_BYTES // beat
    wanted = -(-(HEADER_BYTES + got.header.length) // beat)
    of_header = got.error in (Error.MAGIC, Error.OPCODE, Error.LENGTH, Error.ADDRESS) or len(data) < HEADER_BYTES
    decisive = min(beats, wanted) - 1
    if hole is None or of_header or hole > max(decisive, header_beats - 1):
        return golden.take(data)
    # Bad in any case, and that is all that the golden state needs to know: so it gets a packet that is bad otherwise.
    golden.take(bytes(2) + data[2:])
    payload = data[HEADER_BYTES : max(hole * beat, HEADER_BYTES)]
    return Outcome(Received(got.header, payload, Error.TKEEP), Error.TKEEP)


def events(config: Config, outcome: Outcome) -> Iterator[Event]:
    """What the decoder must do about a packet, in order."""
    got, header = outcome.received, outcome.received.header
    for name, port in zip(NAMES, memory_ports(config), strict=True):
        if header.opcode == port.opcode:
            stride = port.stride_bits // 8
            for i in range(len(got.payload) // stride):
                word = int.from_bytes(got.payload[i * stride : (i + 1) * stride], "little")
                yield "write", name, header.address + i, word & ((1 << port.word_bits) - 1)
    if outcome.error:
        yield "error", int(outcome.error), header.sequence
        return
    if header.opcode == Opcode.STATUS:
        yield "request", header.sequence
        if got.clears:
            yield ("clear",)
    yield ("accepted",)
    if outcome.layer is not None:
        yield "start", pack_layer(config, outcome.layer.fields), header.sequence


def in_use(config: Config, layer: Layer) -> set[tuple[str, int]]:
    """Memory pages that a running layer uses."""
    weights, parameters, activations = memory_ports(config)
    used = {("activation", layer["input_address"] // activations.page)}
    if not layer["pool_kind"]:
        used.add(("weight", layer["weight_address"] // weights.page))
    if layer["residual"]:
        used.add(("activation", layer["residual_address"] // activations.page))
    if layer["post"]:
        used.add(("parameter", layer["parameter_address"] // parameters.page))
    if not layer["to_stream"]:
        used.add(("activation", layer["output_address"] // activations.page))
    return used


@cocotb.test()
async def every_packet(dut) -> None:
    """Events in order; nothing into a page in use, but into others while a layer runs; enable holds back headers alone."""
    config, rng = bench_setup()
    maker, golden = Packets(config, rng), Golden(config)
    beat_bytes = config.stream_bits // 8
    page_words = {name: port.page for name, port in zip(NAMES, memory_ports(config), strict=True)}
    may_hold = config.activation_pages > 2
    if may_hold:
        dut.hold.value = 0
    beats: list[tuple[int, int, int, bool]] = []  # data, keep, last, first
    expected: list[Event] = []
    layers: list[Layer] = []
    configured: list[bool] = []
    directed = maker.bounds()
    for number in range(PACKETS):
        if number % (PACKETS // 8) == 60:
            directed = maker.sequences()
        data, hole = directed.pop(0) if directed else maker.useful(golden), None
        if not directed and chance(rng, 0.12):
            data, hole = maker.broken(data)
        configured.append(golden.configured)
        outcome = take(golden, config, data, hole)
        expected += events(config, outcome)
        if outcome.layer is not None:
            layers.append(outcome.layer.fields)
        full = (1 << beat_bytes) - 1
        for i in range(len(data) // beat_bytes):
            keep = full ^ (1 << int(rng.integers(beat_bytes))) if i == hole else full
            word = int.from_bytes(data[i * beat_bytes : (i + 1) * beat_bytes], "little")
            beats.append((word, keep, int(i == len(data) // beat_bytes - 1), i == 0))

    inputs = ("s_axis_tdata", "s_axis_tkeep", "s_axis_tvalid", "s_axis_tlast")
    for name in (*inputs, "enable", "idle", "layer_done", "status_done"):
        getattr(dut, name).value = 0
    await start_clock(dut)
    seen: list[Event] = []
    streams: dict[str, list[Event]] = {name: [] for name in STREAM.values()}
    for event in expected:
        streams[STREAM[str(event[0])]].append(event)
    running: Layer | None = None
    started = packets_seen = in_parallel = stalls = counted = 0
    layer_left = status_left = busy_output = 0  # cycles until these end
    held: dict[str, int] = {}
    offered = enable = False
    hurry = 1.0
    quiet = position = 0
    outputs = {name: getattr(dut, name) for name in ("s_axis_tready", "stall", "error", "accepted", "start", "busy")}
    outputs |= {
        name: getattr(dut, name) for name in ("status_request", "status_clear", *(f"{name}_write" for name in NAMES))
    }
    while len(seen) < len(expected):
        await FallingEdge(dut.clk)
        if chance(rng, 0.01):
            hurry = float(rng.choice([1.0, 0.5, 0.9]))
        offered = position < len(beats) and (offered or bool(chance(rng, hurry)))
        enable = bool(chance(rng, 0.9)) if chance(rng, 0.1) else enable
        done = int(running is not None and layer_left == 0)
        values: Values = {
            "s_axis_tvalid": int(offered),
            "enable": int(enable),
            "layer_done": done,
            "status_done": int(status_left == 1),
            "idle": int(running is None and not status_left and not busy_output),
        }
        if may_hold:
            values["hold"] = chance(rng, 0.3)
        if offered:
            values |= dict(zip(("s_axis_tdata", "s_axis_tkeep", "s_axis_tlast"), beats[position][:3], strict=True))
        for name, value in values.items():
            if held.get(name) != value:
                getattr(dut, name).value = held[name] = value
        await ReadOnly()
        now = {name: int(handle.value) for name, handle in outputs.items()}
        before = len(seen)
        stalls += now["s_axis_tready"] and not offered
        counted += now["stall"]
        for name in NAMES:
            if now[f"{name}_write"]:
                assert name != "activation" or not values.get("hold"), "a word must wait while the layer writes"
                address = int(dut.write_address.value)
                seen.append(("write", name, address, int(getattr(dut, f"{name}_data").value)))
                if running is not None:
                    used = in_use(config, running)
                    assert (name, address // page_words[name]) not in used, (
                        f"{name} word {address} must not be written in use"
                    )
                    in_parallel += 1
        if now["start"]:
            seen.append(("start", int(dut.layer.value), int(dut.sequence.value)))
            if started < len(layers):
                running, layer_left = layers[started], int(rng.choice([1, 20, 60]))
            started += 1
        assert now["busy"] == int(running is not None), f"busy must be {int(running is not None)}"
        if now["status_request"]:
            seen.append(("request", int(dut.sequence.value)))
            status_left = int(rng.integers(2, 12))
        if now["error"]:
            seen.append(("error", now["error"], int(dut.error_sequence.value)))
        if now["accepted"]:
            seen.append(("accepted",))
        if now["status_clear"]:
            seen.append(("clear",))
        if now["s_axis_tready"] and offered:
            if beats[position][3]:
                assert enable, "a header must not begin without enable"
                wanted = int(configured[packets_seen])
                assert int(dut.configured.value) == wanted, f"configured must be {wanted} before packet {packets_seen}"
                packets_seen += 1
            position += 1
            offered = False
        if done:
            assert running is None or int(dut.layer.value) == pack_layer(config, running), (
                "the layer must stay while it runs"
            )
            running, busy_output = None, int(rng.choice([0, 5]))
        layer_left, status_left, busy_output = (max(0, n - 1) for n in (layer_left, status_left, busy_output))
        for found in seen[before:]:
            stream = streams[STREAM[str(found[0])]]
            wanted_event = stream.pop(0) if stream else None
            assert found == wanted_event, (
                f"what follows from packet {packets_seen - 1} must be {wanted_event}, not {found}"
            )
        quiet = 0 if len(seen) > before else quiet + 1
        assert quiet < LONGEST, (
            f"something must follow from packet {packets_seen - 1}: {[s[:1] for s in streams.values()]}"
        )
    assert abs(stalls - counted) <= 1, f"stall must be up in {stalls} cycles, not {counted}"  # it may be a register
    kinds = {event[1] for event in expected if event[0] == "error"}
    missing = [error.name for error in Error if int(error) not in kinds]
    assert not missing, f"the packets must show every error, also {', '.join(map(str, missing))}"
    assert in_parallel > 0, f"the machine must load pages while a layer uses others, not write {in_parallel} words"
    assert started > 20, f"the packets must start layers, not only {started}"
