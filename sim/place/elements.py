"""The processing elements of an array in a flat netlist: found by their names, and written back as blocks in a grid.

What stands at a row's left end, its feed, its edge and its reset, is a block as well, one beside each row. An element's block hosts
some bits of its column's read-out (`sim.place.read_out`).

All are alike, but for what has no reader at the array's borders and is gone there. One of them is packed by nextpnr and placed in
a rectangle (`sim.place.anneal`); each then gets the packed cells with its own nets and the place of its rectangle (``BEL``). All
other cells stay as they are, and nextpnr packs and places them around the blocks.

Source: nextpnr's ``BEL`` attribute (its docs/constraints.md). It is written on packed cells, because on a carry cell or a memory it
would go to each of the cells that nextpnr makes of it.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, product

from shiftforge.config import ceil_div
from shiftforge.errors import InputError, ToolError
from shiftforge.progress import SILENT, Progress
from sim.place.anneal import Placed, RectangleFullError, place
from sim.place.fabric import FABRICS, SLOTS, Grid, grids
from sim.place.graph import Feed
from sim.place.netlist import Bit, Cell, Netlist
from sim.place.read_out import GUEST, LOOKUP, Names, Place, hosted

_ELEMENT = re.compile(r"(?:.*\.)?pe_(?P<row>\d+)_(?P<col>\d+)\.")
_EDGE = re.compile(r"(?:.*\.)?(?P<unit>edge|row|reset_row)_(?P<row>\d+)\.")
_NET = re.compile(r"net_(\d+)")
_PART = re.compile(r"\$(CCU2_COMB[01]|DPRAM_COMB[0-3]|RAMW_SLICE|RAMW_BLOCK[01])$")
"""What nextpnr adds to the name of the cell that it makes several of."""
BARRED = "barred_"
"""What the names of lookups begin with that only keep a place."""
_LUTS_OF = {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6}
_INPUTS = ("A", "B", "C", "D")
"""Of a lookup."""
_CONSTANTS = {"$PACKER_GND_NET": "0", "$PACKER_VCC_NET": "1"}


@dataclass(frozen=True)
class Elements:
    """The elements of `netlist`, or the left ends of its rows, in one column.

    Parameters
    ----------
    netlist : Netlist
        Flat, in yosys' cells (LUT4, TRELLIS_FF, CCU2C, TRELLIS_DPR16X4).
    names : dict of Place to Names
    """

    netlist: Netlist
    names: dict[Place, Names]

    @staticmethod
    def of(netlist: Netlist) -> "Elements":
        """By the names: ``pe_<row>_<column>.``, with anything before it, and the read-out's cells that they host.

        `InputError` when there are none.
        """
        found = Elements(netlist, _named(netlist, _ELEMENT))
        if not found.names:
            raise InputError("the placer 'elements' needs cells below pe_<row>_<column>, and the design has none")
        return found._hosting()

    def _hosting(self) -> "Elements":
        """With what each hosts of the read-out, but for what is unlike that of the element that is placed."""
        guests = hosted(self.netlist, self.names, self._model[0])
        full = replace(self, names={at: names | guests.get(at, {}) for at, names in self.names.items()})
        model = _parts(full._whole)

        def alike(own: Names) -> Names:
            parts = _parts(own)
            return {name: cell for name, cell in own.items() if parts[_whose(name)] == model[_whose(name)]}

        return replace(self, names={at: names | alike(guests.get(at, {})) for at, names in self.names.items()})

    @staticmethod
    def edges(netlist: Netlist) -> "Elements":
        """By the names: ``edge_<row>.``, the feed's ``row_<row>.`` and ``reset_row_<row>.``; there may be none."""
        return Elements(netlist, _named(netlist, _EDGE))

    @property
    def rows(self) -> int:
        return 1 + max(row for row, _ in self.names)

    @property
    def cols(self) -> int:
        return 1 + max(col for _, col in self.names)

    @property
    def cells(self) -> set[str]:
        """The names in the netlist of all their cells."""
        return {full for names in self.names.values() for full in names.values()}

    @cached_property
    def _model(self) -> Place:
        """The element that is packed and placed: of those with the most cells and pins the one nearest to the middle."""

        def key(at: Place) -> tuple[int, int, int]:
            cells = [self.netlist.cells[full] for full in self.names[at].values()]
            pins = sum(isinstance(bit, int) for cell in cells for bits in cell.bits.values() for bit in bits)
            return len(cells), pins, -abs(at[0] - self.rows // 2) - abs(at[1] - self.cols // 2)

        return max(self.names, key=key)

    @cached_property
    def _whole(self) -> Names:
        """Its names."""
        return self.names[self._model]

    def one(self) -> Netlist:
        """That element alone. Its nets are called ``net_<number>``; those that cross its border are ports."""
        cells = {name: self.netlist.cells[full] for name, full in self._whole.items()}
        read, driven = ({bit for cell in cells.values() for bit in _bits(cell, driving=way)} for way in (False, True))
        inside = set(self._whole.values())
        others = (cell for name, cell in self.netlist.cells.items() if name not in inside)
        outside = {bit for cell in others for bit in _bits(cell, driving=False)}
        outside |= {bit for drives, bits in self.netlist.ports.values() if drives for bit in bits}
        ports = {f"net_{bit}": (False, [bit]) for bit in sorted(read - driven, key=str)}
        ports |= {f"net_{bit}": (True, [bit]) for bit in sorted(driven & outside, key=str)}
        return Netlist(cells, {f"net_{bit}": [bit] for bit in sorted(read | driven, key=str)}, ports)

    @cached_property
    def feeds(self) -> dict[Bit, Feed]:
        """Inputs of that element that other elements drive."""
        source: dict[Bit, tuple[Place, str, str, int]] = {}
        for at, names in self.names.items():
            for name, full in names.items():
                for port, index, bit in self.netlist.cells[full].pins(driving=True):
                    source[bit] = at, name, port, index
        feeds: dict[Bit, Feed] = {}
        row, col = self._model
        for full in self._whole.values():
            for _, _, bit in self.netlist.cells[full].pins(driving=False):
                if bit in source and source[bit][0] != (row, col):
                    (from_row, from_col), driver, out, k = source[bit]
                    if driver in self._whole:
                        feeds[bit] = Feed(self._net(driver, out, k), from_row - row, from_col - col)
        return feeds

    def _net(self, name: str, port: str, index: int) -> Bit:
        """A net of the whole element."""
        return self.netlist.cells[self._whole[name]].bits[port][index]

    def stamped(self, packed: dict[str, Cell], placed: Placed, left: int, bands: tuple[Sequence[int], ...]) -> Netlist:
        """The netlist with all of them packed, and each of their cells in its place.

        Parameters
        ----------
        packed : dict of str to Cell
            `one` as nextpnr packed it (`packed_cells`).
        placed : Placed
            Those cells.
        left : int
            First column of the blocks.
        bands : tuple of sequences of int
            Rows of each row of blocks.
        """
        inside = self.cells
        result = {name: cell for name, cell in self.netlist.cells.items() if name not in inside}
        nets = dict(self.netlist.nets)
        number = self.netlist.unused()
        for (row, col), names in self.names.items():
            known = dict(self._translation(names))
            prefix = next(iter(names.values())).rpartition(".")[0]
            for name, cell in packed.items():
                origin = _PART.sub("", name)
                if origin in self._whole and origin not in names:
                    continue  # no reader here
                bits: dict[str, list[Bit]] = {}
                parameters = cell.parameters
                for port, (bit,) in cell.bits.items():
                    if isinstance(bit, int) and bit < 0 and bit not in known:
                        known[bit] = number
                        nets[f"{prefix}.${-bit}"] = [number]
                        number += 1
                    if isinstance(bit, str) or bit in known:
                        bits[port] = [known.get(bit, bit)]
                if _is_guest_lookup(origin):  # of as many inputs as its node has there, in any order
                    own = self.netlist.cells[names[origin]]
                    inputs = {port: own.bits[port] for port in _INPUTS if isinstance(own.net(port), int)}
                    bits = {port: nets for port, nets in bits.items() if port not in _INPUTS} | inputs
                    parameters = {**parameters, "INITVAL": own.parameters["INIT"]}
                at = placed.positions[name]
                bel = f"X{left + col * placed.width + at.column}/Y{bands[row][at.row]}/{at.site}"
                full = names[origin] + name[len(origin) :] if origin in names else f"{prefix}.{name}"
                result[full] = Cell(cell.kind, bits, cell.outputs, parameters, {"BEL": bel})
        return Netlist(result, nets, self.netlist.ports)

    def _translation(self, names: Names) -> Iterator[tuple[Bit, Bit]]:
        """Nets of the whole element, and what they are in another."""
        for name, full in names.items():
            if name in self._whole:
                other = self.netlist.cells[full].bits
                for port, bits in self.netlist.cells[self._whole[name]].bits.items():
                    if not (_is_guest_lookup(name) and port in _INPUTS):
                        yield from zip(bits, other.get(port, []), strict=False)


def arrange(
    netlist: Netlist, pack: Callable[[Netlist, str], Netlist], device: str, seed: int, progress: Progress = SILENT
) -> Netlist:
    """The netlist with its elements and the left ends of its rows as blocks, in the best grid of which all fit the device.

    Parameters
    ----------
    netlist : Netlist
        Flat, in yosys' cells.
    pack : callable
        Packs a netlist with nextpnr; the second argument is a name for its files.
    device : str
        One of `sim.place.fabric.FABRICS`.
    seed : int
        Of the annealing.
    progress : Progress
        Told of each block that is placed.

    Raises
    ------
    InputError
        When there are no elements.
    ToolError
        When no grid fits the device.
    """
    elements, edges = Elements.of(netlist), Elements.edges(netlist)
    cells = packed_cells(pack(elements.one(), "element"))
    edge_cells = packed_cells(pack(edges.one(), "edge")) if edges.names else {}
    others = _others(netlist, elements, edges)
    for grid in grids(_tiles(cells), _tiles(edge_cells), others, FABRICS[device], elements.rows, elements.cols):
        try:
            with progress.step(f"a processing element in {grid.width}x{grid.height} tiles"):
                edge = place(edge_cells, {}, grid.edge, grid.height, seed) if edge_cells else None
                in_block, placed = _fitted(cells, elements.feeds, grid, seed)
        except RectangleFullError:
            continue
        result = elements.stamped(in_block, placed, grid.left, grid.bands)
        if edge is not None:
            result = replace(edges, netlist=result).stamped(edge_cells, edge, grid.left - grid.edge, grid.bands)
        return _barred(result, grid, elements.cols) if grid.aside else result
    raise ToolError(
        f"an array of {elements.rows}x{elements.cols} elements of {_tiles(cells)} tiles each must fit the {device}, and does not"
    )


def _fitted(cells: dict[str, Cell], feeds: dict[Bit, Feed], grid: Grid, seed: int) -> tuple[dict[str, Cell], Placed]:
    """An element's cells in its block: as they are packed or, where that is too small for them, a little looser."""
    try:
        return cells, place(cells, feeds, grid.width, grid.height, seed)
    except RectangleFullError:
        cells = registers_apart(cells)
        return cells, place(cells, feeds, grid.width, grid.height, seed)


def registers_apart(cells: dict[str, Cell]) -> dict[str, Cell]:
    """The packed cells with a wire to each register that nextpnr packs with a bit of a memory: it may lie elsewhere then.

    In its place it bars four register sites of the memory's tile, a whole one that is, from other resets.
    """
    bits = {
        bit
        for cell in cells.values()
        if cell.parameters.get("MODE", "").strip() == "DPRAM"
        for _, _, bit in cell.pins(driving=True)
    }

    def apart(cell: Cell) -> Cell:
        if cell.kind != "TRELLIS_FF" or cell.net("DI") not in bits:
            return cell
        pins = {"M" if port == "DI" else port: nets for port, nets in cell.bits.items()}
        return replace(cell, bits=pins, parameters={**cell.parameters, "SD": "0 "})

    return {name: apart(cell) for name, cell in cells.items()}


def _barred(netlist: Netlist, grid: Grid, cols: int) -> Netlist:
    """With a lookup without pins in every free place of the blocks.

    nextpnr's placer takes free places within the blocks for room, where the registers beside them have another reset, and then
    finds none there.
    """
    cells = dict(netlist.cells)
    taken = {cell.attributes["BEL"] for cell in cells.values() if "BEL" in cell.attributes}
    columns = range(grid.left - grid.edge, grid.left + cols * grid.width)
    sites = [f"SLICE{letter}.K{half}" for letter in "ABCD" for half in "01"]
    for row, column, site in product(chain(*grid.bands), columns, sites):
        bel = f"X{column}/Y{row}/{site}"
        if bel not in taken:
            parameters = {"MODE": "LOGIC", "INITVAL": "0" * 16}
            cells[f"{BARRED}{len(cells)}"] = Cell("TRELLIS_COMB", {}, frozenset(), parameters, {"BEL": bel})
    return replace(netlist, cells=cells)


def _whose(name: str) -> str:
    """The guest that a cell is a part of."""
    return name.rpartition(".")[0]


def _parts(names: Names) -> Counter[str]:
    """How many cells each guest has: one, or two with a lookup."""
    return Counter(map(_whose, names))


def _is_guest_lookup(name: str) -> bool:
    return name.startswith(GUEST) and name.endswith(LOOKUP)


def _others(netlist: Netlist, *blocks: Elements) -> int:
    """Tiles that all other cells fill, with their flip-flops or with their LUTs."""
    inside = {name for block in blocks for name in block.cells}
    kinds = Counter(cell.kind for name, cell in netlist.cells.items() if name not in inside)
    luts = sum(n * kinds[kind] for kind, n in _LUTS_OF.items())
    return ceil_div(max(kinds["TRELLIS_FF"], luts), SLOTS)


def _named(netlist: Netlist, pattern: re.Pattern[str]) -> dict[Place, Names]:
    names: dict[Place, Names] = {}
    for name in netlist.cells:
        found = pattern.match(name)
        if found:
            parts = found.groupdict()
            unit = f"{parts['unit']}." if "unit" in parts else ""
            at = int(parts["row"]), int(parts.get("col") or 0)
            names.setdefault(at, {})[unit + name[found.end() :]] = name
    return names


def _bits(cell: Cell, *, driving: bool) -> Iterator[Bit]:
    return (bit for _, _, bit in cell.pins(driving=driving) if isinstance(bit, int))


def packed_cells(packed: Netlist) -> dict[str, Cell]:
    """The cells that nextpnr packed, with the nets' numbers of the netlist that it was given; its own are negative."""
    own: dict[Bit, Bit] = {}
    for name, bits in packed.nets.items():
        found = _NET.fullmatch(name)
        own[bits[0]] = int(found[1]) if found else _CONSTANTS.get(name, -1 - len(own))
    kinds = ("TRELLIS_COMB", "TRELLIS_FF", "TRELLIS_RAMW")
    return {
        name: Cell(
            cell.kind,
            {port: [own.get(bits[0], bits[0])] for port, bits in cell.bits.items() if bits},
            cell.outputs,
            cell.parameters,
        )
        for name, cell in packed.cells.items()
        if cell.kind in kinds and not name.startswith("$PACKER")
    }


def _tiles(cells: dict[str, Cell]) -> int:
    """Tiles that an element takes at least: a tile's flip-flops share their reset, and a memory has one of its own.

    A memory's write port stands in the place of two LUTs.
    """
    resets = Counter(str(cell.net("LSR")) for cell in cells.values() if cell.kind == "TRELLIS_FF")
    luts = sum(cell.kind == "TRELLIS_COMB" for cell in cells.values())
    memories = sum(cell.kind == "TRELLIS_RAMW" for cell in cells.values())
    return max(sum(ceil_div(n, SLOTS) for n in resets.values()), ceil_div(luts + 2 * memories, SLOTS), memories)
