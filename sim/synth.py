"""Synthesis for Lattice ECP5 with yosys: what a design costs and, with `sim.route`, how fast it runs.

What is counted
---------------
- `lut`: 4-input LUTs that logic and distributed memory take from the slices: LUT4 cells, two per CCU2C carry cell, six per
  TRELLIS_DPR16X4 memory (two slices for storage and one for its write port, of two LUTs each).
- `ff`: TRELLIS_FF. `ebr`: DP16KD block memories of 18 Kbit. `dsp`: MULT18X18D.
- `fmax_mhz`: the clock `clk` after routing, from nextpnr's report (speed grade 6, the slowest), median over the seeds.
  Paths from and to pins are not in it.

Technology modules (`hw.tech`) among the sources are replaced by their ECP5 implementation, proven equal in `sim.proofs`.

A module with a source file of its own, but for technology modules, is mapped once, by itself; then all are put together, and what
has no reader is dropped. Flattened first, yosys merges equal registers of elements that lie far apart, and takes minutes where this
takes seconds (docs/decisions/0009-placement.md).

Sources: Lattice FPGA-TN-02200 (ECP5 slices and memories); yosys `synth_ecp5` and nextpnr-ecp5 `--report`.
"""

import json
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shiftforge.errors import InputError
from shiftforge.files import read_text
from shiftforge.progress import SILENT, Progress
from shiftforge.tools import run
from sim.route import DEFAULT_FLOW, NETLIST, PINS, TIMEOUT_S, Flow, fmax_of, route

_LUTS_OF = {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6}
_FLIP_FLOPS = " ".join(
    f"-cell {cell}"
    for cell in (
        *("$_DFF_?_ 01", "$_DFF_?P?_ r", "$_SDFF_?P?_ r", "$_DFFE_??_ 01", "$_DFFE_?P??_ r", "$_SDFFE_?P??_ r"),
        "$_DLATCH_?_ x",
    )
)
"""What `synth_ecp5` itself has flip-flops turned into."""


@dataclass(frozen=True)
class Routed:
    """What place and route found.

    Parameters
    ----------
    fmax_mhz : float or None
        Median over the seeds of the clock's highest frequency; None for a design without a clocked path.
    fmax_by_seed : tuple of (int, float or None)
        The seeds as asked for, and the frequency of each.
    pins : bool
        True when every port bit has a pin with its buffer, and the clock a global net. False when the package has too few
        pins: the design was then placed out of context, without buffers.
    used, available : tuple of (str, int)
        nextpnr's resources by name, for the first seed; only those used.
    """

    fmax_mhz: float | None
    fmax_by_seed: tuple[tuple[int, float | None], ...]
    pins: bool
    used: tuple[tuple[str, int], ...]
    available: tuple[tuple[str, int], ...]

    def to_json(self) -> dict[str, object]:
        """The same fields with JSON's types."""
        return {
            "fmax_mhz": self.fmax_mhz,
            "fmax_by_seed": {str(seed): mhz for seed, mhz in self.fmax_by_seed},
            "pins": self.pins,
            "used": dict(self.used),
            "available": dict(self.available),
        }


@dataclass(frozen=True)
class SynthResult:
    """The cost of a design on one ECP5 device.

    Parameters
    ----------
    top, device : str
        The top module, and the device by nextpnr's name.
    cells : tuple of (str, int)
        Every cell type after mapping and its count, sorted by name.
    port_bits : int
        Bits of the top module's ports.
    routed : Routed or None
        None when place and route was not asked for.
    """

    top: str
    device: str
    cells: tuple[tuple[str, int], ...]
    port_bits: int
    routed: Routed | None = None

    @property
    def lut(self) -> int:
        return sum(weight * self._count(cell) for cell, weight in _LUTS_OF.items())

    @property
    def ff(self) -> int:
        return self._count("TRELLIS_FF")

    @property
    def ebr(self) -> int:
        return self._count("DP16KD")

    @property
    def dsp(self) -> int:
        return self._count("MULT18X18D")

    @property
    def fmax_mhz(self) -> float | None:
        return None if self.routed is None else self.routed.fmax_mhz

    def _count(self, cell: str) -> int:
        return dict(self.cells).get(cell, 0)

    def to_json(self) -> dict[str, object]:
        """The fields and the derived counts with JSON's types."""
        return {
            "target": "ecp5",
            "device": self.device,
            "top": self.top,
            "lut": self.lut,
            "ff": self.ff,
            "ebr": self.ebr,
            "dsp": self.dsp,
            "fmax_mhz": self.fmax_mhz,
            "port_bits": self.port_bits,
            "cells": dict(self.cells),
            "routed": None if self.routed is None else self.routed.to_json(),
        }


