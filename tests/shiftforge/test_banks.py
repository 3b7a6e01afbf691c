"""How a dot product is split into banks: every product has its place, no word can wrap, every bit of the sum is accounted for."""

from fractions import Fraction
from itertools import pairwise

import pytest

from golden.reference import value_of
from shiftforge.banks import MOST_BANKS, WORDS, Banks
from shiftforge.config import BANKED_FORMATS, from_dict
from shiftforge.errors import InputError
from shiftforge.formats import WeightCode, format_named

CASES = [(name, bits) for name in BANKED_FORMATS for bits in (2, 3, 4)]


@pytest.mark.parametrize("activation, weight_bits", CASES)
@pytest.mark.parametrize("max_k", [1, 21, 1024, 65536])
def test_every_product_has_its_place(activation, weight_bits, max_k):
    """The largest and smallest significand of every exponent, times every weight, in the bank and position of the rule."""
    fmt, code = format_named(activation), WeightCode(weight_bits)
    banks = Banks(fmt, code, max_k)
    count = {("fp16", 4): 9, ("fp8_e5m2", 4): 9, ("fp8_e4m3", 3): 9, ("fp8_e4m3", 4): 5}.get(
        (activation, weight_bits), 8
    )
    assert (banks.count, banks.awaited) == (count, 2 if count == 9 else 0)
    largest, used = 0, set()
    for field in range(fmt.max_exponent_field + 1):
        for fraction in (0, (1 << fmt.fraction_bits) - 1):
            value = value_of(fmt, field << fmt.fraction_bits | fraction)
            if not isinstance(value, Fraction):
                continue  # the top code of E4M3
            for e in range(code.max_exponent + 1):
                exponent = max(field, 1)
                bank = (exponent >> banks.granularity) + (e >> banks.w_shift_bits)
                used.add(bank)
                unit = Fraction(2) ** (banks.shift_of(bank) + fmt.lsb_exponent)
                product = value * 2**e / unit
                assert product.denominator == 1
                assert product <= banks.max_product
                largest = max(largest, int(product))
    assert largest <= banks.max_product < 2 * largest, "no word is wider than it must be"
    assert used == set(range(banks.count)), "no bank stays empty"


@pytest.mark.parametrize("activation, weight_bits", CASES)
def test_finer_banks_would_be_too_many(activation, weight_bits):
    fmt, code = format_named(activation), WeightCode(weight_bits)
    banks = Banks(fmt, code, 21)
    assert banks.count <= MOST_BANKS
    finer = banks.granularity - 1
    assert (fmt.max_exponent_field >> finer) + (code.max_exponent >> finer) + 1 > MOST_BANKS


@pytest.mark.parametrize("activation, weight_bits", CASES)
def test_tiles_share_no_words_but_those_awaited(activation, weight_bits):
    """Of two tiles in the ring; and a tile takes each of its words once."""
    banks = Banks(format_named(activation), WeightCode(weight_bits), 21)
    words = [[(tile * banks.stride + bank) % WORDS for bank in range(banks.count)] for tile in range(WORDS + 1)]
    for before, after in pairwise(words):
        assert len(set(after)) == banks.count
        assert set(before) & set(after) == set(before[: banks.awaited])


@pytest.mark.parametrize("activation, weight_bits", CASES)
@pytest.mark.parametrize("max_k", [1, 2, 21, 1023, 1024, 65536])
def test_no_word_wraps(activation, weight_bits, max_k):
    banks = Banks(format_named(activation), WeightCode(weight_bits), max_k)
    largest = max_k * banks.max_product
    assert largest < 1 << (banks.word_bits - 1)
    running = 0
    for _ in range(10 * banks.count):  # more banks than there are: the bound holds in the limit
        running = (running >> banks.step) + largest
    assert running < 1 << (banks.running_bits - 1)
    running = 0
    for _ in range(10 * banks.count):
        running = (running >> banks.step) - largest
    assert running >= -1 << (banks.running_bits - 1)


@pytest.mark.parametrize("activation, weight_bits", CASES)
def test_the_words_reach_the_accumulators_top(activation, weight_bits):
    """The last bank's running sum, at its weight, holds every bit of the exact sum."""
    table = {"rows": 2, "cols": 2, "activation": activation, "output": "fp16", "weight_bits": weight_bits, "max_k": 100}
    config = from_dict({"array": {**table, "accumulator": "banked"}})
    banks = Banks.of(config)
    assert banks.running_bits + banks.shift_of(banks.count - 1) >= config.accumulator_bits


def test_integers_and_bad_numbers_are_refused():
    with pytest.raises(InputError, match="activation of banked accumulators must be a float, not 'int8'"):
        Banks(format_named("int8"), WeightCode(3), 21)
    with pytest.raises(InputError, match="max_k must be 1 or more, not 0"):
        Banks(format_named("fp16"), WeightCode(3), 0)
    with pytest.raises(InputError, match="bank must be 0..7, not 8"):
        Banks(format_named("fp16"), WeightCode(3), 21).shift_of(8)
