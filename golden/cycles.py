"""The exact cycle model: in which cycle every beat moves on both streams, and what the counters count.

The schedule is static: it depends on packet lengths, descriptors, configuration and the handshakes of the other side, never on
data. The packet decoder is followed packet by packet (beat by beat where beats are taken), layers through `golden.schedule`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from golden.decoder import Decoder, Layer, Outcome, check_beats
from golden.schedule import Next, Output, TileTime, Writes, at_once, run_layer
from shiftforge import timing
from shiftforge.config import Config, ceil_div
from shiftforge.packets import HEADER_BYTES, STATUS_BYTES, MemoryPort, Opcode, memory_ports
from shiftforge.registers import Error
from shiftforge.transport import Pattern, wait_table

_HEADER_ERRORS = Error.MAGIC | Error.OPCODE | Error.LENGTH | Error.ADDRESS


def next_cycle(pattern: Pattern) -> Next:
    """The function that finds the first cycle from a given one on in which the pattern is true."""
    if pattern is None:
        return at_once
    table = wait_table(pattern).tolist()
    length = len(table)
    return lambda cycle: cycle + table[cycle % length]


@dataclass(frozen=True, eq=False)
class CyclePrediction:
    """What `predict` found.

    Parameters
    ----------
    input_beats, output_beats : int64 arrays
        Cycle of every accepted input beat and of every output beat.
    cycles : int
        Length of the transfer, up to and with its last beat.
    counters : dict
        ``busy_cycles``, ``slots``, ``stall_drain``, ``stall_input``, ``stall_output`` as a status request that came right
        after would tell them, up to the packets given.
    """

    input_beats: npt.NDArray[np.int64]
    output_beats: npt.NDArray[np.int64]
    cycles: int
    counters: dict[str, int]


@dataclass(frozen=True)
class LayerTime:
    """When one LAYER packet ran.

    Parameters
    ----------
    layer : Layer
        Its descriptor.
    start, done : int
        Cycles of the pulses that start and end it; both are busy cycles.
    slots, stall_drain, stall_output : int
        What the counters of these names advanced by.
    """

    layer: Layer
    start: int
    done: int
    slots: int
    stall_drain: int
    stall_output: int

    @property
    def busy(self) -> int:
        """What busy_cycles advanced by."""
        return self.done - self.start + 1


class CycleModel:
    """The clocked side of a machine, fed with what its decoder made of each packet.

    Parameters
    ----------
    config : Config
    input_valid, output_ready : Pattern
        In which cycles the source offers and the sink takes (see `shiftforge.transport`).
    start : int
        The first cycle; before it the streams rested from cycle 0 on, with no pattern true.

    Members
    -------
    input_beats : list of int
        Cycle of every accepted beat.
    output : Output
        Cycles of the beats that leave, also of those that leave after the last input beat.
    answer_ends : list of int
        Cycle of each answer's tlast.
    layers : list of LayerTime
        Every layer that was started.
    busy_cycles, slots, stall_drain, stall_input : int
    """

    def __init__(
        self, config: Config, *, input_valid: Pattern = None, output_ready: Pattern = None, start: int = 0
    ) -> None:
        self.config = config
        self.input_beats: list[int] = []
        self.output = Output(next_cycle(output_ready))
        self.answer_ends: list[int] = []
        self.layers: list[LayerTime] = []
        self.busy_cycles = self.slots = self.stall_drain = self.stall_input = 0
        self._beat = config.stream_bits // 8
        self._ports = {int(port.opcode): port for port in memory_ports(config)}
        self._offered = next_cycle(input_valid)
        self._now = 0  # the decoder waits for a header from this cycle on
        self._free = start  # the source may offer its next beat from this cycle on
        self._idle = 0  # no layer runs and the output is empty from this cycle on
        self._layer: Layer | None = None  # the last one started
        self._writes = Writes()  # of that layer

    def offer_from(self, cycle: int) -> None:
        """The source offers nothing before this cycle: a new transfer begins."""
        self._free = max(self._free, cycle)

    def counters(self) -> dict[str, int]:
        """The counters once everything so far has finished."""
        values = {
            "busy_cycles": self.busy_cycles,
            "slots": self.slots,
            "stall_drain": self.stall_drain,
            "stall_input": self.stall_input,
            "stall_output": self.output.stall,
        }
        return {name: value & 0xFFFF_FFFF for name, value in values.items()}

    def tiles(self, time: LayerTime) -> list[TileTime]:
        """Every tile of one of `layers`, in order."""
        found: list[TileTime] = []
        run_layer(time.layer, time.start, Output(self.output.ready), found)
        return found

    def take(self, outcome: Outcome, beats: int) -> dict[str, int]:
        """Follow one packet of ``beats`` beats; returns the clocked fields of the status reply, if it is answered with one."""
        header_beats = HEADER_BYTES // self._beat
        got, error = outcome.received, outcome.error
        for _ in range(min(beats, header_beats)):
            self._now = self._accept(self._now) + 1
        left = beats - header_beats
        if left < 0:
            return {}
        self._now += timing.HEADER_CHECK - 1
        wanted = ceil_div(got.header.length, self._beat)
        if error & _HEADER_ERRORS or (left == 0) != (wanted == 0):
            self._now += 1
            self._drain(left)
            return {}
        opcode, refused = got.header.opcode, left != wanted
        if opcode in self._ports:
            self._load(self._ports[opcode], got.header.address, got.header.length, left, wanted)
            return {}
        self._now = max(self._now, self._idle)
        if opcode == Opcode.STATUS:
            return self._status()
        self._now += 1
        for _ in range(min(left, wanted)):
            self._now = self._accept(self._now) + 1
        self._drain(left - wanted)
        if opcode == Opcode.LAYER and not refused:
            self._now += timing.LAYER_CHECK
            if outcome.layer is not None:
                self._start(outcome.layer)
        return {}

    # ---- input

    def _accept(self, ready: int) -> int:
        """The cycle in which a beat moves that the decoder takes from cycle ``ready`` on."""
        cycle = max(ready, self._offered(self._free))
        self.stall_input += cycle - ready
        self._free = cycle + 1
        self.input_beats.append(cycle)
        return cycle

    def _drain(self, beats: int) -> None:
        for _ in range(beats):
            self._now = self._accept(self._now) + 1

    def _load(self, port: MemoryPort, address: int, length: int, left: int, wanted: int) -> None:
        """A memory packet: beats into words, one word or one beat per cycle, whichever is scarcer.

        A word waits while the layer that runs writes the same memory (into another page).
        """
        if self._uses(port, address):
            self._now = max(self._now, self._idle)
        stride = port.stride_bits // 8
        words = max(1, self._beat // stride)  # that a beat completes, at most
        last_words = max(1, length // stride - (wanted - 1) * words)
        beats = max(1, stride // self._beat)  # that complete a word
        held = port.opcode == Opcode.ACTIVATIONS and self._now < self._idle and len(self._writes) > 0
        ready = self._now + 1
        cycle = written = ready
        count = min(left, wanted)
        if self._offered is at_once and count > 1 and not held:  # all but the last, which come without a pause
            cycle = self._accept(ready)
            self.input_beats.extend(range(cycle + words, cycle + (count - 1) * words, words))
            cycle += (count - 2) * words
            self._free, ready, count = cycle + 1, cycle + words, 1
        for beats_left in range(wanted - min(left, wanted) + count, wanted - min(left, wanted), -1):
            cycle = self._accept(ready)
            # The next beat comes with this one's last word.
            ready = written = cycle + (words if beats_left > 1 else last_words)
            if held and (beats_left - 1) % beats == 0:
                written = cycle
                for _ in range(ready - cycle):
                    written = self._writes.free(written + 1)
                ready = written
        if left == wanted:
            self._now = written + 2
        else:
            self._now = cycle + 1
            self._drain(left - wanted)

    def _uses(self, port: MemoryPort, address: int) -> bool:
        """Whether the layer that was started last uses that page; whether it still runs, `_idle` says."""
        layer = self._layer
        if layer is None:
            return False
        if port.opcode == Opcode.WEIGHTS:
            used = [] if layer["pool_kind"] else [layer["weight_address"]]
        elif port.opcode == Opcode.PARAMETERS:
            used = [layer["parameter_address"]] if layer["post"] else []
        else:
            used = layer.activation_operands + ([] if layer["to_stream"] else [layer["output_address"]])
        return any(other // port.page == address // port.page for other in used)

    # ---- layers and replies

    def _start(self, layer: Layer) -> None:
        start, stalled = self._now, self.output.stall
        run = run_layer(layer, start, self.output)
        self.layers.append(LayerTime(layer, start, run.done, run.slots, run.stall_drain, self.output.stall - stalled))
        self._layer = layer
        self._writes = run.writes
        self._idle = run.done + 1
        self.busy_cycles += run.done - start + 1
        self.slots += run.slots
        self.stall_drain += run.stall_drain
        if layer["to_stream"]:
            self.answer_ends.append(run.done)

    def _status(self) -> dict[str, int]:
        values = {"cycles": self._now & 0xFFFF_FFFF, **self.counters()}
        end = self.output.packet(self._now + 1, ceil_div(HEADER_BYTES + STATUS_BYTES, self._beat))
        self.answer_ends.append(end)
        self._now = self._idle = end + 1
        return values


def predict(
    config: Config,
    packets: Sequence[bytes],
    *,
    input_valid: Pattern = None,
    output_ready: Pattern = None,
    start: int = 0,
) -> CyclePrediction:
    """The cycles of one transfer of all ``packets`` and all their answers, from a reset machine.

    Parameters
    ----------
    input_valid, output_ready : Pattern
        In which cycles the source offers and the sink takes, indexed by the cycle since reset; None is always.
    start : int
        Cycle in which the transfer begins.

    Raises
    ------
    InputError
        When a packet is empty or not a whole number of beats, or a pattern is none.
    """
    decoder = Decoder(config)
    model = CycleModel(config, input_valid=input_valid, output_ready=output_ready, start=start)
    for data in packets:
        check_beats(config, data)
        outcome = decoder.take(data)
        model.take(outcome, 8 * len(data) // config.stream_bits)
        if outcome.received.header.opcode == Opcode.STATUS and not outcome.error:
            decoder.answered(outcome.received)
    last = max([*model.input_beats[-1:], *model.answer_ends[-1:], start - 1])
    return CyclePrediction(
        np.array(model.input_beats, np.int64),
        np.array(model.output.beats, np.int64),
        last + 1 - start,
        model.counters(),
    )
