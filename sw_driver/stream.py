"""A phase and a batch to the packets to send, and the answers that they bring."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from shiftforge.config import Config
from shiftforge.packets import Opcode, encode_layer
from shiftforge.recipe import Block, Load, Phase, Region, Step
from sw_driver import layout

Payload = Callable[[Load, int, int], bytes]
"""The activation words of a load for a range of examples: `sw_driver.host.Host.payload`."""


@dataclass(frozen=True)
class Answer:
    """The RESULT packet that a LAYER packet brings: of which examples, pixels and channels, and how many payload bytes.

    `start` and `stop` are examples; `channel` is the host tensor's first channel.
    """

    region: Region
    start: int
    stop: int
    channel: int
    channels: int
    length: int

    @property
    def rows(self) -> int:
        """Pixels of all examples, one after the other."""
        return (self.stop - self.start) * self.region.pixels


@dataclass(frozen=True)
class Send:
    """One packet to send, but for its sequence number."""

    opcode: Opcode
    address: int
    payload: bytes
    label: str
    """What it is, for messages."""
    answer: Answer | None = None
    layer: str = ""
    """The layer that it runs, or that it alone is loaded for."""


def load(block: Block, layer: str = "") -> Send:
    """The packet of a block, that `layer` alone needs."""
    return Send(block.opcode, block.address, block.payload, block.label, layer=layer)


def batch(
    config: Config, phase: Phase, payload: Payload, examples: int, *, flipped: bool = False
) -> Iterator[list[Send]]:
    """The packets of each chunk of a batch; the constants with the first one, each before the first layer that needs it.

    Parameters
    ----------
    flipped : bool
        Whether the first chunk's activation addresses are already flipped (`Phase.flip`).
    """
    constants = list(phase.constants)
    for start in range(0, examples, phase.chunk):
        stop = min(start + phase.chunk, examples)
        flip = phase.flip if flipped else 0
        sends: list[Send] = []
        for step in phase.steps:
            for each in step.inputs:
                label = f"{each.region.tensor}, {_rows(start, stop)}"
                sends.append(
                    Send(Opcode.ACTIVATIONS, each.address ^ flip, payload(each, start, stop), label, layer=step.layer)
                )
            needed = [block for block in constants if _needs(config, step, block)]
            constants = [block for block in constants if block not in needed]
            sends += [load(block) for block in needed]
            sends += [load(block, step.layer) for block in step.loads]
            sends.append(_layer(config, step, start, stop, flip))
        yield sends
        flipped = not flipped


def _needs(config: Config, step: Step, block: Block) -> bool:
    """Whether a layer's weights or parameters are in the half that the block fills."""
    weights = block.opcode == Opcode.WEIGHTS
    half = (config.weight_words if weights else config.parameter_words) // 2
    address = step.fields.get("weight_address" if weights else "parameter_address")
    return address is not None and address // half == block.address // half


def answers(config: Config, phase: Phase, examples: int) -> Iterator[Answer]:
    """The answers of a batch, in the order in which they arrive."""
    for start in range(0, examples, phase.chunk):
        for step in phase.steps:
            answer = _answer(config, step, start, min(start + phase.chunk, examples))
            if answer is not None:
                yield answer


def _rows(start: int, stop: int) -> str:
    return f"rows {start}..{stop - 1}"


def _answer(config: Config, step: Step, start: int, stop: int) -> Answer | None:
    if step.result is None:
        return None
    length = layout.result_bytes(config, (stop - start) * step.pixels, step.channels)
    return Answer(step.result, start, stop, step.channel, step.channels, length)


def _layer(config: Config, step: Step, start: int, stop: int, flip: int) -> Send:
    """The LAYER packet of a chunk, examples ``start`` .. ``stop - 1``."""
    fields = {**step.fields, "pixels": (stop - start) * step.pixels}
    for name, present in (("input", True), ("output", "output_stride" in fields), ("residual", "residual" in fields)):
        if present:
            fields[f"{name}_address"] ^= flip
    answer = _answer(config, step, start, stop)
    if answer is not None:
        fields["result_bytes"] = answer.length
    label = f"layer {step.layer}, channels {step.first}..{step.first + step.channels - 1}, {_rows(start, stop)}"
    return Send(Opcode.LAYER, 0, encode_layer(fields), label, answer, step.layer)
