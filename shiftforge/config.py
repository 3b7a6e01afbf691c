"""The configuration: one TOML file for the generator, the golden model and the driver, and what follows from it.

Every derived width and size is a property of `Config`, so that each number exists once. Pure Python: the gateware reads it.
"""

import difflib
import hashlib
import json
import tomllib
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from shiftforge.errors import InputError, NotBuiltError
from shiftforge.formats import FORMATS, Format, WeightCode, format_named

CONFIG_VERSION = 1
"""Part of the configuration hash: raised whenever the same configuration would mean another machine."""

STREAM_BITS = (32, 64, 128)
MAX_ROWS_COLS = 256
MAX_K_WORDS = (1 << 16) - 1
"""The layer descriptor's k_words field has 16 bits."""
ALIGNED_FORMATS = ("int8", "int16", "fp8_e4m3", "fp8_e5m2", "fp16")
"""Activation formats of which the ``aligned`` accumulator makes hardware."""
BANKED_FORMATS = tuple(f.name for f in FORMATS.values() if f.is_float)
"""Activation formats of which the ``banked`` accumulator makes hardware."""
ACCUMULATORS = ("aligned", "banked")
ALIGNED_BY_DEFAULT = ("int8", "int16", "fp8_e4m3")
"""Activation formats whose range is so short that ``aligned`` is no larger, and faster: docs/accumulators.md."""
ACTIVATION_PAGES = (2, 4, 8, 16)


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up; b is positive."""
    return -(-a // b)


def power_of_two_at_least(n: int) -> int:
    """The smallest power of two that is n or more; 1 for n below 2."""
    return 1 << max(0, (n - 1).bit_length())


def most_lanes(rows: int, cols: int) -> int:
    """A lane per column, and rows enough to hold what leaves in a step; a power of two."""
    return 1 << (min(rows, cols).bit_length() - 1)


def lanes_for(rows: int, cols: int) -> int:
    """Lanes by default: enough to drain a tile in max(rows, 64) cycles where rows allow."""
    return min(power_of_two_at_least(ceil_div(rows * cols, max(rows, 64))), most_lanes(rows, cols))


@dataclass(frozen=True)
class Config:
    """One accelerator.

    Parameters
    ----------
    rows, cols : int
        Array size, 1..256 each. Rows carry pixels (M), columns output channels (N).
    activation, output : Format
        Format of the activations, and of what leaves on the output stream. Results that stay on chip are activations.
    weights : WeightCode
        Width of the weight codes, and whether each has a mask bit (``array.mask``).
    max_k : int
        Longest dot product. Accumulators are sized from it, so that no sum can wrap.
    accumulator : str
        ``aligned``: one fixed-point accumulator per PE (integers, fp8, fp16). ``banked``: narrow accumulators in memory, one for
        each range of exponents (every float format). Default: `ALIGNED_BY_DEFAULT`, else banked. Both give the same bits.
    overflow : str
        Default of `gemm` for a result beyond the format: ``inf`` (IEEE 754 clause 7.4) or ``saturate``.
    k_bias_bits : int
        Width of an exponent bias per K index. Only 0 is built.
    activation_words, weight_words, parameter_words : int
        Memory depths in words of `activation_word_bits`, `weight_word_bits` and `parameter_word_bits`: powers of two, split into
        pages that load and compute independently: `activation_pages`, and two halves of the others.
    stream_bits : int
        Width of both AXI4-Streams: 32, 64 or 128.
    activation_pages : int
        Equal pages of the activation memory: 2, 4, 8 or 16.
    residual, max_pool : bool
        Whether a layer may add a residual, and whether there is a maximum over windows.
    lanes : int
        Post-processing lanes, a power of two: so many channels of a pixel leave in a cycle. Default: `lanes_for`.
    """

    rows: int
    cols: int
    activation: Format
    output: Format
    weights: WeightCode
    max_k: int
    accumulator: Literal["aligned", "banked"]
    overflow: Literal["inf", "saturate"]
    k_bias_bits: int
    activation_words: int
    weight_words: int
    parameter_words: int
    stream_bits: int
    activation_pages: int
    residual: bool
    max_pool: bool
    lanes: int

    # ---- array

    @property
    def max_k_words(self) -> int:
        """Activation words of one row's longest dot product: K is padded with zeros to whole words of `rows` elements."""
        return ceil_div(self.max_k, self.rows)

    @property
    def product_bits(self) -> int:
        """Two's complement width of an activation in fixed point shifted by the largest weight exponent."""
        return self.activation.fixed_bits + self.weights.max_exponent

    @property
    def accumulator_bits(self) -> int:
        """Two's complement width that no sum of `max_k` products can leave."""
        largest = self.activation.max_fixed << self.weights.max_exponent
        return (largest * self.max_k).bit_length() + 1

    @property
    def block_bits(self) -> int:
        """Width of an aligned accumulator: two's complement, what no sum of a block's `rows` products can leave, each one's
        complement where its weight is negative, hence from -2**(product_bits - 1) to 2**(product_bits - 1) - 1."""
        return self.product_bits + (self.rows - 1).bit_length()

    @property
    def adder_copies(self) -> int:
        """Registers of what goes to every bit of an aligned accumulator: one for each 8 bits, 3 at most (`hw.delay.copies`)."""
        return min(3, ceil_div(self.block_bits, 8))

    @property
    def groups(self) -> int:
        """Steps in which the lanes read out one row of a tile: ceil(cols / lanes)."""
        return ceil_div(self.cols, self.lanes)

    @property
    def banked(self) -> bool:
        """Whether the machine has banked accumulators; one without gateware (integers, say) is timed as an aligned one."""
        return self.accumulator == "banked" and self.activation.name in BANKED_FORMATS

    # ---- memories

    @property
    def activation_word_bits(self) -> int:
        """One activation word: `rows` consecutive channels of one pixel."""
        return self.rows * self.activation.bits

    @property
    def activation_page(self) -> int:
        """Words of one page of the activation memory: the addresses of a layer count modulo it."""
        return self.activation_words // self.activation_pages

    @property
    def weight_word_bits(self) -> int:
        """One weight word: the weight elements (code and mask bit) of all columns for one K index."""
        return self.cols * self.weights.element_bits

    @property
    def parameter_word_bits(self) -> int:
        """One parameter word: (scale, bias) in fp32 for each lane."""
        return self.lanes * 64

    # ---- identity

    def to_dict(self) -> dict[str, dict[str, int | str]]:
        """The resolved configuration in the shape of the TOML file, every default filled in."""
        return {
            "array": {
                "rows": self.rows,
                "cols": self.cols,
                "activation": self.activation.name,
                "output": self.output.name,
                "weight_bits": self.weights.bits,
                "max_k": self.max_k,
                "accumulator": self.accumulator,
                "overflow": self.overflow,
                "k_bias_bits": self.k_bias_bits,
                "mask": self.weights.mask,
                "residual": self.residual,
                "max_pool": self.max_pool,
                "lanes": self.lanes,
            },
            "memory": {
                "activation_words": self.activation_words,
                "weight_words": self.weight_words,
                "parameter_words": self.parameter_words,
                "activation_pages": self.activation_pages,
            },
            "interface": {"stream_bits": self.stream_bits},
        }

    @cached_property
    def hash(self) -> int:
        """32-bit identity of the machine: SHA-256 of the resolved configuration, first four bytes, big-endian.

        `overflow` is left out: it is a default of the driver, not a property of the machine. So are the keys that came later,
        each at its default: a machine without masks is the same machine as before there were any.
        """
        resolved = self.to_dict()
        del resolved["array"]["overflow"]
        for section, key, default in (*_LATER, ("array", "lanes", lanes_for(self.rows, self.cols))):
            if resolved[section][key] == default:
                del resolved[section][key]
        text = json.dumps({"version": CONFIG_VERSION, **resolved}, sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")

    def require_hardware(self) -> None:
        """Raise `NotBuiltError` when this configuration has no gateware (the golden model runs every format)."""
        built = ALIGNED_FORMATS if self.accumulator == "aligned" else BANKED_FORMATS
        if self.activation.name not in built:
            other = "banked" if self.accumulator == "aligned" else "aligned"
            raise NotBuiltError(
                f"array.accumulator must be {other!r} for hardware with {self.activation.name} activations, "
                f"not {self.accumulator!r}; the golden backend runs it"
            )


_LATER = (
    ("array", "mask", False),
    ("array", "residual", False),
    ("array", "max_pool", False),
    ("memory", "activation_pages", 2),
)
"""Keys that came after the first machines, with the value that those have."""


@dataclass(frozen=True)
class Key:
    """One key of the TOML file; `default` says in words what is taken without it, nothing where it must be given."""

    section: str
    name: str
    kind: type
    default: str
    text: str


KEYS = (
    Key("array", "rows", int, "", "rows of processing elements, 1..256: pixels (M) of a tile"),
    Key("array", "cols", int, "", "columns, 1..256: output channels (N) of a tile"),
    Key("array", "activation", str, "", "format of the activations: " + ", ".join(FORMATS)),
    Key("array", "output", str, "", "format of what leaves on the output stream; what stays on chip is activations"),
    Key("array", "weight_bits", int, "", "2, 3 or 4: one sign, the rest exponent"),
    Key(
        "array",
        "max_k",
        int,
        "",
        "longest dot product, 1..65536, with every tap of a convolution padded to whole words",
    ),
    Key(
        "array",
        "accumulator",
        str,
        "aligned for integers and fp8 e4m3, else banked",
        "how sums are kept: [accumulators.md](accumulators.md)",
    ),
    Key("array", "overflow", str, "inf", "`gemm`: inf (IEEE 754) or saturate"),
    Key(
        "array", "mask", bool, "false", "one more bit per weight: no product. Zero weights, groups, depthwise, averages"
    ),
    Key("array", "residual", bool, "false", "layers may add a tensor to their results before the activation"),
    Key("array", "max_pool", bool, "false", "a unit for the maximum over windows of pixels, which also copies"),
    Key(
        "array",
        "lanes",
        int,
        "a tile leaves in max(rows, 64) cycles",
        "post-processing lanes, a power of two up to rows and cols: fewer are smaller, and drain a tile more slowly",
    ),
    Key("array", "k_bias_bits", int, "0", "bits of an exponent bias per K index; only 0 is built"),
    Key(
        "memory",
        "activation_words",
        int,
        "512, or what a tile of max_k takes",
        "a power of two; one example's tensor must fit a page",
    ),
    Key("memory", "activation_pages", int, "2", "pages of the activation memory: 2, 4, 8 or 16"),
    Key(
        "memory",
        "weight_words",
        int,
        "512, or what a tile of max_k takes",
        "a power of two; a column of tiles must fit half",
    ),
    Key("memory", "parameter_words", int, "128, or two tiles' channels", "a power of two"),
    Key("interface", "stream_bits", int, "64", "width of both AXI4-Streams: 32, 64 or 128"),
)
"""Everything that a configuration file may say."""

_SECTIONS = {key.section: {other.name: other.kind for other in KEYS if other.section == key.section} for key in KEYS}
_KINDS = MappingProxyType({int: "an integer", str: "a string", bool: "true or false"})
_REQUIRED = tuple(key.name for key in KEYS if not key.default)


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else f"; known keys are {', '.join(known)}"


def _checked(data: dict[str, object]) -> dict[str, int | str]:
    """Flat ``section.key`` -> value, with unknown keys, wrong types and missing keys refused."""
    flat: dict[str, int | str] = {}
    for section, table in data.items():
        if section not in _SECTIONS:
            raise InputError(f"section [{section}] is unknown{_nearest(section, list(_SECTIONS))}")
        if not isinstance(table, dict):
            raise InputError(f"{section} must be a table, written as [{section}], not {table!r}")
        for key, value in table.items():
            known = _SECTIONS[section]
            if key not in known:
                raise InputError(f"key {section}.{key} is unknown{_nearest(key, list(known))}")
            if type(value) is not known[key]:  # not isinstance: True is no integer here
                raise InputError(f"{section}.{key} must be {_KINDS[known[key]]}, not {value!r}")
            flat[key] = value
    for key in _REQUIRED:
        if key not in flat:
            raise InputError(f"array.{key} must be given, and the configuration lacks it")
    return flat


def _in_range(name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise InputError(f"{name} must be {low}..{high}, not {value}")
    return value


def _depth(name: str, value: int, least: int, why: str) -> int:
    if value != power_of_two_at_least(value) or not least <= value <= 1 << 17:
        raise InputError(f"memory.{name} must be a power of two from {least} ({why}) to {1 << 17}, not {value}")
    return value


def from_dict(data: dict[str, object]) -> Config:
    """A validated `Config` from the parsed TOML; `InputError` names the key, the rule and the mend."""
    flat = _checked(data)

    def integer(key: str, default: int = 0) -> int:
        return int(flat.get(key, default))

    rows = _in_range("array.rows", integer("rows"), 1, MAX_ROWS_COLS)
    cols = _in_range("array.cols", integer("cols"), 1, MAX_ROWS_COLS)
    max_k = _in_range("array.max_k", integer("max_k"), 1, 1 << 16)
    if ceil_div(max_k, rows) > MAX_K_WORDS:
        raise InputError(f"array.max_k must be at most {rows * MAX_K_WORDS} with {rows} rows, not {max_k}")
    activation = format_named(str(flat["activation"]))
    accumulator = flat.get("accumulator", "aligned" if activation.name in ALIGNED_BY_DEFAULT else "banked")
    if accumulator not in ACCUMULATORS:
        raise InputError(f"array.accumulator must be 'aligned' or 'banked', not {accumulator!r}")
    overflow = flat.get("overflow", "inf")
    if overflow not in ("inf", "saturate"):
        raise InputError(f"array.overflow must be 'inf' or 'saturate', not {overflow!r}")
    if integer("k_bias_bits") != 0:
        raise NotBuiltError(f"array.k_bias_bits must be 0 in this version, not {integer('k_bias_bits')}")
    stream_bits = integer("stream_bits", 64)
    if stream_bits not in STREAM_BITS:
        raise InputError(f"interface.stream_bits must be one of {', '.join(map(str, STREAM_BITS))}, not {stream_bits}")

    pages = integer("activation_pages", 2)
    if pages not in ACTIVATION_PAGES:
        raise InputError(f"memory.activation_pages must be one of {', '.join(map(str, ACTIVATION_PAGES))}, not {pages}")

    most = most_lanes(rows, cols)
    lanes = integer("lanes", lanes_for(rows, cols))
    if lanes != power_of_two_at_least(lanes) or lanes > most:
        raise InputError(
            f"array.lanes must be a power of two from 1 to {most} ({rows} rows, {cols} columns), not {lanes}"
        )

    # A page of each memory, of which weights and parameters have two, must hold a tile of K = max_k.
    k_words = ceil_div(max_k, rows)
    least_activation = pages * power_of_two_at_least(rows * k_words)
    least_weight = 2 * power_of_two_at_least(rows * k_words)
    config = Config(
        rows=rows,
        cols=cols,
        activation=activation,
        output=format_named(str(flat["output"])),
        weights=WeightCode(integer("weight_bits"), mask=bool(flat.get("mask", False))),
        max_k=max_k,
        accumulator="banked" if accumulator == "banked" else "aligned",
        overflow="inf" if overflow == "inf" else "saturate",
        k_bias_bits=0,
        activation_words=_depth(
            "activation_words",
            integer("activation_words", max(512, least_activation)),
            least_activation,
            f"{pages} pages of one tile of K = max_k",
        ),
        weight_words=_depth(
            "weight_words",
            integer("weight_words", max(512, least_weight)),
            least_weight,
            "two halves of one tile of K = max_k",
        ),
        parameter_words=0,
        stream_bits=stream_bits,
        activation_pages=pages,
        residual=bool(flat.get("residual", False)),
        max_pool=bool(flat.get("max_pool", False)),
        lanes=lanes,
    )
    least_parameter = 2 * power_of_two_at_least(config.groups)
    depth = _depth(
        "parameter_words",
        integer("parameter_words", max(128, least_parameter)),
        least_parameter,
        "two halves of one tile's channels",
    )
    values = {f.name: getattr(config, f.name) for f in fields(config)}
    return Config(**{**values, "parameter_words": depth})


def load(path: str | Path) -> Config:
    """The configuration in a TOML file; `InputError` names the file and what is wrong in it."""
    try:
        data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"configuration {path} must be a readable file: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"configuration {path} must be TOML: {error}") from None
    try:
        return from_dict(data)
    except InputError as error:
        raise type(error)(f"{path}: {error}") from None
