"""The table of cocotb benches: which Verilog each one needs, and with which parameters it runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import cast

from shiftforge.config import Config, from_dict
from shiftforge.errors import InputError
from sim.runner import DEFAULT_TIMEOUT, Simulator, build_design


@dataclass(frozen=True)
class Prepared:
    """Verilog of one unit: `public` are internal signals that the bench reads, as (module, variable)."""

    sources: list[Path]
    top: str
    public: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Unit:
    """One bench.

    Parameters
    ----------
    name, text : str
        What the command line calls it, and what it shows.
    module : str
        The cocotb test module.
    config : Config
        Small, so that build and run take seconds.
    prepare : callable
        Writes the Verilog into a folder.
    parameters : mapping
        For the bench, besides the configuration and the seed.
    """

    name: str
    text: str
    module: str
    config: Config
    prepare: Callable[[Config, Path], Prepared]
    parameters: Mapping[str, object] = field(default_factory=dict)


def _config(
    rows: int,
    cols: int,
    activation: str,
    output: str,
    weight_bits: int,
    max_k: int = 21,
    *,
    smallest: bool = False,
    accumulator: str = "aligned",
    pages: int = 2,
    residual: bool = False,
    max_pool: bool = False,
) -> Config:
    """`smallest`: memories of two pages of 32 words, or of a bit more where they must."""
    array = {"rows": rows, "cols": cols, "activation": activation, "output": output, "weight_bits": weight_bits}
    array["accumulator"] = accumulator
    memory = dict.fromkeys(("activation_words", "weight_words", "parameter_words"), 64) if smallest else {}
    if smallest:
        memory["activation_words"] = 32 * pages
    options = {"residual": residual, "max_pool": max_pool}
    return from_dict({"array": {**array, "max_k": max_k, **options}, "memory": {**memory, "activation_pages": pages}})


def _write(folder: Path, name: str, unit: object) -> Path:
    from amaranth.back import verilog

    path = folder / f"{name}.v"
    path.write_text(verilog.convert(unit, name=name, strip_internal_attrs=True, emit_src=False), encoding="utf-8")
    return path


def _single(module: str, unit: str, **options: int) -> Callable[[Config, Path], Prepared]:
    """Prepares class `unit` of `module`, made from the configuration and `options`, as the top ``bench_top``."""

    def prepare(config: Config, folder: Path) -> Prepared:
        from hw.verilog import with_parts

        make = cast("Callable[..., object]", getattr(import_module(module), unit))
        top = make(config, **options)
        parts = [_write(folder, part.module_name, part) for part in with_parts(*getattr(top, "units", ()))]
        return Prepared([*parts, _write(folder, "bench_top", top)], "bench_top")

    return prepare


def _memories(config: Config, folder: Path) -> Prepared:
    from hw.memories import ActivationMemory

    memory = ActivationMemory(config)
    bank = memory.bank
    return Prepared([_write(folder, bank.module_name, bank), _write(folder, "memories", memory)], "memories")


def _unpackers(config: Config, folder: Path) -> Prepared:
    from sim.parts import Unpackers

    return Prepared([_write(folder, "unpackers", Unpackers())], "unpackers")


def _pe(config: Config, folder: Path) -> Prepared:
    from hw.pe import PE
    from sim.benches.array import register_names

    unit = PE(config)
    sources = [_write(folder, part.module_name, part) for part in unit.units]
    public = tuple(("pe", name) for name in register_names(config))
    return Prepared([*sources, _write(folder, "pe", unit)], "pe", public)


def _array(config: Config, folder: Path) -> Prepared:
    from hw.array import Array
    from sim.benches.array import register_names

    array = Array(config)
    name = array.pe.module_name
    sources = [_write(folder, part.module_name, part) for part in (array.pe, *array.units)]
    sources.append(_write(folder, "array", array))
    return Prepared(sources, "array", tuple((name, register) for register in register_names(config)))


def _banked_pe(config: Config, folder: Path) -> Prepared:
    from hw.banked_pe import BankedPE
    from sim.benches.banked_pe import register_names

    pe = BankedPE(config)
    sources = [*(_write(folder, unit.module_name, unit) for unit in pe.units), _write(folder, "pe", pe)]
    return Prepared(sources, "pe", tuple(("pe", name) for name in register_names(config)))


def _banked_array(config: Config, folder: Path) -> Prepared:
    from hw.array import Array
    from hw.banked_pe import BankedPE
    from sim.benches.banked_pe import register_names

    pe = BankedPE(config)
    units = (*pe.units, pe)
    sources = [*(_write(folder, unit.module_name, unit) for unit in units), _write(folder, "array", Array(config, pe))]
    return Prepared(sources, "array", tuple((pe.module_name, register) for register in register_names(config)))


def _lane(config: Config, folder: Path) -> Prepared:
    from hw.lane import Lane

    return Prepared([_write(folder, "lane", Lane(config))], "lane")


def _top(config: Config, folder: Path) -> Prepared:
    from hw.top import TOP_NAME
    from hw.verilog import emit

    return Prepared(emit(config, folder), TOP_NAME)


UNITS = MappingProxyType(
    {
        unit.name: unit
        for unit in (
            Unit(
                "row_edge",
                "every code of fp16 to fixed point",
                "sim.benches.row_edge",
                _config(1, 1, "fp16", "fp16", 3),
                _single("hw.row_edge", "RowEdge"),
            ),
            Unit(
                "row_feed",
                "every element of words at random, 3 rows",
                "sim.benches.row_feed",
                _config(3, 2, "int8", "int8", 3),
                _single("hw.row_feed", "RowFeed"),
            ),
            Unit(
                "feed",
                "every element of every row, blocks at any distance, 3 rows",
                "sim.benches.feed",
                _config(3, 2, "int8", "int8", 3, max_pool=True),
                _single("hw.feed", "Feed"),
            ),
            Unit(
                "pe",
                "every register on every cycle, random inputs",
                "sim.benches.pe",
                _config(1, 1, "fp16", "fp32", 4),
                _pe,
                {"cycles": 2000},
            ),
            Unit(
                "array",
                "every register of every PE on every cycle, 2x3",
                "sim.benches.array",
                _config(2, 3, "fp16", "fp32", 3),
                _array,
            ),
            Unit(
                "column",
                "every sum of captures at random distances, every read, 3 rows",
                "sim.benches.column",
                _config(3, 2, "fp16", "fp16", 3),
                _single("hw.column", "Column"),
            ),
            Unit(
                "banked_edge",
                "every code of fp8_e5m2 to shifted significand and bank, under every kind of token",
                "sim.benches.banked_edge",
                _config(1, 1, "fp8_e5m2", "fp16", 3, accumulator="banked"),
                _single("hw.banked_edge", "BankedEdge"),
            ),
            Unit(
                "ring_edge",
                "the same where the weight adds to the bank, 4-bit weights",
                "sim.benches.banked_edge",
                _config(1, 1, "fp8_e5m2", "fp16", 4, accumulator="banked"),
                _single("hw.banked_edge", "BankedEdge"),
            ),
            Unit(
                "banked_pe",
                "every register on every cycle, random inputs, a weight that adds to the bank",
                "sim.benches.banked_pe",
                _config(1, 1, "fp16", "fp32", 4, accumulator="banked"),
                _banked_pe,
                {"cycles": 2000},
            ),
            Unit(
                "wide_pe",
                "the same of bf16, whose products reach into both halves of a word",
                "sim.benches.banked_pe",
                _config(1, 1, "bf16", "fp32", 3, accumulator="banked"),
                _banked_pe,
                {"cycles": 1000},
            ),
            Unit(
                "banked_array",
                "every register of every PE on every cycle, hard sums drained during the next, 2x3 of fp32",
                "sim.benches.banked_array",
                _config(2, 3, "fp32", "fp32", 3, accumulator="banked"),
                _banked_array,
            ),
            Unit(
                "ring_array",
                "the same where tiles share words, fp16 with 4-bit weights",
                "sim.benches.banked_array",
                _config(2, 3, "fp16", "fp32", 4, accumulator="banked"),
                _banked_array,
            ),
            Unit(
                "banked_column",
                "every sum of the banks' words, every read, 3 rows of bf16",
                "sim.benches.banked_column",
                _config(3, 2, "bf16", "bf16", 3, accumulator="banked"),
                _single("hw.banked_column", "BankedColumn"),
            ),
            Unit(
                "ring_column",
                "the same of nine banks, fp16 with 4-bit weights",
                "sim.benches.banked_column",
                _config(3, 2, "fp16", "fp16", 4, accumulator="banked"),
                _single("hw.banked_column", "BankedColumn"),
            ),
            Unit(
                "engine",
                "every read, token and stall of random products and convolutions, 3x5",
                "sim.benches.engine",
                _config(3, 5, "int8", "int8", 3, 60),
                _single("hw.engine", "Engine"),
            ),
            Unit(
                "long_engine",
                "one matrix product of more rows than a coordinate of a pixel can count, 3x5",
                "sim.benches.engine",
                _config(3, 5, "int8", "int8", 3, 60),
                _single("hw.engine", "Engine"),
                parameters={"pixels": (1 << 16) + 8},
            ),
            Unit(
                "tall_engine",
                "the same in rows of one pixel, more than a coordinate of a row can count",
                "sim.benches.engine",
                _config(3, 5, "int8", "int8", 3, 60),
                _single("hw.engine", "Engine"),
                parameters={"pixels": (1 << 16) + 8, "tall": True},
            ),
            Unit(
                "pool_engine",
                "the same with maxima in between, in pages of four",
                "sim.benches.engine",
                _config(3, 5, "int8", "int8", 3, 60, max_pool=True, pages=4),
                _single("hw.engine", "Engine"),
            ),
            Unit(
                "banked_engine",
                "every read, product and drain slot of random products and convolutions, resets in between, 3x5",
                "sim.benches.banked_engine",
                _config(3, 5, "bf16", "bf16", 3, 60, accumulator="banked"),
                _single("hw.engine", "Engine"),
            ),
            Unit(
                "ring_engine",
                "the same where tiles share words, fp16 with 4-bit weights",
                "sim.benches.banked_engine",
                _config(3, 5, "fp16", "fp16", 4, 60, accumulator="banked"),
                _single("hw.engine", "Engine"),
            ),
            Unit(
                "walk",
                "every drain step of random layers, 9x15 with 4 lanes",
                "sim.benches.walk",
                _config(9, 15, "int8", "int8", 3),
                _single("hw.walk", "TileWalk"),
            ),
            Unit(
                "drain",
                "every step, sum and credit of random layers, 9x15 with 4 lanes",
                "sim.benches.drain",
                _config(9, 15, "int8", "int8", 2, 15, smallest=True),
                _single("hw.drain", "Drain", room=5),
            ),
            Unit(
                "writer",
                "every memory and FIFO write of random layers, 9x15 with 4 lanes",
                "sim.benches.writer",
                _config(9, 15, "int8", "int16", 3),
                _single("hw.drain", "Writer"),
            ),
            Unit(
                "residual",
                "every residual's element of random layers, in pages of four, 9x15 with 4 lanes",
                "sim.benches.residual",
                _config(9, 15, "int8", "int8", 3, residual=True, pages=4),
                _single("hw.residual", "Residual"),
            ),
            Unit(
                "pool",
                "every maximum of random windows, 3 rows of fp16",
                "sim.benches.pool",
                _config(3, 2, "fp16", "fp16", 3, max_pool=True),
                _single("hw.pool", "Pool"),
            ),
            Unit(
                "residual_memories",
                "both copies of the activation memory, bank by bank, 3 rows",
                "sim.benches.memories",
                _config(3, 5, "int8", "int8", 3, residual=True),
                _memories,
            ),
            Unit(
                "memories",
                "activation memory, bank by bank, 3 rows",
                "sim.benches.memories",
                _config(3, 5, "int8", "int8", 3),
                _memories,
            ),
            Unit(
                "unpacker",
                "beats to words, all stream widths and many word widths at once",
                "sim.benches.unpacker",
                _config(1, 1, "int8", "int8", 3),
                _unpackers,
            ),
            Unit(
                "decoder",
                "random packets, good and broken, against the golden decoder, 3x5",
                "sim.benches.decoder",
                _config(3, 5, "int8", "int16", 3, 7, smallest=True),
                _single("hw.decoder", "Decoder"),
            ),
            Unit(
                "options_decoder",
                "the same with eight pages, residuals and maxima, words that wait",
                "sim.benches.decoder",
                _config(3, 5, "int8", "int16", 3, 7, smallest=True, pages=8, residual=True, max_pool=True),
                _single("hw.decoder", "Decoder"),
            ),
            Unit(
                "emitter",
                "random RESULT and STATUS_REPLY packets under back-pressure, 9x15 with 4 lanes of a byte",
                "sim.benches.emitter",
                _config(9, 15, "int8", "int8", 3),
                _single("hw.emitter", "Emitter", room=8),
            ),
            Unit(
                "registers",
                "every register over AXI4-Lite, strobes, refusals, clears, soft reset",
                "sim.benches.registers",
                _config(3, 5, "int8", "int16", 3),
                _single("hw.registers", "Registers"),
            ),
            Unit(
                "lane",
                "round, scale, bias, activation, round: codes and flags",
                "sim.benches.lane",
                _config(4, 4, "fp16", "fp16", 3, 300),
                _lane,
                {"batches": 60, "size": 160},
            ),
            Unit(
                "residual_lane",
                "the same with a residual before the activation",
                "sim.benches.lane",
                _config(4, 4, "fp16", "fp16", 3, 300, residual=True),
                _lane,
                {"batches": 60, "size": 160},
            ),
            Unit(
                "top",
                "packets against the emulator under random pauses, registers, resets, broken packets, 3x2",
                "sim.benches.top",
                _config(3, 2, "int8", "int16", 3, 8),
                _top,
            ),
        )
    }
)
"""By name, from the inside out."""


def unit_named(name: str) -> Unit:
    """The bench of that name; `InputError` lists the names otherwise."""
    try:
        return UNITS[name]
    except KeyError:
        raise InputError(f"unit must be one of {', '.join(UNITS)}, not {name!r}") from None


def run_unit(
    unit: Unit,
    folder: Path,
    *,
    config: Config | None = None,
    simulator: Simulator = "verilator",
    waves: bool = False,
    seed: int = 1,
    timeout: float = DEFAULT_TIMEOUT,
) -> Path:
    """Write the unit's Verilog into `folder` (which exists), build it, run its bench; returns the log.

    Parameters
    ----------
    config : Config or None
        Instead of the unit's own.

    Raises
    ------
    CheckFailed
        When the bench found a difference.
    ToolError
        When the simulator is missing, fails or does not end in time.
    """
    config = config or unit.config
    prepared = unit.prepare(config, folder)
    build = folder / "build"
    design = build_design(
        prepared.sources,
        prepared.top,
        build,
        simulator=simulator,
        waves=waves,
        public=prepared.public,
        timeout=timeout,
    )
    parameters = {"config": config.to_dict(), "seed": seed, **unit.parameters}
    return design.run(unit.module, parameters=parameters, name="bench", timeout=timeout, seed=seed)
