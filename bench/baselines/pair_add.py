"""Two rows of a multiplication in one carry chain: the cell that makes the multiplier baselines as small as ECP5 allows."""

from amaranth.hdl import Cat, Const, Instance, Module, Signal, Value, ValueLike
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class PairAdd(wiring.Component):
    """``sum = (a & b) + (c & d)``, or with `subtract` ``(c & d) - (a & b)``, modulo ``2**width``; combinational.

    A carry cell of ECP5 has four inputs, so that it can form both partial products itself: ``p = (A & B) ^ (C & D)`` and,
    where p is 0, the carry ``A & B`` (see `hw.tech.ecp5` for the cell). Plain logic needs two more LUTs per bit. `cells`
    chooses between the cells and plain Verilog of the same function, which the tests compare.

    Parameters
    ----------
    width : int
    subtract : bool
        The inverted row plus one; the one costs a bit of the chain.
    cells : bool
        CCU2C instances instead of plain logic.

    Members
    -------
    a, b, c, d : In(width)
    sum : Out(width)
    """

    def __init__(self, width: int, *, subtract: bool = False, cells: bool = False):
        self.width, self.subtract, self.cells = width, subtract, cells
        super().__init__({**{name: In(width) for name in "abcd"}, "sum": Out(width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.cells:
            m.d.comb += self.sum.eq(self._chain(m))
        elif self.subtract:
            m.d.comb += self.sum.eq((self.c & self.d) - (self.a & self.b))
        else:
            m.d.comb += self.sum.eq((self.a & self.b) + (self.c & self.d))
        return m

    def _chain(self, m: Module) -> Value:
        flip = int(self.subtract)
        table = sum((((i & i >> 1) ^ flip ^ (i >> 2 & i >> 3)) & 1) << i for i in range(16))
        nothing = (Const(0, 16), *(Const(0, 1),) * 4)
        bits = [(Const(table, 16), self.a[i], self.b[i], self.c[i], self.d[i]) for i in range(self.width)]
        if self.subtract:  # p = 0, and g = 1 whatever comes in: a constant carry into the bits above
            bits.insert(0, (Const(0b1111, 16), Const(0, 1), Const(0, 1), Const(1, 1), Const(0, 1)))
        if len(bits) % 2:
            bits.append(nothing)
        carry: Const | Signal = Const(0, 1)
        sums: list[Signal] = []
        for i in range(0, len(bits), 2):
            low, high, out = Signal(name=f"s_{i}"), Signal(name=f"s_{i + 1}"), Signal(name=f"carry_{i + 2}")
            ports: dict[str, object] = {"i_CIN": carry, "o_S0": low, "o_S1": high, "o_COUT": out}
            for j, (init, *inputs) in enumerate(bits[i : i + 2]):
                ports |= {f"p_INIT{j}": init, f"p_INJECT1_{j}": "NO"}
                ports |= {f"i_{port}{j}": value for port, value in zip("ABCD", inputs, strict=True)}
            m.submodules[f"bits_{i}"] = Instance("CCU2C", **ports)
            carry = out
            sums += [low, high]
        return Value.cast(Cat(sums)[flip : flip + self.width])

    def add(self, m: Module, name: str, *, a: ValueLike, b: ValueLike, c: ValueLike, d: ValueLike) -> Signal:
        """Make this unit submodule `name` of `m`, connect it, and return its sum."""
        m.submodules[name] = self
        m.d.comb += [self.a.eq(a), self.b.eq(b), self.c.eq(c), self.d.eq(d)]
        return self.sum
