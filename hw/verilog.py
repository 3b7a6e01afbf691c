"""Verilog emission: one file per distinct module, the processing element written once."""

from collections.abc import Callable
from pathlib import Path

from amaranth.back import verilog

from hw.instance import Unit
from hw.tech import ecp5
from hw.top import TOP_NAME, Top
from shiftforge.config import Config
from shiftforge.errors import InputError
from shiftforge.files import write_atomically

TARGETS = ("generic", "ecp5")
"""Plain Verilog for any tool and simulator; or technology modules (`hw.tech`) in the cells of that family."""


def write_unit(unit: Unit | Top, name: str, directory: Path) -> Path:
    """Write one module as ``<name>.v``."""
    path = directory / f"{name}.v"
    write_atomically(path, verilog.convert(unit, name=name, emit_src=False, strip_internal_attrs=True))
    return path


def technology_module(name: str, target: str) -> Unit | None:
    """The unit in the target's own cells that takes the place of module `name`; None where the plain Verilog stays.

    Raises
    ------
    InputError
        When the target is unknown.
    """
    _require_target(target)
    return ecp5.implementation(name) if target == "ecp5" else None


def _require_target(target: str) -> None:
    if target not in TARGETS:
        raise InputError(f"target must be one of {', '.join(TARGETS)}, not {target!r}")


def with_parts(*units: Unit) -> tuple[Unit, ...]:
    """Each unit, after the `units` that it instantiates itself."""
    return tuple(part for unit in units for part in (*with_parts(*getattr(unit, "units", ())), unit))


def emit(
    config: Config,
    directory: Path,
    *,
    target: str = "generic",
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Path]:
    """Write the accelerator's Verilog into `directory` (which must exist) and return the files, the top's last.

    Parameters
    ----------
    config : Config
        `NotBuiltError` where the gateware does not build it.
    directory : Path
    target : str
        One of `TARGETS`.
    progress : callable, optional
        Called with (module name, modules done, modules in all).
    """
    _require_target(target)
    config.require_hardware()  # before any component is made: Amaranth warns of those that are never used
    top = Top(config)
    modules: list[tuple[str, Unit | Top]] = [(unit.module_name, unit) for unit in with_parts(*top.units)]
    modules.append((TOP_NAME, top))
    files: list[Path] = []
    for done, (name, component) in enumerate(modules):
        if progress is not None:
            progress(name, done, len(modules))
        files.append(write_unit(technology_module(name, target) or component, name, directory))
    if progress is not None:
        progress(TOP_NAME, len(modules), len(modules))
    return files
