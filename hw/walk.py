"""Walks over a layer's results: the order in which they leave the drain buffers, and where their channels lie in the memory."""

from amaranth.hdl import Module, Mux, Signal, ValueLike
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.layer import layer_layout
from shiftforge.config import Config


class TileWalk(wiring.Component):
    """Counts a layer's drain steps: channel tile, pixel tile, row, group of `lanes` columns; valid rows and groups only.

    Members
    -------
    layer, start : In
        The descriptor must stand two cycles before `start`.
    step : In(1)
        Go to the next step.
    row, group : Out
        Of the step under way.
    last_tile : Out(1)
        The channel tile is the layer's last.
    row_end, tile_end, pass_end, layer_end : Out(1)
        The step is the last of its row, of its tile, of its channel tile, of the layer.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "layer": In(layer_layout(config)),
                "start": In(1),
                "step": In(1),
                "row": Out(range(max(config.rows, 2))),
                "group": Out(range(max(config.groups, 2))),
                "row_end": Out(1),
                "tile_end": Out(1),
                "pass_end": Out(1),
                "layer_end": Out(1),
                "last_tile": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, layer = self.config, self.layer
        lanes = config.lanes
        # What a comparison decides is decided one step ahead, so that no long comparison stands in the path of a step.
        pixels_left, tiles_left = Signal(24), Signal(16)
        last_pixel, last_tile, one_pixel = Signal(), self.last_tile, Signal()
        last_group, tail_group = Signal(range(max(config.groups, 2))), Signal(range(max(config.groups, 2)))
        m.d.comb += [
            self.row_end.eq(self.group == last_group),
            self.tile_end.eq(self.row_end & ((self.row == config.rows - 1) | last_pixel)),
            self.pass_end.eq(self.row_end & last_pixel),
            self.layer_end.eq(self.pass_end & last_tile),
        ]
        m.d.sync += [
            tail_group.eq(((layer.n_tail + (lanes - 1)) >> (lanes.bit_length() - 1)) - 1),
            one_pixel.eq(layer.pixels == 1),
        ]

        def enter_tile(is_last: ValueLike) -> None:
            m.d.sync += [last_tile.eq(is_last), last_group.eq(Mux(is_last, tail_group, config.groups - 1))]

        with m.If(self.start):
            m.d.sync += [
                self.row.eq(0),
                self.group.eq(0),
                pixels_left.eq(layer.pixels),
                tiles_left.eq(layer.n_tiles),
                last_pixel.eq(one_pixel),
            ]
            enter_tile(layer.n_tiles == 1)
        with m.Elif(self.step):
            m.d.sync += self.group.eq(Mux(self.row_end, 0, self.group + 1))
            with m.If(self.row_end):
                m.d.sync += [
                    self.row.eq(Mux(self.tile_end, 0, self.row + 1)),
                    pixels_left.eq(Mux(last_pixel, layer.pixels, pixels_left - 1)),
                    last_pixel.eq(Mux(last_pixel, one_pixel, pixels_left == 2)),
                ]
            with m.If(self.pass_end):
                m.d.sync += tiles_left.eq(tiles_left - 1)
                enter_tile(tiles_left == 2)
        return m


class ChannelWalk(wiring.Component):
    """Where the first channel of a drain step lies in a tensor of the activation memory: word and element.

    Channel n of pixel p is element ``(first_bank + n) mod rows`` of word ``first_word + p * stride + (first_bank + n) div rows``.
    Words count modulo the whole memory.

    Parameters
    ----------
    config : Config

    Members
    -------
    first_bank, first_word, stride : In
        The tensor; they stand from `start` on.
    start, step : In(1)
    row_end, pass_end : In(1)
        As `TileWalk` tells them, of the step under way.
    bank, word : Out
        Of the step under way.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "first_bank": In(9),
                "first_word": In(range(config.activation_words)),
                "stride": In(16),
                "start": In(1),
                "step": In(1),
                "row_end": In(1),
                "pass_end": In(1),
                "bank": Out(range(max(config.rows, 2))),
                "word": Out(range(config.activation_words)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows, cols, lanes = self.config.rows, self.config.cols, self.config.lanes
        bank, word = self.bank, self.word
        # Of the pixel's first channel in the channel tile, and of the channel tile's first.
        tile_bank = Signal(range(max(rows, 2)))
        pixel_word, tile_word = Signal.like(word), Signal.like(word)
        with m.If(self.start):
            m.d.sync += [
                bank.eq(self.first_bank),
                tile_bank.eq(self.first_bank),
                word.eq(self.first_word),
                pixel_word.eq(self.first_word),
                tile_word.eq(self.first_word),
            ]
        with m.Elif(self.step):
            with m.If(self.pass_end):
                wraps = tile_bank + cols % rows >= rows
                new_bank = Mux(wraps, tile_bank + cols % rows - rows, tile_bank + cols % rows)
                new_word = tile_word + cols // rows + wraps
                m.d.sync += [bank.eq(new_bank), tile_bank.eq(new_bank)]
                m.d.sync += [word.eq(new_word), pixel_word.eq(new_word), tile_word.eq(new_word)]
            with m.Elif(self.row_end):
                new_word = pixel_word + self.stride
                m.d.sync += [bank.eq(tile_bank), word.eq(new_word), pixel_word.eq(new_word)]
            with m.Else():
                wraps = bank + lanes >= rows
                m.d.sync += [bank.eq(Mux(wraps, bank + lanes - rows, bank + lanes)), word.eq(word + wraps)]
        return m
