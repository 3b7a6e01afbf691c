"""How a layer reads the tensor before it, which lies on chip pixel by pixel, in whole words of channels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftforge.config import Config
from shiftforge.errors import InputError
from shiftforge.geometry import Geometry
from shiftforge.graph import Conv, Layer
from shiftforge.graph.checks import Shape
from shiftforge.graph.window import Window
from sw_driver import layout

MOST_TAPS = 255
"""Of a descriptor's kernel_w and kernel_h."""


def image_of(shape: Shape) -> tuple[int, int, int]:
    """(height, width, channels) of a tensor: a line of pixels is one row, a vector one pixel."""
    return (*((1,) * (3 - len(shape))), *shape)  # pyright: ignore[reportReturnType]


@dataclass(frozen=True)
class Reading:
    """The words that the dot products of one example read.

    Parameters
    ----------
    height, width, channels : int
        The tensor as it lies on chip: ``ceil(channels / rows)`` words for each pixel, in raster order.
    geometry : Geometry or None
        A convolution over the pixels.
    flat : bool
        Without a geometry: one output pixel reads all of them. Otherwise each is an output pixel of its own.
    terms : int
        How often each output pixel reads its words over.
    """

    height: int = 1
    width: int = 1
    channels: int = 1
    geometry: Geometry | None = None
    flat: bool = False
    terms: int = 1

    @property
    def pixels(self) -> int:
        """Of the tensor that is read."""
        return self.height * self.width

    @property
    def taps(self) -> int:
        """Pixels that one output pixel reads."""
        if self.geometry is not None:
            return self.geometry.taps
        return self.pixels if self.flat else 1

    @property
    def output_pixels(self) -> int:
        if self.geometry is not None:
            return self.geometry.output_width * self.geometry.output_height
        return 1 if self.flat else self.pixels

    def tap_words(self, config: Config) -> int:
        """Words of a pixel."""
        return layout.k_words(config, self.channels)

    def depth(self, config: Config) -> int:
        """K with every tap padded to whole words, but for the last one's tail."""
        blocks = self.terms * self.taps * self.tap_words(config)
        return (blocks - 1) * config.rows + layout.k_tail(config, self.channels)

    def pad(self, config: Config, codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Weight codes (K, N) with rows for the padding of every tap: (depth, N). What is padded meets zeros."""
        taps, whole = self.terms * self.taps, self.tap_words(config) * config.rows
        padded = np.zeros((taps, whole, codes.shape[1]), codes.dtype)
        padded[:, : self.channels] = codes.reshape(taps, self.channels, -1)
        return padded.reshape(taps * whole, -1)[: self.depth(config)]

    def fields(self, config: Config, address: int, pixel_words: int) -> dict[str, int]:
        """Descriptor fields of the patch walk over pixels that lie `pixel_words` apart; `pixels` are those of one example."""
        words = self.tap_words(config)
        if self.geometry is not None:
            page = layout.page_words(config)
            return self.geometry.descriptor(address, page, pixel_words, words, self.terms)
        fields = {
            "pixels": self.output_pixels,
            "k_words": self.terms * self.taps * words,
            "input_address": address,
            "input_stride": self.taps * pixel_words,
        }
        # With tails within, gaps between pixels, or more terms, each pixel is a tap.
        ragged = self.channels % config.rows or pixel_words != words
        if self.terms > 1 or (self.flat and ragged):
            fields |= {
                "tap_words": words,
                "kernel_w": self.width if self.flat else 1,
                "kernel_h": self.height if self.flat else 1,
                "tap_step": pixel_words - words + 1,
                "tap_row_step": pixel_words - words + 1,
            }
        return fields


def geometry_of(window: Window, height: int, width: int) -> Geometry:
    """The window over an image; one axis is the image's width. `InputError` where the machine's counters are too narrow."""
    kernel = (1,) * (2 - window.axes) + window.kernel
    stride, dilation = ((1,) * (2 - window.axes) + of for of in (window.stride, window.dilation))
    (top, bottom), (left, right) = ((0, 0),) * (2 - window.axes) + window.padding
    return Geometry(
        width, height, kernel[1], kernel[0], stride[1], stride[0], dilation[1], dilation[0], left, top, right, bottom
    )


def reading_of(layer: Layer, stored: Shape, logical: Shape) -> Reading:
    """How a layer reads a tensor that lies on chip in the shape `stored` and means `logical` (a flattening moves nothing).

    `InputError`, part of a sentence, where the machine cannot.
    """
    height, width, channels = image_of(stored)
    if isinstance(layer, Conv):
        if logical != stored:
            raise InputError(f"it reads pixels of the shape {logical}, which lie on chip as {stored}")
        geometry = geometry_of(layer.window, height, width)
        plain = geometry == Geometry(width, height)
        return Reading(height, width, channels, None if plain else geometry, terms=layer.terms)
    if logical == stored:
        return Reading(height, width, channels, terms=layer.terms)
    if len(logical) == 1:
        reading = Reading(height, width, channels, flat=True, terms=layer.terms)
        if max(height, width) > MOST_TAPS:
            raise InputError(
                f"it reads an image of {height} x {width} pixels at once, of at most {MOST_TAPS} x {MOST_TAPS}"
            )
        return reading
    raise InputError(f"it reads a tensor of the shape {logical}, which lies on chip as {stored}")
