"""A unit small enough to see what the prover does with it (`tests/sim/test_prove.py`), and its miter."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.delay import register
from sim.proofs.miter import Pipeline, Script


class Sum(wiring.Component):
    """a + b after two cycles; `late` takes b one cycle later."""

    def __init__(self, late: bool = False, loop: bool = False) -> None:
        self.late, self.loop = late, loop
        super().__init__({"a": In(4), "b": In(4), "total": Out(5)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        a = register(m, self.a, "a_1")
        b = self.b if self.late else register(m, self.b, "b_1")
        total = register(m, a + b, "total_2")
        m.d.comb += self.total.eq(total)
        if self.loop:
            count = Signal(5)
            m.d.sync += count.eq(count + 1)
            m.d.comb += self.total.eq(total ^ count)
        return m


def sum_script(late: bool = False, loop: bool = False, wrong: bool = False, latency: int = 2) -> Script:
    p = Pipeline(lambda: Sum(late, loop), latency)
    a, b = p.inputs["a"], p.inputs["b"]
    p.claim(p.outputs["total"] == (a | b if wrong else a + b))
    return p.script()
