"""Golden against RTL, layer by layer, bit for bit and cycle for cycle; the first difference and when it left."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from golden.cycles import CycleModel, LayerTime
from golden.emulator import EmulatorTransport
from shiftforge.config import ceil_div
from shiftforge.errors import CheckFailed, DeviceError
from shiftforge.packets import HEADER_BYTES, Header, Opcode
from shiftforge.program import Program
from shiftforge.registers import Flag
from shiftforge.transport import ProgressCallback, TransferResult, Transport
from sw_driver.accelerator import Accelerator
from sw_driver.compiler.pipeline import assemble
from sw_driver.layout import Codes, n_tail, n_tiles
from sw_driver.stream import Answer, Send


@dataclass(frozen=True)
class Place:
    """Where a result is made.

    Parameters
    ----------
    packet : str
        Its LAYER packet.
    tile : (int, int)
        Channel tile and pixel tile of that packet.
    element : (int, int)
        Row and column of the processing element.
    summed : int
        First cycle in which the sum is in its column's drain buffer, as predicted.
    """

    packet: str
    tile: tuple[int, int]
    element: tuple[int, int]
    summed: int


@dataclass(frozen=True)
class Difference:
    """The first code of a layer (in the order in which results leave) in which RTL and golden model differ.

    Parameters
    ----------
    row, channel : int
        Index in the layer's output, (examples, elements).
    golden, rtl : int
        Bit patterns in the output format.
    cycle : int or None
        In which the beat that carries the code left the RTL; None where the transport records no cycles.
    place : Place or None
        None where the host makes the output.
    """

    row: int
    channel: int
    golden: int
    rtl: int
    cycle: int | None
    place: Place | None


@dataclass(frozen=True)
class BeatDifference:
    """The first beat that the RTL moves in another cycle than predicted; None where one side has no such beat."""

    stream: str
    index: int
    predicted: int | None
    cycle: int | None


@dataclass(frozen=True)
class LayerComparison:
    """One layer's results on both sides.

    Parameters
    ----------
    layer : str
    results, differing : int
        Codes compared, and how many of them differ.
    first : Difference or None
    golden_flags, rtl_flags : Flag
    predicted, cycles : int
        Clock cycles of the cycle model and of the RTL, for the network up to this layer.
    beat : BeatDifference or None
        None when every beat of both streams moved in the predicted cycle.
    status : tuple of (str, int, int)
        Fields of the last status reply that differ: name, predicted, told by the RTL.
    """

    layer: str
    results: int
    differing: int
    first: Difference | None
    golden_flags: Flag
    rtl_flags: Flag
    predicted: int
    cycles: int
    beat: BeatDifference | None
    status: tuple[tuple[str, int, int], ...]

    @property
    def same_beats(self) -> bool:
        """Whether every beat of both streams moved in the predicted cycle."""
        return self.beat is None

    @property
    def equal(self) -> bool:
        timing = self.predicted == self.cycles and self.same_beats
        return self.differing == 0 and self.golden_flags == self.rtl_flags and timing and not self.status

    def sentence(self) -> str:
        """What is different, in one sentence."""
        if self.first is None and self.golden_flags != self.rtl_flags:
            return (
                f"layer {self.layer!r} must raise the flags {self.golden_flags!r} of the golden model, and the RTL raises "
                f"{self.rtl_flags!r}"
            )
        if self.first is None and not (self.predicted == self.cycles and self.same_beats):
            return (
                f"layer {self.layer!r} must take the predicted {self.predicted} cycles, beat by beat, and the RTL's {self.cycles} "
                "differ, though every result is equal"
            )
        if self.first is None:
            name, predicted, told = self.status[0]
            return (
                f"layer {self.layer!r} must end with {name} {predicted} in the status reply, and the RTL tells {told}"
            )
        first = self.first
        when = "" if first.cycle is None else f", in the beat that left in cycle {first.cycle}"
        return (
            f"layer {self.layer!r} must have the golden model's bits, and at [{first.row}, {first.channel}] the RTL gives "
            f"{first.rtl:#x} for {first.golden:#x}{when} ({self.differing} of {self.results} results differ)"
        )

    def where(self) -> str:
        """The tile, element and cycle of the first difference, in one sentence."""
        if self.first is not None and self.first.place is not None:
            place = self.first.place
            (nt, mt), (r, c) = place.tile, place.element
            return (
                f"the first wrong result is of {place.packet}: channel tile {nt}, pixel tile {mt}, processing element "
                f"({r}, {c}), whose sum is in its column's buffer from cycle {place.summed} on"
            )
        if self.beat is not None:
            beat = self.beat
            cycles = ["never" if cycle is None else f"in cycle {cycle}" for cycle in (beat.predicted, beat.cycle)]
            return (
                f"the first beat that moves in another cycle is {beat.stream} beat {beat.index}: predicted {cycles[0]}, "
                f"counted {cycles[1]}"
            )
        if self.first is not None:
            return "the first wrong result is one that the host makes of others"
        return "no result and no beat differs, only what the status reply tells"


class Recorder:
    """A transport that keeps what every transfer brought."""

    def __init__(self, transport: Transport) -> None:
        self.name = transport.name
        self.results: list[TransferResult] = []
        self._transport = transport

    def hardware_hash(self) -> int | None:
        return self._transport.hardware_hash()

    def transfer(
        self, packets: Sequence[bytes], expected_packets: int, *, progress: ProgressCallback | None = None
    ) -> TransferResult:
        result = self._transport.transfer(packets, expected_packets, progress=progress)
        self.results.append(result)
        return result


def compare_program(
    program: Program,
    x_codes: Codes,
    golden: EmulatorTransport,
    rtl: Transport,
    *,
    progress: ProgressCallback | None = None,
) -> list[LayerComparison]:
    """Compare every layer's results; stops after the first layer that differs.

    A layer's results are made visible by running the network up to it, so that they leave in the output format. A fault that shows
    only when results stay on chip is therefore found in the layer that reads them.

    Parameters
    ----------
    x_codes : codes (batch, features) of the activation format
    golden, rtl : Transport
        Both at the same cycle (`sim.backends.open_transport`), so that the beats can be compared.

    Raises
    ------
    CheckFailed
        When the RTL refuses what the golden model accepts, or does not answer; the message names the layer.
    """
    done: list[LayerComparison] = []
    prediction, recorder = Recorder(golden), Recorder(rtl)
    reference = Accelerator(prediction, program.config)
    answers: list[tuple[str, Answer]] = []

    def note(send: Send) -> None:
        if send.answer is not None:
            answers.append((send.label, send.answer))

    reference.observe = note
    for layer in program.graph.layers():
        part = program
        if layer is not program.graph.output:
            upto = program.graph.up_to(layer.name)
            part = assemble(upto, program.config, name=program.name, overflow=program.overflow)
        prediction.results.clear()
        answers.clear()
        ran_before = len(golden.clock.layers)
        expected = reference.run_codes(part, x_codes)
        recorder.results.clear()
        try:
            device = Accelerator(recorder, program.config)
            found = device.run_codes(part, x_codes, progress=progress)
        except DeviceError as error:
            raise CheckFailed(
                f"layer {layer.name!r} must run on the RTL as on the golden model, but: {error}"
            ) from None
        differs = expected != found
        first = None
        if differs.any():
            run = golden.clock.layers[ran_before:]
            row, channel, sought = _earliest(part, answers, differs)
            cycle = place = None
            if sought is not None:
                cycle = _cycle_of(part, recorder.results, sought, row, channel)
                place = _place(part, golden.clock, run, sought, row, channel)
            first = Difference(row, channel, int(expected[row, channel]), int(found[row, channel]), cycle, place)
        done.append(
            LayerComparison(
                layer=layer.name,
                results=differs.size,
                differing=int(differs.sum()),
                first=first,
                golden_flags=reference.flags,
                rtl_flags=device.flags,
                predicted=reference.last_cycles,
                cycles=device.last_cycles,
                beat=_first_beat(prediction.results, recorder.results),
                status=tuple(
                    (name, value, device.last_status[name])
                    for name, value in reference.last_status.items()
                    if device.last_status[name] != value
                ),
            )
        )
        if not done[-1].equal:
            break
    return done


def _first_beat(predicted: Sequence[TransferResult], counted: Sequence[TransferResult]) -> BeatDifference | None:
    """Of several, the one that was predicted first."""
    found: list[BeatDifference] = []
    for stream_name in ("input", "output"):
        mine, theirs = (
            np.concatenate([getattr(result, f"{stream_name}_beats") for result in results])
            for results in (predicted, counted)
        )
        both = min(len(mine), len(theirs))
        unequal = np.flatnonzero(mine[:both] != theirs[:both])
        if not len(unequal) and len(mine) == len(theirs):
            continue
        index = int(unequal[0]) if len(unequal) else both
        found.append(
            BeatDifference(
                stream_name,
                index,
                int(mine[index]) if index < len(mine) else None,
                int(theirs[index]) if index < len(theirs) else None,
            )
        )
    return min(found, key=lambda beat: min(c for c in (beat.predicted, beat.cycle) if c is not None), default=None)


@dataclass(frozen=True)
class _Sought:
    """A RESULT packet of a run: which of them, its LAYER packet, and the part of the output that it holds."""

    index: int
    packet: str
    answer: Answer


def _earliest(
    program: Program, answers: Sequence[tuple[str, Answer]], differs: NDArray[np.bool_]
) -> tuple[int, int, _Sought | None]:
    """Row and channel (examples, elements) of the differing code that leaves first, and the RESULT packet that carries it.

    None, and the first index, where the host makes the output.
    """
    output = program.recipe.output
    image = differs.reshape(-1, output.height, output.width, output.channels)
    for index, (label, answer) in enumerate(answers):
        region = answer.region
        if region.tensor != output.name:
            continue
        start = (answer.start, region.top, region.left, answer.channel)
        size = (answer.stop - answer.start, region.height, region.width, answer.channels)
        part = image[tuple(slice(first, first + n) for first, n in zip(start, size, strict=True))]
        if part.any():
            places = (np.argwhere(part) + start).tolist()
            row, y, x, channel = min(places, key=lambda place: _offset(program, answer, *place))
            return row, (y * output.width + x) * output.channels + channel, _Sought(index, label, answer)
    row, channel = (int(i) for i in np.argwhere(differs)[0])
    return row, channel, None


def _cell(program: Program, row: int, channel: int) -> tuple[int, int, int, int]:
    """Example, line, column and channel for an index (examples, elements)."""
    output = program.recipe.output
    pixel, channel = divmod(channel, output.channels)
    return row, *divmod(pixel, output.width), channel


def _cycle_of(
    program: Program, results: Sequence[TransferResult], sought: _Sought, row: int, channel: int
) -> int | None:
    """Cycle of the output beat that carried one code of a program's result (examples, elements)."""
    beat_bytes = program.config.stream_bits // 8
    place = HEADER_BYTES + _offset(program, sought.answer, *_cell(program, row, channel))
    left = sought.index
    for result in results:
        beats = 0
        for data in result.packets:
            if Header.decode(data).opcode == Opcode.RESULT:
                if left == 0:
                    beat = beats + place // beat_bytes
                    return int(result.output_beats[beat]) if beat < len(result.output_beats) else None
                left -= 1
            beats += len(data) // beat_bytes
    return None


