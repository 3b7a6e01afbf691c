"""The whole machine, packet by packet and byte by byte, without a clock: `docs/architecture.md` as a program.

It runs every format and both overflow rules, also those that have no gateware.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from golden.decoder import Layer, Received, layer_error, receive
from golden.drain import compute, result_payload, store
from golden.memory import Memories
from golden.rounding import Flags
from shiftforge.config import Config
from shiftforge.errors import DeviceError, InputError
from shiftforge.packets import STATUS_FIELDS, Header, Opcode, packet
from shiftforge.registers import Error, Flag, Status
from shiftforge.transport import ProgressCallback, TransferResult


class Emulator:
    """A machine of one configuration: memories, commit bits, sticky errors and flags.

    Parameters
    ----------
    config : Config

    Members
    -------
    memories : Memories
        Contents and commit bits.
    errors, error_sequence, flags, packets, configured
        The sticky state that a status reply shows.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.memories = Memories.of(config)
        self.reset()

    def reset(self) -> None:
        """As the reset pin: everything but the contents of the memories."""
        self.memories.clear_commits()
        self.errors = Error(0)
        self.error_sequence = 0
        self.flags = Flag(0)
        self.packets = 0
        self.configured = False

    def feed(self, packets: Iterable[bytes]) -> list[bytes]:
        """Take packets, each a whole number of beats that tlast ends; return the packets they are answered with.

        Raises
        ------
        InputError
            When a packet is empty or not a whole number of beats.
        """
        answers: list[bytes] = []
        for data in packets:
            check_beats(self.config, data)
            answers += self._take(receive(self.config, data))
        return answers

    def _take(self, got: Received) -> list[bytes]:
        answers: list[bytes] = []
        error = got.error
        memory = self.memories.of_opcode(got.header.opcode)
        if memory is not None and got.payload:
            half = memory.half(got.header.address)
            memory.committed[half] = False
            memory.load(got.header.address, got.payload)
            memory.committed[half] = not error
        elif not error and got.header.opcode == Opcode.CONFIG:
            self.configured = int.from_bytes(got.payload, "little") == self.config.hash
            error = Error(0) if self.configured else Error.HASH
        elif not error and got.header.opcode == Opcode.LAYER:
            layer, error = self._check_layer(got.payload)
            if not error:
                answers += self._run(layer, got.header.sequence)
        self._count(error, got.header.sequence)
        if not error and got.header.opcode == Opcode.STATUS:
            answers.append(self._status(got))
        return answers

    def _count(self, error: Error, sequence: int) -> None:
        if not error:
            self.packets = (self.packets + 1) & 0xFFFF_FFFF
            return
        if not self.errors:
            self.error_sequence = sequence
        self.errors |= error
        self.memories.clear_commits()

    # ---- layers

    def _check_layer(self, payload: bytes) -> tuple[Layer, Error]:
        layer, error = layer_error(self.config, payload)
        if not self.configured:
            return layer, Error.NOT_CONFIGURED
        if not error and not all(memory.committed[memory.half(address)] for memory, address in self._operands(layer)):
            error = Error.UNCOMMITTED
        return layer, error

    def _operands(self, layer: Layer) -> list[tuple]:
        operands = [
            (self.memories.activations, layer["input_address"]),
            (self.memories.weights, layer["weight_address"]),
        ]
        if layer["post"]:
            operands.append((self.memories.parameters, layer["parameter_address"]))
        return operands

    def _run(self, layer: Layer, sequence: int) -> list[bytes]:
        codes, flags = compute(layer, self.memories)
        self.flags |= _flag_bits(flags)
        if layer["to_stream"]:
            payload = result_payload(layer, codes)
            return [packet(Header(Opcode.RESULT, sequence, 0, len(payload)), payload, self.config.stream_bits)]
        store(layer, codes, self.memories)
        activations = self.memories.activations
        activations.committed[activations.half(layer["output_address"])] = True
        return []

    # ---- status

    def counters(self) -> dict[str, int]:
        """The clocked part of a status reply; a machine without a clock has counted nothing."""
        return {}

    def _status(self, got: Received) -> bytes:
        values = {
            "hash": self.config.hash,
            "errors": int(self.errors),
            "error_sequence": self.error_sequence,
            "flags": int(self.flags),
            "packets": self.packets,
            "status": int(Status.CONFIGURED) if self.configured else 0,
            **self.counters(),
        }
        payload = b"".join(values.get(name, 0).to_bytes(4, "little") for name, _ in STATUS_FIELDS)
        if got.clears:
            self.errors, self.flags, self.error_sequence = Error(0), Flag(0), 0
        header = Header(Opcode.STATUS_REPLY, got.header.sequence, 0, len(payload))
        return packet(header, payload, self.config.stream_bits)


def check_beats(config: Config, data: bytes) -> None:
    """`InputError` unless the packet is a whole number of beats, at least one."""
    beat = config.stream_bits // 8
    if not data or len(data) % beat:
        raise InputError(f"a packet must be a whole number of {beat}-byte beats, at least one, not {len(data)} bytes")


def _flag_bits(flags: Flags) -> Flag:
    bits = Flag(0)
    for name, raised in (("NV", flags.nv), ("OF", flags.of), ("NX", flags.nx)):
        if raised:
            bits |= Flag[name]
    return bits


class EmulatorTransport:
    """The golden model as a device (`shiftforge.transport.Transport`)."""

    def __init__(self, config: Config) -> None:
        self.name = "golden"
        self.emulator = Emulator(config)

    def hardware_hash(self) -> int:
        """The hash of the configuration it models."""
        return self.emulator.config.hash

    def transfer(
        self, packets: Sequence[bytes], expected_packets: int, *, progress: ProgressCallback | None = None
    ) -> TransferResult:
        """See `Transport.transfer`. Nothing is timed: ``cycles`` is 0 and the beats are empty.

        Raises
        ------
        InputError
            When a packet is empty or not a whole number of beats.
        DeviceError
            When the packets are answered with fewer than ``expected_packets`` packets.
        """
        for data in packets:
            check_beats(self.emulator.config, data)
        beat = self.emulator.config.stream_bits // 8
        total = sum(len(data) // beat for data in packets) + expected_packets
        answers: list[bytes] = []
        beats = 0
        for data in packets:
            answers += self.emulator.feed([data])
            beats += len(data) // beat
            if progress is not None:
                progress(min(total, beats + len(answers)), total)
        if len(answers) < expected_packets:
            errors = self.emulator.errors
            raise DeviceError(
                f"the device must answer with {expected_packets} packets, not {len(answers)}: "
                f"it has taken all input and has nothing left to send (errors: {errors.name or 'none'})"
            )
        none = np.zeros(0, np.int64)
        return TransferResult(answers, 0, none, none)
