"""The area of a machine in ECP5 cells, without synthesis: its units' costs, fitted once to yosys (`bench.calibrate`), summed up.

A unit's LUT4 and flip-flops are linear in the widths that it is made of (`features`); the coefficients lie in ``area.json``. Block
memories and multipliers are counted. LUT4 are counted as `sim.synth` counts them. Pure Python.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from shiftforge import timing
from shiftforge.banks import ADDRESS_BITS, WORDS, Banks
from shiftforge.config import Config, ceil_div
from shiftforge.errors import InputError
from shiftforge.files import read_text

TABLE = Path(__file__).with_name("area.json")
"""Written by ``python -m bench.calibrate``."""

BLOCK_MEMORIES = ((16384, 1), (8192, 2), (4096, 4), (2048, 9), (1024, 18), (512, 36))
"""Words and bits of a DP16KD (Lattice FPGA-TN-02204)."""
LUT_MEMORY = (16, 4)
"""Words and bits of a TRELLIS_DPR16X4."""
LANE_MULTIPLIERS = 4
"""MULT18X18D of the binary32 product; a residual's takes as many or fewer (`Table.residual_multipliers`)."""

Features = Mapping[str, float]


@dataclass(frozen=True)
class Part:
    """One kind of unit in a machine: how many, and the cost of each."""

    name: str
    count: int
    lut: float
    ff: float
    ram: int = 0
    dsp: int = 0


@dataclass(frozen=True)
class Area:
    """A machine's estimated area.

    Parameters
    ----------
    parts : tuple of Part
    error_percent : float
        Largest error in LUT4 or flip-flops on the whole machines that the calibration did not see.
    tool : str
        What it was calibrated to.
    beyond : tuple of str
        What this machine has that no machine of the calibration had; the error says nothing about it.
    """

    parts: tuple[Part, ...]
    error_percent: float
    tool: str
    beyond: tuple[str, ...]

    @property
    def lut(self) -> int:
        return round(sum(part.count * part.lut for part in self.parts))

    @property
    def ff(self) -> int:
        return round(sum(part.count * part.ff for part in self.parts))

    @property
    def ram(self) -> int:
        return sum(part.count * part.ram for part in self.parts)

    @property
    def dsp(self) -> int:
        return sum(part.count * part.dsp for part in self.parts)


def block_memories(words: int, bits: int) -> int:
    """DP16KD of a memory: all in one shape, the one that takes the fewest."""
    return min(ceil_div(words, deep) * ceil_div(bits, wide) for deep, wide in BLOCK_MEMORIES)


def memory_features(words: int, bits: int) -> Features:
    """Of a `hw.memories.WordMemory`."""
    return {"one": 1, "bits": bits, "address": (words - 1).bit_length()}


def features(unit: str, config: Config) -> Features:
    """What a unit's LUT4 and flip-flops are linear in.

    Parameters
    ----------
    unit : str
        ``pe``, ``edge``, ``column``, ``lane`` or ``core`` (all that is no unit and no memory).
    """
    kind = "banked" if config.banked else "aligned"
    return _FEATURES[unit if unit in ("lane", "core") else f"{unit} {kind}"](config)


def family(unit: str, config: Config) -> str:
    """The unit's name in the table: those with the same coefficients share it."""
    return unit if unit in ("lane", "core") else f"{unit} {'banked' if config.banked else 'aligned'}"


def _aligned_pe(config: Config) -> Features:
    """With 2-bit weights shift and sign lie in the carry chain: no lookup, but two registers of the activation to choose from."""
    bits, fixed, flags = config.weights.bits, config.activation.fixed_bits, config.activation.flag_bits
    shifted = {2: 0, 3: fixed + 1, 4: fixed + 1 + fixed + 3}[bits]
    return {
        "2 bits": bits == 2,
        "3 bits": bits == 3,
        "4 bits": bits == 4,
        "adder": config.block_bits,
        "chain": 2 * ceil_div(config.block_bits, 2),
        "copies": config.adder_copies,
        "fixed": fixed,
        "addend": shifted if shifted else 2 * fixed,
        "shifts": shifted,
        "flags": flags,
        "flags late": flags if bits == 4 else 0,
        "mask": config.weights.mask,
        "flags masked": flags if config.weights.mask else 0,
    }


