"""Left-shifting normaliser: a magnitude with its leading one moved to the top, and by how far."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.delay import register
from shiftforge import timing


def jam(value: Value, width: int) -> Value:
    """The upper `width` bits of `value`, all that is lost ORed into the lowest (a sticky bit); zeros appended if it is short."""
    if len(value) <= width:
        return Value.cast(Cat(Const(0, width - len(value)), value))
    lost = len(value) - width + 1
    return Value.cast(Cat(value[:lost].any(), value[lost:]))


class Normalize(wiring.Component):
    """Shift `value` left until its top bit is one, by at most ``2**levels - 1`` and at most `budget` places.

    Fully pipelined, latency ``timing.normalize(levels)``. Bits that no remaining shift can bring into the result are folded
    into its sticky bit at once, so that the stages get narrower.

    Parameters
    ----------
    width : int
        Width of `value`.
    result_width : int
        Width of `result`: the upper bits of the shifted value, the lowest one sticky.
    levels : int
        Shifts by ``2**(levels - 1)`` .. 2, 1 are tried in this order.
    budget_bits : int
        Width of `budget`; 0: the shift is bounded by `levels` alone, and `left` counts the places instead.

    Members
    -------
    value : In(width)
    budget : In(budget_bits)
        Most places to shift (a biased exponent, say, that must not pass zero).
    result : Out(result_width)
        Its top bit is 0 only if the value is zero, or the bound stopped the shift.
    left : Out(budget_bits) or Out(levels)
        With a budget: what is left of it. Without: the places shifted.
    """

    def __init__(self, width: int, result_width: int, levels: int, budget_bits: int = 0) -> None:
        self.width, self.result_width, self.levels, self.budget_bits = width, result_width, levels, budget_bits
        self.latency = timing.normalize(levels)
        super().__init__(
            {
                "value": In(width),
                "budget": In(budget_bits),
                "result": Out(result_width),
                "left": Out(budget_bits or levels),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        value: Value = self.value
        left: Value = self.budget if self.budget_bits else Const(0, 0)
        for group in self._groups():
            places: Value = Const(0, 0)
            for level in group:
                distance = 1 << level
                shift = Signal(name=f"shift_{distance}")
                m.d.comb += shift.eq(~value[max(0, len(value) - distance) :].any() & self._affords(left, level, places))
                places = Value.cast(Cat(shift, places))
                kept = value[: max(0, len(value) - distance)]
                value = Mux(shift, Cat(Const(0, min(distance, len(value))), kept), value)
                # What lies below the reach of the remaining shifts can only be sticky.
                reach = self.result_width + distance - 1
                if len(value) > reach:
                    value = jam(value, reach)
            last = group[-1]
            if self.budget_bits:
                left = Value.cast(Cat(left[:last], (left[last:] - places)[: self.budget_bits - last]))
            else:
                left = Value.cast(Cat(places, left))
            value, left = register(m, value, f"value_{last}"), register(m, left, f"left_{last}")
        m.d.comb += [self.result.eq(jam(value, self.result_width)), self.left.eq(left)]
        return m

    def _groups(self) -> list[list[int]]:
        """The levels between registers, one or two, the longest shift first."""
        paired = min(self.levels, timing.NORMALIZE_PAIRED_LEVELS)
        singles = [[level] for level in reversed(range(paired, self.levels))]
        pairs = [[level + 1, level] if level + 1 < paired else [level] for level in reversed(range(0, paired, 2))]
        assert len(singles + pairs) == self.latency
        return singles + pairs

    def _affords(self, left: Value, level: int, taken: Value) -> Value:
        """Whether the budget allows this shift, when `taken` says if the group's longer one was done: no subtraction in between."""
        if not self.budget_bits:
            return Const(1, 1)
        above = left[level + 1 :]
        if len(taken) == 0:
            return above.any() | left[level]
        return Mux(taken, above != 1, above.any()) | left[level]
