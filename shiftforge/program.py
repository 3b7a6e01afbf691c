"""The program container: what `compile` writes and `run` reads.

One file, little-endian::

    magic "SFPROGRM" | version u32 | configuration hash u32 | JSON bytes u64 | blob bytes u64 | JSON | blob | SHA-256 of all before

The blob holds the packet payloads and the arrays of the graph; the JSON says where. NumPy only; not imported by the gateware.
"""

import hashlib
import json
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast

from shiftforge.config import Config, from_dict
from shiftforge.errors import InputError, NotBuiltError
from shiftforge.files import read_bytes, write_atomically
from shiftforge.graph import Graph
from shiftforge.graph.stored import Blob, Json, node_from_json, node_to_json
from shiftforge.recipe import Recipe, recipe_from_json, recipe_to_json

MAGIC = b"SFPROGRM"
VERSION = 4
_HEAD = struct.Struct("<8sIIQQ")
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class LayerReport:
    """One line of the compiler's report.

    `k` are the products of one output element, all terms together; `macs` are per pixel, and `pixels` are those of one example;
    `tiles` are channel tiles; `slots` are the products that one tile's PEs are issued per pixel tile, padding included;
    `weight_words`, `parameter_words` and `activation_words` (of its output, per pixel; 0 when it goes to the stream) are memory
    words; `pieces` are LAYER packets per chunk, or per example where it runs in strips or its image has edges. In a program without
    a recipe what depends on the placement is 0.

    `place` says who computes it: ``chip``, ``strips`` (of the host's tensor) or ``host``; `unfolded`, whether the host laid out its
    patches. Traffic of one example: `loaded_bytes` of activations before it, `result_bytes` after it; `constant_bytes` are its
    weights and parameters, sent once or for every chunk.
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
    kind: str = "linear"
    pixels: int = 1
    terms: int = 1
    groups: int = 1
    place: str = "chip"
    unfolded: bool = False
    loaded_bytes: int = 0
    result_bytes: int = 0
    constant_bytes: int = 0


@dataclass(frozen=True)
class Marks:
    """High-water marks: the most words of each memory that any moment of a run needs, halves and pages as they are filled."""

    activation_words: int = 0
    weight_words: int = 0
    parameter_words: int = 0


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
    placed : Recipe or None
        None: the machine does not run the network, for the reason in `unplaced`; the golden network does.
    report : tuple of LayerReport
    unplaced : str
        The node and what it needs, a part of a sentence; empty with a recipe.
    marks : Marks
    """

    name: str
    config: Config
    overflow: Literal["inf", "saturate"]
    graph: Graph
    placed: Recipe | None
    report: tuple[LayerReport, ...]
    unplaced: str = ""
    marks: Marks = Marks()

    def __post_init__(self) -> None:
        if self.overflow not in ("inf", "saturate"):
            raise InputError(f"overflow of a program must be 'inf' or 'saturate', not {self.overflow!r}")
        if (self.placed is None) != bool(self.unplaced):
            raise InputError("a program must have either a recipe or the reason why it has none")
        if self.placed is not None and (
            self.graph.input.features != self.placed.features or self.graph.output_features != self.placed.outputs
        ):
            raise InputError("graph and recipe of a program must have the same inputs and outputs, and they differ")

    @property
    def recipe(self) -> Recipe:
        """What is placed; `NotBuiltError` says why nothing is."""
        if self.placed is None:
            raise NotBuiltError(
                f"the program {self.name!r} must be one that its machine runs, and {self.unplaced}; "
                "the golden network runs it: run --backend golden"
            )
        return self.placed

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
        return self.graph.output_scale

    def to_bytes(self) -> bytes:
        """The whole file."""
        blob = Blob()
        described: dict[str, Json] = {
            "name": self.name,
            "config": cast(Json, self.config.to_dict()),
            "overflow": self.overflow,
            "graph": [node_to_json(node, blob) for node in self.graph],
            "recipe": None if self.placed is None else recipe_to_json(self.placed, blob),
            "unplaced": self.unplaced,
            "report": [asdict(line) for line in self.report],
            "marks": asdict(self.marks),
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
            graph=Graph(tuple(node_from_json(node, blob) for node in described["graph"])),
            placed=None if recipe is None else recipe_from_json(recipe, blob),
            unplaced=described["unplaced"],
            report=tuple(LayerReport(**line) for line in described["report"]),
            marks=Marks(**described["marks"]),
        )
    except (KeyError, TypeError, UnicodeDecodeError, ValueError) as error:  # ValueError: JSON, NumPy and our own
        raise InputError(f"{name} must be a well-formed program, and is not ({error})") from None
    if program.hash != config_hash:
        raise InputError(
            f"{name} must carry the hash of its own configuration, {program.hash:#010x}, not {config_hash:#010x}; "
            "compile the network again with this version"
        )
    return program


def require_placed(program: Program) -> None:
    """`NotBuiltError` with the reason when the machine does not run the program."""
    _ = program.recipe


def require_config(program: Program, config: Config) -> None:
    """`InputError` with both hashes when the program was compiled for another configuration."""
    if program.hash != config.hash:
        raise InputError(
            f"the program must be compiled for this configuration (hash {config.hash:#010x}), not for {program.hash:#010x}; "
            "compile the network again with this configuration"
        )