def _banked_pe(config: Config) -> Features:
    """The halves of a word and of what is added to it, the upper one a register later."""
    banks, flags = Banks.of(config), config.activation.flag_bits
    low, high = banks.low_bits, banks.word_bits - banks.low_bits
    shifted = banks.significand_bits + (1 << (banks.w_shift_bits - 1)) - 1  # the last shift is a choice of registers
    rest = 0 if banks.upper_counts else banks.reach + 1
    return {
        "one": 1,
        "word": banks.word_bits,
        "chain": 2 * ceil_div(low + 2, 2) + 2 * ceil_div(high + (not banks.upper_counts), 2),
        "memory": _lut_memories(WORDS, low) + _lut_memories(WORDS, high),
        "significand": banks.significand_bits,
        "addend": shifted + 1,
        "upper": rest,
        "a bit above": banks.reach if banks.upper_counts else 0,
        "shifts": shifted * max(1, banks.w_shift_bits - 1),
        "weight banks": banks.w_bank_bits,
        "flags": flags,
        "mask": config.weights.mask,
    }


def _edge(config: Config) -> Features:
    return {config.activation.name: 1}


def _banked_edge(config: Config) -> Features:
    return {config.activation.name: 1, "weight banks": Banks.of(config).w_bank_bits}


def _aligned_column(config: Config) -> Features:
    rows, flags = config.rows, config.activation.flag_bits
    word = config.accumulator_bits + flags
    sums = rows if rows > 1 else 0  # of a single row they are a register
    return {
        "one": 1,
        "block": config.block_bits,
        "block chain": 2 * ceil_div(config.block_bits, 2) + 2 * ceil_div(config.block_bits + 1, 2),
        "sum": config.accumulator_bits,
        "flags": flags,
        "kept": word if rows == 1 else 0,
        "negatives": rows.bit_length(),
        "memory": _lut_memories(max(rows, 2), config.block_bits)
        + _lut_memories(sums, word)
        + _lut_memories(2 * rows, word),
        "deep": word * (ceil_div(2 * rows, LUT_MEMORY[0]) - 1),
        **_row_features(rows),
    }


def _row_features(rows: int) -> Features:
    """Of a column's row counter, and of a row's address in its buffer: an adder unless rows are a power of two."""
    bits = (max(rows, 2) - 1).bit_length()
    return {"row": bits, "row added": bits if rows & (rows - 1) else 0}


def _banked_column(config: Config) -> Features:
    banks, flags = Banks.of(config), config.activation.flag_bits
    top = min(banks.running_bits, config.accumulator_bits - banks.shift_of(banks.count - 1))
    stored = [banks.step - 1, *[banks.step] * (banks.count - 2), top + flags]
    deep = ceil_div(2 * config.rows, LUT_MEMORY[0]) - 1
    return {
        "one": 1,
        "word": banks.word_bits,
        "sum": config.accumulator_bits,
        "flags": flags,
        "memory": sum(_lut_memories(2 * config.rows, bits) for bits in stored)
        + _lut_memories(max(config.rows, 2), banks.running_bits - banks.step),
        "deep": sum(stored) * deep,
        **_row_features(config.rows),
    }


def _lane(config: Config) -> Features:
    """Resolve and round to binary32, post-process, round to both destinations."""
    out, act = config.output, config.activation
    levels = timing.resolve_levels(config)
    return {
        "one": 1,
        "sum": config.accumulator_bits,
        "shifts": config.accumulator_bits * levels,
        "leaky": timing.lane_rounds_activation(config),
        "integer out": not out.is_float,
        "integer in": not act.is_float,
        "out bits": out.precision,
        "in bits": act.precision,
        "one destination": out.name == act.name,
        "residual": config.residual,
        "residual bits": act.precision if config.residual else 0,
    }


