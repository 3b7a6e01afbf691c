"""Emit a component once and instantiate it many times: Amaranth itself does not share identical submodules."""

from typing import Protocol

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Signal, Value
from amaranth.lib import wiring


class Unit(Protocol):
    """A component with a flat signature whose generated module has a name of its own."""

    @property
    def module_name(self) -> str: ...

    @property
    def signature(self) -> wiring.Signature: ...

    def elaborate(self, platform: object) -> Module: ...


class Named(Protocol):
    """Signals by the names of ports."""

    def __getitem__(self, name: str, /) -> Value: ...


class Ports:
    """One instance of `unit`: an attribute per port, each a signal of the port's shape, and the `Instance` itself.

    Parameters
    ----------
    unit : Unit
        Emitted separately by `hw.verilog`.
    reset : str
        The domain that resets the instance; its clock is that of ``sync``.
    """

    def __init__(self, unit: Unit, prefix: str, reset: str = "sync"):
        self._signals: dict[str, Signal] = {}
        connections: dict[str, object] = {"i_clk": ClockSignal(), "i_rst": ResetSignal(reset)}
        for name, member in unit.signature.members.items():
            signal = Signal(member.shape, name=f"{prefix}_{name}")
            self._signals[name] = signal
            direction = "i" if member.flow == wiring.In else "o"
            connections[f"{direction}_{name}"] = signal
        self.instance = Instance(unit.module_name, **connections)

    def __getitem__(self, name: str) -> Signal:
        return self._signals[name]
