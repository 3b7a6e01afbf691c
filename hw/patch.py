"""Patch walk: which activation word a slot reads, for convolutions and, as their simplest case, matrix products."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.layer import layer_layout
from shiftforge.config import Config
from shiftforge.packets import COORDINATE_BITS


class PatchWalk(wiring.Component):
    """Addresses of the words that a tile's pixels read, block by block.

    ::

        tile = `rows` output pixels in raster order
        block = one word of one kernel tap, for each of them in turn (one cycle each)

    Nothing is multiplied: a block starts at the tile's first pixel, moved by the tap, and goes from pixel to pixel by
    `input_stride`, or by `row_step` where an output row ends; from block to block it moves by one word, by `tap_step`, or by
    `tap_row_step`; after `kernel_h` rows of taps the patch is read again from its start, with the weights' next term.
    Addresses count modulo the half of the memory that the layer starts in, so the patches of padded pixels may start before
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
                "layer": In(layer_layout()),
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
        column = 16  # of the output row

        # What a comparison is with, and the layer's first pixel; the descriptor stands long before `start`.
        in_rows, in_image = Signal(), Signal()
        last_column, last_word, last_tap, last_row = Signal(column), Signal(16), Signal(8), Signal(8)
        origin = Signal(position)
        m.d.sync += [
            in_rows.eq(layer.output_width != 0),
            in_image.eq(layer.input_width != 0),
            last_column.eq(layer.output_width - 1),
            last_word.eq(layer.tap_words - 1),
            last_tap.eq(layer.kernel_w - 1),
            last_row.eq(layer.kernel_h - 1),
            origin.x.eq(-layer.pad_left),
            origin.y.eq(-layer.pad_top),
            origin.address.eq(layer.input_address),
        ]

        walk, here = Signal(position), Signal(column)  # the slot's pixel
        base = Signal(position)  # the tile's first pixel, moved by the tap
        first, first_column = Signal(position), Signal(column)  # the tile's first pixel
        after, after_column = Signal(position), Signal(column)  # the next tile's
        row_x = Signal(COORDINATE_BITS)  # column 0 of the output, moved by the tap
        word, tap, tap_row, first_block = Signal(16), Signal(8), Signal(8), Signal()

        # ---- from pixel to pixel
        row_end = in_rows & (here == last_column)
        next_pixel, next_column = Signal(position), Signal(column)
        m.d.comb += [
            next_column.eq(Mux(row_end, 0, here + 1)),
            next_pixel.x.eq(Mux(row_end, row_x, walk.x + layer.stride_x)),
            next_pixel.y.eq(walk.y + Mux(row_end, layer.stride_y, 0)),
            next_pixel.address.eq(walk.address + Mux(row_end, layer.row_step, layer.input_stride)),
        ]

        # ---- from block to block
        tap_end = word == last_word
        taps_end = tap_end & (tap == last_tap)
        patch_end = taps_end & (tap_row == last_row)
        next_base, next_row_x = Signal(position), Signal(COORDINATE_BITS)
        words = Mux(taps_end, layer.tap_row_step, Mux(tap_end, layer.tap_step, 1))
        columns = Mux(tap_end, layer.dilation_x, 0)
        m.d.comb += [
            next_base.x.eq(Mux(taps_end, first.x, base.x + columns)),
            next_base.y.eq(Mux(patch_end, first.y, base.y + Mux(taps_end, layer.dilation_y, 0))),
            next_base.address.eq(Mux(patch_end, first.address, base.address + words)),
            next_row_x.eq(Mux(taps_end, origin.x, row_x + columns)),
        ]

        def enter_tile(pixel: Value, pixel_column: Value | int) -> None:
            m.d.sync += [signal.eq(pixel) for signal in (walk, base, first)]
            m.d.sync += [here.eq(pixel_column), first_column.eq(pixel_column)]
            m.d.sync += [row_x.eq(origin.x), word.eq(0), tap.eq(0), tap_row.eq(0), first_block.eq(1)]

        with m.If(self.start):
            enter_tile(origin, 0)
        with m.Elif(self.step):
            with m.If(self.last_phase):
                with m.If(first_block):
                    m.d.sync += [after.eq(next_pixel), after_column.eq(next_column)]
                m.d.sync += [
                    first_block.eq(0),
                    word.eq(Mux(tap_end, 0, word + 1)),
                    row_x.eq(next_row_x),
                    base.eq(next_base),
                    walk.eq(next_base),
                    here.eq(first_column),
                ]
                with m.If(tap_end):
                    m.d.sync += tap.eq(Mux(taps_end, 0, tap + 1))
                with m.If(taps_end):
                    m.d.sync += tap_row.eq(Mux(patch_end, 0, tap_row + 1))
                with m.If(self.last_block):
                    with m.If(self.last_pixels):
                        enter_tile(origin, 0)
                    with m.Elif(first_block):
                        enter_tile(next_pixel, next_column)
                    with m.Else():
                        enter_tile(after, after_column)
            with m.Else():
                m.d.sync += [walk.eq(next_pixel), here.eq(next_column)]

        inside = (walk.x < layer.input_width) & (walk.y < layer.input_height)
        m.d.comb += [
            self.address.eq(Cat(walk.address[:-1], layer.input_address[len(self.address) - 1])),
            self.outside.eq(in_image & ~inside),
            self.tail.eq(tap_end | self.last_block),
        ]
        return m
