"""The program container: what `compile` writes and `run` reads, and the recipe by which packets are made from it.

One file, little-endian::

    magic "SFPROGRM" | version u32 | configuration hash u32 | JSON bytes u64 | blob bytes u64 | JSON | blob | SHA-256 of all before

The blob holds the packet payloads and the arrays of the graph; the JSON says where. NumPy only; not imported by the gateware.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from shiftforge.activation import Activation
from shiftforge.config import Config, from_dict
from shiftforge.errors import InputError
from shiftforge.files import read_bytes, write_atomically
from shiftforge.graph import Graph, Input, Linear, Node
from shiftforge.packets import Opcode

MAGIC = b"SFPROGRM"
VERSION = 1
_HEAD = struct.Struct("<8sIIQQ")
_DIGEST_BYTES = 32

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"


@dataclass(frozen=True)
class Block:
    """The payload of one WEIGHTS, PARAMETERS or ACTIVATIONS packet, and the memory word at which it begins."""

    opcode: Opcode
    address: int
    payload: bytes = field(repr=False)
    label: str
    """What it holds, for messages."""


@dataclass(frozen=True)
class Step:
    """One LAYER packet for each chunk of the batch.

    Parameters
    ----------
    layer : str
        Name of the layer.
    fields : mapping of str to int
        The descriptor but for `pixels` and `result_bytes`. Activation addresses are those of a chunk whose input lies in the
        lower half; for one in the upper half the halves change places.
    loads : tuple of Block
        Weights and parameters that are sent before it, for each chunk; empty when they lie on chip for good.
    first, channels : int
        The output channels that it computes.
    """

    layer: str
    fields: Mapping[str, int]
    loads: tuple[Block, ...]
    first: int
    channels: int


@dataclass(frozen=True)
class Recipe:
    """How a batch becomes packets.

    Parameters
    ----------
    features : int
        Input features of one pixel, K of the first layer.
    outputs : int
        Output channels of the last layer.
    chunk : int
        Most pixels that are on chip at once.
    constants : tuple of Block
        Weights and parameters that are sent once, before the first chunk.
    steps : tuple of Step
        For every chunk, in order, after its activations.
    flips : bool
        Whether the next chunk's input goes to the other half than this one's, so that it loads while the last layer runs.
    """

    features: int
    outputs: int
    chunk: int
    constants: tuple[Block, ...]
    steps: tuple[Step, ...]
    flips: bool


@dataclass(frozen=True)
class LayerReport:
    """One line of the compiler's report.

    `tiles` are channel tiles; `macs` are per pixel; `slots` are the products that one tile's PEs are issued per pixel tile, padding
    included; `weight_words`, `parameter_words` and `activation_words` (of its output, per pixel; 0 when it goes to the stream) are
    memory words; `pieces` are LAYER packets per chunk.
    """

    name: str
    k: int
    n: int
    weight_bits: int
    exponent_bias: int
    activation: str
    tiles: int
    pieces: int
    macs: int
    slots: int
    weight_words: int
    parameter_words: int
    activation_words: int


@dataclass(frozen=True, eq=False)
class Program:
    """A compiled network.

    Parameters
    ----------
    name : str
        For messages and reports.
    config : Config
        The machine that it is for.
    overflow : str
        What a finite result beyond the format becomes, inputs included: ``inf`` or ``saturate``.
    graph : Graph
        The compiled graph, which the golden network executes.
    recipe : Recipe
    report : tuple of LayerReport
    """

    name: str
    config: Config
    overflow: Literal["inf", "saturate"]
    graph: Graph
    recipe: Recipe
    report: tuple[LayerReport, ...]

    def __post_init__(self) -> None:
        if self.overflow not in ("inf", "saturate"):
            raise InputError(f"overflow of a program must be 'inf' or 'saturate', not {self.overflow!r}")
        if self.graph.input.features != self.recipe.features or self.graph.output.features != self.recipe.outputs:
            raise InputError("graph and recipe of a program must have the same inputs and outputs, and they differ")

    @property
    def hash(self) -> int:
        """Hash of the configuration that it was compiled for."""
        return self.config.hash

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example, without the batch axis."""
        return self.graph.input.shape

    @property
    def input_scale(self) -> float:
        return self.graph.input.scale

    @property
    def output_scale(self) -> float:
        return self.graph.layers()[-1].output_scale

    def to_bytes(self) -> bytes:
        """The whole file."""
        blob = _Blob()
        described: dict[str, Json] = {
            "name": self.name,
            "config": cast(Json, self.config.to_dict()),
            "overflow": self.overflow,
            "graph": [_node_to_json(node, blob) for node in self.graph],
            "recipe": {
                "features": self.recipe.features,
                "outputs": self.recipe.outputs,
                "chunk": self.recipe.chunk,
                "flips": self.recipe.flips,
                "constants": [_block_to_json(block, blob) for block in self.recipe.constants],
                "steps": [
                    {
                        "layer": step.layer,
                        "fields": dict(step.fields),
                        "loads": [_block_to_json(block, blob) for block in step.loads],
                        "first": step.first,
                        "channels": step.channels,
                    }
                    for step in self.recipe.steps
                ],
            },
            "report": [asdict(line) for line in self.report],
        }
        text = json.dumps(described, sort_keys=True).encode()
        data = _HEAD.pack(MAGIC, VERSION, self.hash, len(text), len(blob.data)) + text + bytes(blob.data)
        return data + hashlib.sha256(data).digest()

    def save(self, path: Path | str) -> None:
        """Write the file whole or not at all; `InputError` when the place is not writable."""
        write_atomically(path, self.to_bytes())


