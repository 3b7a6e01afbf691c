"""Which element of an array hosts which bit of the read-out: the OR trees of the columns, in a flat netlist.

A node of the tree ORs up to four words of elements, or of nodes below, one above the other. Placed as a whole it would need tiles
between them that a dense grid does not have. Its bits, a lookup and a register each, go to elements of the column instead: those
that read elements to these, evenly, and the others to the middle of what they read, as far as no element hosts more than others.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from shiftforge.config import ceil_div
from sim.place.netlist import Bit, Cell, Netlist

_NODE = re.compile(r"(?:.*\.)?column_\d+(?:_or_\d+_\d+_\d+|(?:\[\d+\])?(?:\.\w+)*)_TRELLIS_FF_Q(?:_\d+)?")
"""A bit of a node: a root has the name of the column's port, or of a part of it."""
GUEST = "read_"
"""What the names of all guests begin with."""
LOOKUP, REGISTER = "lut", "register"
"""Of a bit: what ORs, where there is more than one input, and what registers."""

Place = tuple[int, int]
"""Row and column of an element."""
Names = dict[str, str]
"""A cell's name within its element -> its name in the netlist."""


@dataclass(frozen=True)
class _Node:
    """Of a bit: the column and the rows that it reads, in the end, and the registers on the way."""

    col: int
    rows: tuple[int, ...]
    depth: int


def hosted(netlist: Netlist, elements: Mapping[Place, Names], full: int) -> dict[Place, Names]:
    """For each element the cells of the read-out that it hosts: a name for them there -> the netlist's.

    Names are ``read_<kind>_<number>.<part>``, where the part is `REGISTER` or, for what it registers, `LOOKUP`; the kind is ``or``
    with a lookup, and else ``word``.

    Parameters
    ----------
    netlist : Netlist
        Flat, in yosys' cells, or with these packed.
    elements : mapping of Place to Names
    full : int
        A row whose elements host as many as any: the one of the element that all others are copies of.
    """
    registers = [name for name, cell in netlist.cells.items() if cell.kind == "TRELLIS_FF" and _NODE.fullmatch(name)]
    lookups = _lookups(netlist, registers)
    nodes = _nodes(netlist, elements, registers, lookups)
    bits: dict[tuple[int, bool], list[str]] = {}
    for name, node in nodes.items():
        bits.setdefault((node.col, name in lookups), []).append(name)
    result: dict[Place, Names] = {}
    for (col, looked_up), names in bits.items():
        names.sort(key=lambda name: (nodes[name].depth, nodes[name].rows, _number(name)))
        rows = _hosts([nodes[name] for name in names], sorted(row for row, c in elements if c == col), full)
        count: Counter[int] = Counter()
        for name, row in zip(names, rows, strict=True):
            guest = f"{GUEST}{'or' if looked_up else 'word'}_{count[row]}"
            count[row] += 1
            there = result.setdefault((row, col), {})
            there[f"{guest}.{REGISTER}"] = name
            if looked_up:
                there[f"{guest}.{LOOKUP}"] = lookups[name]
    return result


def _hosts(bits: list[_Node], rows: list[int], full: int) -> list[int]:
    """The row that hosts each bit of a column, the lowest nodes' first.

    Of `rows` none hosts more than it must, so that all elements have places for as many, and `full` hosts no fewer if it can. The
    bits of a node that reads elements are spread over these; all others are as near to the middle of what their node reads as there
    are places.
    """
    most = ceil_div(len(bits), len(rows))
    free = dict.fromkeys(rows, most)
    size, seen = Counter(bits), Counter[_Node]()
    hosts: list[int] = []
    for node in bits:
        wanted = (node.rows[0] + node.rows[-1]) / 2
        first = most if full in node.rows and len(node.rows) > 1 else 0
        if node.depth == 1 and seen[node] < first:
            wanted = full
        elif node.depth == 1:
            others = [row for row in node.rows if row != full or not first]
            wanted = others[(seen[node] - first) * len(others) // (size[node] - first)]
        seen[node] += 1
        row = min((row for row in rows if free[row]), key=lambda row: abs(row - wanted))
        free[row] -= 1
        hosts.append(row)
    return hosts


def _number(name: str) -> int:
    """Of the bit, as yosys numbers them; the first has none."""
    last = name.rpartition("_")[2]
    return int(last) if last.isdigit() else 0


def _lookups(netlist: Netlist, registers: list[str]) -> dict[str, str]:
    """For each of these registers the lookup that it alone reads, where there is one."""
    inputs = {_input(netlist.cells[name]): name for name in registers}
    readers = dict.fromkeys(inputs, 0)
    for cell in netlist.cells.values():
        for _, _, bit in cell.pins(driving=False):
            if bit in inputs:
                readers[bit] += 1
    return {
        inputs[bit]: name
        for name, cell in netlist.cells.items()
        if cell.kind in ("LUT4", "TRELLIS_COMB")
        for _, _, bit in cell.pins(driving=True)
        if readers.get(bit) == 1
    }


def _input(register: Cell) -> Bit | None:
    return register.net("DI") or register.net("M")


def _nodes(
    netlist: Netlist, elements: Mapping[Place, Names], registers: list[str], lookups: Mapping[str, str]
) -> dict[str, _Node]:
    """What each of the registers reads; without those that read anything but elements of one column."""
    known: dict[Bit, _Node] = {}
    for (row, col), names in elements.items():
        for full in names.values():
            for _, _, bit in netlist.cells[full].pins(driving=True):
                known[bit] = _Node(col, (row,), 0)
    found: dict[str, _Node] = {}
    waiting = registers
    while waiting:
        later = []
        for name in waiting:
            cell = netlist.cells[name]
            if name in lookups:
                pins = netlist.cells[lookups[name]].pins(driving=False)
                inputs = [bit for _, _, bit in pins if isinstance(bit, int)]
            else:
                inputs = [bit for bit in (_input(cell),) if isinstance(bit, int)]
            below = [known[bit] for bit in inputs if bit in known]
            if not inputs or len(below) < len(inputs) or len({node.col for node in below}) > 1:
                later.append(name)
                continue
            rows = tuple(sorted({row for node in below for row in node.rows}))
            found[name] = known[cell.bits["Q"][0]] = _Node(below[0].col, rows, 1 + max(node.depth for node in below))
        if len(later) == len(waiting):
            break
        waiting = later
    return found