def _core(config: Config) -> Features:
    """Streams, decoder, engine, drain, writer, emitter, registers, and the array's skew and read-out."""
    lanes, rows, cols, bits = config.lanes, config.rows, config.cols, config.activation.bits
    element = config.weights.element_bits
    capture = Banks.of(config).word_bits if config.banked else config.block_bits
    capture += config.activation.flag_bits
    sums = config.accumulator_bits + config.activation.flag_bits
    fifo = _lut_memories(timing.fifo_steps(config), lanes * config.output.bits + 1)
    return {
        "one": 1,
        "banked": config.banked,
        "read-out": cols * capture * merges(config),
        "skew": element * cols * (cols - 1) / 2,
        "drain": lanes * sums * config.groups,
        "rows": rows * (bits + (config.activation_words - 1).bit_length()),
        "lanes to rows": rows * lanes * bits,
        "fifo": fifo,
        "stream": config.stream_bits,
        "words": config.weight_word_bits + config.parameter_word_bits + config.activation_word_bits,
        "residual": config.residual,
        "residual rows": rows * lanes * bits if config.residual else 0,
        "maximum": rows * bits if config.max_pool else 0,
        "pages": config.activation_pages - 2,
    }


def merges(config: Config) -> int:
    """Nodes of a column's read-out, each an OR of up to four with its register (`timing.read_out`)."""
    return len(merge_inputs(config.rows, timing.read_out_ends(config)))


def merge_inputs(rows: int, ends: int) -> list[int]:
    """The inputs of each such node for that many rows, read out in so many parts. One of a single input is a register alone."""
    part, nodes = ceil_div(rows, ends), list[int]()
    for start in range(0, rows, part):
        left = min(part, rows - start)
        for _ in range(timing.or_levels(part)):
            nodes += [min(4, left - first) for first in range(0, left, 4)]
            left = ceil_div(left, 4)
    return nodes


def _lut_memories(words: int, bits: int) -> int:
    """TRELLIS_DPR16X4 of a memory with one write port and one read port."""
    return ceil_div(words, LUT_MEMORY[0]) * ceil_div(bits, LUT_MEMORY[1])


_FEATURES = MappingProxyType(
    {
        "pe aligned": _aligned_pe,
        "pe banked": _banked_pe,
        "edge aligned": _edge,
        "edge banked": _banked_edge,
        "column aligned": _aligned_column,
        "column banked": _banked_column,
        "lane": _lane,
        "core": _core,
    }
)


@dataclass(frozen=True)
class Table:
    """What the calibration found.

    Parameters
    ----------
    coefficients : mapping
        Family of units -> ``lut`` and ``ff`` -> feature -> cells.
    error_percent, tool
        As of `Area`.
    most : mapping
        The largest value that the calibration saw of each dimension in `DIMENSIONS`.
    residual_multipliers : mapping
        Activation format -> MULT18X18D of a lane's product with a residual of that format.
    """

    coefficients: Mapping[str, Mapping[str, Features]]
    error_percent: float
    tool: str
    most: Mapping[str, int]
    residual_multipliers: Mapping[str, int]


DIMENSIONS = ("rows", "cols", "max_k")


@cache
def table() -> Table:
    """The fitted table; `InputError` when the installation lacks it."""
    try:
        found = json.loads(read_text(TABLE, "area table"))
        names = ("coefficients", "error_percent", "tool", "most", "residual_multipliers")
        return Table(*(found[name] for name in names))
    except (ValueError, KeyError) as error:
        raise InputError(f"the area table must be whole, and {TABLE.name} is not ({error})") from None


