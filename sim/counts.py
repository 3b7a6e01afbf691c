"""What a design costs elsewhere, counted by yosys alone: 6-input LUTs of Xilinx 7-series, and generic gates for an ASIC.

What is counted
---------------
- `count_xilinx7`: ``synth_xilinx -nodsp -nowidelut``: LUTs of any size as one each, LUT RAM by the LUTs it takes, CARRY4,
  flip-flops, RAMB. Area only: no open tool places and times this family with the accuracy of ECP5's.
- `count_gates`: ``synth -flatten`` and ``abc -g`` to two-input gates, inverters and multiplexers; `gates` without flip-flops,
  and the longest path in gates between registers. LUT RAM becomes flip-flops and gates. With a Liberty file, its cells and
  their area instead.

Sources: Xilinx UG474 (LUT RAM: a RAM32M takes four LUTs); yosys ``synth_xilinx``, ``synth``, ``abc``, ``ltp``.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from shiftforge.errors import InputError, ToolError
from shiftforge.files import read_text
from shiftforge.progress import SILENT, Progress
from shiftforge.tools import run

_TIMEOUT_S = 3600.0
_LUT_RAM = {"RAM32M": 4, "RAM64M": 4, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM32X1S": 1, "RAM64X1S": 1}
_SHIFT_REGISTERS = ("SRL16E", "SRLC16E", "SRLC32E")
_GATES = "AND,NAND,OR,NOR,XOR,XNOR,ANDNOT,ORNOT,MUX"


@dataclass(frozen=True)
class Xilinx7Count:
    """Counts of one design on 7-series: LUTs of logic, LUTs used as memory, carry cells, flip-flops, RAMB, DSP48."""

    lut6: int
    lut_ram: int
    carry4: int
    ff: int
    bram: int
    dsp: int

    def to_json(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True)
class GateCount:
    """Counts of one design in generic gates or, with a Liberty file, in its cells.

    Parameters
    ----------
    gates, ff : int
        Combinational cells, and flip-flops.
    depth : int
        Cells on the longest path between registers or ports.
    area : float or None
        In the Liberty file's unit; None without one.
    cells : tuple of (str, int)
        Every cell type and its count.
    """

    gates: int
    ff: int
    depth: int
    area: float | None
    cells: tuple[tuple[str, int], ...]

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "cells": dict(self.cells)}


def count_xilinx7(
    verilog: Sequence[Path], top: str, *, dsp: bool = False, work_dir: Path, progress: Progress = SILENT
) -> Xilinx7Count:
    """Map to Xilinx 7-series cells and count them.

    Parameters
    ----------
    verilog : sequence of Path
        Plain Verilog.
    top : str
    dsp : bool
        Whether multipliers may become DSP48E1.
    work_dir : Path
        An existing folder, which keeps sources and logs.

    Raises
    ------
    ToolError
        When yosys is missing or fails.
    """
    steps = [
        f"synth_xilinx -flatten -noiopad -noclkbuf -nowidelut {'' if dsp else '-nodsp '}-top {top}",
        f"tee -q -o xilinx7.json stat -json -top {top}",
    ]
    _yosys(verilog, top, steps, "xilinx7", work_dir, progress)
    cells = _cells(work_dir / "xilinx7.json")

    def total(names: Sequence[str]) -> int:
        return sum(cells.get(name, 0) for name in names)

    return Xilinx7Count(
        lut6=total([f"LUT{n}" for n in range(1, 7)]),
        lut_ram=sum(luts * cells.get(name, 0) for name, luts in _LUT_RAM.items()) + total(_SHIFT_REGISTERS),
        carry4=total(["CARRY4"]),
        ff=total(["FDRE", "FDSE", "FDCE", "FDPE"]),
        bram=total(["RAMB18E1", "RAMB36E1"]),
        dsp=total(["DSP48E1"]),
    )


def count_gates(
    verilog: Sequence[Path], top: str, *, liberty: Path | None = None, work_dir: Path, progress: Progress = SILENT
) -> GateCount:
    """Map to generic gates, or to the cells of a Liberty file, and count them.

    Parameters
    ----------
    verilog : sequence of Path
        Plain Verilog.
    top : str
    liberty : Path or None
        A cell library; it is copied to `work_dir`.
    work_dir : Path
        An existing folder, which keeps sources and logs.

    Raises
    ------
    InputError
        When the Liberty file cannot be read.
    ToolError
        When yosys is missing or fails.
    """
    steps = [f"synth -flatten -top {top}"]
    if liberty is None:
        steps += [f"abc -g {_GATES}", "opt_clean", f"tee -q -o gates.json stat -json -top {top}"]
    else:
        (work_dir / "cells.lib").write_text(read_text(liberty, "liberty file"), encoding="utf-8")
        steps += ["dfflibmap -liberty cells.lib", "abc -liberty cells.lib", "opt_clean"]
        steps += [f"tee -q -o gates.json stat -json -liberty cells.lib -top {top}"]
    steps += ["tee -q -o depth.txt ltp -noff"]
    _yosys(verilog, top, steps, "gates", work_dir, progress)
    cells = _cells(work_dir / "gates.json")
    found = re.search(r"length=(\d+)", read_text(work_dir / "depth.txt"))
    if found is None:
        raise ToolError(f"yosys failed: ltp must name the longest path of {top}, and did not")
    ff = sum(n for name, n in cells.items() if "DFF" in name.upper() or "LATCH" in name.upper())
    area = json.loads(read_text(work_dir / "gates.json"))["design"].get("area") if liberty else None
    return GateCount(
        sum(cells.values()) - ff, ff, int(found[1]), None if area is None else float(area), tuple(sorted(cells.items()))
    )


def _yosys(verilog: Sequence[Path], top: str, steps: list[str], name: str, work_dir: Path, progress: Progress) -> None:
    if not verilog:
        raise InputError("verilog must be at least one file, not none")
    script = []
    for i, path in enumerate(verilog):
        copy = f"{name}_{i}.v"
        (work_dir / copy).write_text(read_text(path, "verilog source"), encoding="utf-8")
        script.append(f"read_verilog -sv {copy}")
    script += [f"hierarchy -check -top {top}", "proc", "check -assert", *steps]
    (work_dir / f"{name}.ys").write_text("\n".join(script) + "\n", encoding="utf-8")
    run(
        "yosys",
        ["-q", "-l", f"{name}.full.log", "-s", f"{name}.ys"],
        cwd=work_dir,
        log=work_dir / f"{name}.log",
        timeout_s=_TIMEOUT_S,
        progress=progress,
    )


def _cells(path: Path) -> dict[str, int]:
    counts = json.loads(read_text(path))["design"].get("num_cells_by_type", {})
    return {name: n for name, n in counts.items() if name != "$scopeinfo"}
