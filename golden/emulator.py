"""The whole machine, packet by packet and byte by byte, without a clock: `docs/architecture.md` as a program.

It runs every format and both overflow rules, also those that have no gateware.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from golden.cycles import CycleModel
from golden.decoder import Decoder, Layer, Outcome, Received, check_beats
from golden.drain import compute, result_payload, store
from golden.memory import Memories
from golden.pool import maximum
from golden.rounding import Flags
from shiftforge.config import Config
from shiftforge.errors import DeviceError, InputError
from shiftforge.packets import STATUS_FIELDS, Header, Opcode, packet
from shiftforge.registers import Flag, Status
from shiftforge.transport import Pattern, ProgressCallback, TransferResult


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
        if layer["pool_kind"]:
            maximum(layer, self.memories)
            return None
        codes, flags = compute(layer, self.memories)
        self.flags |= _flag_bits(flags)
        if not layer["to_stream"]:
            store(layer, codes, self.memories)
            return None
        return self._result(layer, sequence, result_payload(layer, codes))

    def _result(self, layer: Layer, sequence: int, payload: bytes) -> bytes:
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


def _flag_bits(flags: Flags) -> Flag:
    bits = Flag(0)
    for name, raised in (("NV", flags.nv), ("OF", flags.of), ("NX", flags.nx)):
        if raised:
            bits |= Flag[name]
    return bits


class EmulatorTransport:
    """`shiftforge.transport.Transport` without hardware, byte by byte and beat by beat what the gateware does.

    Parameters
    ----------
    config : Config
        Any format; one that has no gateware is timed as if its units had the same latencies.
    input_valid, output_ready : Pattern
        In which cycles the source offers and the sink takes.

    Members
    -------
    emulator : Emulator
    cycle : int
        The cycle that comes next.
    clock : CycleModel
        Its timing since the reset.
    """

    def __init__(self, config: Config, *, input_valid: Pattern = None, output_ready: Pattern = None) -> None:
        self.name = "golden"
        self.emulator = Emulator(config)
        self._patterns = input_valid, output_ready
        self.reset()

    def reset(self) -> None:
        """Reset the device and begin again at cycle 0; the memories keep what they hold."""
        self.emulator.reset()
        self.cycle = 0
        input_valid, output_ready = self._patterns
        self.clock = CycleModel(self.emulator.config, input_valid=input_valid, output_ready=output_ready)
        self._answers: list[tuple[int, bytes]] = []  # with the cycle of their end, those not delivered yet
        self._shown = 0  # output beats of transfers before

    def hardware_hash(self) -> int:
        """The hash of the configuration it models."""
        return self.emulator.config.hash

    def transfer(
        self, packets: Sequence[bytes], expected_packets: int, *, progress: ProgressCallback | None = None
    ) -> TransferResult:
        """See `shiftforge.transport.Transport.transfer`.

        Raises
        ------
        InputError
            When a packet is empty or not a whole number of beats; nothing has been sent then.
        DeviceError
            When the packets are answered with fewer than ``expected_packets`` packets, which are dropped then.
        """
        if expected_packets < 0:
            raise InputError(f"expected_packets must be 0 or more, not {expected_packets!r}")
        config, clock = self.emulator.config, self.clock
        for data in packets:
            check_beats(config, data)
        beat = config.stream_bits // 8
        total = sum(len(data) // beat for data in packets) + expected_packets
        start = self.cycle
        clock.offer_from(start)
        first_beat = len(clock.input_beats)
        for data in packets:
            self._take(data, len(data) // beat)
            if progress is not None:
                progress(len(clock.input_beats) - first_beat + min(len(self._answers), expected_packets), total)
        missing = len(self._answers) < expected_packets
        ends = clock.input_beats[-1:] if packets else []
        ends += [end for end, _ in (self._answers if missing else self._answers[:expected_packets])]
        self.cycle = max([start, *(end + 1 for end in ends)])
        received = [data for end, data in self._answers if end < self.cycle]
        self._answers = self._answers[len(received) :]
        beats = np.array(clock.output.beats[self._shown :], np.int64)
        beats = beats[beats < self.cycle]
        self._shown += len(beats)
        if missing:
            errors = self.emulator.decoder.errors
            raise DeviceError(
                f"the device must answer with {expected_packets} packets, not {len(received)}: "
                f"it has taken all input and has nothing left to send (errors: {errors.name or 'none'})"
            )
        return TransferResult(received, self.cycle - start, np.array(clock.input_beats[first_beat:], np.int64), beats)

    def _take(self, data: bytes, beats: int) -> Outcome:
        outcome = self.emulator.decode(data)
        counters = self.clock.take(outcome, beats)
        answer = self.emulator.execute(outcome, counters)
        if answer is not None:
            self._answers.append((self.clock.answer_ends[-1], answer))
        return outcome
