"""An adder behind a multiplexer: the technology module of the aligned accumulator with weights of 3 and 4 bits."""

from amaranth.hdl import Module

from hw.tech.adder import Adder


class AddSelect(Adder):
    """``sum = a + (d & select | c & ~select) + carry``, modulo ``2**width``; combinational.

    Emitted once per width as a module of its own, in plain Verilog. `hw.tech.ecp5` has the same function in carry cells, where the
    multiplexer costs nothing; `sim.synth` puts that one in the place of this one. SAT proves that both are equal.

    Parameters
    ----------
    width : int
        At least 1.
    carries : int
        1: with a carry in, which takes a bit of the chain. 0: there is none, nor its port.

    Members
    -------
    a, c, d : In(width)
    select : In(width)
        A bit each, so that more than one register may drive a long chain.
    carry : In(1), with `carries`
    sum : Out(width)
    """

    def __init__(self, width: int, carries: int):
        self.carries = carries
        super().__init__(
            width, {**dict.fromkeys(("a", "c", "d", "select"), width), **({"carry": 1} if carries else {})}
        )

    @property
    def module_name(self) -> str:
        return f"sf_add_select_{self.width}_{self.carries}"

    def elaborate(self, platform: object) -> Module:
        m = Module()
        total = self.a + (self.d & self.select | self.c & ~self.select)
        m.d.comb += self.sum.eq(total + self.carry if self.carries else total)
        return m
