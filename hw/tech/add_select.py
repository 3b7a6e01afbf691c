"""An adder behind a multiplexer: the technology module of the accumulators."""

from amaranth.hdl import Instance, Module, Signal, ValueLike
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class AddSelect(wiring.Component):
    """``sum = a + (d if select else c) + carry``, modulo ``2**width``; combinational.

    Emitted once per width as a module of its own, in plain Verilog. `hw.tech.ecp5` has the same function in carry cells, where the
    multiplexer costs nothing; `sim.synth` puts that one in the place of this one. SAT proves that both are equal.

    Parameters
    ----------
    width : int
        At least 1.

    Members
    -------
    a, c, d : In(width)
    select, carry : In(1)
    sum : Out(width)
    """

    def __init__(self, width: int):
        self.width = width
        super().__init__(
            {
                "a": In(width),
                "c": In(width),
                "d": In(width),
                "select": In(1),
                "carry": In(1),
                "sum": Out(width),
            }
        )

    @property
    def module_name(self) -> str:
        return f"sf_add_select_{self.width}"

    def elaborate(self, platform: object) -> Module:
        m = Module()
        addend = Signal(self.width)
        m.d.comb += addend.eq(self.c)
        with m.If(self.select):
            m.d.comb += addend.eq(self.d)
        m.d.comb += self.sum.eq(self.a + addend + self.carry)
        return m

    def add(
        self, m: Module, name: str, *, a: ValueLike, c: ValueLike, d: ValueLike, select: ValueLike, carry: ValueLike
    ) -> Signal:
        """Instantiate the module as submodule `name` of `m`; returns its sum. Who does so lists this unit among its `units`."""
        total = Signal(self.width, name=f"{name}_sum")
        given = {
            "a": (a, self.width),
            "c": (c, self.width),
            "d": (d, self.width),
            "select": (select, 1),
            "carry": (carry, 1),
        }
        ports: dict[str, Signal] = {}
        for port, (value, width) in given.items():
            signal = ports[f"i_{port}"] = Signal(width, name=f"{name}_{port}")
            m.d.comb += signal.eq(value)
        m.submodules[name] = Instance(self.module_name, **ports, o_sum=total)
        return total
