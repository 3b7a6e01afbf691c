"""Counting without an adder: shift registers with feedback, and the tables that turn their states back into a number.

A linear feedback shift register of n bits has a period of 2**n - 1 and costs one XNOR, whatever n is, but its states are in no
order that means anything. Two of them whose periods are coprime, stepped together, count up to the product of the periods (the
Chinese remainder theorem), and each has so few states that a small table decodes it: the count is the sum of the two table
entries modulo the product. Pure Python; the gateware and the golden model read the same tables.

Source of the taps: P. Alfke, Xilinx XAPP 052, table 3 (maximal-length feedback with XNOR; all ones is the state without exit).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from shiftforge.errors import InputError

TAPS = MappingProxyType(
    {
        2: (2, 1),
        3: (3, 2),
        4: (4, 3),
        5: (5, 3),
        6: (6, 5),
        7: (7, 6),
        8: (8, 6, 5, 4),
        9: (9, 5),
        10: (10, 7),
    }
)
"""Bits (from 1) whose XNOR is shifted in at bit 1."""


def step(state: int, bits: int) -> int:
    """The state after one count."""
    fed = 1
    for tap in TAPS[bits]:
        fed ^= state >> (tap - 1) & 1
    return (state << 1 | fed) & ((1 << bits) - 1)


def states(bits: int) -> tuple[int, ...]:
    """State after 0, 1, .. 2**bits - 2 counts from 0."""
    found = [0]
    while (following := step(found[-1], bits)) != 0:
        found.append(following)
    return tuple(found)


@dataclass(frozen=True)
class Counter:
    """A pair of shift registers that counts from 0 to `limit` at least.

    Parameters
    ----------
    limit : int
        Largest count, from 0 to 500,000.
    """

    limit: int

    def __post_init__(self) -> None:
        if not 0 <= self.limit <= 500_000:
            raise InputError(f"limit of a counter must be 0..500000, not {self.limit!r}")

    @cached_property
    def lengths(self) -> tuple[int, int]:
        """Bits of the two registers: as few as will do, and as equal as they can be, so that the tables are small."""
        pairs = [
            (a, b)
            for b in TAPS
            for a in TAPS
            if a < b and math.gcd((1 << a) - 1, (1 << b) - 1) == 1 and ((1 << a) - 1) * ((1 << b) - 1) > self.limit
        ]
        return min(pairs, key=lambda pair: (sum(pair), pair[1]))

    @property
    def bits(self) -> int:
        return sum(self.lengths)

    @property
    def modulus(self) -> int:
        """Counts after which both registers are back at 0: the product of the periods."""
        a, b = ((1 << bits) - 1 for bits in self.lengths)
        return a * b

    def table(self, which: int) -> tuple[int, ...]:
        """For each state of register `which` (0 or 1) the summand below `modulus` that it gives; 0 for all ones, never reached."""
        period = (1 << self.lengths[which]) - 1
        other = self.modulus // period
        unit = other * pow(other, -1, period)  # 1 modulo this period, 0 modulo the other
        summands = [0] * (period + 1)
        for count, state in enumerate(states(self.lengths[which])):
            summands[state] = count * unit % self.modulus
        return tuple(summands)
