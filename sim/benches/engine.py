"""Engine: random products and convolutions, drain buffers that free up early and late; every read and token in every cycle."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import cocotb
import numpy as np

from shiftforge.config import Config, ceil_div
from shiftforge.geometry import Geometry
from shiftforge.packets import MAX_POOL_WORDS
from sim.benches.lockstep import Layer, Script, Values, bench_setup, chance, pack_layer, play, random_layer
from sim.runner import bench_parameters
from sim.stimulus import random_geometry

LAYERS = 40
BUFFERS = 2
MOST_PIXELS = 30
"""Output pixels of an image that may be one of several: many enough for rows, few enough for a bench of seconds."""


@dataclass(frozen=True)
class Slot:
    """What the engine issues in one cycle; `address` is None where it reads for no pixel, `first` begins a tile, `gate` needs a
    free buffer.

    `reading` is of `hw.pool.READING`, None where nothing is known of it; a maximum (`weight_address` None) issues no products.
    """

    address: int | None
    weight_address: int | None
    token: int
    first: bool
    load: bool
    tail: bool
    gate: bool
    reading: int | None


@dataclass(frozen=True)
class Image:
    """A convolution over the pixels from word `address` on, `pixel_words` apart, of which `tap_words` are read, `terms` times;
    of so many images, one right after the other.
    """

    geometry: Geometry
    address: int
    pixel_words: int
    tap_words: int
    terms: int
    images: int

    def fields(self, config: Config) -> Layer:
        """What the layer's descriptor says of it."""
        return self.geometry.descriptor(
            self.address, config.activation_page, self.pixel_words, self.tap_words, self.terms, self.images
        )

    def read(self, page: int, pixel: int, block: int) -> tuple[int | None, bool]:
        """The word that an output pixel reads in a block (None where it lies outside), and whether it is its tap's last."""
        g = self.geometry
        tap, word = divmod(block % (g.taps * self.tap_words), self.tap_words)
        image, pixel = divmod(pixel, g.output_width * g.output_height)
        x = pixel % g.output_width * g.stride_x + tap % g.kernel_w * g.dilation_x - g.pad_left
        y = pixel // g.output_width * g.stride_y + tap // g.kernel_w * g.dilation_y - g.pad_top
        inside = 0 <= x < g.width and 0 <= y < g.height
        at = (self.address + ((image * g.height + y) * g.width + x) * self.pixel_words + word) % page
        return (at if inside else None), word == self.tap_words - 1


def random_image(rng: np.random.Generator, config: Config) -> Image:
    """A random convolution that fits `max_k`; of several images where they are small."""
    tap_words = int(rng.integers(1, min(3, config.max_k_words) + 1))
    geometry = random_geometry(rng, config.max_k_words // tap_words)
    terms = int(rng.integers(1, config.max_k_words // (tap_words * geometry.taps) + 1))
    address = int(rng.integers(config.activation_words))
    images = int(rng.integers(1, 4)) if geometry.output_width * geometry.output_height <= MOST_PIXELS else 1
    return Image(geometry, address, tap_words + int(rng.integers(2)), tap_words, min(terms, 3), images)


def layer_slots(config: Config, layer: Layer, image: Image | None) -> Iterator[Slot]:
    """Every slot in order: channel tile, pixel tile, block, pixel of the tile. Without an image the layer is a matrix product."""
    rows, words, page = config.rows, layer["k_words"], config.activation_page
    maximum = bool(layer.get("pool_kind"))
    for tile in range(layer["n_tiles"]):
        for first in range(0, ceil_div(layer["pixels"], rows) * rows, rows):
            for block in range(words):
                for j in range(rows):
                    pixel = first + j
                    k = block * rows + j
                    at_last = block == words - 1
                    address: int | None = layer["input_address"] + pixel * layer["input_stride"] + block
                    tail = at_last
                    if image is not None:
                        address, tail = image.read(page, pixel, block)
                    outside, valid = address is None, pixel < layer["pixels"]
                    if address is not None:  # within the page that the layer starts in
                        address = layer["input_address"] // page * page + (address + tile * maximum) % page
                    weights = (layer["weight_address"] + tile * words * rows + k) % config.weight_words
                    token = 1 | (j < rows - 1) << 1 | (k == words * rows - 1) << 2
                    pass_end = at_last and j == rows - 1 and pixel + 1 >= layer["pixels"]
                    layer_end = pass_end and tile == layer["n_tiles"] - 1
                    ends = maximum * ((at_last and valid) << 2 | pass_end << 3 | layer_end << 4)
                    yield Slot(
                        address=address if valid else None,
                        weight_address=None if maximum else weights,
                        token=2 if maximum else token,
                        first=k == 0,
                        load=j == 0,
                        tail=tail,
                        gate=at_last and j == 0 and not maximum,
                        reading=(block == 0) | outside << 1 | ends if valid or image is None else None,
                    )


def issued(slot: Slot, config: Config) -> Values:
    """What is seen in the cycle in which that slot is issued."""
    expected = {"zero": int(slot.address is None), "token": slot.token, "load": int(slot.load), "tail": int(slot.tail)}
    expected["slot"] = int(slot.weight_address is not None)
    known = {"weight_address": slot.weight_address, "address": slot.address}
    if config.max_pool:
        known["reading"] = slot.reading
    return expected | {name: value for name, value in known.items() if value is not None}


@cocotb.test()
async def every_slot(dut) -> None:
    """One slot per cycle; a tile's last block waits exactly while both drain buffers are taken.

    The parameter ``pixels`` makes it one matrix product of so many rows, of a word each; with ``tall``, these are one image's
    rows, of a pixel each.
    """
    config, rng = bench_setup()
    pixels = cast("int", bench_parameters().get("pixels", 0))
    script = Script()
    stalls = 0
    for number in range(1 if pixels else LAYERS):
        layer = random_layer(rng, config)
        if pixels:
            layer |= {"pixels": pixels, "k_words": 1, "n_tiles": 1}
        if bench_parameters().get("tall"):
            stride = max(1, layer["input_stride"])
            layer |= {"output_width": 1, "input_stride": stride, "row_step": stride}
        image = random_image(rng, config) if number % 2 else None
        if image is not None:
            layer |= image.fields(config)
        if config.max_pool and number % 3 == 0 and not pixels:
            layer["pool_kind"] = 1
            if number == 6:
                layer |= {"k_words": MAX_POOL_WORDS, "n_tiles": 2}
        slots = list(layer_slots(config, layer, image))
        script.cycle({"layer": pack_layer(config, layer), "start": 0, "tile_drained": 0}, {"load": 0, "stall": 0})
        script.cycle({}, {"load": 0, "stall": 0})
        script.cycle({"start": 1}, {"load": 0, "stall": 0})
        taken = position = 0
        pace = (1.0, 0.3, 1 / (2 * config.rows), 0.02)[number % 4]
        while position < len(slots) or taken:
            drained = chance(rng, pace) if taken else 0
            given = {"start": 0, "tile_drained": drained}
            if position == len(slots):
                script.cycle(given, {"load": 0, "stall": 0})
            elif slots[position].gate and taken == BUFFERS:
                stalls += 1
                script.cycle(given, {"load": 0, "stall": 1})
            else:
                script.cycle(given, {"stall": 0, **issued(slots[position], config)})
                taken += slots[position].gate
                position += 1
            taken -= drained
        script.cycle({"tile_drained": 0}, {"load": 0, "stall": 0})
    assert pixels or stalls > LAYERS, f"the stimulus must make the engine wait, not only {stalls} times"
    await play(dut, script)