def synthesize(
    verilog: Sequence[Path],
    top: str,
    *,
    dsp: bool = True,
    seeds: Sequence[int] = (1,),
    place: bool = True,
    frequency_mhz: float = 100.0,
    flow: Flow = DEFAULT_FLOW,
    boxes: Sequence[str] = (),
    shared_resets: int = 0,
    work_dir: Path,
    timeout_s: float = TIMEOUT_S,
    progress: Progress = SILENT,
) -> SynthResult:
    """Synthesize Verilog, check the netlist, count its cells, and place and route it.

    Parameters
    ----------
    verilog : sequence of Path
        Every source file. Copies go to `work_dir`, because the WebAssembly tools do not see all folders.
    top : str
        The top module. Its clock port is `clk`.
    dsp : bool
        Whether multipliers may become MULT18X18D.
    seeds : sequence of int
        Seeds of placement, one run each; at least one, none negative.
    place : bool
        False stops after synthesis: counts without a frequency.
    frequency_mhz : float
        What the placer aims at. A design that misses it is no error.
    flow : Flow
        The device, and how nextpnr places and routes.
    boxes : sequence of str
        Modules of which only the ports are taken: each instance counts as one cell of that name. Not with `place`.
    shared_resets : int
        A synchronous reset that fewer flip-flops share becomes logic; 0 leaves all as yosys finds them. nextpnr gives each a tile
        of its own (`flip_flop_places`), and its placer does not come to an end where there are hundreds in a full device.
    work_dir : Path
        An existing folder. It keeps sources, scripts, netlist, logs and reports.
    timeout_s : float
        Limit of each run of a tool.
    progress : Progress
        Told each step and how long it took.

    Raises
    ------
    InputError
        When an argument breaks its rule or a source cannot be read.
    ToolError
        When a tool is missing, finds a fault in the design, or the design does not fit.
    """
    _validate(verilog, top, seeds, frequency_mhz)
    if boxes and place:
        raise InputError(f"boxes must be none where the design is placed, not {', '.join(boxes)}")
    names, units = _copy_sources(verilog, work_dir)
    units = [unit for unit in units if unit != top and unit not in boxes]
    with progress.step(f"yosys: {top} for ECP5"):
        cells, port_bits = _map(names, units, top, dsp, boxes, shared_resets, work_dir, timeout_s, progress)
    if not place:
        return SynthResult(top, flow.device, cells, port_bits)
    pins = port_bits <= PINS[flow.device]
    reports = []
    for seed in seeds:
        with progress.step(f"nextpnr: {top} on ECP5-{flow.device}, seed {seed}"):
            report = route(
                work_dir,
                flow=flow,
                pins=pins,
                seed=seed,
                frequency_mhz=frequency_mhz,
                timeout_s=timeout_s,
                progress=progress,
            )
            reports.append(report)
    by_seed = tuple((seed, fmax_of(report)) for seed, report in zip(seeds, reports, strict=True))
    known = [mhz for _, mhz in by_seed if mhz is not None]
    utilization = {name: use for name, use in reports[0]["utilization"].items() if use["used"]}
    routed = Routed(
        fmax_mhz=statistics.median(known) if known else None,
        fmax_by_seed=by_seed,
        pins=pins,
        used=tuple((name, use["used"]) for name, use in sorted(utilization.items())),
        available=tuple((name, use["available"]) for name, use in sorted(utilization.items())),
    )
    return SynthResult(top, flow.device, cells, port_bits, routed)


