"""The packet decoder: what a packet and a layer descriptor must satisfy, and the error that each miss sets."""

from dataclasses import dataclass

from shiftforge.activation import ACTIVATION_KINDS, Activation, fp32_order
from shiftforge.config import Config, ceil_div
from shiftforge.errors import InputError
from shiftforge.packets import (
    HEADER_BYTES,
    LAYER_BYTES,
    LAYER_FIELDS,
    MAGIC,
    MAX_POOL_WORDS,
    Header,
    HeaderFlag,
    Opcode,
    decode_layer,
    memory_ports,
)
from shiftforge.registers import Error

_FIXED_LENGTH = {Opcode.CONFIG: 4, Opcode.LAYER: LAYER_BYTES, Opcode.STATUS: 0}


def check_beats(config: Config, data: bytes) -> None:
    """`InputError` unless the packet is a whole number of beats, at least one."""
    beat = config.stream_bits // 8
    if not data or len(data) % beat:
        raise InputError(f"a packet must be a whole number of {beat}-byte beats, at least one, not {len(data)} bytes")


@dataclass(frozen=True)
class Received:
    """What the decoder makes of one packet, before its content is looked at.

    Parameters
    ----------
    header : Header
        Its fields; all zero where not all of it arrived.
    payload : bytes
        The payload bytes that were taken: all of them, or those before the beat that showed the error.
    error : Error
        The one error of the packet's form, or ``Error(0)``.
    """

    header: Header
    payload: bytes
    error: Error

    @property
    def clears(self) -> bool:
        """STATUS: clear the sticky errors and flags once they are in the reply."""
        return bool(self.header.flags & HeaderFlag.CLEAR)


