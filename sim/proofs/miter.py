"""Miters: a unit beside an independent specification, with an output `bad` that a proof shows to be always 0."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from amaranth.back import rtlil
from amaranth.hdl import Cat, ClockDomain, Module, Signal, Value, ValueLike
from amaranth.lib import wiring

from hw import delay
from hw.delay import register


@dataclass(frozen=True)
class Mutant:
    """One change of text, found exactly once in a source, that the proof must refute."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Script:
    """What yosys is to do with a miter's RTLIL.

    Parameters
    ----------
    rtlil : str
        Its top module is `top`.
    latency : int or None
        A function: every path from an input to `bad` has this many registers, which is checked, so that they can be replaced by
        wires. None: a state machine, to be proven by induction over time.
    stable : tuple of str
        Inputs of a function that do not change while values are in flight.
    equal : tuple of (str, str)
        State machines: registers ``unit.name`` of which the induction shows that they equal signals of the specification.
    output : str
        What a function's `latency` is of; `bad`, but for a second truth.
    smt : str
        A second truth: assertions in SMT-LIB about the ports of a state ``s``, which z3 is to find without a model.
    library : tuple of str
        Verilog files of yosys' own with the models of cells.
    peeked : tuple of (str, str)
        State machines: inputs of the miter that are to be equal to registers ``unit.name``.
    steps : int
        State machines: the most cycles of which the induction looks back, and after which from the reset a mutant must show.
    """

    rtlil: str
    latency: int | None = None
    stable: tuple[str, ...] = ()
    equal: tuple[tuple[str, str], ...] = ()
    peeked: tuple[tuple[str, str], ...] = ()
    output: str = "bad"
    smt: str = ""
    library: tuple[str, ...] = ()
    steps: int = 24


@dataclass(frozen=True)
class Proof:
    """A claim about a unit.

    Parameters
    ----------
    name : str
    build : Callable[[], Script]
        Makes the miter from the sources that are imported, which may be mutated ones.
    mutants : tuple of Mutant
        At least one; all must be refuted.
    fast : bool
        Part of `make prove-fast`.
    limit_s : float
        Wall-clock limit for this proof, and for each mutant.
    """

    name: str
    build: Callable[[], Script]
    mutants: tuple[Mutant, ...]
    fast: bool = False
    limit_s: float = 240.0


class Claims:
    """Collects what is assumed and what is claimed; `bad` is 1 when all assumptions hold and a claim does not."""

    def __init__(self, m: Module) -> None:
        self.m = m
        self._assumed: list[Value] = []
        self._claimed: list[Value] = []

    def assume(self, condition: ValueLike) -> None:
        self._assumed.append(Value.cast(condition).bool())

    def claim(self, condition: ValueLike, when: ValueLike = 1) -> None:
        self._claimed.append(~Value.cast(when).bool() | Value.cast(condition).bool())

    def close(self) -> Signal:
        bad = Signal(name="bad")
        self.m.d.comb += bad.eq(Cat(*self._assumed).all() & ~Cat(*self._claimed).all())
        return bad


class Pipeline(Claims):
    """The miter of a unit that is a function of its inputs `latency` cycles ago.

    Parameters
    ----------
    make : Callable[[], Component]
        Builds the unit. Its long delays are made of registers: `hw.delay.Delay` has a proof of its own.
    latency : int
    stable : tuple of str
        Inputs that do not change while values are in flight.
    zero : tuple of str
        Inputs that are tied to 0.

    Attributes
    ----------
    inputs, outputs : dict
        Ports by name, at the time of the outputs.
    """

    def __init__(
        self,
        make: Callable[[], wiring.Component],
        latency: int,
        stable: tuple[str, ...] = (),
        zero: tuple[str, ...] = (),
    ) -> None:
        super().__init__(Module())
        self._latency, self._stable = latency, stable
        self.m.domains.sync = ClockDomain(reset_less=True)
        self.unit = unit = make()
        self.m.submodules.unit = unit
        self.inputs: dict[str, Value] = {}
        self.outputs: dict[str, Value] = {}
        self.ports: list[Signal] = []
        assert isinstance(unit.signature, wiring.Signature)
        for name, member in unit.signature.members.items():
            port = getattr(unit, name)
            if member.flow == wiring.Out:
                self.outputs[name] = port
                continue
            if name in zero:
                self.m.d.comb += Value.cast(port).eq(0)
                continue
            here = self.free(name, len(Value.cast(port)))
            self.m.d.comb += Value.cast(port).eq(here)
            seen = here if name in stable else self.after(here, latency)
            shape = Value.cast(port).shape()
            self.inputs[name] = seen.as_signed() if shape.signed else seen

    def free(self, name: str, width: int) -> Signal:
        """An input of the miter."""
        port = Signal(width, name=f"in_{name}")
        self.ports.append(port)
        return port

    def after(self, value: Value, cycles: int) -> Value:
        """`value`, `cycles` cycles later."""
        for i in range(cycles):
            value = register(self.m, value, f"after_{i}")
        return value

    def script(self, library: tuple[str, ...] = ()) -> Script:
        with registers_only():
            text = rtlil.convert(self.m, name="top", ports=[*self.ports, self.close()], emit_src=False)
        return Script(text, latency=self._latency, stable=tuple(f"in_{name}" for name in self._stable), library=library)


@contextmanager
def registers_only() -> Iterator[None]:
    """While it lasts, elaboration makes long delays of registers instead of LUT RAM."""
    usual = delay.SHORTEST_IN_MEMORY
    delay.SHORTEST_IN_MEMORY = 1 << 30
    try:
        yield
    finally:
        delay.SHORTEST_IN_MEMORY = usual
