"""When a layer's tiles, drain steps and output beats happen: the engine, drain, writer and emitter as a recurrence.

Derived from the state machines in `hw/`; every cycle of it is compared with the simulated gateware. A tile is followed drain step
by drain step. Tiles of the same size soon repeat the same pattern of cycles; from then on all that are left are taken at once,
which is exact because what comes depends on nothing but the differences that have recurred (`_Recurrence`).
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from golden.decoder import Layer
from golden.engine import AlignedEngine, BankedEngine, Engine
from shiftforge import timing
from shiftforge.config import Config, ceil_div
from shiftforge.packets import HEADER_BYTES

Next = Callable[[int], int]
"""The first cycle from the given one on in which the other side is willing."""

LONGEST_PERIOD = 64
"""Tiles among which a recurrence is sought. Only speed depends on it."""


def at_once(cycle: int) -> int:
    """The `Next` of a side that is always willing."""
    return cycle


@dataclass
class Output:
    """The output stream so far.

    Parameters
    ----------
    ready : Next
        When the sink takes.
    beats : list of int
        Cycle of every beat.
    stall : int
        Cycles in which a beat was offered and not taken.
    """

    ready: Next
    beats: list[int] = field(default_factory=list)
    stall: int = 0

    def send(self, sent: int) -> int:
        """A beat put into the output register in cycle ``sent`` is offered from the next on; returns the cycle it is taken."""
        taken = self.ready(sent + 1)
        self.stall += taken - sent - 1
        self.beats.append(taken)
        return taken

    def packet(self, first: int, beats: int) -> int:
        """Beats that are there from cycle ``first`` on; returns the cycle in which the last one is taken."""
        for _ in range(beats):
            first = self.send(first)  # the register is free again in the cycle in which its beat is taken
        return first

    def repeat(self, period: int, times: int, delta: int) -> None:
        """The last ``period`` beats come ``times`` more times, ``delta`` cycles later each time; the sink always takes."""
        last = np.array(self.beats[len(self.beats) - period :], np.int64)
        later = delta * np.arange(1, times + 1)[:, np.newaxis] + last
        self.beats.extend(later.ravel().tolist())


@dataclass
class Writes:
    """The cycles in which a layer writes the activation memory, as runs of cycles in order."""

    _first: list[int] = field(default_factory=list)
    _last: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._first)

    def add(self, first: int, last: int) -> None:
        """Every cycle from `first` to `last`, all after those before."""
        self._first.append(first)
        self._last.append(last)

    def repeat(self, runs: int, times: int, delta: int) -> None:
        """The last ``runs`` runs come ``times`` more times, ``delta`` cycles later each time."""
        for cycles in (self._first, self._last):
            last = np.array(cycles[len(cycles) - runs :], np.int64)
            cycles.extend((delta * np.arange(1, times + 1)[:, np.newaxis] + last).ravel().tolist())

    def free(self, cycle: int) -> int:
        """The first cycle from the given one on in which the layer does not write."""
        run = bisect_right(self._first, cycle) - 1
        while 0 <= run < len(self._first) and self._first[run] <= cycle:
            cycle = max(cycle, self._last[run] + 1)
            run += 1
        return cycle


@dataclass(frozen=True)
class LayerRun:
    """One layer's timeline.

    Parameters
    ----------
    done : int
        Cycle of the pulse that ends it; the machine is idle from the next one on.
    slots, stall_drain : int
        What the counters of these names count.
    writes : Writes
        When it writes the activation memory; with two pages no packet is written meanwhile, and nothing is noted.
    """

    done: int
    slots: int
    stall_drain: int
    writes: Writes


@dataclass(frozen=True)
class TileTime:
    """When a tile's last column had reported it complete, and when its last drain step was issued."""

    complete: int
    drained: int


def drain_latency(config: Config) -> int:
    """From a drain step to its results at the writer."""
    return timing.DRAIN_READ + timing.lane(config)


