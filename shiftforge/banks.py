"""Banked accumulators: how a dot product of floats is split into narrow sums, one for each range of exponents. Pure Python.

A finite activation is ``significand * 2**(E - 1)`` in units of ``2**lsb_exponent``, with E the exponent field, 1 for subnormals.
A product with ``2**e`` goes to the bank that E and e select; there only the low bits of both shift the significand. Each bank
sums exactly in a word that no sum of `max_k` products can wrap; the banks' words at their weights are the dot product.
"""

from dataclasses import dataclass
from functools import cached_property

from shiftforge.config import Config, ceil_div
from shiftforge.errors import InputError
from shiftforge.formats import Format, WeightCode

BANKS = 8
"""Words of a set. Two sets, one that accumulates and one that drains, fill the 16 words of a LUT memory on ECP5."""
SETS = 2


@dataclass(frozen=True)
class Banks:
    """The words of one set in a processing element.

    ::

        E:  [  bank (x_bank_bits)  |  edge shift (granularity)  ]      the row edge shifts the significand by the low bits
        e:  [  bank (w_bank_bits)  |  PE shift (w_shift_bits)   ]      the PE shifts it by the weight exponent's low bits

    Bank ``x * 2**w_bank_bits + w`` has the weight ``2**shift_of(bank)``. Neighbours always differ by `step` positions: either no
    bit of the weight exponent selects a bank, or it has as many bits as the granularity.

    Parameters
    ----------
    activation : Format
        A float.
    weights : WeightCode
    max_k : int
        Longest dot product.

    Raises
    ------
    InputError
        For integers, whose one fixed-point word needs no banks.
    """

    activation: Format
    weights: WeightCode
    max_k: int

    def __post_init__(self) -> None:
        if not self.activation.is_float:
            raise InputError(f"activation of banked accumulators must be a float, not {self.activation.name!r}")
        if self.max_k < 1:
            raise InputError(f"max_k must be 1 or more, not {self.max_k!r}")

    @classmethod
    def of(cls, config: Config) -> "Banks":
        """The banks of a configuration."""
        return cls(config.activation, config.weights, config.max_k)

    @cached_property
    def granularity(self) -> int:
        """Low bits of E that shift at the row edge: as many as the weight exponent has, or more where `BANKS` would not do."""
        largest = self.activation.max_exponent_field
        fewest = next(g for g in range(self.activation.exponent_bits) if largest >> g < BANKS)
        return max(self.weights.exponent_bits, fewest)

    @property
    def x_bank_bits(self) -> int:
        """High bits of E in the bank's number."""
        return (self.activation.max_exponent_field >> self.granularity).bit_length()

    @property
    def w_bank_bits(self) -> int:
        """High bits of the weight exponent, the lowest of the bank's number: as many as there is room for, if steps stay equal."""
        room = (BANKS.bit_length() - 1) - self.x_bank_bits
        return room if self.granularity == self.weights.exponent_bits else 0

    @property
    def w_shift_bits(self) -> int:
        """Low bits of the weight exponent, which shift in the PE; at least one."""
        return self.weights.exponent_bits - self.w_bank_bits

    @property
    def bank_bits(self) -> int:
        """Bits of a bank's number."""
        return self.x_bank_bits + self.w_bank_bits

    @property
    def count(self) -> int:
        """Banks of a set, a power of two."""
        return 1 << self.bank_bits

    @property
    def step(self) -> int:
        """Neighbouring banks differ in weight by this many bit positions."""
        return 1 << (self.granularity - self.w_bank_bits)

    def shift_of(self, bank: int) -> int:
        """A word's weight: its least bit counts ``2**shift_of(bank)`` units of ``2**lsb_exponent``.

        Bank 0 counts halves, since the smallest E is 1; its words are even for that reason.
        """
        if not 0 <= bank < self.count:
            raise InputError(f"bank must be 0..{self.count - 1}, not {bank!r}")
        return bank * self.step - 1

    @property
    def significand_bits(self) -> int:
        """A significand shifted at the row edge."""
        return self.activation.precision + (1 << self.granularity) - 1

    @property
    def product_bits(self) -> int:
        """The same, shifted in the PE: a product's magnitude."""
        return self.significand_bits + (1 << self.w_shift_bits) - 1

    @property
    def max_product(self) -> int:
        """Largest magnitude of a product in a bank: all significand bits one, both shifts the largest."""
        return ((1 << self.activation.precision) - 1) << (self.product_bits - self.activation.precision)

    @property
    def word_bits(self) -> int:
        """Two's complement width that no sum of `max_k` products can leave: ``max_k * max_product < 2**(word_bits - 1)``."""
        return (self.max_k * self.max_product).bit_length() + 1

    @property
    def low_bits(self) -> int:
        """Lower half of a word, which a processing element adds one cycle before the upper one; whole LUT memories of 4 bits."""
        return min(4 * ceil_div(self.word_bits, 8), self.word_bits - 1)

    @property
    def running_bits(self) -> int:
        """Two's complement width of a word plus what is carried into it from all banks below, shifted down by `step` each time.

        With r at most ``r / 2**step + 2**(word_bits - 1)`` in magnitude and a step of one or more, r is at most
        ``2**word_bits``; the bound is not reached, because no word is ``-2**(word_bits - 1)``.
        """
        return self.word_bits + 1
