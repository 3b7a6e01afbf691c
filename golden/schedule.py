"""When a layer's tiles, drain steps and output beats happen: the engine, drain, writer and emitter as a recurrence.

Derived from the state machines in `hw/`; every cycle of it is compared with the simulated gateware. The cost is per tile for layers
that stay on chip and per drain step for layers that go to the stream, not per cycle.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from golden.decoder import Layer
from shiftforge import timing
from shiftforge.banks import Banks
from shiftforge.config import Config, ceil_div
from shiftforge.packets import HEADER_BYTES

Next = Callable[[int], int]
"""The first cycle from the given one on in which the other side is willing."""


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


@dataclass(frozen=True)
class LayerRun:
    """One layer's timeline.

    Parameters
    ----------
    done : int
        Cycle of the pulse that ends it; the machine is idle from the next one on.
    slots, stall_drain : int
        What the counters of these names count.
    """

    done: int
    slots: int
    stall_drain: int


def drain_latency(config: Config) -> int:
    """From a drain step to its results at the writer."""
    return timing.DRAIN_READ + timing.lane(config)


def tile_latency(config: Config) -> int:
    """From the slot that hands a tile over (its last product, or its last drain slot) to the last column's report."""
    return timing.last_slot_to_first_write(config) + config.rows - 1 + config.cols - 1


def _tile_steps(layer: Layer) -> Iterator[int]:
    """Drain steps of each tile, in order."""
    config = layer.config
    pixel_tiles = ceil_div(layer["pixels"], config.rows)
    last_rows = layer["pixels"] - (pixel_tiles - 1) * config.rows
    for tile in range(layer["n_tiles"]):
        groups = ceil_div(layer.tile_channels(tile), config.lanes)
        for mt in range(pixel_tiles):
            yield groups * (config.rows if mt < pixel_tiles - 1 else last_rows)


class AlignedEngine:
    """Issues tiles: each waits, before its last block, until one of the drain buffers is free."""

    def __init__(self, layer: Layer, start: int) -> None:
        self._rows, self._blocks = layer.config.rows, layer["k_words"]
        self._latency = tile_latency(layer.config)
        self._drained: list[int] = []
        self._next = start + 1
        self.stall = 0
        self.tiles = 0

    def complete(self) -> int:
        """Issue the next tile; returns the cycle in which it is reported complete."""
        block = self._next + (self._blocks - 1) * self._rows
        if self.tiles >= timing.DRAIN_SETS:
            free = self._drained[self.tiles - timing.DRAIN_SETS] + 1
            self.stall += max(0, free - block)
            block = max(block, free)
        self.tiles += 1
        self._next = block + self._rows
        return self._next - 1 + self._latency

    def drained(self, cycle: int) -> None:
        """The tile's last step was issued in this cycle."""
        self._drained.append(cycle)


class BankedEngine:
    """Issues tiles and the drain slots that read them out: each before a block of the next tile, or while no tile runs.

    Two tiles hold both sets of banks, so the products of a tile come after the last drain slot of the tile two before it.
    """

    def __init__(self, layer: Layer, start: int, wiped: int) -> None:
        config = layer.config
        self._rows, self._blocks = config.rows, layer["k_words"]
        self._left = layer["n_tiles"] * ceil_div(layer["pixels"], config.rows)  # tiles whose drain slots are not issued
        self._banks, self._spacing = Banks.of(config).count, timing.drain_spacing(config)
        self._latency = tile_latency(config)
        self._drained: list[int] = []
        begin = max(start + 1, wiped)
        self._end = begin + self._blocks * self._rows - 1  # the last product issued
        self._slot = start - self._spacing - timing.BANK_SETTLE  # the last drain slot issued: long ago
        self.stall = begin - (start + 1)
        self.tiles = 0

    def complete(self) -> int:
        """Issue the next tile's drain slots and the products beside them; returns the cycle in which the tile is complete."""
        earliest = max(self._end + timing.BANK_SETTLE, self._slot + self._spacing)
        if self.tiles >= timing.DRAIN_SETS:
            earliest = max(earliest, self._drained[self.tiles - timing.DRAIN_SETS] + 1)
        now = max(self._end + 1, self._slot + timing.BANK_SETTLE)  # the next block may begin
        self.tiles += 1
        self._left -= 1
        blocks = self._blocks if self._left else 0
        if blocks:
            self.stall += now - (self._end + 1)
        for _ in range(self._banks):
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


def run_layer(layer: Layer, start: int, output: Output) -> LayerRun:
    """The timeline of a layer whose start pulse is in cycle ``start``; appends a RESULT packet's beats to ``output``."""
    banked = layer.config.banked
    engine = BankedEngine(layer, start, timing.wiped(layer.config)) if banked else AlignedEngine(layer, start)
    done = _to_stream(layer, start, engine, output) if layer["to_stream"] else _on_chip(layer, engine)
    return LayerRun(done, engine.tiles * layer["k_words"] * layer.config.rows, engine.stall)


def _on_chip(layer: Layer, engine: AlignedEngine | BankedEngine) -> int:
    end = 0
    for steps in _tile_steps(layer):
        end = max(engine.complete() + 1, end + 1) + steps - 1
        engine.drained(end)
    return end + drain_latency(layer.config) + 2  # one cycle to write, one to tell


def _to_stream(layer: Layer, start: int, engine: AlignedEngine | BankedEngine, output: Output) -> int:
    config = layer.config
    width, step_bits = config.stream_bits, config.lanes * config.output.bits
    room = timing.fifo_steps(config)
    steps_per_beat, beats_per_step = max(1, width // step_bits), max(1, step_bits // width)
    to_fifo = drain_latency(config) + 1  # to the FIFO's output
    left = layer.steps

    # The header leaves at once; after its last beat went into the output register, steps are taken out of the FIFO.
    header_beats = 8 * HEADER_BYTES // width
    free = output.packet(start + 1, header_beats - 1)
    taken_before = free
    free = output.send(free)
    taken: list[int] = []  # cycle in which each step left the FIFO
    gathered = 0
    step = 0
    for steps in _tile_steps(layer):
        step = max(step, engine.complete())
        for _ in range(steps):
            step += 1
            if len(taken) >= room:
                step = max(step, taken[len(taken) - room] + timing.CREDIT)
            cycle = max(taken_before + 1, step + to_fifo)
            gathered += 1
            left -= 1
            if gathered == steps_per_beat or left == 0:
                gathered = 0
                for _ in range(beats_per_step):
                    cycle = max(cycle, free)
                    free = output.send(cycle)
                    taken_before = cycle
                    cycle += 1
            else:
                taken_before = cycle
            taken.append(taken_before)
        engine.drained(step)
    return free
