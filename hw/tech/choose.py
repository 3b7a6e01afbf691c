"""One of four words: the technology module of the row feeds."""

from amaranth.hdl import Array as Choices
from amaranth.hdl import Instance, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Choose(wiring.Component):
    """``chosen`` is the word that `index` names; combinational.

    Emitted once per width as a module of its own, in plain Verilog. `hw.tech.ecp5` has it in two LUT4 per bit, where yosys finds
    three, a tree of selections. SAT proves that both are equal.

    Parameters
    ----------
    width : int
        At least 1.

    Members
    -------
    word_0, word_1, word_2, word_3 : In(width)
    index : In(2)
    chosen : Out(width)
    """

    def __init__(self, width: int):
        self.width = width
        super().__init__({**{f"word_{i}": In(width) for i in range(4)}, "index": In(2), "chosen": Out(width)})

    @property
    def module_name(self) -> str:
        return f"sf_choose_{self.width}"

    @property
    def words(self) -> tuple[Signal, ...]:
        """The four words."""
        return tuple(getattr(self, f"word_{i}") for i in range(4))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.chosen.eq(Choices(self.words)[self.index])
        return m

    def of(self, m: Module, name: str, words: list[Value], index: Value) -> Signal:
        """Instantiate the module as submodule `name` of `m`; returns the chosen word. Four words of the ports' width.

        Who does so lists this unit among its `units`, so that it is emitted.
        """
        chosen = Signal(self.width, name=f"{name}_chosen")
        ports = {f"i_word_{i}": word for i, word in enumerate(words)}
        m.submodules[name] = Instance(self.module_name, **ports, i_index=index, o_chosen=chosen)
        return chosen
