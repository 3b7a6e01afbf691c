"""The manifest beside generated Verilog: what the machine is, how wide everything is, what every file was. Pure Python."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from shiftforge import timing
from shiftforge.banks import Banks
from shiftforge.config import CONFIG_VERSION, Config, ceil_div
from shiftforge.errors import InputError
from shiftforge.files import read_text

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1

Ledger = list[dict[str, int | str]]


def widths(config: Config) -> Ledger:
    """The ledger of widths: each derived size with the rule that it follows from."""
    a, k = config.activation, config.max_k
    rows: list[tuple[str, int, str, str]] = [
        ("activation fixed point", a.fixed_bits, "bits", f"every finite {a.name} in units of 2^{a.lsb_exponent}"),
        ("product", config.product_bits, "bits", f"fixed point, shifted by 0..{config.weights.max_exponent}"),
        ("accumulator", config.accumulator_bits, "bits", f"{k} products of the largest magnitude; no sum can wrap"),
        ("non-finite flags", a.flag_bits, "bits", "NaN, +inf and -inf as far as the format has them"),
        (
            "lanes",
            config.lanes,
            "lanes",
            "array.lanes; by default a tile drains in max(rows, 64) cycles where rows allow",
        ),
        ("lane steps per row", config.groups, "steps", "ceil(cols / lanes)"),
        ("tile drain", config.rows * config.groups, "cycles", "rows * steps"),
        ("activation word", config.activation_word_bits, "bits", "rows elements"),
        ("weight word", config.weight_word_bits, "bits", "cols codes, each with its mask bit where there is one"),
        ("parameter word", config.parameter_word_bits, "bits", "lanes pairs of fp32"),
        ("activation memory", config.activation_words * config.activation_word_bits, "bits", "all pages"),
        ("weight memory", config.weight_words * config.weight_word_bits, "bits", "both halves"),
        ("parameter memory", config.parameter_words * config.parameter_word_bits, "bits", "both halves"),
        ("feed latency", timing.feed(config), "cycles", "activation address to the first PE"),
        ("PE latency", timing.pe(config), "cycles", "PE input to its capture register"),
        ("lane latency", timing.lane(config), "cycles", "sum to code"),
        (
            "min overlap K",
            min_overlap_k(config),
            "elements",
            "from this K on no tile waits for the drain of those before it"
            + (f", but each {waits} cycles for shared words" if (waits := awaited_cycles(config)) else ""),
        ),
    ]
    if not config.banked:
        rows[3:3] = [("block accumulator", config.block_bits, "bits", "what the sum of rows products cannot leave")]
    return [{"name": name, "value": value, "unit": unit, "rule": rule} for name, value, unit, rule in rows]


def min_overlap_k(config: Config) -> int:
    """The least K from which draining hides behind accumulation, when nothing holds the output up.

    A tile accumulates for k_words * rows cycles and drains for rows * groups.

    Aligned: its last block waits for the buffer of the tile two before it, which is free once that tile has passed the array (its
    last slot to the last PE's sum) and has been drained. Banked: its first drain slot waits for that buffer, each drain slot stands
    before a block of the next tile, but for those which that tile waits for in any case (`Banks.awaited`), and the last one must
    come before that tile ends.
    """
    rows, drain = config.rows, config.rows * config.groups
    passage = timing.last_slot_to_first_write(config) + (rows - 1) + (config.cols - 1) + 1
    if not config.banked:
        words = max(config.groups, ceil_div(rows - 1 + passage + drain, 2 * rows))
    else:
        banks, spacing, settle = Banks.of(config), timing.drain_spacing(config), timing.BANK_SETTLE
        within = banks.count - banks.awaited  # drain slots that stand among the products of the next tile
        apart = ceil_div(spacing - 1, rows)  # blocks
        reading = (within - 1) * (apart * rows + 1)  # first drain slot to last
        lost = within  # cycles of a tile in which no product comes
        if banks.awaited:
            reading += (banks.awaited - 1) * spacing + settle + rows
            lost += awaited_cycles(config)
        words = max(
            ceil_div(settle - 1, rows) + (within - 1) * apart + max(ceil_div(spacing - settle, rows), 1),
            ceil_div(drain - lost, rows),
            ceil_div(ceil_div(reading + passage + drain, 2) - lost, rows),
        )
    return (words - 1) * rows + 1


def awaited_cycles(config: Config) -> int:
    """Cycles between the products of two tiles, for the words that they share; 0 where there are none."""
    awaited = Banks.of(config).awaited if config.banked else 0
    return 2 * timing.BANK_SETTLE - 1 + (awaited - 1) * timing.drain_spacing(config) if awaited else 0


def describe(config: Config, files: Mapping[str, bytes], ports: Mapping[str, tuple[str, int]]) -> str:
    """The manifest's text.

    Parameters
    ----------
    files : mapping of str to bytes
        Every other file of the folder by its name.
    ports : mapping of str to (direction, bits)
    """
    described = {
        "manifest_version": MANIFEST_VERSION,
        "config_version": CONFIG_VERSION,
        "hash": f"{config.hash:#010x}",
        "config": config.to_dict(),
        "widths": widths(config),
        "ports": [{"name": name, "direction": way.lower(), "bits": bits} for name, (way, bits) in ports.items()],
        "files": [
            {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in sorted(files.items())
        ],
    }
    return json.dumps(described, indent=2) + "\n"


def read_manifest(directory: Path) -> dict[str, object] | None:
    """The manifest of a folder, None where it has none; `InputError` when it is damaged."""
    path = directory / MANIFEST
    if not path.is_file():
        return None
    try:
        described = json.loads(read_text(path, "manifest"))
        int(described["hash"], 16)
        {entry["name"]: entry["sha256"] for entry in described["files"]}
    except (ValueError, KeyError, TypeError):
        raise InputError(f"manifest must be a whole {MANIFEST} of `shiftforge generate`, not {str(path)!r}") from None
    return cast("dict[str, object]", described)


def require_manifest_hash(directory: Path, config: Config) -> None:
    """Refuse Verilog whose manifest names another configuration than `config` (Verilog without a manifest passes)."""
    described = read_manifest(directory)
    if described is None:
        return
    found = int(cast(str, described["hash"]), 16)
    if found != config.hash:
        raise InputError(
            f"the manifest in {str(directory)!r} must have the configuration hash {config.hash:#010x}, not {found:#010x}; "
            "generate it from this configuration"
        )


def changed_files(directory: Path) -> list[str]:
    """Names of files that are no longer what the manifest says (changed or missing); none without a manifest."""
    described = read_manifest(directory)
    if described is None:
        return []
    changed = []
    for entry in cast("list[dict[str, str]]", described["files"]):
        path = directory / entry["name"]
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
            changed.append(entry["name"])
    return changed
