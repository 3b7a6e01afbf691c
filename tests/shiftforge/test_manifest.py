"""The manifest: widths, hashes of files, and the K from which draining hides, against the cycle model."""

import json

import numpy as np
import pytest

from golden.emulator import EmulatorTransport
from golden.rounding import storage_dtype
from shiftforge.config import from_dict
from shiftforge.errors import InputError
from shiftforge.manifest import (
    MANIFEST,
    awaited_cycles,
    changed_files,
    describe,
    min_overlap_k,
    require_manifest_hash,
    widths,
)
from sw_driver.accelerator import Accelerator


def config_of(
    rows=3, cols=5, activation="int8", output="int8", bits=2, max_k=200, stream_bits=128, accumulator="aligned"
):
    array = {"rows": rows, "cols": cols, "activation": activation, "output": output, "weight_bits": bits}
    array["accumulator"] = accumulator
    memory = {"activation_words": 4096, "weight_words": 4096}  # layers of many tiles
    return from_dict({"array": {**array, "max_k": max_k}, "memory": memory, "interface": {"stream_bits": stream_bits}})


def test_the_ledger_has_the_widths_of_the_configuration():
    config = config_of(activation="fp16", bits=4, max_k=1024)
    ledger = {row["name"]: row["value"] for row in widths(config)}
    assert ledger["accumulator"] == config.accumulator_bits == 41 + 7 + 10
    assert ledger["product"] == 41 + 7
    assert ledger["weight word"] == 20
    assert ledger["non-finite flags"] == 3
    assert ledger["lane steps per row"] == -(-config.cols // config.lanes)


@pytest.mark.parametrize(
    "activation, bits, accumulator", [("int8", 2, "aligned"), ("bf16", 2, "banked"), ("fp16", 4, "banked")]
)
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 5), (8, 8), (16, 4), (4, 16), (1, 7), (7, 1), (16, 16)], ids=str)
def test_from_min_overlap_k_on_no_tile_waits(shape, activation, bits, accumulator):
    """Nor does any wait for more than the words that it shares with the one before."""
    config = config_of(*shape, activation=activation, bits=bits, accumulator=accumulator)
    least, tiles = min_overlap_k(config), 12 * 4  # of one layer

    def stalls(k: int) -> int:
        device = Accelerator(EmulatorTransport(config), config)
        x = np.zeros((12 * config.rows, k), storage_dtype(config.activation))
        device.gemm(x, np.zeros((k, 4 * config.cols), np.uint8))
        return device.counters["stall_drain"] - (tiles - 1) * awaited_cycles(config)

    assert stalls(least) == 0
    assert least <= config.rows or stalls(least - 1) > 0


def test_changed_and_missing_files_are_named(tmp_path):
    config = config_of()
    files = {"a.v": b"module a; endmodule\n", "b.v": b"module b; endmodule\n", "c.h": b""}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert changed_files(tmp_path) == []
    (tmp_path / MANIFEST).write_text(describe(config, files, {"clk": ("IN", 1)}))
    assert changed_files(tmp_path) == []
    (tmp_path / "a.v").write_bytes(files["a.v"] + b" ")
    (tmp_path / "c.h").unlink()
    assert changed_files(tmp_path) == ["a.v", "c.h"]


def test_another_configuration_is_refused_by_its_hash(tmp_path):
    config, other = config_of(), config_of(rows=4)
    require_manifest_hash(tmp_path, config)  # no manifest: the register decides
    (tmp_path / MANIFEST).write_text(describe(config, {}, {}))
    require_manifest_hash(tmp_path, config)
    message = f"must have the configuration hash {other.hash:#010x}, not {config.hash:#010x}; generate it from this"
    with pytest.raises(InputError, match=message):
        require_manifest_hash(tmp_path, other)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"hash": 3, "files": []}', '{"hash": "0x1", "files": [{}]}'])
def test_a_damaged_manifest_is_refused(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(InputError, match="manifest must be a whole manifest.json of `shiftforge generate`, not"):
        changed_files(tmp_path)


def test_the_text_is_json_with_the_resolved_configuration():
    config = config_of()
    described = json.loads(describe(config, {"x": b"1"}, {"clk": ("IN", 1)}))
    assert from_dict(described["config"]) == config
    assert described["ports"] == [{"name": "clk", "direction": "in", "bits": 1}]
    assert int(described["hash"], 16) == config.hash
