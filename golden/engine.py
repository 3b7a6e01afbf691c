"""When an engine issues a layer's tiles: `hw/engine.py` and `hw/drain_slots.py` as recurrences over whole tiles."""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from golden.decoder import Layer
from shiftforge import timing
from shiftforge.banks import Banks
from shiftforge.config import Config, ceil_div


def tile_latency(config: Config) -> int:
    """From the slot that hands a tile over (its last product, or its last drain slot) to the last column's report."""
    return timing.last_slot_to_first_write(config) + config.rows - 1 + config.cols - 1


class Engine(Protocol):
    """Issues tiles: what the rest of a layer's timeline needs of it.

    Members
    -------
    stall, tiles : int
        Cycles in which a tile waited, and tiles issued.
    """

    stall: int
    tiles: int

    def complete(self) -> int:
        """Issue the next tile; returns the cycle in which it is reported complete."""
        ...

    def drained(self, cycle: int) -> None:
        """The tile's last step was issued in this cycle."""
        ...

    def state(self) -> tuple[int, ...]:
        """The cycles on which all that comes depends, but for a layer's last tile."""
        ...

    def skip(self, tiles: int, cycles: int) -> None:
        """So many tiles have passed as those before did; all of `state` is so many cycles later."""
        ...


class AlignedEngine:
    """Issues tiles: each waits, before its last block, until one of the drain buffers is free."""

    def __init__(self, layer: Layer, start: int) -> None:
        self._rows, self._blocks = layer.config.rows, layer["k_words"]
        self._latency = tile_latency(layer.config)
        self._drained: deque[int] = deque(maxlen=timing.DRAIN_SETS)
        self._next = start + 1
        self.stall = 0
        self.tiles = 0

    def complete(self) -> int:
        """Issue the next tile; returns the cycle in which it is reported complete."""
        block = self._next + (self._blocks - 1) * self._rows
        if self.tiles >= timing.DRAIN_SETS:
            free = self._drained[0] + 1
            self.stall += max(0, free - block)
            block = max(block, free)
        self.tiles += 1
        self._next = block + self._rows
        return self._next - 1 + self._latency

    def drained(self, cycle: int) -> None:
        """The tile's last step was issued in this cycle."""
        self._drained.append(cycle)

    def state(self) -> tuple[int, ...]:
        """See `Engine.state`."""
        return self._next, *self._drained

    def skip(self, tiles: int, cycles: int) -> None:
        """See `Engine.skip`."""
        self.tiles += tiles
        self._next += cycles
        self._drained = _later(self._drained, cycles)


class BankedEngine:
    """Issues tiles and the drain slots that read them out: each before a block of the next tile, or while no tile runs.

    The products of a tile come after the last drain slot of the tile two before it, and after those of the words that it shares
    with the one before (`Banks.awaited`).
    """

    def __init__(self, layer: Layer, start: int, wiped: int) -> None:
        config = layer.config
        self._rows, self._blocks = config.rows, layer["k_words"]
        self._left = layer["n_tiles"] * ceil_div(layer["pixels"], config.rows)  # tiles whose drain slots are not issued
        self._banks, self._spacing = Banks.of(config), timing.drain_spacing(config)
        self._latency = tile_latency(config)
        self._drained: deque[int] = deque(maxlen=timing.DRAIN_SETS)
        begin = max(start + 1, wiped)
        self._end = begin + self._blocks * self._rows - 1  # the last product issued
        self._slot = start - self._spacing - timing.BANK_SETTLE  # the last drain slot issued: long ago
        self.stall = begin - (start + 1)
        self.tiles = 0

    def complete(self) -> int:
        """Issue the next tile's drain slots and the products beside them; returns the cycle in which the tile is complete."""
        earliest = max(self._end + timing.BANK_SETTLE, self._slot + self._spacing)
        if self.tiles >= timing.DRAIN_SETS:
            earliest = max(earliest, self._drained[0] + 1)
        now = max(self._end + 1, self._slot + timing.BANK_SETTLE)  # the next block may begin
        self.tiles += 1
        self._left -= 1
        blocks = self._blocks if self._left else 0
        for _ in range(self._banks.awaited):
            self._slot = earliest
            earliest += self._spacing
            now = max(now, self._slot + timing.BANK_SETTLE)
        if blocks:
            self.stall += now - (self._end + 1)
        for _ in range(self._banks.awaited, self._banks.count):
            if blocks == self._blocks and earliest <= now:  # before the next tile begins
                self._slot = earliest
            else:
                passing = min(blocks, ceil_div(max(0, earliest - now), self._rows))
                now, blocks = now + passing * self._rows, blocks - passing
                self._slot = max(earliest, now)
            if blocks:
                now = max(now, self._slot + 1)
            earliest = self._slot + self._spacing
        self._end = now + blocks * self._rows - 1
        return self._slot + self._latency

    def drained(self, cycle: int) -> None:
        """The tile's last step was issued in this cycle."""
        self._drained.append(cycle)

    def state(self) -> tuple[int, ...]:
        """See `Engine.state`."""
        return self._end, self._slot, *self._drained

    def skip(self, tiles: int, cycles: int) -> None:
        """See `Engine.skip`."""
        self.tiles += tiles
        self._left -= tiles
        self._end += cycles
        self._slot += cycles
        self._drained = _later(self._drained, cycles)


def _later(cycles: Sequence[int], delta: int) -> deque[int]:
    return deque((cycle + delta for cycle in cycles), maxlen=timing.DRAIN_SETS)
