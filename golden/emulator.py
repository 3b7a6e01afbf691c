"""The whole machine, packet by packet and byte by byte, without a clock: `docs/architecture.md` as a program.

It runs every format and both overflow rules, also those that have no gateware.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from golden.decoder import Decoder, Layer, Outcome, Received
from golden.drain import compute, result_payload, store
from golden.memory import Memories
from golden.rounding import Flags
from shiftforge.config import Config
from shiftforge.errors import DeviceError, InputError
from shiftforge.packets import STATUS_FIELDS, Header, Opcode, packet
from shiftforge.registers import Flag, Status
from shiftforge.transport import ProgressCallback, TransferResult


class Emulator:
    """A machine of one configuration: memories, commit bits, sticky errors and flags.

    Parameters
    ----------
    config : Config

    Members
    -------
    memories : Memories
        Contents; a reset leaves them alone.
    decoder : Decoder
        Commit bits, sticky errors, packet count.
    flags : Flag
        Sticky flags of the roundings.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.memories = Memories.of(config)
        self.reset()

    def reset(self) -> None:
        """As the reset pin: everything but the contents of the memories."""
        self.decoder = Decoder(self.config)
        self.flags = Flag(0)

    def feed(self, packets: Iterable[bytes]) -> list[bytes]:
        """Take packets, each a whole number of beats that tlast ends; return the packets they are answered with.

        The counters of status replies are 0: this machine has no clock (`EmulatorTransport` has).

        Raises
        ------
        InputError
            When a packet is empty or not a whole number of beats.
        """
        answers = []
        for data in packets:
            answer = self.execute(self.decode(data), {})
            if answer is not None:
                answers.append(answer)
        return answers

    def decode(self, data: bytes) -> Outcome:
        """The first half of a packet's way: what the decoder makes of it. `execute` must follow."""
        check_beats(self.config, data)
        return self.decoder.take(data)

    def execute(self, outcome: Outcome, counters: Mapping[str, int]) -> bytes | None:
        """The second half: memory contents, layers, replies. ``counters`` are the clocked fields of a status reply."""
        got = outcome.received
        memory = self.memories.of_opcode(got.header.opcode)
        if memory is not None:
            memory.load(got.header.address, got.payload)
        elif outcome.layer is not None:
            return self._run(outcome.layer, got.header.sequence)
        elif got.header.opcode == Opcode.STATUS and not outcome.error:
            return self._status(got, counters)
        return None

    def _run(self, layer: Layer, sequence: int) -> bytes | None:
        codes, flags = compute(layer, self.memories)
        self.flags |= _flag_bits(flags)
        if not layer["to_stream"]:
            store(layer, codes, self.memories)
            return None
        payload = result_payload(layer, codes)
        # The header tells the length that the descriptor announced, the payload is what the layer makes.
        data = Header(Opcode.RESULT, sequence, 0, layer["result_bytes"]).encode() + payload
        return data + bytes(-len(data) % (self.config.stream_bits // 8))

    def _status(self, got: Received, counters: Mapping[str, int]) -> bytes:
        decoder = self.decoder
        values = {
            "hash": self.config.hash,
            "errors": int(decoder.errors),
            "error_sequence": decoder.error_sequence,
            "flags": int(self.flags),
            "packets": decoder.packets,
            "status": int(Status.CONFIGURED) if decoder.configured else 0,
            **counters,
        }
        payload = b"".join(values.get(name, 0).to_bytes(4, "little") for name, _ in STATUS_FIELDS)
        decoder.answered(got)
        if got.clears:
            self.flags = Flag(0)
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
            errors = self.emulator.decoder.errors
            raise DeviceError(
                f"the device must answer with {expected_packets} packets, not {len(answers)}: "
                f"it has taken all input and has nothing left to send (errors: {errors.name or 'none'})"
            )
        none = np.zeros(0, np.int64)
        return TransferResult(answers, 0, none, none)
