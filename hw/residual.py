"""The residual's way from the activation memory to the lanes: the elements of a drain step, one for each lane."""

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.delay import chain
from hw.layer import layer_layout, within_page
from hw.walk import ChannelWalk, TileWalk
from shiftforge import timing
from shiftforge.config import Config


class Residual(wiring.Component):
    """Reads the elements that belong to the channels of each drain step; they leave ``timing.RESIDUAL_READ`` cycles after it.

    Without a residual in the layer what leaves means nothing.

    Parameters
    ----------
    config : Config

    Members
    -------
    layer, start : In
    step : In(1)
        The layer's drain steps, in order.
    address_b : Out, one per bank b of the memory's second copy ; data : In(activation_word_bits)
    element_l : Out(activation.bits), one per lane l
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "layer": In(layer_layout(config)),
                "start": In(1),
                "step": In(1),
                **{f"address_{b}": Out(range(config.activation_words)) for b in range(config.rows)},
                "data": In(config.activation_word_bits),
                **{f"element_{lane}": Out(config.activation.bits) for lane in range(config.lanes)},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, layer = self.config, self.layer
        rows, width = config.rows, config.activation.bits
        m.submodules.walk = walk = TileWalk(config)
        m.submodules.channels = channels = ChannelWalk(config)
        m.d.comb += [
            *(unit.start.eq(self.start) for unit in (walk, channels)),
            *(unit.step.eq(self.step) for unit in (walk, channels)),
            walk.layer.eq(layer),
            channels.row_end.eq(walk.row_end),
            channels.pass_end.eq(walk.pass_end),
            channels.first_bank.eq(layer.residual_bank),
            channels.first_word.eq(layer.residual_address),
            channels.stride.eq(layer.residual_stride),
        ]
        for b in range(rows):
            word = Signal.like(channels.word, name=f"word_{b}")
            m.d.comb += word.eq(channels.word + (b < channels.bank))
            m.d.comb += getattr(self, f"address_{b}").eq(
                within_page(word, layer.residual_address, config.activation_page)
            )
        bank = chain(m, channels.bank, timing.MEMORY_READ, "bank")
        elements = [self.data.word_select(b, width) for b in range(rows)]
        for lane in range(config.lanes):
            # The lane's bank is (bank + lane) mod rows: lanes are no more than rows.
            turned = Array(elements[lane:] + elements[:lane])
            m.d.sync += getattr(self, f"element_{lane}").eq(turned[bank])
        return m
