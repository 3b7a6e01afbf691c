"""Banked edge, PE and array of the golden model: the columns' words are the exact sums, by Python Fractions."""

from fractions import Fraction

import numpy as np
import pytest

from golden.banked_array import BankedArray, BankedInput
from golden.banked_edge import (
    SLOT_APART,
    SLOT_CLEAR,
    SLOT_FULL,
    SLOT_HOLD,
    SLOT_NEAR_SHIFT,
    SLOT_TURN,
    SLOT_WRITE,
    TOKEN_ADDRESS_SHIFT,
    TOKEN_BUBBLE,
    TOKEN_DRAIN,
    TOKEN_PRODUCT,
    TOKEN_TURN,
    TOKEN_WIPE,
    banked_edge,
    slot_address_shift,
)
from golden.reference import value_of, weight_of
from shiftforge.banks import Banks
from shiftforge.config import BANKED_FORMATS, from_dict
from shiftforge.errors import InputError
from shiftforge.formats import WeightCode, format_named
from sim.stimulus import hard_tiles


def a_config(rows, cols, activation, weight_bits, max_k=21, *, mask=False):
    return from_dict(
        {
            "array": {
                "rows": rows,
                "cols": cols,
                "activation": activation,
                "output": "fp32",
                "weight_bits": weight_bits,
                "max_k": max_k,
                "accumulator": "banked",
                "mask": mask,
            }
        }
    )


def exact(config, x, w):
    """The sum of the finite products in units of the smallest subnormal, and the flags nan, +inf, -inf, by the definition."""
    total, flags = Fraction(0), 0
    for code, element in zip(x.tolist(), w.tolist(), strict=True):
        value, weight = (
            value_of(config.activation, code),
            weight_of(config.weights.bits, element % (1 << config.weights.bits)),
        )
        if element >> config.weights.bits:
            continue  # masked
        if isinstance(value, Fraction):
            total += value * weight
        else:
            flags |= 1 if value == "nan" else (2 if (value == "+inf") == (weight > 0) else 4)
    units = total / Fraction(2) ** config.activation.lsb_exponent
    assert units.denominator == 1
    return int(units), flags


def check(config, seed):
    rng = np.random.default_rng(seed)
    array = BankedArray(config)
    tiles = hard_tiles(config, rng)
    found = array.sums(array.trace(array.schedule(tiles, rng)))
    for c, sums in enumerate(found):
        expected = [exact(config, x[r], w[:, c]) for x, w in tiles for r in range(config.rows)]
        assert sums == expected


@pytest.mark.parametrize("weight_bits", [2, 3, 4])
@pytest.mark.parametrize("activation", BANKED_FORMATS)
def test_the_words_are_the_exact_sums(activation, weight_bits):
    check(a_config(2, 2, activation, weight_bits), 1)


@pytest.mark.parametrize("rows, cols, activation", [(1, 1, "fp16"), (3, 1, "bf16"), (1, 3, "fp32"), (5, 2, "fp8_e4m3")])
def test_other_shapes_and_masks(rows, cols, activation):
    check(a_config(rows, cols, activation, 3, 9, mask=True), 2)


@pytest.mark.parametrize("weight_bits", [3, 4])
@pytest.mark.parametrize("activation", [name for name in BANKED_FORMATS if name != "fp32"])
def test_the_edge_keeps_every_value(activation, weight_bits):
    """Shifted significand and bank are the code's value; specials are 0 with their marks."""
    fmt = format_named(activation)
    banks = Banks(fmt, WeightCode(weight_bits), 21)
    codes = np.arange(1 << fmt.bits)[:, None]
    x, slot = banked_edge(banks, codes, np.full(codes.shape, TOKEN_PRODUCT))
    for code in range(1 << fmt.bits):
        significand = int(x[code, 0]) % (1 << banks.significand_bits)
        negative, nan, inf = ((int(x[code, 0]) >> (banks.significand_bits + i)) & 1 for i in range(3))
        bank = int(slot[code, 0]) >> slot_address_shift(banks)
        value = value_of(fmt, code)
        assert negative == code >> (fmt.bits - 1)
        if isinstance(value, Fraction):
            unit = Fraction(2) ** (fmt.lsb_exponent + banks.shift_of(bank))
            assert ((-1) ** negative * significand * unit, nan, inf) == (value, 0, 0)
        else:
            assert (significand, nan, inf) == (0, value == "nan", value != "nan")