def estimate(config: Config, by: Table | None = None) -> Area:
    """The area of a machine.

    Parameters
    ----------
    by : Table or None
        Another table than the installed one (the calibration itself).

    Raises
    ------
    NotBuiltError
        When there is no gateware for the configuration.
    """
    config.require_hardware()
    by = table() if by is None else by

    def part(name: str, count: int, unit: str, ram: int = 0, dsp: int = 0) -> Part:
        cells = by.coefficients[family(unit, config)]
        lut, ff = (_dot(cells[resource], features(unit, config)) for resource in ("lut", "ff"))
        return Part(name, count, lut, ff, ram, dsp)

    def memory(name: str, count: int, words: int, bits: int) -> Part:
        cells = by.coefficients["memory"]
        lut, ff = (_dot(cells[resource], memory_features(words, bits)) for resource in ("lut", "ff"))
        return Part(name, count, lut, ff, block_memories(words, bits))

    rows, cols, bits = config.rows, config.cols, config.activation.bits
    multipliers = LANE_MULTIPLIERS + (by.residual_multipliers[config.activation.name] if config.residual else 0)
    parts = (
        part("processing elements", rows * cols, "pe"),
        Part("row feeds", rows, *_row_feed(rows, bits)),
        part("row edges", rows, "edge"),
        part("columns", cols, "column"),
        part("lanes", config.lanes, "lane", dsp=multipliers),
        memory("activation banks", rows * (2 if config.residual else 1), config.activation_words, bits),
        memory("weight memory", 1, config.weight_words, config.weight_word_bits),
        memory("parameter memory", 1, config.parameter_words, config.parameter_word_bits),
        part("control, streams, read-out", 1, "core"),
        Part("registers without a reader", 1, 0, -_unread(config)),
    )
    return Area(parts, by.error_percent, by.tool, _beyond(config, by))


def _row_feed(rows: int, bits: int) -> tuple[int, int]:
    """LUT4 and flip-flops of a row feed: `hw.tech.choose` over the banks by fours, a register, the same over what is left."""
    chosen = choices = left = ceil_div(rows, 4)
    pairs = 0
    while left > 1:
        if left == 2:
            pairs, left = 1, 1
        else:
            left = ceil_div(left, 4)
            choices += left
    index = max(1, (rows - 1).bit_length())
    step, masks = 3 + index, 3
    return (2 * choices + pairs) * bits + 2, (chosen + 1) * bits + step + masks + max(0, index - 2)


def _unread(config: Config) -> int:
    """Flip-flops of single units that synthesis drops from the array.

    What only passes through an element has no reader behind the last column and row; a tally has one in the first row alone.
    """
    rows, cols = config.rows, config.cols
    if config.banked:
        banks = Banks.of(config)
        # The activation's sign, the slot's address, and what the weight makes other marks of.
        right = 1 + ADDRESS_BITS + (4 if banks.w_bank_bits else 0)
        return rows * right + cols + (rows - 1) * cols
    right = config.activation.fixed_bits + config.activation.flag_bits
    # Three wires of a weight: of four bits the third one is read once more, by the second shift. Of a tally what it is made of
    # goes as well: two bits before it, and a token's `last` at each of its stages.
    down, tally = 3, 3 + 2 + 2 + (config.weights.bits == 4)
    return rows * right + cols * down + tally * (rows - 1) * cols


def _beyond(config: Config, by: Table) -> tuple[str, ...]:
    found = [
        f"array.{name} = {getattr(config, name)} (at most {by.most[name]})"
        for name in DIMENSIONS
        if getattr(config, name) > by.most[name]
    ]
    return tuple(found)


def _dot(coefficients: Features, values: Features) -> float:
    missing = [name for name in values if name not in coefficients]
    if missing:
        raise InputError(f"the area table must know {', '.join(missing)}; run python -m bench.calibrate")
    return sum(coefficients[name] * value for name, value in values.items())


def describe(area: Area) -> dict[str, object]:
    """JSON's types: totals, error and parts."""
    return {
        "lut": area.lut,
        "ff": area.ff,
        "ram": area.ram,
        "dsp": area.dsp,
        "error_percent": area.error_percent,
        "tool": area.tool,
        "beyond_calibration": list(area.beyond),
        "parts": [
            {
                "name": part.name,
                "count": part.count,
                "lut": round(part.count * part.lut),
                "ff": round(part.count * part.ff),
                "ram": part.count * part.ram,
                "dsp": part.count * part.dsp,
            }
            for part in area.parts
        ],
    }
