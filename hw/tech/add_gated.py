"""An adder behind an OR and an AND: the technology module of the upper halves of banked accumulators."""

from amaranth.hdl import Module

from hw.tech.adder import Adder


class AddGated(Adder):
    """``sum = (a | b) + (c & d)``, modulo ``2**width``; combinational.

    Where one of `a` and `b` is always zero it adds to whichever is not. Emitted once per width as a module of its own, in plain
    Verilog. `hw.tech.ecp5` has the same function in carry cells, where OR and AND cost nothing; `sim.synth` puts that one in the
    place of this one. SAT proves that both are equal.

    Parameters
    ----------
    width : int
        At least 1.

    Members
    -------
    a, b, c, d : In(width)
    sum : Out(width)
    """

    def __init__(self, width: int):
        super().__init__(width, dict.fromkeys("abcd", width))

    @property
    def module_name(self) -> str:
        return f"sf_add_gated_{self.width}"

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.sum.eq((self.a | self.b) + (self.c & self.d))
        return m
