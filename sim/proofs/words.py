"""Miters of units with memories: the memories are made of registers that the specification sees."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Elaboratable, Module, Signal, Value
from amaranth.lib import wiring

from hw.instance import Unit
from sim.proofs.miter import Script
from sim.proofs.streams import Machine


class _Port:
    """Of `Words`."""

    def __init__(self, width: int, depth: int) -> None:
        self.addr, self.data, self.en = Signal(range(max(depth, 2))), Signal(width), Signal()


class Words(Elaboratable):
    """A memory of one read and one write port made of registers, all of which a miter sees.

    Takes the place of `amaranth.lib.memory.Memory`.

    Parameters
    ----------
    name : str
    width, depth : int
    init : int
        What all words hold at first.
    """

    def __init__(self, name: str, width: int, depth: int, init: int = 0) -> None:
        self.words = [Signal(width, name=f"{name}_{i}", init=init, reset_less=True) for i in range(depth)]
        self.width = width
        self.read, self.write = _Port(width, depth), _Port(width, depth)

    def read_port(self, *, domain: str) -> _Port:
        """Combinational."""
        assert domain == "comb"
        return self.read

    def write_port(self) -> _Port:
        """At the edge; all of a word."""
        return self.write

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.read.data.eq(pick(m, self.words, self.read.addr))
        for i, word in enumerate(self.words):
            with m.If(self.write.en & (self.write.addr == i)):
                m.d.sync += word.eq(self.write.data)
        return m


def pick(m: Module, words: list[Signal], index: Value) -> Signal:
    """The word of that index."""
    found = Signal(words[0].shape())
    with m.Switch(index):
        for i, word in enumerate(words):
            with m.Case(i):
                m.d.comb += found.eq(word)
    return found


@contextmanager
def memories(target: str, *prepared: Words) -> Iterator[None]:
    """While it lasts, elaboration takes `prepared`, in this order, when it calls `target` to make memories."""
    left = list(prepared)

    def make(*, shape: int, depth: int, init: list[int]) -> Words:
        words = left.pop(0)
        assert (shape, depth, init) == (words.width, len(words.words), []), f"a memory is {shape} x {depth}"
        return words

    with patch(target, make):
        yield
    assert not left


def with_units(script: Script, *units: Unit) -> Script:
    """The miter of a unit that instantiates `units` by name, and they."""
    texts = [rtlil.convert(unit, name=unit.module_name, emit_src=False) for unit in units]
    return replace(script, rtlil="".join([script.rtlil, *texts]))


def without_reset(unit: wiring.Component) -> Machine:
    """The miter of a state machine that is never reset."""
    machine = Machine(unit)
    machine.m.domains.sync = domain = ClockDomain(reset_less=True)
    machine.ports.append(domain.clk)
    return machine


def always(machine: Machine, promise: Value) -> None:
    """Assume `promise` of this cycle and of all cycles before."""
    kept = Signal(init=1, reset_less=True, name="promises_kept")
    machine.m.d.sync += kept.eq(kept & promise)
    machine.assume(kept & promise)