def _tile_runs(layer: Layer) -> Iterator[tuple[int, int]]:
    """Drain steps of a tile, and how many such tiles follow one another; in order."""
    config = layer.config
    pixel_tiles = ceil_div(layer["pixels"], config.rows)
    last_rows = layer["pixels"] - (pixel_tiles - 1) * config.rows
    for tile in range(layer["n_tiles"]):
        groups = ceil_div(layer.tile_channels(tile), config.lanes)
        yield groups * config.rows, pixel_tiles - 1
        yield groups * last_rows, 1


class _Recurrence:
    """Finds the period of tiles of one size.

    Cycles of a timeline are sums and maxima of cycles before them. When the differences within the state are those of an earlier
    tile, the tiles after it come as those after the earlier one did, later by the same number of cycles.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[int, ...], tuple[int, int, int, int]] = {}
        self._order: deque[tuple[int, ...]] = deque()

    def period(
        self, tile: int, key: tuple[int, ...], now: int, stall: int, beats: int
    ) -> tuple[int, int, int, int] | None:
        """Tiles, cycles, stalled cycles and beats of the period that ends with this tile; None when none is known.

        ``key`` is the state relative to cycle ``now``; ``stall`` and ``beats`` count from the layer's start.
        """
        found = self._seen.get(key)
        if found is not None:
            return tile - found[0], now - found[1], stall - found[2], beats - found[3]
        self._seen[key] = tile, now, stall, beats
        self._order.append(key)
        if len(self._order) > LONGEST_PERIOD:
            del self._seen[self._order.popleft()]
        return None


def run_layer(layer: Layer, start: int, output: Output, tiles: list[TileTime] | None = None) -> LayerRun:
    """The timeline of a layer whose start pulse is in cycle ``start``; appends a RESULT packet's beats to ``output``.

    Where ``tiles`` is given every tile of the array is followed, and appended to it.
    """
    config, writes = layer.config, Writes()
    if layer["pool_kind"]:
        return _maximum(layer, start, writes)
    engine = BankedEngine(layer, start, timing.WIPED) if config.banked else AlignedEngine(layer, start)
    if layer["to_stream"]:
        done = _to_stream(layer, start, engine, output, tiles)
    else:
        done = _on_chip(layer, engine, writes, tiles)
    return LayerRun(done, engine.tiles * layer["k_words"] * config.rows, engine.stall, writes)


def _on_chip(layer: Layer, engine: Engine, writes: Writes, tiles: list[TileTime] | None) -> int:
    to_memory = drain_latency(layer.config) + 1  # one cycle to write, one more to tell
    noted = layer.config.activation_pages > 2
    end = 0
    for steps, count in _tile_runs(layer):
        recurrence = _Recurrence()
        tile = 0
        while tile < count:
            complete = engine.complete()
            first = max(complete, end) + 1
            end = first + steps - 1
            engine.drained(end)
            if noted:
                writes.add(first + to_memory, end + to_memory)
            tile += 1
            if tiles is not None:
                tiles.append(TileTime(complete, end))
                continue
            key = tuple(cycle - end for cycle in engine.state())
            found = recurrence.period(tile, key, end, engine.stall, 0)
            if found is not None:
                period, delta, stall, _ = found
                times = (count - tile) // period
                engine.skip(times * period, times * delta)
                engine.stall += times * stall
                if noted:
                    writes.repeat(period, times, delta)
                end += times * delta
                tile += times * period
    return end + to_memory + 1


def _maximum(layer: Layer, start: int, writes: Writes) -> LayerRun:
    """Tiles one after the other; a tile's words are written as its last block is read. Nothing is a product."""
    config = layer.config
    begin = max(start + 1, timing.WIPED if config.banked else 0)
    whole, rest = divmod(layer["pixels"], config.rows)
    tile = layer["k_words"] * config.rows
    channel = (whole + (rest > 0)) * tile  # cycles of a channel word
    if config.activation_pages > 2:
        first = begin + tile - config.rows + timing.POOL
        if whole:
            writes.add(first, first + config.rows - 1)
            writes.repeat(1, whole - 1, tile)
        if rest:
            writes.add(first + whole * tile, first + whole * tile + rest - 1)
        writes.repeat(whole + (rest > 0), layer["n_tiles"] - 1, channel)
    end = begin + layer["n_tiles"] * channel - 1  # the last word read
    return LayerRun(end + timing.POOL + 1, 0, begin - (start + 1), writes)


