"""The packed cells of one element as a graph: what moves together, the wires between, the order of the combinational ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shiftforge.config import ceil_div
from sim.place.fabric import SLOTS
from sim.place.netlist import Bit, Cell


@dataclass(frozen=True)
class Feed:
    """What drives an input of the element: a net of the element at another place in the grid.

    Parameters
    ----------
    bit : Bit
        The net, as this element's own is called.
    rows, cols : int
        Where that element lies from this one.
    """

    bit: Bit
    rows: int
    cols: int


@dataclass
class Cluster:
    """Cells that move together. ``luts`` and ``registers``: offset in slots -> cell.

    ``tiles`` is 0 for what takes one slot of any tile, and else the tiles that it begins at the first slot of.
    """

    luts: dict[int, int]
    registers: dict[int, int]
    tiles: int = 0
    port: int | None = None
    cells: tuple[int, ...] = field(init=False)
    chain: bool = field(init=False)

    def __post_init__(self) -> None:
        port = () if self.port is None else (self.port,)
        self.cells = (*self.luts.values(), *self.registers.values(), *port)
        self.chain = self.tiles > 0 and self.port is None


Wire = tuple[int, int, int, int]
"""Source and sink; and how many columns and rows the source's element lies to the right of and below the sink's."""


class Element:
    """The cells by number: what moves together, the wires between them, and the order of the combinational ones."""

    def __init__(self, cells: Mapping[str, Cell], feeds: Mapping[Bit, Feed], width: int, height: int) -> None:
        self.names = list(cells)
        self.cells = list(cells.values())
        self.modes = [self._mode(cell) for cell in self.cells]
        self.driver = {bit: i for i, cell in enumerate(self.cells) for _, _, bit in cell.pins(driving=True)}
        self.carry_out = {cell.net("FCO") for cell in self.cells} - {None}
        self.resets = [(cell.net("LSR"), cell.parameters.get("LSRMUX", "LSR")) for cell in self.cells]
        self.resets = [key if key[0] is not None else (None, "") for key in self.resets]
        self.enables = [(cell.net("CE"), cell.parameters.get("CEMUX", "CE")) for cell in self.cells]
        self.clusters = self._clusters()
        self.cluster_of = {cell: k for k, cluster in enumerate(self.clusters) for cell in cluster.cells}
        self.wires: list[Wire] = []
        self.in_slot: list[bool] = []
        self.along_carry: list[bool] = []
        self._connect(feeds, width, height)
        self.into: list[list[int]] = [[] for _ in self.cells]
        self.at: list[list[int]] = [[] for _ in self.cells]
        for k, (source, sink, _, _) in enumerate(self.wires):
            self.into[sink].append(k)
            for cell in {source, sink}:
                self.at[cell].append(k)
        self.carry_from = [self.driver.get(cell.net("FCI") or "", -1) for cell in self.cells]
        self.order = self._order()

    @staticmethod
    def _mode(cell: Cell) -> str:
        return cell.parameters.get("MODE", "LUT") if cell.kind == "TRELLIS_COMB" else cell.kind

    def site(self, cell: int, slot: int) -> str:
        kind = self.cells[cell].kind
        if kind == "TRELLIS_RAMW":
            return "SLICEC.RAMW"
        return f"SLICE{'ABCD'[slot // 2]}.{'FF' if kind == 'TRELLIS_FF' else 'K'}{slot % 2}"

    def _clusters(self) -> list[Cluster]:
        behind = {
            self.driver[bit]: i
            for i, cell in enumerate(self.cells)
            if cell.kind == "TRELLIS_FF" and (bit := cell.net("DI")) is not None
        }

        def registers(luts: dict[int, int]) -> dict[int, int]:
            return {offset: behind[cell] for offset, cell in luts.items() if cell in behind}

        clusters: list[Cluster] = []
        for chain in self._chains():
            luts = dict(enumerate(chain))
            clusters.append(Cluster(luts, registers(luts), tiles=ceil_div(len(chain), SLOTS)))
        memories: dict[str, dict[str, int]] = {}
        for i, name in enumerate(self.names):
            if self.modes[i] in ("DPRAM", "RAMW_BLOCK", "TRELLIS_RAMW"):
                memory, part = name.rsplit("$", 1)
                memories.setdefault(memory, {})[part] = i
        for parts in memories.values():
            luts = {k: parts[f"DPRAM_COMB{k}"] for k in range(4)} | {4 + k: parts[f"RAMW_BLOCK{k}"] for k in range(2)}
            clusters.append(Cluster(luts, registers(luts), tiles=1, port=parts["RAMW_SLICE"]))
        known = {cell for cluster in clusters for cell in cluster.cells}
        for i, cell in enumerate(self.cells):
            if i in known or i in behind.values():
                continue
            luts = {} if cell.kind == "TRELLIS_FF" else {0: i}
            clusters.append(Cluster(luts, registers(luts) if luts else {0: i}))
        return clusters

    def _chains(self) -> list[list[int]]:
        carries = [i for i, mode in enumerate(self.modes) if mode == "CCU2"]
        after = {
            self.driver[bit]: i for i in carries if (bit := self.cells[i].net("FCI")) is not None and bit in self.driver
        }
        chains: list[list[int]] = []
        for head in sorted(set(carries) - set(after.values())):
            chain = [head]
            while chain[-1] in after:
                chain.append(after[chain[-1]])
            chains.append(chain)
        return chains

    def _connect(self, feeds: Mapping[Bit, Feed], width: int, height: int) -> None:
        for sink, cell in enumerate(self.cells):
            for port, _, bit in cell.pins(driving=False):
                if port in ("CLK", "WCK", "FCI") or port.startswith(("WAD", "WD")):
                    continue  # the clock, and wires within a chain or a memory
                feed = feeds.get(bit, Feed(bit, 0, 0))
                source = self.driver.get(feed.bit)
                if source is not None:
                    self.wires.append((source, sink, feed.cols * width, feed.rows * height))
                    self.in_slot.append(port == "DI")
                    self.along_carry.append(feed.bit in self.carry_out)

    def _order(self) -> list[int]:
        """The combinational cells, each after those that drive it."""
        order: list[int] = []
        done = [cell.kind != "TRELLIS_COMB" for cell in self.cells]
        for first in range(len(self.cells)):
            stack = [first]
            while stack:
                cell = stack[-1]
                if done[cell]:
                    stack.pop()
                    continue
                before = [self.wires[k][0] for k in self.into[cell] if self.wires[k][2:] == (0, 0)]
                before += [self.carry_from[cell]] if self.carry_from[cell] >= 0 else []
                waiting = [other for other in before if not done[other] and other != cell]
                if waiting and len(stack) <= len(self.cells):
                    stack += waiting
                else:
                    stack.pop()
                    done[cell] = True
                    order.append(cell)
        return order
