"""An adder behind a multiplexer: the technology module of the aligned accumulator with weights of 3 and 4 bits."""

from amaranth.hdl import Instance, Module, Signal, ValueLike
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class AddSelect(wiring.Component):
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
        self.width, self.carries = width, carries
        words = dict.fromkeys(("a", "c", "d", "select"), In(width))
        super().__init__({**words, **({"carry": In(1)} if carries else {}), "sum": Out(width)})

    @property
    def module_name(self) -> str:
        return f"sf_add_select_{self.width}_{self.carries}"

    def elaborate(self, platform: object) -> Module:
        m = Module()
        total = self.a + (self.d & self.select | self.c & ~self.select)
        m.d.comb += self.sum.eq(total + self.carry if self.carries else total)
        return m

    def add(self, m: Module, name: str, **ports: ValueLike) -> Signal:
        """Instantiate the module as submodule `name` of `m`, a value for each port but `sum`; returns its sum.

        Who does so lists this unit among its `units`, so that it is emitted.
        """
        total = Signal(self.width, name=f"{name}_sum")
        m.submodules[name] = Instance(
            self.module_name, **{f"i_{port}": value for port, value in ports.items()}, o_sum=total
        )
        return total