def slots_of(banks, given):
    codes, tokens = ([[value] for value in values] for values in zip(*given, strict=True))
    return banked_edge(banks, np.array(codes), np.array(tokens))[1][:, 0].tolist()


def test_the_slots():
    """Apart but from product to product of the same word; wipes and drain slots clear, and turn and hold are the token's."""
    banks = Banks(format_named("fp16"), WeightCode(3), 21)
    one, two = 15 << 10, 23 << 10  # banks 3 and 5
    p, d, t = TOKEN_PRODUCT, TOKEN_DRAIN, TOKEN_TURN
    five, other = 5 << TOKEN_ADDRESS_SHIFT, 8 << TOKEN_ADDRESS_SHIFT
    w, c, a, h, turn = SLOT_WRITE, SLOT_CLEAR, SLOT_APART, SLOT_HOLD, SLOT_TURN
    given = [
        (one, p, w | a | h, 3),
        (one, p, w | c | h, 3),
        (two, p, w | a | h, 5),
        (two, p | t | other, w | a | h | turn, 13),
        (two, p | other, w | c | h, 13),
        (two, d | five, w | c | a, 5),
        (two, d | five | other | t, w | c | a | turn, 13),
        (two, p, w | a | h, 5),
        (two, TOKEN_WIPE | five | other, w | c | a | h | turn, 13),
        (two, TOKEN_BUBBLE | five, c | a | h, 5),
        (two, p, w | a | h, 5),
    ]
    found = slots_of(banks, [(code, token) for code, token, *_ in given])
    assert found == [flags | address << slot_address_shift(banks) for *_, flags, address in given]


def test_the_slots_where_the_weight_adds_to_the_bank():
    """Nine banks from the tile's first word on, around the ring; what the product before has to do with it; a carry's way."""
    banks = Banks(format_named("fp16"), WeightCode(4), 21)
    assert (banks.count, banks.stride, banks.awaited) == (9, 9, 2)
    codes = {bank: (4 * bank + 1) << 10 for bank in range(8)}
    p, d, base = TOKEN_PRODUCT, TOKEN_DRAIN, 9 << TOKEN_ADDRESS_SHIFT
    w, c, h, turn, full = SLOT_WRITE, SLOT_CLEAR, SLOT_HOLD, SLOT_TURN, SLOT_FULL
    far, above, below, same = (n << SLOT_NEAR_SHIFT for n in range(4))
    given = [
        (codes[3], p | base, w | h | far, 12),
        (codes[3], p | base, w | h | same, 12),
        (codes[4], p | base, w | h | above, 13),
        (codes[6], p | base, w | h | far | full, 15),
        (codes[7], p | base, w | h | above, 0),
        (codes[6], p | base, w | h | below | full, 15),
        (codes[0], p | base, w | h | far, 9),
        (codes[7], p | base, w | h | far, 0),
        (codes[0], p | base, w | h | far, 9),
        (codes[1], d | base, w | c | far, 9),
        (codes[0], p | base, w | h | far, 9),
        (codes[0], TOKEN_BUBBLE | base, c | h | far, 9),
        (codes[2], p | TOKEN_TURN | base, w | h | turn | far | full, 11),
        (codes[1], p | base, w | h | below, 10),
    ]
    found = slots_of(banks, [(code, token) for code, token, *_ in given])
    assert found == [flags | address << slot_address_shift(banks) for *_, flags, address in given]


def test_shapes_are_checked():
    config = a_config(2, 3, "fp16", 3)
    given = BankedInput(*(np.zeros((4, 2), np.uint8),) * 5)
    with pytest.raises(InputError, match=r"w of the array must be of shape \(4, 3\), not \(4, 2\)"):
        BankedArray(config).trace(given)
