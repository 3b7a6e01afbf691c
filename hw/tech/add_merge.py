"""An adder behind two ORs: the technology module of the banked accumulators."""

from amaranth.hdl import Module

from hw.tech.adder import Adder


class AddMerge(Adder):
    """``sum = (a | b) + (c | d) + carry``, modulo ``2**width``; combinational.

    Where one of `a` and `b` is always zero, and one of `c` and `d`, it adds whichever is not: a choice without a select signal,
    made by the resets of the registers before it. Emitted once per width as a module of its own, in plain Verilog. `hw.tech.ecp5`
    has the same function in carry cells, where the ORs cost nothing; `sim.synth` puts that one in the place of this one. SAT
    proves that both are equal.

    Parameters
    ----------
    width : int
        At least 1.
    carries : int
        1: with a carry in, which takes a bit of the chain. 0: there is none, nor its port.

    Members
    -------
    a, b, c, d : In(width)
    carry : In(1), with `carries`
    sum : Out(width)
    """

    def __init__(self, width: int, carries: int):
        self.carries = carries
        super().__init__(width, {**dict.fromkeys("abcd", width), **({"carry": 1} if carries else {})})

    @property
    def module_name(self) -> str:
        return f"sf_add_merge_{self.width}_{self.carries}"

    def elaborate(self, platform: object) -> Module:
        m = Module()
        total = (self.a | self.b) + (self.c | self.d)
        m.d.comb += self.sum.eq(total + self.carry if self.carries else total)
        return m