def load(path: Path | str) -> Program:
    """The program in a file; `InputError` names the file and what is wrong with it."""
    return from_bytes(read_bytes(path, "program"), str(path))


def from_bytes(data: bytes, name: str = "program") -> Program:
    """The program in `data`.

    Raises
    ------
    InputError
        When it is no program, of another version, truncated, damaged, or its hash is not that of its configuration.
    """
    if len(data) < _HEAD.size or data[: len(MAGIC)] != MAGIC:
        raise InputError(f"{name} must be a compiled program, and it does not begin like one")
    _, version, config_hash, text_bytes, blob_bytes = _HEAD.unpack_from(data)
    if version != VERSION:
        raise InputError(f"{name} must be a program of version {VERSION}, not {version}; compile the network again")
    expected = _HEAD.size + text_bytes + blob_bytes + _DIGEST_BYTES
    if len(data) != expected:
        what = "truncated" if len(data) < expected else "too long"
        raise InputError(f"{name} must be {expected} bytes long, not {len(data)}: the file is {what}")
    if hashlib.sha256(data[:-_DIGEST_BYTES]).digest() != data[-_DIGEST_BYTES:]:
        raise InputError(f"{name} must match its checksum, and does not: the file is damaged")
    blob = data[_HEAD.size + text_bytes : -_DIGEST_BYTES]
    try:
        described = json.loads(data[_HEAD.size : _HEAD.size + text_bytes])
        recipe = described["recipe"]
        program = Program(
            name=described["name"],
            config=from_dict(described["config"]),
            overflow=described["overflow"],
            graph=Graph(tuple(_node_from_json(node, blob) for node in described["graph"])),
            recipe=Recipe(
                features=recipe["features"],
                outputs=recipe["outputs"],
                chunk=recipe["chunk"],
                flips=recipe["flips"],
                constants=tuple(_block_from_json(block, blob) for block in recipe["constants"]),
                steps=tuple(
                    Step(
                        layer=step["layer"],
                        fields=step["fields"],
                        loads=tuple(_block_from_json(block, blob) for block in step["loads"]),
                        first=step["first"],
                        channels=step["channels"],
                    )
                    for step in recipe["steps"]
                ),
            ),
            report=tuple(LayerReport(**line) for line in described["report"]),
        )
    except (KeyError, TypeError, UnicodeDecodeError, ValueError) as error:  # ValueError: JSON, NumPy and our own
        raise InputError(f"{name} must be a well-formed program, and is not ({error})") from None
    if program.hash != config_hash:
        raise InputError(
            f"{name} must carry the hash of its own configuration, {program.hash:#010x}, not {config_hash:#010x}; "
            "compile the network again with this version"
        )
    return program


