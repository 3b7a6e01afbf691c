"""What a part of a network takes for a batch, in cycles: an estimate by which the compiler chooses between ways of cutting it.

Nothing but that choice depends on it; the cycles of a program are predicted exactly (`golden.cycles`).
"""

from shiftforge.config import Config, ceil_div
from sw_driver import layout
from sw_driver.compiler.parts import InStrips, Together
from sw_driver.compiler.reading import Reading
from sw_driver.compiler.tasks import Task


def cycles(config: Config, part: Together | InStrips, batch: int) -> int:
    """Of a part that the machine runs: the first loads of a chunk, then compute, or what moves for a layer where that is more."""
    if isinstance(part, InStrips):
        n = part.layer.features
        return batch * sum(_compute(config, n, strip.reading, 1) for strip in part.strips)
    full, rest = divmod(batch, part.pages.chunk)
    sizes = [part.pages.chunk] * full + [rest] * (rest > 0)
    resident = _weight_words(config, part) <= config.weight_words
    return sum(_chunk(config, part, size, resident) for size in sizes)


def _chunk(config: Config, part: Together, examples: int, resident: bool) -> int:
    loads = sum(buffer.words(config) for buffer in part.work.loaded.values())
    total = examples * loads * _beats(config, layout.activation_stride(config))
    for task in part.work.tasks:
        n = task.share.channels
        if task.pool:
            words = layout.k_words(config, n)
            total += examples * task.reading.output_pixels * task.reading.taps * words
            continue
        compute = _compute(config, n, task.reading, examples)
        weights = 0 if resident else _layer_words(config, task) * _beats(config, layout.weight_stride(config))
        results = layout.result_bytes(config, examples * task.reading.output_pixels, n) if task.result else 0
        total += max(compute, weights, _beats(config, results))
    return total


def _compute(config: Config, n: int, reading: Reading, examples: int) -> int:
    """Slots of all tiles; a tile takes as long as draining it does."""
    tiles = layout.n_tiles(config, n) * ceil_div(examples * reading.output_pixels, config.rows)
    slots = reading.terms * reading.taps * reading.tap_words(config) * config.rows
    return tiles * max(slots, config.rows * config.groups)


def _layer_words(config: Config, task: Task) -> int:
    return layout.weight_words(config, task.reading.depth(config), task.share.channels)


def _weight_words(config: Config, part: Together) -> int:
    return sum(_layer_words(config, task) for task in part.work.tasks if not task.pool)


def _beats(config: Config, size: int) -> int:
    return ceil_div(8 * size, config.stream_bits)
