"""Sums of zero-free powers of two: which whole numbers T weight codes add up to, and by which codes. Pure Python."""

import itertools
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from shiftforge.formats import WeightCode


@cache
def decompositions(bits: int, terms: int) -> Mapping[int, tuple[int, ...]]:
    """Every sum of ``terms`` signed powers ``±2**e`` of `bits`-bit codes that is 0 or more, in order, and powers that give it.

    A negative sum has the opposite powers. Two terms or more hold zero (1 - 1).
    """
    powers = [sign << e for e in range(WeightCode(bits).max_exponent + 1) for sign in (1, -1)]
    found = {sum(p): p for p in itertools.combinations_with_replacement(powers, terms)}
    return MappingProxyType({value: found[value] for value in sorted(found) if value >= 0})