def _header_error(config: Config, magic: int, header: Header) -> Error:
    """The first of magic, opcode, length and address that is wrong."""
    if magic != MAGIC:
        return Error.MAGIC
    if header.opcode in _FIXED_LENGTH:
        return Error.LENGTH if header.length != _FIXED_LENGTH[Opcode(header.opcode)] else Error(0)
    for port in memory_ports(config):
        if port.opcode == header.opcode:
            count, rest = divmod(header.length, port.stride_bits // 8)
            if rest or not count:
                return Error.LENGTH
            offset = header.address % port.page
            if header.address >= port.words or offset + count > port.page:
                return Error.ADDRESS
            return Error(0)
    return Error.OPCODE


def receive(config: Config, data: bytes) -> Received:
    """Take one tlast-terminated packet of whole beats apart.

    A packet has at most one error of form: early tlast in the header, then the header's, then early or late tlast.
    """
    if len(data) < HEADER_BYTES:
        return Received(Header(0, 0), b"", Error.EARLY_TLAST)
    magic = int.from_bytes(data[:2], "little")
    fields = Header.decode(MAGIC.to_bytes(2, "little") + data[2:HEADER_BYTES])
    error = _header_error(config, magic, fields)
    if error:
        return Received(fields, b"", error)
    beat = config.stream_bits // 8
    beats, wanted = len(data) // beat, ceil_div(HEADER_BYTES + fields.length, beat)
    if beats == wanted:
        return Received(fields, data[HEADER_BYTES : HEADER_BYTES + fields.length], Error(0))
    # The beat with the error is not used any more: the last one, or the one that should have been.
    taken = data[HEADER_BYTES : (min(beats, wanted) - 1) * beat]
    return Received(fields, taken, Error.EARLY_TLAST if beats < wanted else Error.LATE_TLAST)


@dataclass(frozen=True)
class Layer:
    """A layer that may run: descriptor fields, with what follows from them.

    Shapes: ``pixels`` x ``k`` activations times ``k`` x ``channels`` weights.
    """

    fields: dict[str, int]
    config: Config

    def __getitem__(self, name: str) -> int:
        return self.fields[name]

    @property
    def k(self) -> int:
        """At most this many elements of a dot product count: all of them, when there is one tap (`golden.patch.valid_elements`)."""
        return (self["k_words"] - 1) * self.config.rows + self["k_tail"]

    @property
    def channels(self) -> int:
        return (self["n_tiles"] - 1) * self.config.cols + self["n_tail"]

    def tile_channels(self, tile: int) -> int:
        """Valid channels of channel tile ``tile``."""
        return self["n_tail"] if tile == self["n_tiles"] - 1 else self.config.cols

    @property
    def steps(self) -> int:
        """Drain steps of the whole layer: one per row and group of ``lanes`` channels that has a valid one."""
        lanes = self.config.lanes
        full, last = ceil_div(self.config.cols, lanes), ceil_div(self["n_tail"], lanes)
        return self["pixels"] * ((self["n_tiles"] - 1) * full + last)

    @property
    def activation_operands(self) -> list[int]:
        """First words of what it reads of the activation memory: the input, the residual."""
        return [self["input_address"], *([self["residual_address"]] if self["residual"] else [])]

    @property
    def activation(self) -> Activation:
        kind = ACTIVATION_KINDS[self["act_kind"]]
        if kind == "clamp":
            return Activation(kind, self["clamp_lo"], self["clamp_hi"])
        return Activation(kind, shift=self["act_shift"] if kind == "leaky" else 0)


def layer_error(config: Config, payload: bytes) -> tuple[Layer, Error]:
    """The descriptor, and DESCRIPTOR or UNSUPPORTED when it must not run; the commit bits are the emulator's to check."""
    layer = Layer(decode_layer(payload), config)
    if any(field.fixed(config) and layer[field.name] != 0 for field in LAYER_FIELDS):
        return layer, Error.UNSUPPORTED
    if _out_of_range(config, layer):
        return layer, Error.DESCRIPTOR
    return layer, Error(0)


def _out_of_range(config: Config, layer: Layer) -> bool:
    weights, parameters, activations = memory_ports(config)
    maximum = bool(layer["pool_kind"])
    k = layer["k_words"] <= MAX_POOL_WORDS if maximum else layer.k <= config.max_k
    sizes = (
        layer["pixels"] >= 1,
        layer["k_words"] >= 1,
        1 <= layer["k_tail"] <= config.rows,
        k,
        layer["n_tiles"] >= 1,
        1 <= layer["n_tail"] <= config.cols,
        layer["output_bank"] < config.rows,
        layer["residual_bank"] < config.rows,
    )
    addresses = (
        layer["weight_address"] < weights.words,
        layer["parameter_address"] < parameters.words,
        layer["input_address"] < activations.words,
        layer["output_address"] < activations.words,
        layer["residual_address"] < activations.words,
    )
    output_page = layer["output_address"] // activations.page
    read = [address // activations.page for address in layer.activation_operands]
    in_place = not layer["to_stream"] and output_page in read
    alone = maximum and (
        layer["k_tail"] != config.rows or any(layer[name] for name in ("output_bank", "to_stream", "post", "residual"))
    )
    unscaled = layer["residual"] and not layer["post"]
    return not all(sizes) or not all(addresses) or bool(in_place or alone or unscaled) or _bad_clamp(layer)


def _bad_clamp(layer: Layer) -> bool:
    if not layer["post"] or ACTIVATION_KINDS[layer["act_kind"]] != "clamp":
        return False
    lo, hi = layer["clamp_lo"], layer["clamp_hi"]
    infinity = 0x7F80_0000
    return any(bound & 0x7FFF_FFFF > infinity for bound in (lo, hi)) or fp32_order(lo) > fp32_order(hi)


@dataclass(frozen=True)
class Outcome:
    """What becomes of one packet.

    Parameters
    ----------
    received : Received
    error : Error
        The one error that it is refused for, or ``Error(0)``.
    layer : Layer, optional
        The layer that it starts.
    """

    received: Received
    error: Error
    layer: Layer | None = None


class Decoder:
    """The decoder's state from packet to packet: configuration, commit bits, sticky errors. No memory contents, no clock.

    Members
    -------
    committed : {opcode: list of bool}
        Per memory and page: a complete packet or layer filled it, and no packet error came since.
    errors, error_sequence, packets, configured
        What a status reply shows.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.errors = Error(0)
        self.error_sequence = 0
        self.packets = 0
        self.configured = False
        self._ports = {int(port.opcode): port for port in memory_ports(config)}
        self._clear_commits()

    def _clear_commits(self) -> None:
        self.committed: dict[int, list[bool]] = {opcode: [False] * port.pages for opcode, port in self._ports.items()}

    def page(self, opcode: int, address: int) -> int:
        """The page that a word address of a memory lies in."""
        return address // self._ports[opcode].page

    def take(self, data: bytes) -> Outcome:
        """Take one packet of whole beats. A layer that it starts counts as finished at once."""
        got = receive(self.config, data)
        error, layer = got.error, None
        opcode, address = got.header.opcode, got.header.address
        if not error and opcode in self._ports:
            self.committed[opcode][self.page(opcode, address)] = True
        elif not error and opcode == Opcode.CONFIG:
            self.configured = int.from_bytes(got.payload, "little") == self.config.hash
            error = Error(0) if self.configured else Error.HASH
        elif not error and opcode == Opcode.LAYER:
            layer, error = self._check_layer(got.payload)
            if error:
                layer = None
            elif not layer["to_stream"]:
                self.committed[Opcode.ACTIVATIONS][self.page(Opcode.ACTIVATIONS, layer["output_address"])] = True
        if error:
            if not self.errors:
                self.error_sequence = got.header.sequence
            self.errors |= error
            self._clear_commits()
        elif opcode != Opcode.STATUS:
            self.packets = (self.packets + 1) & 0xFFFF_FFFF
        return Outcome(got, error, layer)

    def answered(self, got: Received) -> None:
        """A status request counts, and clears what it was asked to clear, once its reply has left."""
        self.packets = (self.packets + 1) & 0xFFFF_FFFF
        if got.clears:
            self.errors = Error(0)

    def _check_layer(self, payload: bytes) -> tuple[Layer, Error]:
        layer, error = layer_error(self.config, payload)
        if not self.configured:
            return layer, Error.NOT_CONFIGURED
        operands = [(Opcode.ACTIVATIONS, address) for address in layer.activation_operands]
        if not layer["pool_kind"]:
            operands.append((Opcode.WEIGHTS, layer["weight_address"]))
        if layer["post"]:
            operands.append((Opcode.PARAMETERS, layer["parameter_address"]))
        if not error and not all(self.committed[opcode][self.page(opcode, address)] for opcode, address in operands):
            error = Error.UNCOMMITTED
        return layer, error
