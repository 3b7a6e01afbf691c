"""Reset by registers: the core's parts have a reset net each, so that none reaches over the whole device."""

from collections.abc import Iterable

from amaranth.hdl import ClockDomain, ClockSignal, Module, ResetSignal, Signal, ValueLike
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.instance import Ports

CORE = "core"
"""The domain of what of the core has none of its own."""


def rows(count: int) -> tuple[str, ...]:
    """The domains of an array's rows, their feeds and edges."""
    return tuple(f"row_{r}" for r in range(count))


def columns(count: int) -> tuple[str, ...]:
    """The domains of the columns' readers."""
    return tuple(f"column_{c}" for c in range(count))


class ResetRegister(wiring.Component):
    """A reset one cycle late, in a module of its own: what synthesis maps by itself it does not merge with its equals.

    Members
    -------
    given : In(1)
        Another reset than the domain's.
    late : Out(1)
        Either, one cycle later.
    """

    module_name = "sf_reset"

    def __init__(self) -> None:
        super().__init__({"given": In(1), "late": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        late = Signal(init=1, reset_less=True)
        m.d.sync += late.eq(self.given | ResetSignal())
        m.d.comb += self.late.eq(late)
        return m


def add_domains(m: Module, unit: ResetRegister, given: ValueLike, names: Iterable[str]) -> None:
    """Domains of the clock of ``sync``. Its reset or `given` resets them all, one cycle later, each by a register of its own."""
    for name in names:
        register = Ports(unit, f"reset_{name}")
        m.submodules[f"reset_{name}"] = register.instance
        m.domains += ClockDomain(name)
        m.d.comb += [
            register["given"].eq(given),
            ClockSignal(name).eq(ClockSignal()),
            ResetSignal(name).eq(register["late"]),
        ]
