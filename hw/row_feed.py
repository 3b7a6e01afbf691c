"""Row feed: parallel-in serial-out, one activation word in, one element per cycle out."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from shiftforge.config import Config


class RowFeed(wiring.Component):
    """Loads a word of `rows` elements and presents element 0 in the next cycle, then one element each cycle.

    One shared memory serves all rows: row r loads r cycles after row 0, which is the skew that the array needs. Latency
    `timing.ROW_FEED` from `load` to element 0.

    Members
    -------
    load : In(1)
    word : In(activation_word_bits)
    code : Out(activation.bits)
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({"load": In(1), "word": In(config.activation_word_bits), "code": Out(config.activation.bits)})

    @property
    def module_name(self) -> str:
        return f"sf_row_feed_{self.config.activation.bits}x{self.config.rows}"

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Signal(self.config.activation_word_bits, reset_less=True)
        with m.If(self.load):
            m.d.sync += held.eq(self.word)
        with m.Else():
            m.d.sync += held.eq(held >> self.config.activation.bits)
        m.d.comb += self.code.eq(held)
        return m
