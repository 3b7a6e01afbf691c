"""Row feed: one element per cycle for a row of the array, picked from the banks of the activation memory."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.delay import register
from hw.instance import Unit
from hw.tech.choose import Choose
from shiftforge.config import Config

RADIX = 4
"""Elements that the first register chooses from (`hw.tech.choose`)."""


def feed_step(config: Config) -> data.StructLayout:
    """What goes down the rows, one row per cycle.

    `first`: the row takes `zero` and `tail`, and its block begins in the next cycle. `live`: element `index` of the block is
    there in this cycle; `beyond`: it is one that a tap's last word does not have.
    """
    return data.StructLayout({"first": 1, "live": 1, "beyond": 1, "index": range(max(config.rows, 2))})


class RowFeed(wiring.Component):
    """Presents the elements of a word one after the other, where element i of the word comes i cycles after element 0.

    ::

        data --(1 of 4 banks each)--[reg]--(1 of those, or 0)--[reg]--> code
                      ^                          ^
        step --+-- index, low bits ----- high bits [reg]  live, zero, tail and beyond: [reg keep]
               +--[reg]--> step_out, of the row below

    No row holds a word, which would take rows * rows * bits flip-flops: each bank is read a cycle after the one before it, and
    so gives each row its element when the row needs it, one row after the other. Latency ``timing.ROW_FEED`` from `data` to
    `code`.

    Attributes
    ----------
    units : tuple of Unit
        The technology module, emitted once by `hw.verilog`.

    Members
    -------
    step : In(feed_step(config)), step_out : Out(feed_step(config))
    zero, tail : In(1)
        In the cycle of `first`: the word is zero; the word is a tap's last, with `beyond` zero.
    data : In(activation_word_bits)
        Element i from bank i.
    code : Out(activation.bits)
        Zero without a block.
    """

    def __init__(self, config: Config):
        self.config = config
        self._choose = Choose(config.activation.bits)
        width = feed_step(config).size
        super().__init__(
            {
                "step": In(width),
                "step_out": Out(width),
                "zero": In(1),
                "tail": In(1),
                "data": In(config.activation_word_bits),
                "code": Out(config.activation.bits),
            }
        )

    @property
    def units(self) -> tuple[Unit, ...]:
        return (self._choose,)

    @property
    def module_name(self) -> str:
        return f"sf_row_feed_{self.config.activation.bits}x{self.config.rows}"

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows, bits = self.config.rows, self.config.activation.bits
        step = data.View(feed_step(self.config), self.step)
        m.d.sync += self.step_out.eq(self.step)
        zero, tail = Signal(reset_less=True), Signal(reset_less=True)
        with m.If(step.first):
            m.d.sync += [zero.eq(self.zero), tail.eq(self.tail)]
        keep = register(m, step.live & ~zero & ~(tail & step.beyond), "keep")

        index = Cat(step.index, Const(0, 1))  # two bits at least
        elements: list[Value] = [self.data.word_select(i, bits) for i in range(rows)]
        early = self._chosen(m, "early", elements, index[:2])
        level: list[Value] = [Value.cast(register(m, one, f"chosen_{i}")) for i, one in enumerate(early)]
        group = register(m, index[2:], "group") if len(level) > 1 else Const(0)
        for depth in range(0, len(group), 2):
            if len(level) == 2:
                level = [Mux(group[depth], level[1], level[0])]
            elif len(level) > 1:
                level = self._chosen(m, f"late_{depth}", level, group[depth : depth + 2])
        m.d.sync += self.code.eq(Mux(keep, level[0], 0))
        return m

    def _chosen(self, m: Module, name: str, words: list[Value], index: Value) -> list[Value]:
        """Of each four words the one that `index` names."""
        words = words + [Const(0, len(words[0]))] * (-len(words) % RADIX)
        chosen: list[Value] = [
            self._choose.of(m, f"{name}_{i}", words[RADIX * i : RADIX * (i + 1)], index)
            for i in range(len(words) // RADIX)
        ]
        return chosen
