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

WORDS = 16
"""Words of a processing element, a LUT memory on ECP5: those of a tile that accumulates and of one that drains."""
ADDRESS_BITS = (WORDS - 1).bit_length()
MOST_BANKS = 9
"""Of one tile. With more than half of `WORDS` the next tile waits for the words that it shares with the one before."""
WIDEST_LOW_HALF = 16
"""Bits up to which the lower half of a word is made wide enough for a product, but for one bit: its carry chain sets the clock."""


@dataclass(frozen=True)
class Banks:
    """The words of a tile in a processing element.

    ::

        E:  [ x_bank_bits |     edge shift (granularity)     ]      the row edge shifts the significand by the low bits
        e:  [ w_bank_bits | PE shift (up to the same width)  ]      the PE shifts it by the weight exponent's low bits

        bank = sum of both high parts, 0..count - 1; its weight is 2**shift_of(bank)

    The words of all tiles form a ring: bank b of tile t has the address ``(t * stride + b) % WORDS``. Banks are read and cleared in
    the order of their addresses, and a tile begins when as many words of the tile before it as it shares with it are (`awaited`).

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
        """Low bits of both exponents that shift: the fewest with which `MOST_BANKS` will do."""
        largest = (self.activation.max_exponent_field, self.weights.max_exponent)
        return next(
            g for g in range(1, self.activation.exponent_bits) if sum(e >> g for e in largest) + 1 <= MOST_BANKS
        )

    @property
    def x_bank_bits(self) -> int:
        """High bits of E, which select a bank."""
        return (self.activation.max_exponent_field >> self.granularity).bit_length()

    @property
    def w_bank_bits(self) -> int:
        """High bits of the weight exponent, which are added to those of E: 1 or none."""
        return max(0, self.weights.exponent_bits - self.granularity)

    @property
    def w_shift_bits(self) -> int:
        """Low bits of the weight exponent, which shift in the PE; at least one."""
        return self.weights.exponent_bits - self.w_bank_bits

    @property
    def count(self) -> int:
        """Banks of a tile."""
        return (self.activation.max_exponent_field >> self.granularity) + (1 << self.w_bank_bits)

    @property
    def stride(self) -> int:
        """From a tile's first word to that of the next tile. Half of the words where that will do: nothing is to be added then."""
        return max(self.count, WORDS // 2)

    @property
    def awaited(self) -> int:
        """Words of a tile that must have been read before the next tile begins, because they are words of that one too."""
        return max(0, 2 * self.count - WORDS)

    @property
    def step(self) -> int:
        """Neighbouring banks differ in weight by this many bit positions."""
        return 1 << self.granularity

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
        half = 4 * ceil_div(self.word_bits, 8)
        enough = 4 * ceil_div(self.product_bits - 1, 4)
        return min(max(half, enough) if enough <= WIDEST_LOW_HALF else half, self.word_bits - 1)

    @property
    def reach(self) -> int:
        """Bits of a product's magnitude in the upper half of a word."""
        return max(0, self.product_bits - self.low_bits)

    @property
    def upper_counts(self) -> bool:
        """Whether so little reaches the upper half that its addend is found without a carry: -2..2 with a bit, else -1..1."""
        return self.reach <= 1

    @property
    def running_bits(self) -> int:
        """Two's complement width of a word plus what is carried into it from all banks below, shifted down by `step` each time.

        With r at most ``r / 2**step + 2**(word_bits - 1)`` in magnitude and a step of one or more, r is at most
        ``2**word_bits``; the bound is not reached, because no word is ``-2**(word_bits - 1)``.
        """
        return self.word_bits + 1