def _place(
    program: Program, clock: CycleModel, run: Sequence[LayerTime], sought: _Sought, row: int, channel: int
) -> Place:
    """Where one code of a program's result is made; ``run`` are the layers of the predicted run."""
    config, answer = program.config, sought.answer
    cell = _cell(program, row, channel)
    (mt, r), (nt, c) = divmod(_pixel(answer, *cell[:3]), config.rows), divmod(cell[3] - answer.channel, config.cols)
    time = [time for time in run if time.layer["to_stream"]][sought.index]
    tile = clock.tiles(time)[nt * ceil_div(time.layer["pixels"], config.rows) + mt]
    # The last element's sum is there when the tile is complete, its neighbours' one cycle earlier each.
    summed = tile.complete - (config.rows - 1 - r) - (config.cols - 1 - c)
    return Place(sought.packet, (nt, mt), (r, c), summed)


def _pixel(answer: Answer, row: int, y: int, x: int) -> int:
    """Which of an answer's pixels."""
    region = answer.region
    return ((row - answer.start) * region.height + y - region.top) * region.width + x - region.left


def _offset(program: Program, answer: Answer, row: int, y: int, x: int, channel: int) -> int:
    """First byte of a code in its RESULT payload, whose order is tile, pixel, group, lane."""
    config = program.config
    pixel = _pixel(answer, row, y, x)
    tile, column = divmod(channel - answer.channel, config.cols)
    width = config.groups * config.lanes
    before = tile * answer.rows * width
    if tile == n_tiles(config, answer.channels) - 1:
        width = -(-n_tail(config, answer.channels) // config.lanes) * config.lanes
    return (before + pixel * width + column) * config.output.bytes
