# amaranth: UnusedElaboratable=no
"""What the baselines share with `hw.pe.PE`: the ports, the tokens, the free-running accumulator, the sticky flags, the capture."""

from abc import abstractmethod
from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.delay import register
from hw.pe import flags_layout, special_layout
from hw.tech.add_select import AddSelect
from shiftforge.config import Config

TOKEN = data.StructLayout({"valid": 1, "first": 1, "last": 1})
"""Travels with an activation: it is a product (not a bubble), the first of its dot product, the last of it."""


@dataclass(frozen=True)
class Addend:
    """What is added to the accumulator: ``(high if select else low) + carry``, sign-extended; registered, `latency` cycles old.

    `zero_weight` marks, with the operands at the inputs, a weight of value zero (so that infinity times it is a NaN).
    `enable` is 0 where the accumulator must not take the product, as old as the addend.
    """

    low: Value
    high: Value | None = None
    select: Value | None = None
    carry: Value | None = None
    enable: Value | None = None
    zero_weight: Value | None = None


class Element(wiring.Component):
    """A processing element with an exact accumulator of `sum_bits`, which runs freely: readers subtract the reading before.

    Latency from an input to `capture` is ``latency + 2`` cycles.

    Parameters
    ----------
    config : Config
        Activation format and `max_k`; its weight code is not looked at.
    x, w : Shape
        Of the activation behind its edge, and of the weight behind its own.
    sum_bits : int
        Two's complement width that no sum of `max_k` products leaves.
    latency : int
        Cycles from the inputs to the addend's registers, at least 1.
    cells : bool
        ECP5 carry cells where plain Verilog would cost LUTs. The tests show that both do the same.
    selects : bool
        The addend is a choice of two, which those cells make within the accumulator's chain.

    Members
    -------
    x, special, token, w ; x_out, special_out, token_out, w_out ; capture
        As of `hw.pe.PE`, with the shapes given here.

    Attributes
    ----------
    units : tuple of Unit
        What is instantiated in it by name.
    """

    name: str

    def __init__(
        self,
        config: Config,
        *,
        x: Shape,
        w: Shape,
        sum_bits: int,
        latency: int,
        cells: bool = False,
        selects: bool = False,
    ):
        self.config, self.sum_bits, self.latency, self.cells = config, sum_bits, latency, cells
        self.units: tuple[AddSelect, ...] = (AddSelect(sum_bits, 1),) if cells and selects else ()
        capture: dict[str, data.StructLayout | int] = {"valid": 1}
        members: dict[str, wiring.Member] = {"x": In(x), "token": In(TOKEN), "w": In(w)}
        if config.activation.flag_bits:
            members["special"] = In(special_layout(config))
            capture["flags"] = flags_layout(config)
        capture["sum"] = sum_bits
        outs = {f"{name}_out": Out(member.shape) for name, member in members.items()}
        super().__init__({**members, **outs, "capture": Out(data.StructLayout(capture))})

    @property
    def module_name(self) -> str:
        return f"bench_{self.name}_{self.sum_bits}"

    @abstractmethod
    def _addend(self, m: Module) -> Addend:
        """The product's logic."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.token_out.eq(self.token)
        m.d.comb += [self.x_out.eq(register(m, self.x, "x_held")), self.w_out.eq(register(m, self.w, "w_held"))]
        token = self.token_out
        for i in range(2, self.latency + 1):
            later = Signal(TOKEN, name=f"token_{i}")
            m.d.sync += later.eq(token)
            token = later
        valid, first, last = token.valid, token.first, token.last
        addend = self._addend(m)
        accumulator = self._accumulate(m, addend, valid, first)
        done = Signal()
        m.d.sync += done.eq(valid & last)
        with m.If(done):
            m.d.sync += [self.capture.valid.eq(1), self.capture.sum.eq(accumulator)]
        with m.Else():
            m.d.sync += self.capture.eq(0)
        if self.config.activation.flag_bits:
            self._flags(m, addend, valid, first, done)
        return m

    def _accumulate(self, m: Module, addend: Addend, valid: Value, first: Value) -> Value:
        acc = Signal(self.sum_bits)
        take = valid if addend.enable is None else valid & addend.enable
        carry = Const(0, 1) if addend.carry is None else addend.carry
        low = _widened(addend.low, self.sum_bits)
        if addend.high is None or addend.select is None:
            total: Value = acc + low + (carry if addend.carry is not None else 0)
        else:
            high, select = _widened(addend.high, self.sum_bits), addend.select
            if self.units:
                selects = select.replicate(self.sum_bits)
                total = self.units[0].add(m, "accumulate", a=acc, c=low, d=high, select=selects, carry=carry)
            else:
                total = acc + Mux(select, high, low) + carry
        with m.If(take):
            m.d.sync += acc.eq(total)
        return acc

    def _flags(self, m: Module, addend: Addend, valid: Value, first: Value, done: Value) -> None:
        """The sticky flags: marks meet the sign of the weight at the inputs, and wait for the product."""
        m.d.comb += self.special_out.eq(register(m, self.special.as_value(), "special_held"))
        negative_weight, zero = self._weight_sign(), addend.zero_weight
        now = Signal(flags_layout(self.config), reset_less=True)
        nan = self.special.nan
        if self.config.activation.flag_bits == 3:
            inf = self.special.inf
            if zero is not None:
                nan, inf = nan | inf & zero, inf & ~zero
            negative = self.special.negative ^ negative_weight
            m.d.sync += [now.pos_inf.eq(inf & ~negative), now.neg_inf.eq(inf & negative)]
        m.d.sync += now.nan.eq(nan)
        marks: Value = now.as_value()
        for i in range(2, self.latency + 1):
            marks = register(m, marks, f"now_{i}")
        flags = Signal(flags_layout(self.config), reset_less=True)
        with m.If(valid):
            m.d.sync += flags.eq(Mux(first, 0, flags.as_value()) | marks)
        with m.If(done):
            m.d.sync += self.capture.flags.eq(flags)

    @abstractmethod
    def _weight_sign(self) -> Value:
        """1 for a negative weight, at the inputs."""


def _widened(value: Value, width: int) -> Value:
    """`value` in `width` bits: sign-extended where its shape is signed, else zero-extended."""
    fill = value[-1] if value.shape().signed else Const(0, 1)
    return Value.cast(Cat(value, fill.replicate(width - len(value))))
