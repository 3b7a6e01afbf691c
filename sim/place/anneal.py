"""Places the cells of one element in a rectangle of logic tiles by simulated annealing, so that its longest path is short.

The element is one of many that lie in a grid: a path that leaves it on the right enters its neighbour on the left, at the same
place. The cost is the sum of all wires' estimated delays, each weighted by how critical it is; after each temperature the longest
paths are found anew.

What is legal is what nextpnr 0.11 takes for ECP5: a tile's flip-flops share their reset, a slice's two their clock enable, a carry
chain fills slots from a tile's first one on, a LUT RAM takes six of its tile's eight LUTs, and a flip-flop whose input is ``DI``
lies in the slot of the LUT that drives it.

Source: Kirkpatrick et al., Optimization by Simulated Annealing (Science 220, 1983); Betz and Rose, VPR (FPL 1997) and Marquardt
et al., Timing-driven placement for FPGAs (FPGA 2000) for the cost; delays from nextpnr's reports for speed grade 6.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random

from shiftforge.errors import ToolError
from sim.place.fabric import SLOTS
from sim.place.graph import Element, Feed
from sim.place.netlist import Bit, Cell

# Nanoseconds.
_CLOCK_TO_Q, _LUT, _CARRY_IN, _CARRY, _CARRY_OUT, _MEMORY_WRITE = 0.52, 0.24, 0.45, 0.07, 0.44, 0.08
_WIRE, _WIRE_IN_SLOT = 0.42, 0.13
_SPAN = (0.0, 0.22, 0.36, 0.42, 0.48, 0.52, 0.56)
_SPAN_MORE = 0.07
"""A wire takes `_WIRE` (to ``DI``, `_WIRE_IN_SLOT`) and, for columns and for rows, the entry of `_SPAN`; beyond it, `_SPAN_MORE`
per tile."""

MOVES_PER_CLUSTER = 5000
TEMPERATURES = 60
_FIRST_TEMPERATURE, _COOLING, _COOLING_HOT, _HOT = 1.0, 0.9, 0.85, 0.35
_LOOSE, _TILES = 0.7, 0.2
"""Shares of the moves: of one LUT or register, and of whole tiles; the others exchange the registers of two tiles."""
_SWAPS = 0.5
"""Share of the moves of one LUT or register that exchange it with one of its kind."""
_CHAINS = 0.3
"""Share of the moves of whole tiles that move a carry chain."""
_SETTLED = 0.6
"""The shortest longest path is looked for in the temperatures after this share."""
_SHARPNESS = (4.0, 10.0)
"""Exponent of a wire's criticality in its weight, from the first temperature to the last."""
_LEAST_WEIGHT = 0.03


class RectangleFullError(ToolError):
    """The element does not fit the rectangle."""


@dataclass(frozen=True)
class Position:
    """A cell's place in the rectangle: column and row of its tile, and its name there as nextpnr has it (``SLICEA.K0``)."""

    column: int
    row: int
    site: str


@dataclass(frozen=True)
class Placed:
    """An element's cells in a rectangle of ``width`` x ``height`` tiles, and the longest path by the estimate, in nanoseconds."""

    width: int
    height: int
    positions: Mapping[str, Position]
    longest: float


def place(cells: Mapping[str, Cell], feeds: Mapping[Bit, Feed], width: int, height: int, seed: int) -> Placed:
    """Place the cells of one packed element.

    Parameters
    ----------
    cells : mapping of str to Cell
        TRELLIS_COMB, TRELLIS_FF and TRELLIS_RAMW as nextpnr packs them.
    feeds : mapping of Bit to Feed
        Its inputs that other elements drive; others' wires are not counted.
    width, height : int
        Of the rectangle, in tiles.
    seed : int

    Raises
    ------
    RectangleFullError
        When the rectangle is too small.
    """
    element = Element(cells, feeds, width, height)
    annealer = _Annealer(element, width, height, seed)
    annealer.run(MOVES_PER_CLUSTER * len(element.clusters))
    positions = {
        name: Position(annealer.x[i], annealer.y[i], element.site(i, annealer.slot[i]))
        for i, name in enumerate(element.names)
    }
    return Placed(width, height, positions, annealer.longest)


