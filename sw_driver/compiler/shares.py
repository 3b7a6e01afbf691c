"""Layers with groups as several layers on chip, each of some output channels and the words of input channels that they read.

A group's products with other groups' channels are masked, and take their time all the same. A depthwise layer as a whole takes the
slots of every word of a pixel; one LAYER packet for every word of channels takes those of its own word alone.
"""

from dataclasses import dataclass

from shiftforge import timing
from shiftforge.config import Config, ceil_div
from shiftforge.graph import Conv, Layer
from sw_driver import layout
from sw_driver.compiler.reading import Reading


@dataclass(frozen=True)
class Share:
    """Output channels ``first`` .. of a layer, so many, and the input channels ``low`` .. ``high - 1``, from a whole word on."""

    first: int
    channels: int
    low: int
    high: int


def shares_of(config: Config, layer: Layer, reading: Reading) -> tuple[Share, ...]:
    """The shares that take the fewest cycles for one example: whole tiles each, one share for a layer without groups."""
    n = layer.features
    if not isinstance(layer, Conv) or layer.groups == 1:
        return (Share(0, n, 0, reading.channels),)
    tiles = layout.n_tiles(config, n)
    return min(
        (_cut(config, layer, count) for count in range(1, tiles + 1)), key=lambda cut: _cycles(config, reading, cut)
    )


def _cut(config: Config, layer: Conv, tiles: int) -> tuple[Share, ...]:
    """Shares of so many channel tiles."""
    step, n = tiles * config.cols, layer.features
    outputs, inputs = n // layer.groups, layer.channels // layer.groups
    found = []
    for first in range(0, n, step):
        last = min(first + step, n) - 1
        low = first // outputs * inputs // config.rows * config.rows
        found.append(Share(first, last + 1 - first, low, (last // outputs + 1) * inputs))
    return tuple(found)


def _cycles(config: Config, reading: Reading, cut: tuple[Share, ...]) -> int:
    pixels = ceil_div(reading.output_pixels, config.rows)
    total = 0
    for share in cut:
        slots = reading.terms * reading.taps * layout.k_words(config, share.high - share.low) * config.rows
        total += layout.n_tiles(config, share.channels) * pixels * max(slots, config.rows * config.groups)
    # From a layer's last slot until the next one starts: the pipeline empties, and a packet is read.
    tail = timing.last_slot_to_first_write(config) + config.rows + config.cols + timing.DRAIN_READ + timing.lane(config)
    return total + len(cut) * (tail + config.rows * config.groups)