def require_config(program: Program, config: Config) -> None:
    """`InputError` with both hashes when the program was compiled for another configuration."""
    if program.hash != config.hash:
        raise InputError(
            f"the program must be compiled for this configuration (hash {config.hash:#010x}), not for {program.hash:#010x}; "
            "compile the network again with this configuration"
        )


class _Blob:
    """Bytes that grow; gives the place of each addition."""

    def __init__(self) -> None:
        self.data = bytearray()

    def add(self, part: bytes) -> Json:
        place = len(self.data)
        self.data += part
        return [place, len(part)]


def _cut(blob: bytes, place: list[int]) -> bytes:
    offset, length = place
    if not 0 <= offset <= offset + length <= len(blob):
        raise ValueError(f"a section at {offset} of {length} bytes reaches beyond the blob")
    return blob[offset : offset + length]


def _block_to_json(block: Block, blob: _Blob) -> Json:
    return {
        "opcode": int(block.opcode),
        "address": block.address,
        "payload": blob.add(block.payload),
        "label": block.label,
    }


def _block_from_json(described: dict[str, Json], blob: bytes) -> Block:
    return Block(
        Opcode(cast(int, described["opcode"])),
        cast(int, described["address"]),
        _cut(blob, cast("list[int]", described["payload"])),
        cast(str, described["label"]),
    )


def _node_to_json(node: Node, blob: _Blob) -> Json:
    if isinstance(node, Input):
        return {"kind": "input", "name": node.name, "shape": list(node.shape), "scale": node.scale}
    if not isinstance(node, Linear) or not node.compiled:
        raise InputError(f"node {node.name!r} must be a compiled layer to be part of a program")
    return {
        "kind": "linear",
        "name": node.name,
        "source": node.source,
        "shape": list(node.codes.shape),
        "codes": blob.add(node.codes.tobytes()),
        "weight_bits": node.weight_bits,
        "exponent_bias": node.exponent_bias,
        "scale": blob.add(node.scale.astype("<f4").tobytes()),
        "bias": blob.add(node.bias.astype("<f4").tobytes()),
        "activation": asdict(node.activation),
        "output_scale": node.output_scale,
    }


def _node_from_json(described: dict[str, Json], blob: bytes) -> Node:
    def array(key: str, dtype: str) -> NDArray[np.uint8] | NDArray[np.float32]:
        return np.frombuffer(_cut(blob, cast("list[int]", described[key])), dtype)

    name, shape = cast(str, described["name"]), cast("list[int]", described["shape"])
    if described["kind"] == "input":
        return Input(name, tuple(shape), cast(float, described["scale"]))
    if described["kind"] != "linear":
        raise ValueError(f"unknown node kind {described['kind']!r}")
    return Linear(
        name=name,
        source=cast(str, described["source"]),
        codes=cast("NDArray[np.uint8]", array("codes", "u1")).reshape(shape),
        weight_bits=cast(int, described["weight_bits"]),
        exponent_bias=cast(int, described["exponent_bias"]),
        scale=cast("NDArray[np.float32]", array("scale", "<f4")),
        bias=cast("NDArray[np.float32]", array("bias", "<f4")),
        activation=Activation(**cast("dict[str, int]", described["activation"])),  # pyright: ignore[reportArgumentType]
        output_scale=cast(float, described["output_scale"]),
    )
