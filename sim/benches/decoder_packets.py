"""Packets for the decoder's bench: what brings the machine to run layers, every end of every field's range, and broken ones."""

from itertools import cycle

import numpy as np

from golden.decoder import Decoder as Golden
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
from sim.benches.lockstep import Layer, bits, chance, random_layer

CLAMPS = (
    *((0x3F80_0000, 0x3F80_0000), (0x8000_0000, 0x0000_0000), (0xFF80_0000, 0x7F80_0000)),  # good ones
    *((0x0000_0000, 0x8000_0000), (0x3F80_0000, 0xBF80_0000), (0xFFC0_0000, 0x3F80_0000), (0x3F80_0000, 0x7F80_0001)),
)
"""Bounds, lower and upper: equal, zeros, infinities; zeros and numbers in the wrong order, NaN on either side."""


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

        Another machine's configuration; a layer that would write the page that it reads; words for the page that a running layer
        writes; a bad packet while it does, then a layer that reads that page; a layer for which one of its three operands is
        missing; a request that goes on past its header.
        """
        weights, parameters, activations = (self.memory(port, 0) for port in self.ports)
        page = self.ports[2].page
        plain = {**dict.fromkeys(("pixels", "k_words", "k_tail", "n_tiles", "n_tail"), 1), "post": 1}
        writes = self.packet(Opcode.LAYER, encode_layer({**plain, "output_address": page}))
        in_place = self.packet(Opcode.LAYER, encode_layer(plain))
        reads = self.packet(Opcode.LAYER, encode_layer({**plain, "input_address": page, "to_stream": 1}))
        configuration, another = (
            self.packet(Opcode.CONFIG, (self.config.hash ^ wrong).to_bytes(4, "little"))
            for wrong in (0, 1 << int(self.rng.integers(32)))
        )
        bad = self.packet(Opcode.RESULT, b"")
        return [
            *(another, configuration, weights, parameters, activations, in_place),
            *(weights, parameters, activations, writes, self.memory(self.ports[2], 1), reads),
            *(writes, bad, weights, parameters, reads),
            *(parameters, activations, writes, weights, activations, writes, weights, parameters, writes),
            self.packet(Opcode.STATUS, b"") + bytes(self.beat),
            *(self._residuals(plain, bad) if self.config.residual else ()),
            *(self._maxima(plain, bad) if self.config.max_pool else ()),
        ]

    def _residuals(self, plain: Layer, bad: bytes) -> list[bytes]:
        """A residual from a page of its own: not yet committed, committed, in use while a packet for it comes; and of the page that
        is written.
        """
        weights, parameters, activations = (self.memory(port, 0) for port in self.ports)
        last = self.ports[2].pages - 1
        address = {"residual": 1, "residual_address": last * self.ports[2].page, "to_stream": 1}
        adds = self.packet(Opcode.LAYER, encode_layer({**plain, **address}))
        onto_itself = {**address, "to_stream": 0, "output_address": address["residual_address"]}
        in_place = self.packet(Opcode.LAYER, encode_layer({**plain, **onto_itself}))
        there = self.memory(self.ports[2], last)
        configuration = self.packet(Opcode.CONFIG, self.config.hash.to_bytes(4, "little"))
        loads = (weights, parameters, activations)
        return [bad, configuration, *loads, adds, *loads, there, adds, there, adds, *loads, there, in_place]

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
