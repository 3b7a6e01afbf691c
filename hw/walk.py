"""Tile walk: the order in which a layer's results leave the drain buffers."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.layer import layer_layout
from shiftforge.config import Config


class TileWalk(wiring.Component):
    """Counts a layer's drain steps: channel tile, pixel tile, row, group of `lanes` columns; valid rows and groups only.

    Members
    -------
    layer, start : In
    step : In(1)
        Go to the next step.
    row, group : Out
        Of the step under way.
    last_group : Out(1) ; last_pixel : Out(1)
        The row's last group; the channel tile's last row.
    last_tile : Out(1)
        The channel tile is the layer's last.
    row_end, tile_end : Out(1)
        The step is its row's, or its tile's, last.
    layer_end : Out(1)
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "layer": In(layer_layout()),
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
        pixels_left, tiles_left = Signal(24), Signal(16)
        tail_groups = Signal(range(config.groups + 1))
        last_pixel = pixels_left == 1
        m.d.comb += [
            tail_groups.eq((layer.n_tail + (lanes - 1)) >> (lanes.bit_length() - 1)),
            self.last_tile.eq(tiles_left == 1),
            self.row_end.eq(self.group == Mux(self.last_tile, tail_groups, config.groups) - 1),
            self.tile_end.eq(self.row_end & ((self.row == config.rows - 1) | last_pixel)),
            self.pass_end.eq(self.row_end & last_pixel),
            self.layer_end.eq(self.pass_end & self.last_tile),
        ]
        with m.If(self.start):
            m.d.sync += [
                self.row.eq(0),
                self.group.eq(0),
                pixels_left.eq(layer.pixels),
                tiles_left.eq(layer.n_tiles),
            ]
        with m.Elif(self.step):
            m.d.sync += self.group.eq(Mux(self.row_end, 0, self.group + 1))
            with m.If(self.row_end):
                m.d.sync += [
                    self.row.eq(Mux(self.tile_end, 0, self.row + 1)),
                    pixels_left.eq(Mux(last_pixel, layer.pixels, pixels_left - 1)),
                ]
            with m.If(self.pass_end):
                m.d.sync += tiles_left.eq(tiles_left - 1)
        return m
