"""Counters of carries: every count of every register length, decoded; the sizes that the accelerators use; limits."""

import math

import pytest

from shiftforge.config import HARDWARE_FORMATS, from_dict
from shiftforge.counter import TAPS, Counter, states, step
from shiftforge.errors import InputError


@pytest.mark.parametrize("bits", TAPS)
def test_a_register_visits_all_states_but_one(bits: int) -> None:
    assert sorted(states(bits)) == list(range((1 << bits) - 1))
    assert step((1 << bits) - 1, bits) == (1 << bits) - 1, "all ones has no exit"


@pytest.mark.parametrize("limit", [0, 1, 20, 21, 465, 466, 512, 513, 1024, 5000])
def test_every_count_is_decoded(limit: int) -> None:
    counter = Counter(limit)
    tables = counter.table(0), counter.table(1)
    found = [0, 0]
    for count in range(counter.modulus):
        assert sum(table[state] for table, state in zip(tables, found, strict=True)) % counter.modulus == count
        found = [step(state, bits) for state, bits in zip(found, counter.lengths, strict=True)]
    assert found == [0, 0]
    assert counter.modulus > limit
    assert all(0 <= summand < counter.modulus for table in tables for summand in table)


@pytest.mark.parametrize(("limit", "lengths"), [(1, (2, 3)), (20, (2, 3)), (21, (3, 4)), (512, (3, 7)), (1024, (5, 6))])
def test_lengths_are_as_short_as_they_can_be(limit: int, lengths: tuple[int, int]) -> None:
    counter = Counter(limit)
    assert (counter.lengths, counter.bits) == (lengths, sum(lengths))


@pytest.mark.parametrize("name", HARDWARE_FORMATS)
@pytest.mark.parametrize("weight_bits", [2, 3, 4])
@pytest.mark.parametrize("max_k", [1, 2, 3, 1000, 1024, 65536])
def test_the_carries_of_the_longest_dot_product_are_counted(name: str, weight_bits: int, max_k: int) -> None:
    array = {"rows": 2, "cols": 2, "activation": name, "output": name, "weight_bits": weight_bits, "max_k": max_k}
    config = from_dict({"array": array})
    largest = (config.activation.max_fixed << config.weights.max_exponent) + (1 << (config.product_bits - 1))
    assert largest <= 1 << config.product_bits
    most = ((1 << config.low_bits) - 1 + max_k * largest) >> config.low_bits
    assert most <= config.carries.limit < config.carries.modulus
    assert config.low_bits % 2 == 1, "with the carry in, whole pairs"
    lengths = config.carries.lengths
    assert math.gcd(*((1 << bits) - 1 for bits in lengths)) == 1


@pytest.mark.parametrize("limit", [-1, 500_001])
def test_limits(limit: int) -> None:
    with pytest.raises(InputError, match=rf"^limit of a counter must be 0..500000, not {limit}$"):
        Counter(limit)
