"""An adder behind a multiplexer: the technology module of the accumulators."""

from amaranth.hdl import Instance, Module, Signal, Value
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

    Members
    -------
    a, c, d : In(width)
    select : In(width)
        A bit each, so that more than one register may drive a long chain.
    carry : In(1)
    sum : Out(width)
    """

    def __init__(self, width: int):
        self.width = width
        super().__init__(
            {
                "a": In(width),
                "c": In(width),
                "d": In(width),
                "select": In(width),
                "carry": In(1),
                "sum": Out(width),
            }
        )

    @property
    def module_name(self) -> str:
        return f"sf_add_select_{self.width}"

    def elaborate(self, platform: object) -> Module:
        m = Module()
        addend = self.d & self.select | self.c & ~self.select
        m.d.comb += self.sum.eq(self.a + addend + self.carry)
        return m

    def add(self, m: Module, name: str, *, a: Value, c: Value, d: Value, select: Value, carry: Value) -> Signal:
        """Instantiate the module as submodule `name` of `m`; returns its sum. All values have the widths of the ports.

        Who does so lists this unit among its `units`, so that it is emitted.
        """
        total = Signal(self.width, name=f"{name}_sum")
        m.submodules[name] = Instance(
            self.module_name, i_a=a, i_c=c, i_d=d, i_select=select, i_carry=carry, o_sum=total
        )
        return total