class _Annealer:
    """A placement that changes. ``luts`` and ``registers``: tile -> slot -> cell."""

    def __init__(self, element: Element, width: int, height: int, seed: int) -> None:
        self.element, self.width, self.height = element, width, height
        self.random = Random(seed)
        n = len(element.cells)
        self.x, self.y, self.slot = [0] * n, [0] * n, [0] * n
        self.luts: list[list[int | None]] = [[None] * SLOTS for _ in range(width * height)]
        self.registers: list[list[int | None]] = [[None] * SLOTS for _ in range(width * height)]
        self.where: list[tuple[int, int]] = [(0, 0)] * len(element.clusters)
        self.weights = [1.0] * len(element.wires)
        most = width + height + max((abs(step) for wire in element.wires for step in wire[2:]), default=0)
        self.span = [*_SPAN, *(_SPAN[-1] + _SPAN_MORE * (k + 1) for k in range(most))]
        self.sharpness = _SHARPNESS[0]
        self.longest = math.inf
        self._start()

    # ---- what is where

    def _put(self, k: int, tile: int, slot: int) -> None:
        cluster, width = self.element.clusters[k], self.width
        self.where[k] = tile, slot
        for cells, at in ((cluster.luts, self.luts), (cluster.registers, self.registers)):
            for offset, cell in cells.items():
                t, s = tile + (slot + offset) // SLOTS, (slot + offset) % SLOTS
                at[t][s] = cell
                self.x[cell], self.y[cell], self.slot[cell] = t % width, t // width, s
        if cluster.port is not None:
            self.x[cluster.port], self.y[cluster.port] = tile % width, tile // width

    def _take(self, k: int) -> None:
        cluster, (tile, slot) = self.element.clusters[k], self.where[k]
        for cells, at in ((cluster.luts, self.luts), (cluster.registers, self.registers)):
            for offset in cells:
                at[tile + (slot + offset) // SLOTS][(slot + offset) % SLOTS] = None

    def _reset_of(self, tile: int) -> tuple[Bit | None, str] | None:
        return next((self.element.resets[cell] for cell in self.registers[tile] if cell is not None), None)

    def _fits(self, k: int, tile: int, slot: int) -> bool:
        """Whether a cluster of one slot may lie there."""
        cluster, element = self.element.clusters[k], self.element
        if cluster.luts and self.luts[tile][slot] is not None:
            return False
        if cluster.registers:
            register, there = cluster.registers[0], self.registers[tile]
            if there[slot] is not None:
                return False
            reset = self._reset_of(tile)
            if reset is not None and reset != element.resets[register]:
                return False
            other = there[slot ^ 1]
            return other is None or element.enables[other] == element.enables[register]
        return True

    def _start(self) -> None:
        if not (self._laid_out(thrifty=False) or self._laid_out(thrifty=True)):
            raise RectangleFullError(
                f"an element's {len(self.element.cells)} cells must fit a block of {self.width}x{self.height} tiles"
            )

    def _laid_out(self, *, thrifty: bool) -> bool:
        """Chains, memories, then the rest: what has a LUT first, and registers by reset, the largest group first.

        All as near to the middle as can be; if `thrifty`, LUTs with the first register of a reset where most LUTs are free.
        """
        element, width, height = self.element, self.width, self.height
        free = [True] * (width * height)
        for tile in range(width * height):
            self.luts[tile], self.registers[tile] = [None] * SLOTS, [None] * SLOTS

        def taken(tile: int) -> int:
            return sum(cell is not None for cell in self.luts[tile])

        def distance(tile: int) -> int:
            return abs(tile // width - height // 2) + abs(tile % width - width // 2)

        tiles = range(width * height)
        fixed = [k for k, cluster in enumerate(element.clusters) if cluster.tiles]
        for k in sorted(fixed, key=lambda k: (-element.clusters[k].tiles, k)):
            n = element.clusters[k].tiles
            spots = [t for t in tiles if t % width + n <= width and all(free[t : t + n])]
            if not spots:
                return False
            spot = min(spots, key=lambda t: (abs(t // width - height // 2), t))
            free[spot : spot + n] = [False] * n
            self._put(k, spot, 0)
        loose = [k for k, cluster in enumerate(element.clusters) if not cluster.tiles]
        reset = {k: element.resets[c[0]] if (c := element.clusters[k].registers) else None for k in loose}
        group = Counter(reset.values())

        def order(k: int) -> tuple[bool, bool, int, str, str, int]:
            cluster = element.clusters[k]
            enable = element.enables[cluster.registers[0]] if cluster.registers else ""
            return not cluster.luts, not cluster.registers, -group[reset[k]], str(reset[k]), str(enable), k

        for k in sorted(loose, key=order):
            spread = thrifty and bool(element.clusters[k].luts)

            def nearness(tile: int, spread: bool = spread) -> tuple[bool, int, int]:
                new = self._reset_of(tile) is None
                return new, taken(tile) if new and spread else 0, distance(tile)

            near = sorted(tiles, key=nearness)
            spot = next(((t, s) for t in near for s in range(SLOTS) if self._fits(k, t, s)), None)
            if spot is None:
                return False
            self._put(k, *spot)
        return True

    # ---- what it costs

    def _delay(self, k: int) -> float:
        source, sink, dx, dy = self.element.wires[k]
        across, down = abs(self.x[sink] - self.x[source] - dx), abs(self.y[sink] - self.y[source] - dy)
        return (_WIRE_IN_SLOT if self.element.in_slot[k] else _WIRE) + self.span[across] + self.span[down]

    def _cost(self, wires: Iterable[int]) -> float:
        x, y, span, known, weights = self.x, self.y, self.span, self.element.wires, self.weights
        total = 0.0
        for k in wires:
            source, sink, dx, dy = known[k]
            total += weights[k] * (span[abs(x[sink] - x[source] - dx)] + span[abs(y[sink] - y[source] - dy)])
        return total

    def time(self) -> float:
        """Finds the longest path and weights every wire by the slack of the longest path through it; returns the former."""
        element = self.element
        n = len(element.cells)
        delays = [self._delay(k) for k in range(len(element.wires))]
        out = [_CLOCK_TO_Q if cell.kind == "TRELLIS_FF" else 0.0 for cell in element.cells]
        carry = [0.0] * n
        for cell in element.order:
            came = max(
                (
                    (carry if element.along_carry[k] else out)[element.wires[k][0]] + delays[k]
                    for k in element.into[cell]
                ),
                default=0.0,
            )
            if element.modes[cell] == "CCU2":
                before = element.carry_from[cell]
                rippled = carry[before] if before >= 0 else 0.0
                carry[cell] = max(came + _CARRY_IN, rippled + _CARRY)
                out[cell] = max(came + _CARRY_IN, rippled + _CARRY_OUT)
            else:
                out[cell] = came + _LUT
        ends = {
            k: _MEMORY_WRITE if element.modes[sink] == "TRELLIS_RAMW" else 0.0
            for k, (_, sink, _, _) in enumerate(element.wires)
            if element.cells[sink].kind != "TRELLIS_COMB"
        }
        longest = max((out[element.wires[k][0]] + delays[k] + setup for k, setup in ends.items()), default=0.0)
        needed, needed_carry, at = [longest] * n, [longest] * n, [longest] * len(delays)

        def need(k: int, by: float) -> None:
            at[k] = by
            source = element.wires[k][0]
            where = needed_carry if element.along_carry[k] else needed
            where[source] = min(where[source], by - delays[k])

        for k, setup in ends.items():
            need(k, longest - setup)
        for cell in reversed(element.order):
            by = needed[cell] - _LUT
            if element.modes[cell] == "CCU2":
                by = min(needed[cell], needed_carry[cell]) - _CARRY_IN
                before = element.carry_from[cell]
                if before >= 0:
                    needed_carry[before] = min(
                        needed_carry[before], needed[cell] - _CARRY_OUT, needed_carry[cell] - _CARRY
                    )
            for k in element.into[cell]:
                need(k, by)
        for k, (source, _, _, _) in enumerate(element.wires):
            came = (carry if element.along_carry[k] else out)[source]
            critical = 1 - max(0.0, at[k] - came - delays[k]) / longest if longest else 0.0
            self.weights[k] = _LEAST_WEIGHT + max(0.0, critical) ** self.sharpness
        return longest

    # ---- moves

    def run(self, moves: int) -> None:
        """Anneal; of the last temperatures' placements the one with the shortest longest path stays, of those the cheapest."""
        loose = [k for k, cluster in enumerate(self.element.clusters) if not cluster.tiles]
        chains = [k for k, cluster in enumerate(self.element.clusters) if cluster.chain]
        alike = self._alike(loose)
        temperature = _FIRST_TEMPERATURE
        best = (math.inf, math.inf), self.x, self.y, self.slot
        self.time()
        for step in range(TEMPERATURES):
            share = step / TEMPERATURES
            window = max(1, int(max(self.width, self.height) * (1 - 0.8 * share)))
            accepted = 0
            for _ in range(moves // TEMPERATURES):
                choice = self.random.random()
                if choice < _LOOSE and loose:
                    k = self.random.choice(loose)
                    if self.random.random() < _SWAPS:
                        accepted += self._swap(k, self.random.choice(alike[k]), temperature)
                    else:
                        accepted += self._move(k, window, temperature)
                elif choice < _LOOSE + _TILES:
                    accepted += self._exchange_tiles(chains, temperature)
                else:
                    accepted += self._exchange_registers(temperature)
            self.sharpness = _SHARPNESS[0] + (_SHARPNESS[1] - _SHARPNESS[0]) * share
            found = round(self.time(), 3), self._cost(range(len(self.element.wires)))
            if share >= _SETTLED and found < best[0]:
                best = found, self.x[:], self.y[:], self.slot[:]
            hot = accepted * TEMPERATURES > _HOT * moves
            temperature *= _COOLING_HOT if hot else _COOLING
        (self.longest, _), self.x, self.y, self.slot = best

    def _try(self, moved: dict[int, tuple[int, int]], temperature: float, *, whole: bool = False) -> bool:
        """Put each cluster at its new tile and slot, all or none; ``whole`` tiles of clusters that fit wherever such tiles are."""
        wires = {k for cluster in moved for cell in self.element.clusters[cluster].cells for k in self.element.at[cell]}
        before = self._cost(wires)
        old = {k: self.where[k] for k in moved}
        for k in moved:
            self._take(k)
        done: list[int] = []
        for k, (tile, slot) in moved.items():
            if not whole and not self._fits(k, tile, slot):
                break
            self._put(k, tile, slot)
            done.append(k)
        else:
            change = self._cost(wires) - before
            if change <= 0 or self.random.random() < math.exp(-change / temperature):
                return True
        for k in done:
            self._take(k)
        for k, (tile, slot) in old.items():
            self._put(k, tile, slot)
        return False

    def _alike(self, loose: list[int]) -> dict[int, list[int]]:
        """For each cluster of one slot those that may take its place: with the same reset and cells of the same kinds."""
        groups: dict[tuple[object, ...], list[int]] = {}
        for k in loose:
            cluster = self.element.clusters[k]
            register = cluster.registers.get(0)
            reset = None if register is None else self.element.resets[register]
            groups.setdefault((bool(cluster.luts), register is None, reset), []).append(k)
        return {k: group for group in groups.values() for k in group}

    def _swap(self, one: int, other: int, temperature: float) -> bool:
        if self.where[one] == self.where[other]:
            return False
        return self._try({one: self.where[other], other: self.where[one]}, temperature)

    def _move(self, k: int, window: int, temperature: float) -> bool:
        """A cluster of one slot goes elsewhere; what of such clusters is in its way takes its place."""
        tile, slot = self.where[k]
        column = tile % self.width + self.random.randint(-window, window)
        row = tile // self.width + self.random.randint(-window, window)
        if not (0 <= column < self.width and 0 <= row < self.height):
            return False
        target, at = row * self.width + column, self.random.randrange(SLOTS)
        cluster = self.element.clusters[k]
        there = {
            self.luts[target][at] if cluster.luts else None,
            self.registers[target][at] if cluster.registers else None,
        }
        others = {self.element.cluster_of[cell] for cell in there if cell is not None}
        if target == tile or any(self.element.clusters[other].tiles for other in others):
            return False
        return self._try({k: (target, at), **dict.fromkeys(sorted(others), (tile, slot))}, temperature)

    def _inside(self, tile: int, tiles: int) -> list[int] | None:
        """The clusters of a run of tiles; None when a chain reaches beyond it."""
        cells = [
            cell for t in range(tile, tile + tiles) for cell in (*self.luts[t], *self.registers[t]) if cell is not None
        ]
        found = sorted({self.element.cluster_of[cell] for cell in cells})
        for k in found:
            first, n = self.where[k][0], self.element.clusters[k].tiles
            if first < tile or first + n > tile + tiles:
                return None
        return found

    def _exchange_tiles(self, chains: list[int], temperature: float) -> bool:
        if chains and self.random.random() < _CHAINS:
            chain = self.random.choice(chains)
            one, tiles = self.where[chain][0], self.element.clusters[chain].tiles
        else:
            one, tiles = self.random.randrange(self.width * self.height), 1
        other = self.random.randrange(self.height) * self.width + self.random.randint(0, self.width - tiles)
        if abs(one - other) < tiles:
            return False
        here, there = self._inside(one, tiles), self._inside(other, tiles)
        if here is None or there is None:
            return False
        moved = {k: (self.where[k][0] - one + other, self.where[k][1]) for k in here}
        moved |= {k: (self.where[k][0] - other + one, self.where[k][1]) for k in there}
        return self._try(moved, temperature, whole=True)

    def _exchange_registers(self, temperature: float) -> bool:
        """The registers of two tiles, those behind a LUT left alone, change places."""
        one, other = (self.random.randrange(self.width * self.height) for _ in range(2))
        if one == other:
            return False
        moved: dict[int, tuple[int, int]] = {}
        for tile, target in ((one, other), (other, one)):
            for cell in self.registers[tile]:
                if cell is not None:
                    k = self.element.cluster_of[cell]
                    if not self.element.clusters[k].luts:
                        moved[k] = target, self.where[k][1]
        return bool(moved) and self._try(moved, temperature)
