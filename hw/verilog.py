"""Verilog emission: one file per distinct module, the processing element written once."""

from collections.abc import Callable
from pathlib import Path

from amaranth.back import verilog

from hw.instance import Unit
from hw.top import TOP_NAME, Top
from shiftforge.config import Config
from shiftforge.files import write_atomically


def emit(config: Config, directory: Path, *, progress: Callable[[str, int, int], None] | None = None) -> list[Path]:
    """Write the accelerator's Verilog into `directory` (which must exist) and return the files, the top's last.

    Parameters
    ----------
    config : Config
        `NotBuiltError` where the gateware does not build it.
    directory : Path
    progress : callable, optional
        Called with (module name, modules done, modules in all).
    """
    config.require_hardware()  # before any component is made: Amaranth warns of those that are never used
    top = Top(config)
    modules: list[tuple[str, Unit | Top]] = [(unit.module_name, unit) for unit in top.units]
    modules.append((TOP_NAME, top))
    files: list[Path] = []
    for done, (name, component) in enumerate(modules):
        if progress is not None:
            progress(name, done, len(modules))
        text = verilog.convert(component, name=name, emit_src=False, strip_internal_attrs=True)
        path = directory / f"{name}.v"
        write_atomically(path, text)
        files.append(path)
    if progress is not None:
        progress(TOP_NAME, len(modules), len(modules))
    return files
