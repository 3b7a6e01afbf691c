"""A floorplan for a systolic array: registers that hold each processing element at its place in a grid.

An array that is placed out of context has no fixed point: a placer may fold its grid as it likes, and single cells land tens of
columns from their element. A few registers per element, fixed in the middle of its place, pull the rest after them. Everything
else stays the placer's choice.

Source: nextpnr's ``BEL`` attribute (its docs/constraints.md).
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from shiftforge.errors import ToolError
from shiftforge.files import read_text, write_atomically
from sim.synth import NETLIST, flip_flop_places

ANCHORS = 8
"""Registers that are fixed per element: a tile's flip-flops."""
DENSITY = 0.5
"""Share of an element's place that its cells take, of LUTs or flip-flops whichever are more."""
_TILE = 8
"""LUTs of a tile, and flip-flops."""
_COLUMNS = range(2, 125)
_ROWS = tuple(y for y in range(2, 94) if y not in (10, 22, 34, 46, 58, 70, 82))
"""Columns and rows of logic tiles on the LFE5U-85; the rows between hold block memories and multipliers."""
_SITES = {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 8}
"""LUT sites of a cell; a memory bars its whole tile."""
_ELEMENT = re.compile(r"pe_(\d+)_(\d+)\.")


@dataclass(frozen=True)
class _Cell:
    """A cell of yosys' JSON netlist, with the net of each port's first bit."""

    name: str
    kind: str
    nets: dict[str, object]
    inputs: tuple[object, ...]
    attributes: dict[str, object]


def anchor(folder: Path, rows: int, cols: int, target: Path) -> tuple[int, int]:
    """Write the netlist in `folder` to `target` with registers of the array's elements fixed; returns the grid's pitch in tiles.

    The registers are those of an element that are fed by a register, have neither reset nor enable, and the most readers: what it
    passes on. Such a flip-flop is packed with no LUT, and fits every tile.

    Parameters
    ----------
    folder : Path
        Where `sim.synth.synthesize` left ``netlist.json``, for the LFE5U-85.
    rows, cols : int
        Of the array, whose elements are called ``pe_<row>_<column>``.
    target : Path
        File to write.

    Raises
    ------
    ToolError
        When the array is too large for the device.
    """
    design = json.loads(read_text(folder / NETLIST))
    top = next(module for module in design["modules"].values() if int(module["attributes"].get("top", "0"), 2))
    cells = [_cell(name, entry) for name, entry in top["cells"].items()]
    px, py = _pitch(cells, flip_flop_places(folder), rows, cols)
    x0, y0 = (len(_COLUMNS) - cols * px) // 2, (len(_ROWS) - rows * py) // 2
    for (row, col), found in _registers(cells).items():
        x, y = _COLUMNS[x0] + col * px + px // 2, _ROWS[y0 + row * py + py // 2]
        for i, cell in enumerate(found[:ANCHORS]):
            cell.attributes["BEL"] = f"X{x}/Y{y}/SLICE{'ABCD'[i // 2]}.FF{i % 2}"
    write_atomically(target, json.dumps(design))
    return px, py


def _cell(name: str, entry: dict[str, object]) -> _Cell:
    bits = cast("dict[str, list[object]]", entry["connections"])
    directions = cast("dict[str, str]", entry.get("port_directions", {}))
    inputs = tuple(bit for port, nets in bits.items() if directions.get(port) == "input" for bit in nets)
    nets = {port: found[0] for port, found in bits.items() if found}
    return _Cell(name, str(entry["type"]), nets, inputs, cast("dict[str, object]", entry["attributes"]))


def _pitch(cells: Iterable[_Cell], places: int, rows: int, cols: int) -> tuple[int, int]:
    sites = sum(_SITES.get(cell.kind, 0) for cell in cells)
    tiles = max(places, sites) / _TILE / (rows * cols) / DENSITY
    py = min(max(1, round(math.sqrt(tiles) * 0.94)), len(_ROWS) // rows)
    px = min(max(1, round(tiles / py)), len(_COLUMNS) // cols) if py else 0
    if not px * py:
        raise ToolError(f"an array of {rows}x{cols} elements must have a tile for each, and the device has too few")
    return px, py


def _registers(cells: list[_Cell]) -> dict[tuple[int, int], list[_Cell]]:
    """Of each element, those that may be fixed: the most readers first."""
    readers = Counter(bit for cell in cells for bit in cell.inputs)
    registers = [cell for cell in cells if cell.kind == "TRELLIS_FF"]
    fed = {cell.nets["Q"] for cell in registers}
    found: dict[tuple[int, int], list[_Cell]] = {}
    for cell in registers:
        element = _ELEMENT.search(cell.name)
        free = cell.nets.get("LSR", "0") == "0" and "CE" not in cell.nets
        if element and free and cell.nets["DI"] in fed:
            found.setdefault((int(element[1]), int(element[2])), []).append(cell)
    for registers in found.values():
        registers.sort(key=lambda cell: (-readers[cell.nets["Q"]], cell.name))
    return found
