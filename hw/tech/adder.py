"""What the adders among the technology modules have in common."""

from abc import abstractmethod
from collections.abc import Mapping

from amaranth.hdl import Instance, Module, ShapeLike, Signal, ValueLike
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Adder(wiring.Component):
    """A combinational unit with a `sum` of `width` bits, emitted as a module of its own and instantiated by name.

    Parameters
    ----------
    width : int
        At least 1.
    ports : mapping of name to shape
        Its inputs.
    """

    def __init__(self, width: int, ports: Mapping[str, ShapeLike]):
        self.width = width
        super().__init__({**{name: In(shape) for name, shape in ports.items()}, "sum": Out(width)})

    @property
    @abstractmethod
    def module_name(self) -> str: ...

    @abstractmethod
    def elaborate(self, platform: object) -> Module: ...

    def add(self, m: Module, name: str, **ports: ValueLike) -> Signal:
        """Instantiate the module as submodule `name` of `m`, a value of its width for each port but `sum`; returns its sum.

        Who does so lists this unit among its `units`, so that it is emitted.
        """
        total = Signal(self.width, name=f"{name}_sum")
        m.submodules[name] = Instance(
            self.module_name, **{f"i_{port}": value for port, value in ports.items()}, o_sum=total
        )
        return total
