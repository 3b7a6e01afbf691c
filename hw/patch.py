"""Patch walk: which activation word a slot reads, for convolutions and, as their simplest case, matrix products."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.layer import layer_layout, within_page
from shiftforge.config import Config
from shiftforge.packets import COORDINATE_BITS


class PatchWalk(wiring.Component):
    """Addresses of the words that a tile's pixels read, block by block.

    ::

        tile = `rows` output pixels in raster order
        block = one word of one kernel tap, for each of them in turn (one cycle each)

    Nothing is multiplied: a block starts at the tile's first pixel, moved by the tap, and goes from pixel to pixel by
    `input_stride`, by `row_step` where an output row ends, or by `image_step` where an image ends; from block to block it moves
    by one word, by `tap_step`, or by `tap_row_step`; after `kernel_h` rows of taps the patch is read again from its start, with
    the weights' next term.
    Addresses count modulo the page of the memory that the layer starts in, so the patches of padded pixels may start before
    the image.
    Coordinates count modulo ``2**COORDINATE_BITS`` and are compared without sign, which finds both sides of the image at once.

    Parameters
    ----------
    config : Config

    Members
    -------
    layer, start : In
    step : In(1)
        A slot is issued in this cycle; go to the next.
    last_phase, last_block, last_pixels : In(1)
        The slot is the last of its block; the block the last of its tile; the tile the last of its channel tile.
    address : Out
        Word of the slot under way.
    outside : Out(1)
        It lies outside the image: zeros are to be read.
    tail : Out(1)
        It is the last word of its tap, of which `k_tail` elements count.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "layer": In(layer_layout(config)),
                "start": In(1),
                "step": In(1),
                "last_phase": In(1),
                "last_block": In(1),
                "last_pixels": In(1),
                "address": Out(range(config.activation_words)),
                "outside": Out(1),
                "tail": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layer = self.layer
        position = data.StructLayout({"x": COORDINATE_BITS, "y": COORDINATE_BITS, "address": len(self.address)})
        # A counter carries whether it is at its last value, found one step ahead: no comparison stands before an addition.
        place = data.StructLayout({"column": 16, "row": 16, "row_end": 1, "last_row": 1})  # in the output image

        # What a comparison is with, and the layer's first pixel; the descriptor stands long before `start`.
        in_image = Signal()
        corner, origin = Signal(place), Signal(position)
        in_rows, in_images, before_last_column, before_last_row = Signal(), Signal(), Signal(16), Signal(16)
        m.d.sync += [
            in_rows.eq(layer.output_width != 0),
            in_image.eq(layer.input_width != 0),
            in_images.eq(layer.output_height != 0),
            before_last_column.eq(layer.output_width - 2),
            before_last_row.eq(layer.output_height - 2),
            corner.row_end.eq(layer.output_width == 1),
            corner.last_row.eq(layer.output_height == 1),
            origin.x.eq(-layer.pad_left),
            origin.y.eq(-layer.pad_top),
            origin.address.eq(layer.input_address),
        ]

        walk, here = Signal(position), Signal(place)  # the slot's pixel
        base = Signal(position)  # the tile's first pixel, moved by the tap
        first, first_place = Signal(position), Signal(place)  # the tile's first pixel
        after, after_place = Signal(position), Signal(place)  # the next tile's
        row_x, row_y = Signal(COORDINATE_BITS), Signal(COORDINATE_BITS)  # output column 0 and row 0, moved by the tap
        first_block = Signal()

        # ---- from pixel to pixel
        row_end, image_end = here.row_end, here.row_end & here.last_row
        next_pixel, next_place = Signal(position), Signal(place)
        step = Mux(image_end, layer.image_step, Mux(row_end, layer.row_step, layer.input_stride))
        m.d.comb += [
            next_place.eq(here),
            next_place.column.eq(Mux(row_end, 0, here.column + 1)),
            next_place.row_end.eq(Mux(row_end, corner.row_end, in_rows & (here.column == before_last_column))),
            next_pixel.x.eq(Mux(row_end, row_x, walk.x + layer.stride_x)),
            next_pixel.y.eq(Mux(image_end, row_y, walk.y + Mux(row_end, layer.stride_y, 0))),
            next_pixel.address.eq(walk.address + step),
        ]
        with m.If(row_end):
            m.d.comb += [
                next_place.row.eq(Mux(image_end, 0, here.row + 1)),
                next_place.last_row.eq(Mux(image_end, corner.last_row, in_images & (here.row == before_last_row))),
            ]

        # ---- from block to block: words within a tap, taps within a row of them, rows within the patch
        entering, next_block = Signal(), Signal()
        ends: list[Value] = []
        for name, size in (("word", layer.tap_words), ("tap", layer.kernel_w), ("tap_row", layer.kernel_h)):
            last = _count(m, name, size, Cat(next_block, *ends).all(), entering)
            ends.append(last)
        tap_end, taps_end, patch_end = ends[0], ends[0] & ends[1], ends[0] & ends[1] & ends[2]
        next_base, next_row_x, next_row_y = Signal(position), Signal(COORDINATE_BITS), Signal(COORDINATE_BITS)
        words = Mux(taps_end, layer.tap_row_step, Mux(tap_end, layer.tap_step, 1))
        columns, rows = Mux(tap_end, layer.dilation_x, 0), Mux(taps_end, layer.dilation_y, 0)
        m.d.comb += [
            next_base.x.eq(Mux(taps_end, first.x, base.x + columns)),
            next_base.y.eq(Mux(patch_end, first.y, base.y + rows)),
            next_base.address.eq(Mux(patch_end, first.address, base.address + words)),
            next_row_x.eq(Mux(taps_end, origin.x, row_x + columns)),
            next_row_y.eq(Mux(patch_end, origin.y, row_y + rows)),
        ]

        def enter_tile(pixel: Value, pixel_place: Value) -> None:
            m.d.comb += entering.eq(1)
            m.d.sync += [signal.eq(pixel) for signal in (walk, base, first)]
            m.d.sync += [here.eq(pixel_place), first_place.eq(pixel_place)]
            m.d.sync += [row_x.eq(origin.x), row_y.eq(origin.y), first_block.eq(1)]

        # The next channel tile reads the same again, but for a maximum the next channel word of each pixel.
        again = origin
        if self.config.max_pool:
            again, again_address = Signal(position), Signal.like(self.address)
            m.d.comb += [again.eq(origin), again.address.eq(again_address)]
            with m.If(self.start):
                m.d.sync += again_address.eq(layer.input_address + layer.pool_kind)
            with m.Elif(self.step & self.last_phase & self.last_block & self.last_pixels):
                m.d.sync += again_address.eq(again_address + layer.pool_kind)

        with m.If(self.start):
            enter_tile(origin, corner)
        with m.Elif(self.step):
            with m.If(self.last_phase):
                with m.If(first_block):
                    m.d.sync += [after.eq(next_pixel), after_place.eq(next_place)]
                m.d.comb += next_block.eq(1)
                m.d.sync += [
                    first_block.eq(0),
                    row_x.eq(next_row_x),
                    row_y.eq(next_row_y),
                    base.eq(next_base),
                    walk.eq(next_base),
                    here.eq(first_place),
                ]
                with m.If(self.last_block):
                    with m.If(self.last_pixels):
                        enter_tile(again, corner)
                    with m.Elif(first_block):
                        enter_tile(next_pixel, next_place)
                    with m.Else():
                        enter_tile(after, after_place)
            with m.Else():
                m.d.sync += [walk.eq(next_pixel), here.eq(next_place)]

        inside = (walk.x < layer.input_width) & (walk.y < layer.input_height)
        m.d.comb += [
            self.address.eq(within_page(walk.address, layer.input_address, self.config.activation_page)),
            self.outside.eq(in_image & ~inside),
            self.tail.eq(tap_end | self.last_block),
        ]
        return m


def _count(m: Module, name: str, size: Value, step: Value, restart: Value) -> Signal:
    """Count `size` steps (0: all that its bits hold), over and over, from `restart` on; high while the count is at its last."""
    count, last = Signal(len(size), name=name), Signal(name=f"last_{name}")
    only, before_last = Signal(name=f"only_{name}"), Signal(len(size), name=f"before_last_{name}")
    m.d.sync += [only.eq(size == 1), before_last.eq(size - 2)]
    with m.If(restart):
        m.d.sync += [count.eq(0), last.eq(only)]
    with m.Elif(step):
        m.d.sync += [count.eq(Mux(last, 0, count + 1)), last.eq(Mux(last, only, count == before_last))]
    return last