def _validate(verilog: Sequence[Path], top: str, seeds: Sequence[int], frequency_mhz: float) -> None:
    if not verilog:
        raise InputError("verilog must be at least one file, not none")
    if not top.isidentifier():
        raise InputError(f"top must be a plain module name, not {top!r}")
    if not seeds or any(seed < 0 for seed in seeds):
        raise InputError(f"seeds must be one or more integers from 0 up, not {tuple(seeds)!r}")
    if not frequency_mhz > 0:
        raise InputError(f"frequency_mhz must be positive, not {frequency_mhz!r}")


def _copy_sources(verilog: Sequence[Path], work_dir: Path) -> tuple[list[str], list[str]]:
    """The copies' names, and the modules among them that are mapped by themselves."""
    from hw.verilog import technology_module, write_unit

    folder = work_dir / "sources"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    names: list[str] = []
    units: list[str] = []
    for index, path in enumerate(verilog):
        name = f"sources/{path.name}"
        if name in names:  # equal names from two folders
            name = f"sources/{index}_{path.name}"
        names.append(name)
        cells = technology_module(path.stem, "ecp5")
        if cells is not None:
            write_unit(cells, path.stem, folder)
            continue
        (work_dir / name).write_text(read_text(path, "verilog source"), encoding="utf-8")
        units.append(path.stem)
    return names, units


def _map(
    names: list[str],
    units: list[str],
    top: str,
    dsp: bool,
    boxes: Sequence[str],
    shared_resets: int,
    work_dir: Path,
    timeout_s: float,
    progress: Progress,
) -> tuple[tuple[tuple[str, int], ...], int]:
    """Run yosys; returns the cell counts and the number of port bits."""
    mapping = f"synth_ecp5 -abc9 -nowidelut {'' if dsp else '-nodsp '}-top {top}"
    steps = [mapping]
    if shared_resets:
        steps = [
            f"{mapping} -run begin:map_ffs",
            f"dfflegalize {_FLIP_FLOPS} -minsrst {shared_resets}",
            "opt_expr",
            "opt_clean",
            f"{mapping} -run map_ffs:",
        ]
    script = "\n".join(
        [
            *(f'read_verilog -sv "{name}"' for name in names),
            # What technology modules instantiate: their cells, before anything is checked.
            "read_verilog -lib -specify +/ecp5/common_sim.vh +/ecp5/ccu2c_sim.vh",
            f"hierarchy -check -top {top}",
            "proc",
            "check -assert",  # undriven nets, two drivers and loops as the source has them, before optimisation hides them
            *(f"blackbox {box}" for box in boxes),
            *(f"setattr -mod -set keep_hierarchy 1 {unit}" for unit in units),
            *steps,
            "setattr -mod -unset keep_hierarchy *",
            "flatten",
            "opt_clean",
            f"hierarchy -top {top}",  # drops the modules that are no longer used
            f"write_json {NETLIST}",
            "check -assert",
            f"tee -q -o cells.json stat -json -top {top}",
        ]
    )
    (work_dir / "synth.ys").write_text(script + "\n", encoding="utf-8")
    run(
        "yosys",
        ["-q", "-l", "yosys.full.log", "-s", "synth.ys"],
        cwd=work_dir,
        log=work_dir / "yosys.log",
        timeout_s=timeout_s,
        progress=progress,
    )
    statistic = json.loads(read_text(work_dir / "cells.json"))["design"]
    # $scopeinfo keeps the names of flattened modules: no hardware.
    counts = {cell: n for cell, n in statistic.get("num_cells_by_type", {}).items() if cell != "$scopeinfo"}
    return tuple(sorted(counts.items())), statistic["num_port_bits"]
