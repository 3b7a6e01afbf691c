"""Golden against RTL, layer by layer, bit for bit and cycle for cycle; the first difference and when it left."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shiftforge.errors import CheckFailed, DeviceError
from shiftforge.packets import HEADER_BYTES, Header, Opcode
from shiftforge.program import Program
from shiftforge.registers import Flag
from shiftforge.transport import ProgressCallback, TransferResult, Transport
from sw_driver import stream
from sw_driver.accelerator import Accelerator
from sw_driver.compiler.pipeline import assemble
from sw_driver.layout import Codes, n_tail, n_tiles
from sw_driver.stream import Answer


@dataclass(frozen=True)
class Difference:
    """The first code of a layer (in order of rows, then channels) in which RTL and golden model differ.

    Parameters
    ----------
    row, channel : int
    golden, rtl : int
        Bit patterns in the output format.
    cycle : int or None
        In which the beat that carries the code left the RTL; None where the transport records no cycles.
    """

    row: int
    channel: int
    golden: int
    rtl: int
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
    same_beats : bool
        Whether every beat of both streams moved in the predicted cycle.
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
    same_beats: bool
    status: tuple[tuple[str, int, int], ...]

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
    golden: Transport,
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
    for layer in program.graph.layers():
        part = program
        if layer is not program.graph.output:
            upto = program.graph.up_to(layer.name)
            part = assemble(upto, program.config, name=program.name, overflow=program.overflow)
        prediction.results.clear()
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
            row, channel = (int(i) for i in np.argwhere(differs)[0])
            cycle = _cycle_of(part, x_codes, recorder.results, row, channel)
            first = Difference(row, channel, int(expected[row, channel]), int(found[row, channel]), cycle)
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
                same_beats=_same_beats(prediction.results, recorder.results),
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


def _same_beats(predicted: Sequence[TransferResult], counted: Sequence[TransferResult]) -> bool:
    return len(predicted) == len(counted) and all(
        np.array_equal(p.input_beats, c.input_beats) and np.array_equal(p.output_beats, c.output_beats)
        for p, c in zip(predicted, counted, strict=True)
    )


def _cycle_of(
    program: Program, x_codes: Codes, results: Sequence[TransferResult], row: int, channel: int
) -> int | None:
    """Cycle of the output beat that carried one code of a program's result (examples, elements)."""
    config, output = program.config, program.recipe.output
    pixel, channel = divmod(channel, output.channels)
    y, x = divmod(pixel, output.width)
    batch = len(x_codes)
    answers = [answer for phase in program.recipe.phases for answer in stream.answers(config, phase, batch)]
    sought = next((i for i, answer in enumerate(answers) if _holds(answer, output.name, row, y, x, channel)), None)
    if sought is None:
        return None  # the host made it
    beat_bytes = config.stream_bits // 8
    place = HEADER_BYTES + _offset(program, answers[sought], row, y, x, channel)
    for result in results:
        beats = 0
        for data in result.packets:
            if Header.decode(data).opcode == Opcode.RESULT:
                if sought == 0:
                    beat = beats + place // beat_bytes
                    return int(result.output_beats[beat]) if beat < len(result.output_beats) else None
                sought -= 1
            beats += len(data) // beat_bytes
    return None


def _holds(answer: Answer, tensor: str, row: int, y: int, x: int, channel: int) -> bool:
    region = answer.region
    inside = 0 <= y - region.top < region.height and 0 <= x - region.left < region.width
    part = answer.start <= row < answer.stop and 0 <= channel - answer.channel < answer.channels
    return region.tensor == tensor and inside and part


def _offset(program: Program, answer: Answer, row: int, y: int, x: int, channel: int) -> int:
    """First byte of a code in its RESULT payload, whose order is tile, pixel, group, lane."""
    config, region = program.config, answer.region
    pixel = ((row - answer.start) * region.height + y - region.top) * region.width + x - region.left
    tile, column = divmod(channel - answer.channel, config.cols)
    width = config.groups * config.lanes
    before = tile * answer.rows * width
    if tile == n_tiles(config, answer.channels) - 1:
        width = -(-n_tail(config, answer.channels) // config.lanes) * config.lanes
    return (before + pixel * width + column) * config.output.bytes
