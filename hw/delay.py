"""Delay lines: flip-flops when short, LUT RAM when long."""

from amaranth.hdl import Module, Mux, Signal, Value, ValueLike
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from shiftforge.errors import InputError

SHORTEST_IN_MEMORY = 5
"""Below this a memory's address counter costs more than the flip-flops that it saves."""
NARROWEST_IN_MEMORY = 4
MOST_COPIES = 3
LONGEST_IN_MEMORY = 17
"""A 16-word ring and its output register."""


def register(m: Module, value: ValueLike, name: str, init: int = 0) -> Signal:
    """`value` one cycle later, in a register that starts as `init` and has no reset (the valid bits beside the data have)."""
    value = Value.cast(value)
    stage = Signal(value.shape(), name=name, reset_less=True, init=init)
    m.d.sync += stage.eq(value)
    return stage


def unless(m: Module, idle: Value, value: ValueLike, name: str) -> Signal:
    """`value` one cycle later, zero if `idle`: by the flip-flop's own reset."""
    gated = Signal(Value.cast(value).shape(), name=name, reset_less=True)
    m.d.sync += gated.eq(value)
    with m.If(idle):
        m.d.sync += gated.eq(0)
    return gated


def copies(m: Module, value: Value, count: int, name: str) -> list[Signal]:
    """One bit, one cycle later, in up to `MOST_COPIES` equal registers that synthesis does not merge, for a net each.

    Yosys merges equal flip-flops whatever their attributes say, but not those that start or reset to another value.
    None of them is as `register` makes them. The first one has the plain name.
    """
    if not 1 <= count <= MOST_COPIES:
        raise InputError(f"count of copies must be from 1 to {MOST_COPIES}, not {count!r}")
    kinds = ({"init": 1, "reset_less": True}, {"init": 0}, {"init": 1})[:count]
    found = [Signal(name=f"{name}_copy_{i}" if i else name, **kind) for i, kind in enumerate(kinds)]
    m.d.sync += [copy.eq(value) for copy in found]
    return found


def chain(m: Module, value: ValueLike, cycles: int, name: str, init: int = 0) -> Value:
    """`value` `cycles` cycles later, through registers that reset to `init`: for what must not come out of a reset."""
    result = Value.cast(value)
    for i in range(cycles):
        stage = Signal(result.shape(), name=f"{name}_{i + 1}", init=init)
        m.d.sync += stage.eq(result)
        result = stage
    return result


def later(m: Module, value: ValueLike, cycles: int, name: str) -> Value:
    """`value` `cycles` cycles later, through registers without reset."""
    result = Value.cast(value)
    for i in range(cycles):
        result = register(m, result, f"{name}_{i + 1}")
    return result


def delayed(m: Module, value: ValueLike, cycles: int, name: str) -> Value:
    """`value` `cycles` cycles later: registers, or when long `Delay` lines, submodules ``<name>_delay_<n>`` of `m`."""
    result = Value.cast(value)
    part = 0
    while cycles >= SHORTEST_IN_MEMORY and len(result) >= NARROWEST_IN_MEMORY:
        # One bank of LUT RAM each: a deeper ring would need multiplexers behind it.
        step = min(cycles, LONGEST_IN_MEMORY)
        m.submodules[f"{name}_delay_{part}"] = ring = Delay(len(result), step)
        m.d.comb += ring.i.eq(result)
        result, cycles, part = ring.o, cycles - step, part + 1
    return later(m, result, cycles, name)


class Delay(wiring.Component):
    """`o` is `i` of `cycles` cycles ago, through a ring of LUT RAM: 4 bits in 16 words are one cell on ECP5.

    Parameters
    ----------
    width : int
    cycles : int
        Latency, at least 2.

    Members
    -------
    i : In(width)
    o : Out(width)
    """

    def __init__(self, width: int, cycles: int) -> None:
        if cycles < 2:
            raise InputError(f"cycles of a delay line in memory must be at least 2, not {cycles!r}")
        self.width, self.cycles = width, cycles
        super().__init__({"i": In(width), "o": Out(width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self.cycles - 1  # the output register is the last cycle
        m.submodules.ring = ring = Memory(shape=self.width, depth=depth, init=[])
        write, read = ring.write_port(), ring.read_port(domain="comb")
        here = Signal(range(depth), reset_less=True)
        result = Signal(self.width, reset_less=True)
        m.d.sync += [here.eq(Mux(here == depth - 1, 0, here + 1)), result.eq(read.data)]
        m.d.comb += [
            write.addr.eq(here),
            read.addr.eq(here),
            write.data.eq(self.i),
            write.en.eq(1),
            self.o.eq(result),
        ]
        return m
