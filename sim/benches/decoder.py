"""Decoder: random packets, good and broken, between stalls, running layers and status requests, against the golden decoder.

What the decoder does (words written, layers started, errors, requests) is compared in order with what the packets mean.
"""

from collections.abc import Iterator
from itertools import cycle

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from golden.decoder import Decoder as Golden
from golden.decoder import Outcome, Received, receive
from shiftforge.activation import ACTIVATION_KINDS
from shiftforge.config import Config
from shiftforge.packets import (
    HEADER_BYTES,
    LAYER_FIELDS,
    MAGIC,
    MAX_POOL_WORDS,
    Header,
    HeaderFlag,
    MemoryPort,
    Opcode,
    encode_layer,
    memory_ports,
    packet,
)
from shiftforge.registers import Error
from sim.benches.lockstep import Layer, Values, bench_setup, bits, chance, pack_layer, random_layer
from sim.clock import start_clock

PACKETS = 1000
NAMES = ("weight", "parameter", "activation")
LONGEST = 3000
"""Cycles after which the next event must have come."""

CLAMPS = (
    *((0x3F80_0000, 0x3F80_0000), (0x8000_0000, 0x0000_0000), (0xFF80_0000, 0x7F80_0000)),  # good ones
    *((0x0000_0000, 0x8000_0000), (0x3F80_0000, 0xBF80_0000), (0xFFC0_0000, 0x3F80_0000), (0x3F80_0000, 0x7F80_0001)),
)
"""Bounds, lower and upper: equal, zeros, infinities; zeros and numbers in the wrong order, NaN on either side."""

Event = tuple[object, ...]
STREAM = {name: name for name in ("write", "start", "request", "clear")} | dict.fromkeys(
    ("error", "accepted"), "verdict"
)
"""Events of one stream are compared in order; how the streams stand to one another, to the cycle, is the top's bench's."""


