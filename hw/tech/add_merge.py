"""An adder behind two ORs: the technology module of the banked accumulators."""

from amaranth.hdl import Instance, Module, Signal, ValueLike
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class AddMerge(wiring.Component):
    """``sum = (a | b) + (c | d) + carry``, modulo ``2**width``; combinational.

    Where one of `a` and `b` is always zero, and one of `c` and `d`, it adds whichever is not: a choice without a select signal,
    made by the resets of the registers before it. Emitted once per width as a module of its own, in plain Verilog. `hw.tech.ecp5`
    has the same function in carry cells, where the ORs cost nothing; `sim.synth` puts that one in the place of this one. SAT
    proves that both are equal.

    Parameters
    ----------
    width : int
        At least 1.

    Members
    -------
    a, b, c, d : In(width)
    carry : In(1)
    sum : Out(width)
    """

    def __init__(self, width: int):
        self.width = width
        ports = {name: In(width) for name in "abcd"}
        super().__init__({**ports, "carry": In(1), "sum": Out(width)})

    @property
    def module_name(self) -> str:
        return f"sf_add_merge_{self.width}"

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.sum.eq((self.a | self.b) + (self.c | self.d) + self.carry)
        return m

    def add(
        self, m: Module, name: str, *, a: ValueLike, b: ValueLike, c: ValueLike, d: ValueLike, carry: ValueLike
    ) -> Signal:
        """Instantiate the module as submodule `name` of `m`; returns its sum. Who does so lists this unit among its `units`."""
        total = Signal(self.width, name=f"{name}_sum")
        ports: dict[str, Signal] = {}
        for port, value in {"a": a, "b": b, "c": c, "d": d, "carry": carry}.items():
            width = 1 if port == "carry" else self.width
            signal = ports[f"i_{port}"] = Signal(width, name=f"{name}_{port}")
            m.d.comb += signal.eq(value)
        m.submodules[name] = Instance(self.module_name, **ports, o_sum=total)
        return total