class _Stream:
    """From drain steps to beats: the output FIFO and the emitter's gathering of steps into beats.

    Parameters
    ----------
    layer : Layer
    start : int
        The start pulse: the header leaves at once; after its last beat went into the output register, steps are taken out of the
        FIFO.
    """

    def __init__(self, layer: Layer, start: int, output: Output) -> None:
        config = layer.config
        width, step_bits = config.stream_bits, config.lanes * config.output.bits
        self._output = output
        self._steps_per_beat, self._beats_per_step = max(1, width // step_bits), max(1, step_bits // width)
        self._to_fifo = drain_latency(config) + 1  # to the FIFO's output
        self._left, self._gathered = layer.steps, 0
        free = output.packet(start + 1, 8 * HEADER_BYTES // width - 1)
        self._taken_before = free
        self.free = output.send(free)
        self._taken: deque[int] = deque(maxlen=timing.fifo_steps(config))  # cycle in which each step left the FIFO

    def steps(self, step: int, steps: int) -> int:
        """Drain steps after the one of cycle ``step``; returns the cycle of the last."""
        output, taken, room, left = self._output, self._taken, self._taken.maxlen, self._left
        free, taken_before, gathered = self.free, self._taken_before, self._gathered
        for _ in range(steps):
            step += 1
            if len(taken) == room:
                step = max(step, taken[0] + timing.CREDIT)
            cycle = max(taken_before + 1, step + self._to_fifo)
            gathered += 1
            left -= 1
            if gathered == self._steps_per_beat or left == 0:
                gathered = 0
                for _ in range(self._beats_per_step):
                    cycle = max(cycle, free)
                    free = output.send(cycle)
                    taken_before = cycle
                    cycle += 1
            else:
                taken_before = cycle
            taken.append(taken_before)
        self.free, self._taken_before, self._gathered, self._left = free, taken_before, gathered, left
        return step

    def key(self, step: int) -> tuple[int, ...]:
        """The state relative to the last step's cycle, but for a layer's last step, where the sink always takes.

        The register is free then when the next beat is there, and a step that left the FIFO long ago holds up nothing.
        """
        return self._gathered, *(max(cycle - step, -timing.CREDIT) for cycle in self._taken)

    def skip(self, steps: int, cycles: int) -> None:
        """As `Engine.skip`, in steps."""
        self._left -= steps
        self.free += cycles
        self._taken_before += cycles
        self._taken = deque((cycle + cycles for cycle in self._taken), maxlen=self._taken.maxlen)


def _to_stream(layer: Layer, start: int, engine: Engine, output: Output, tiles: list[TileTime] | None) -> int:
    stream = _Stream(layer, start, output)
    step = 0
    for steps, count in _tile_runs(layer):
        recurrence = _Recurrence()
        tile = 0
        while tile < count:
            complete = engine.complete()
            step = stream.steps(max(step, complete), steps)
            engine.drained(step)
            tile += 1
            if tiles is not None:
                tiles.append(TileTime(complete, step))
            if tiles is not None or output.ready is not at_once:
                continue
            key = (*(cycle - step for cycle in engine.state()), *stream.key(step))
            found = recurrence.period(tile, key, step, engine.stall, len(output.beats))
            if found is not None:
                period, delta, stall, beats = found
                times = (count - tile) // period
                engine.skip(times * period, times * delta)
                engine.stall += times * stall
                stream.skip(times * period * steps, times * delta)
                output.repeat(beats, times, delta)
                step += times * delta
                tile += times * period
    return stream.free
