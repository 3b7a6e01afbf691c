"""Layers whose input does not fit on chip: rectangles of their output, each with what it reads of the input, halo included."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from shiftforge.config import Config, ceil_div
from shiftforge.errors import InputError
from shiftforge.geometry import Geometry
from shiftforge.recipe import Region
from sw_driver import layout
from sw_driver.compiler.reading import Reading
from sw_driver.compiler.units import NotPlaced


@dataclass(frozen=True)
class Strip:
    """A rectangle of a layer's output, usually whole rows.

    Parameters
    ----------
    output, source : Region
        Of the host tensors that the layer makes and reads.
    reading : Reading
        How it reads the source's region, which is an image of its own.
    """

    output: Region
    source: Region
    reading: Reading


@dataclass(frozen=True)
class _Axis:
    """One axis of a window: output position o reads the positions o * stride + i * dilation - before."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int

    def span(self, first: int, count: int) -> tuple[int, int, int, int]:
        """For so many output positions: the first input position, how many, and the padding before and after them."""
        low = first * self.stride - self.before
        high = (first + count - 1) * self.stride - self.before + (self.kernel - 1) * self.dilation + 1
        start, stop = min(max(low, 0), self.size - 1), max(min(high, self.size), 1)
        if stop <= start or start < low or high < stop:
            raise NotPlaced("a strip of a layer would read padding alone, which lies beyond its input")
        return start, stop - start, start - low, high - stop

    def most(self, count: int) -> int:
        """The most input positions that so many output positions read."""
        return min(self.size, (count - 1) * self.stride + (self.kernel - 1) * self.dilation + 1)


def strips_of(config: Config, reading: Reading, source: str, result: str, residual_words: int) -> tuple[Strip, ...]:
    """The strips of a layer, each of which (with its residual, of `residual_words` per pixel) fits a page.

    Raises
    ------
    NotPlaced
        When not even one output pixel does.
    """
    whole = reading.geometry or Geometry(reading.width, reading.height)
    down = _Axis(reading.height, whole.kernel_h, whole.stride_y, whole.dilation_y, whole.pad_top)
    across = _Axis(reading.width, whole.kernel_w, whole.stride_x, whole.dilation_x, whole.pad_left)
    height, width = whole.output_height, whole.output_width
    pixel, size = reading.tap_words(config), layout.page_words(config)

    def fits(rows: int, columns: int) -> bool:
        return down.most(rows) * across.most(columns) * pixel + rows * columns * residual_words <= size

    columns = width if fits(1, width) else _largest(width, lambda count: fits(1, count))
    if not columns:
        raise NotPlaced(
            f"layer {result!r} reads {down.most(1) * across.most(1) * pixel} words for one output pixel, which must fit a page of "
            f"the activation memory, {size} words"
        )
    rows = _largest(height, lambda count: fits(count, columns))
    rows = min(
        range(rows // 2 + 1, rows + 1), key=lambda count: (_tiles(config, height, width, count, columns), -count)
    )
    found: list[Strip] = []
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            extent = min(rows, height - top), min(columns, width - left)
            y, read_height, pad_top, pad_bottom = down.span(top, extent[0])
            x, read_width, pad_left, pad_right = across.span(left, extent[1])
            try:
                geometry = replace(
                    whole,
                    height=read_height,
                    width=read_width,
                    pad_top=pad_top,
                    pad_bottom=pad_bottom,
                    pad_left=pad_left,
                    pad_right=pad_right,
                )
            except InputError as error:
                raise NotPlaced(f"a strip of layer {result!r} does not fit its addresses: {error}") from None
            plain = geometry == Geometry(read_width, read_height)
            part = replace(reading, height=read_height, width=read_width, geometry=None if plain else geometry)
            found.append(Strip(Region(result, top, left, *extent), Region(source, y, x, read_height, read_width), part))
    return tuple(found)


def _largest(most: int, fits: Callable[[int], bool]) -> int:
    """The largest count up to `most` that fits; 0 where not even one does."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _tiles(config: Config, height: int, width: int, rows: int, columns: int) -> int:
    """Pixel tiles of all strips: ragged ones cost as much as whole ones."""
    heights = [min(rows, height - top) for top in range(0, height, rows)]
    widths = [min(columns, width - left) for left in range(0, width, columns)]
    return sum(ceil_div(h * w, config.rows) for h in heights for w in widths)
