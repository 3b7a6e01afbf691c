"""Integer baselines: int8 activations times int8 or int4 weights, and times power-of-two codes that contain zero."""

from amaranth.hdl import Cat, Module, Mux, Value, signed, unsigned

from bench.baselines.element import Addend, Element
from bench.baselines.multiply import levels, multiply
from hw.delay import register
from shiftforge.config import Config


def _sum_bits(largest_product: int, max_k: int) -> int:
    return (largest_product * max_k).bit_length() + 1


class IntegerMultiply(Element):
    """Two's complement activation times two's complement weight of `weight_bits`, through the tree of `multiply`.

    `star`: the operator ``*`` with a register behind it, which yosys maps to its own array of adders, or to a DSP block. `blocks`:
    it is read after every `rows` products, as the project's own aligned element is, and its accumulator holds no more than those.
    """

    def __init__(
        self, config: Config, weight_bits: int, *, star: bool = False, blocks: bool = False, cells: bool = False
    ):
        x = signed(config.activation.bits)
        self.star = star
        self.name = f"{config.activation.name}_int{weight_bits}_{'star' if star else 'tree'}"
        largest = config.activation.max_fixed << (weight_bits - 1)
        super().__init__(
            config,
            x=x,
            w=signed(weight_bits),
            sum_bits=_sum_bits(largest, config.rows if blocks else config.max_k),
            latency=2 if star else levels(weight_bits),
            cells=cells,
        )

    def _addend(self, m: Module) -> Addend:
        if self.star:  # the operands' registers are those that pass them on; a DSP block takes them and the product's
            return Addend(register(m, self.x_out * self.w_out, "product"))
        return Addend(multiply(m, self.x, self.w, cells=self.cells))

    def _weight_sign(self) -> Value:
        return self.w[-1]


class ZeroCode(Element):
    """The fixed-point activation of `hw.row_edge` times a code of {0, ±1, .., ±2**max_exponent}: sign, not zero, exponent.

    A zero only withholds the accumulator's clock enable, which costs no LUT per bit. The largest exponent's bit shifts in the carry
    chain, as in the project's own processing element.
    """

    def __init__(self, config: Config, exponent_bits: int, *, cells: bool = False):
        fixed = signed(config.activation.fixed_bits)
        self.exponent_bits = exponent_bits
        self.max_exponent = (1 << exponent_bits) - 1
        self.name = f"{config.activation.name}_zero{self.max_exponent}"
        super().__init__(
            config,
            x=fixed,
            w=unsigned(exponent_bits + 2),
            sum_bits=_sum_bits(config.activation.max_fixed << self.max_exponent, config.max_k),
            latency=1,
            cells=cells,
            selects=True,
        )

    def _addend(self, m: Module) -> Addend:
        sign, present, exponent = self.w[-1], self.w[-2], self.w[: self.exponent_bits]
        low, top = exponent[:-1], exponent[-1]
        shifted = self.x << low if len(low) else self.x
        flipped = Mux(sign, ~shifted, shifted)
        held = register(m, Value.cast(flipped).as_signed(), "addend")
        negate = register(m, sign, "negate")
        step = 1 << (self.exponent_bits - 1)
        # The bits that the last shift opens are those of a one's complement: the sign.
        high = Value.cast(Cat(negate.replicate(step), held)).as_signed()
        return Addend(
            held,
            high,
            register(m, top, "select"),
            carry=negate,
            enable=register(m, present, "present"),
            zero_weight=~present,
        )

    def _weight_sign(self) -> Value:
        return self.w[-1]