class Packets:
    """Makes packets: mostly what the machine needs next so that layers run, else anything, and some are then broken."""

    def __init__(self, config: Config, rng: np.random.Generator) -> None:
        self.config, self.rng = config, rng
        self.ports = memory_ports(config)
        self.beat = config.stream_bits // 8
        ends = {
            "pixels": (0, 1),
            "k_words": (0, 1, config.max_k_words, config.max_k_words + 1),
            "k_tail": (0, 1, config.rows, config.rows + 1),
            "n_tiles": (0, 1),
            "n_tail": (0, 1, config.cols, config.cols + 1),
            "output_bank": (config.rows - 1, config.rows),
            "input_address": (config.activation_words - 1, config.activation_words),
            "output_address": (config.activation_words - 1, config.activation_words),
            "weight_address": (config.weight_words - 1, config.weight_words),
            "parameter_address": (config.parameter_words - 1, config.parameter_words),
        }
        if config.residual:
            ends |= {
                "residual_bank": (config.rows - 1, config.rows),
                "residual_address": (config.activation_words - 1, config.activation_words),
            }
        clamp = {"post": 1, "act_kind": ACTIVATION_KINDS.index("clamp")}
        self.all_ends: list[Layer] = [{name: value} for name, values in ends.items() for value in values]
        self.all_ends += [{**clamp, "clamp_lo": low, "clamp_hi": high} for low, high in CLAMPS]
        if config.residual:
            self.all_ends += [{"residual": 1, "post": post} for post in (0, 1)]
        if config.max_pool:
            alone = {**dict.fromkeys(("to_stream", "post", "residual", "output_bank"), 0), "k_tail": config.rows}
            alone |= {"pool_kind": 1, "output_address": config.activation_page}
            self.all_ends += [alone, *({**alone, "k_words": k} for k in (0, MAX_POOL_WORDS, MAX_POOL_WORDS + 1))]
            self.all_ends += [{**alone, name: 1} for name in ("to_stream", "post", "output_bank", "k_tail")]
            if config.residual:
                self.all_ends.append({**alone, "post": 1, "residual": 1, "residual_address": 0})
        self.ends = cycle(self.all_ends)

    def memory(self, port: MemoryPort, page: int | None = None) -> bytes:
        """Words somewhere in a page, any one unless told, up to its last one half of the time."""
        rng = self.rng
        page = int(rng.integers(port.pages)) if page is None else page
        count = int(rng.choice([1, 2, 3, port.page // 2, port.page]))
        most = port.page - count
        offset = most if chance(rng, 0.5) else int(rng.integers(0, most + 1))
        return self.packet(port.opcode, rng.bytes(count * port.stride_bits // 8), page * port.page + offset)

    def packet(self, opcode: int, payload: bytes, address: int = 0, flags: int = 0) -> bytes:
        header = Header(opcode, bits(self.rng, 16), address, len(payload), flags)
        return packet(header, payload, self.config.stream_bits)

    def layer(self) -> Layer:
        """Fields in range, mostly; one of them at or past an end of its range now and then."""
        config, rng = self.config, self.rng
        layer = random_layer(rng, config)
        layer |= {"post": chance(rng, 0.5), "act_kind": int(rng.integers(len(ACTIVATION_KINDS)))}
        page = config.activation_page
        layer["output_address"] = (layer["input_address"] ^ page) if chance(rng, 0.9) else layer["output_address"]
        if config.residual and chance(rng, 0.5):
            layer |= {"residual": 1, "post": 1}
        if layer["k_words"] == config.max_k_words and chance(rng, 0.7):
            layer["k_tail"] = config.max_k - (config.max_k_words - 1) * config.rows
        layer["clamp_lo"], layer["clamp_hi"] = 0xBF80_0000, 0x3F80_0000
        if chance(rng, 0.45):
            layer |= next(self.ends)
        if chance(rng, 0.12):
            fixed = [f for f in LAYER_FIELDS if f.fixed(config)]
            field = fixed[int(rng.integers(len(fixed)))]
            layer[field.name] = 1 << int(rng.integers(field.width))
        return layer

    def bounds(self) -> list[bytes]:
        """A layer before any configuration, then one for every end of a field's range: refused for it, or for its operands."""
        plain = {**dict.fromkeys(("pixels", "k_words", "k_tail", "n_tiles", "n_tail"), 1), "to_stream": 1}
        layers = [self.packet(Opcode.LAYER, encode_layer({**plain, **end})) for end in ({}, *self.all_ends)]
        return [layers[0], self.packet(Opcode.CONFIG, self.config.hash.to_bytes(4, "little")), *layers[1:]]

    def sequences(self) -> list[bytes]:
        """What chance brings together too seldom.

        Words for the page that a running layer writes; a bad packet while it does, then a layer that reads that page; a layer for
        which one of its three operands is missing; a request that goes on past its header.
        """
        weights, parameters, activations = (self.memory(port, 0) for port in self.ports)
        page = self.ports[2].page
        plain = {**dict.fromkeys(("pixels", "k_words", "k_tail", "n_tiles", "n_tail"), 1), "post": 1}
        writes = self.packet(Opcode.LAYER, encode_layer({**plain, "output_address": page}))
        reads = self.packet(Opcode.LAYER, encode_layer({**plain, "input_address": page, "to_stream": 1}))
        configuration = self.packet(Opcode.CONFIG, self.config.hash.to_bytes(4, "little"))
        bad = self.packet(Opcode.RESULT, b"")
        return [
            *(configuration, weights, parameters, activations, writes, self.memory(self.ports[2], 1), reads),
            *(writes, bad, weights, parameters, reads),
            *(parameters, activations, writes, weights, activations, writes, weights, parameters, writes),
            self.packet(Opcode.STATUS, b"") + bytes(self.beat),
            *(self._residuals(plain, bad) if self.config.residual else ()),
            *(self._maxima(plain, bad) if self.config.max_pool else ()),
        ]

    def _residuals(self, plain: Layer, bad: bytes) -> list[bytes]:
        """A residual from a page of its own: not yet committed, committed, in use while a packet for it comes."""
        weights, parameters, activations = (self.memory(port, 0) for port in self.ports)
        last = self.ports[2].pages - 1
        address = {"residual": 1, "residual_address": last * self.ports[2].page, "to_stream": 1}
        adds = self.packet(Opcode.LAYER, encode_layer({**plain, **address}))
        there = self.memory(self.ports[2], last)
        configuration = self.packet(Opcode.CONFIG, self.config.hash.to_bytes(4, "little"))
        loads = (weights, parameters, activations)
        return [bad, configuration, *loads, adds, *loads, there, adds, there, adds]

    def _maxima(self, plain: Layer, bad: bytes) -> list[bytes]:
        """A maximum where no weights are committed, and of a page that is not."""
        alone = {"post": 0, "k_tail": self.config.rows, "pool_kind": 1, "output_address": self.ports[2].page}
        takes = self.packet(Opcode.LAYER, encode_layer({**plain, **alone}))
        configuration = self.packet(Opcode.CONFIG, self.config.hash.to_bytes(4, "little"))
        return [bad, configuration, takes, self.memory(self.ports[2], 0), takes]

    def useful(self, golden: Golden) -> bytes:
        """What brings the next layer nearer, or a layer that can run, or something for a page in use."""
        rng = self.rng
        if not golden.configured and chance(rng, 0.3):
            return self.packet(Opcode.LAYER, encode_layer(self.layer()))
        if chance(rng, 0.02 if golden.configured else 0.8):
            wrong = chance(rng, 0.3) << int(rng.integers(32))
            return self.packet(Opcode.CONFIG, (self.config.hash ^ wrong).to_bytes(4, "little"))
        choice = rng.random()
        if choice < 0.1:
            return self.packet(Opcode.STATUS, b"", flags=chance(rng, 0.5) * HeaderFlag.CLEAR)
        missing = [port for port in self.ports if not any(golden.committed[port.opcode])]
        if missing and chance(rng, 0.9):
            return self.memory(missing[int(rng.integers(len(missing)))])
        if choice < 0.45:
            return self.memory(self.ports[int(rng.integers(3))])
        layer = self.layer()
        page, pages = self.ports[2].page, self.ports[2].pages
        in_place = layer["input_address"] // page == layer["output_address"] // page  # wrong, if it stays on chip
        if chance(rng, 0.8):  # operands from pages that are committed
            operands = ("weight_address", "parameter_address", "input_address", "residual_address")
            for name, port in zip(operands, (*self.ports, self.ports[2]), strict=True):
                committed = golden.committed[port.opcode]
                if name in layer and layer[name] < port.words and not committed[layer[name] // port.page]:
                    there = [i for i, good in enumerate(committed) if good]
                    layer[name] = layer[name] % port.page + port.page * int(rng.choice(there or [0]))
            if not layer["to_stream"] and max(layer["input_address"], layer["output_address"]) < page * pages:
                other = (layer["input_address"] // page + int(rng.integers(1, pages)) * (not in_place)) % pages
                layer["output_address"] = layer["output_address"] % page + page * other
        return self.packet(Opcode.LAYER, encode_layer(layer))

    def broken(self, data: bytes) -> tuple[bytes, int | None]:
        """One fault in a packet: a header field, its end, or null bytes in a beat."""
        rng, beat = self.rng, self.beat
        kind = int(rng.integers(0, 9))
        beats = len(data) // beat
        header = Header.decode(data)
        body = data[HEADER_BYTES:]
        if kind == 0:
            return (MAGIC ^ (1 << int(rng.integers(16)))).to_bytes(2, "little") + data[2:], None
        if kind == 1:
            return data[:2] + bytes([int(rng.choice([0, 7, 8, 0x81, 0x86, int(rng.integers(256))]))]) + data[3:], None
        if kind == 2:
            length = max(0, header.length + int(rng.choice([-1, 1, -header.length, 1 << int(rng.integers(32))])))
            return Header(header.opcode, header.sequence, header.address, length & 0xFFFF_FFFF, 0).encode() + body, None
        if kind == 3:
            address = header.address + int(rng.choice([1, self.ports[0].page, 1 << int(rng.integers(4, 32))]))
            return Header(header.opcode, header.sequence, address & 0xFFFF_FFFF, header.length, 0).encode() + body, None
        if kind == 4 and beats > 1:
            return data[: beat * int(rng.integers(1, beats))], None
        if kind in (5, 6):
            return data + rng.bytes(beat * int(rng.integers(1, 4))), None
        if kind == 7 and beats > HEADER_BYTES // beat:
            return data[:-beat], None
        return data, int(rng.integers(beats))


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
