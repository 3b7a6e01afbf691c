"""The recipe of a program: how a batch becomes packets, and what the host does between them. NumPy-free.

::

    host tensors --ACTIVATIONS--> activation memory --LAYER ...--> RESULTs --> host tensors
                                       phase

A phase runs for the whole batch, chunk by chunk, and everything that it loads is on the host when it begins. A network whose
tensors fit on chip is one phase; one that is larger spills tensors between phases, and runs layers in strips.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias

from shiftforge.graph.stored import Blob, Described, Json, cut
from shiftforge.packets import Opcode


@dataclass(frozen=True)
class Block:
    """The payload of one WEIGHTS or PARAMETERS packet, and the memory word at which it begins."""

    opcode: Opcode
    address: int
    payload: bytes = field(repr=False)
    label: str
    """What it holds, for messages."""


@dataclass(frozen=True)
class HostTensor:
    """A tensor that lies on the host: the input, the output, what is spilled between phases, what the host computes.

    Parameters
    ----------
    name : str
        The graph's node.
    height, width, channels : int
        Of one example.
    format : str
        ``activation`` or ``output``. RESULT packets arrive in the output format; an ``activation`` tensor is what they are
        rounded to, which changes nothing where the formats are the same, and is the one rounding of the contract where the output
        format is fp32.
    """

    name: str
    height: int
    width: int
    channels: int
    format: Literal["activation", "output"]

    @property
    def pixels(self) -> int:
        return self.height * self.width


@dataclass(frozen=True)
class Region:
    """A rectangle of the pixels of a host tensor, of every example."""

    tensor: str
    top: int
    left: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        return self.height * self.width


@dataclass(frozen=True)
class Load:
    """One ACTIVATIONS packet for each chunk: a region of a host tensor, the chunk's examples one after the other.

    `address` is the word of the first one, `words` are those of one example.
    """

    region: Region
    address: int
    words: int


@dataclass(frozen=True)
class Step:
    """One LAYER packet for each chunk of the batch: its examples lie one after the other, and so do their pixels.

    Parameters
    ----------
    layer : str
        Name of the node: a layer, a max-pool, or what a copy on chip copies.
    fields : mapping of str to int
        The descriptor but for `pixels` and `result_bytes`. Activation addresses are those of an even chunk.
    loads : tuple of Block
        Weights and parameters that are sent before it, for each chunk; empty when they lie on chip for good.
    first, channels : int
        The output channels that it computes.
    pixels : int
        Output pixels of one example.
    inputs : tuple of Load
        Activations that are sent before it (and before `loads`), for each chunk.
    result : Region or None
        Where its RESULTs go; None: they stay on chip.
    channel : int
        The channel of that tensor that its first one becomes.
    """

    layer: str
    fields: Mapping[str, int]
    loads: tuple[Block, ...]
    first: int
    channels: int
    pixels: int = 1
    inputs: tuple[Load, ...] = ()
    result: Region | None = None
    channel: int = 0


@dataclass(frozen=True)
class Phase:
    """Layers that run one after the other for each chunk of the batch.

    Parameters
    ----------
    chunk : int
        Most examples that are on chip at once.
    constants : tuple of Block
        Weights and parameters that are sent once, before the first chunk.
    steps : tuple of Step
        For every chunk, in order.
    flip : int
        What every other chunk's activation addresses are XORed with, whole pages: the next chunk's input goes to a page that
        the last layer does not read, so that it loads while that layer runs.
    """

    chunk: int
    constants: tuple[Block, ...]
    steps: tuple[Step, ...]
    flip: int


@dataclass(frozen=True)
class HostStep:
    """A node that the host computes, for the whole batch, from host tensors to one."""

    node: str


Part: TypeAlias = Phase | HostStep


@dataclass(frozen=True)
class Recipe:
    """How a batch becomes packets.

    Parameters
    ----------
    tensors : tuple of HostTensor
        Everything that is on the host at some time: the input first, the output last.
    parts : tuple of Phase and HostStep
        In order, each for the whole batch.
    """

    tensors: tuple[HostTensor, ...]
    parts: tuple[Part, ...]

    @property
    def input(self) -> HostTensor:
        return self.tensors[0]

    @property
    def output(self) -> HostTensor:
        return self.tensors[-1]

    @property
    def features(self) -> int:
        """Input elements of one example."""
        return self.input.pixels * self.input.channels

    @property
    def outputs(self) -> int:
        """Output elements of one example."""
        return self.output.pixels * self.output.channels

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The parts that the machine runs."""
        return tuple(part for part in self.parts if isinstance(part, Phase))

    @property
    def steps(self) -> tuple[Step, ...]:
        """Of all phases."""
        return tuple(step for phase in self.phases for step in phase.steps)

    @property
    def resident(self) -> bool:
        """Whether all weights and parameters lie on chip for a whole run."""
        return len(self.phases) <= 1 and not any(step.loads for step in self.steps)

    def tensor(self, name: str) -> HostTensor:
        """The host tensor of that name."""
        return next(tensor for tensor in self.tensors if tensor.name == name)


# ---- in a file


def _block_to_json(block: Block, blob: Blob) -> Json:
    return {
        "opcode": int(block.opcode),
        "address": block.address,
        "payload": blob.add(block.payload),
        "label": block.label,
    }


def _block_from_json(described: Described, blob: bytes) -> Block:
    return Block(Opcode(described["opcode"]), described["address"], cut(blob, described["payload"]), described["label"])


_NUMBERS = ("layer", "first", "channels", "pixels", "channel")


def _step_to_json(step: Step, blob: Blob) -> Json:
    return {
        **{name: getattr(step, name) for name in _NUMBERS},
        "fields": dict(step.fields),
        "loads": [_block_to_json(block, blob) for block in step.loads],
        "inputs": [asdict(load) for load in step.inputs],
        "result": None if step.result is None else asdict(step.result),
    }


def _step_from_json(described: Described, blob: bytes) -> Step:
    result = described["result"]
    return Step(
        **{name: described[name] for name in _NUMBERS},
        fields=described["fields"],
        loads=tuple(_block_from_json(block, blob) for block in described["loads"]),
        inputs=tuple(Load(**{**load, "region": Region(**load["region"])}) for load in described["inputs"]),
        result=None if result is None else Region(**result),
    )


def recipe_to_json(recipe: Recipe, blob: Blob) -> Json:
    """The recipe, its payloads in the blob."""
    parts: list[Json] = []
    for part in recipe.parts:
        if isinstance(part, HostStep):
            parts.append({"host": part.node})
            continue
        parts.append(
            {
                "chunk": part.chunk,
                "flip": part.flip,
                "constants": [_block_to_json(block, blob) for block in part.constants],
                "steps": [_step_to_json(step, blob) for step in part.steps],
            }
        )
    return {"tensors": [asdict(tensor) for tensor in recipe.tensors], "parts": parts}


def recipe_from_json(described: Described, blob: bytes) -> Recipe:
    """The recipe; KeyError, TypeError or ValueError where the file describes none."""
    parts: list[Part] = []
    for part in described["parts"]:
        if "host" in part:
            parts.append(HostStep(part["host"]))
            continue
        parts.append(
            Phase(
                chunk=part["chunk"],
                constants=tuple(_block_from_json(block, blob) for block in part["constants"]),
                steps=tuple(_step_from_json(step, blob) for step in part["steps"]),
                flip=part["flip"],
            )
        )
    return Recipe(tuple(HostTensor(**tensor) for tensor in described["tensors"]), tuple(parts))
