"""Banked edge, PE and array of the golden model: the columns' words are the exact sums, by Python Fractions."""

from fractions import Fraction

import numpy as np
import pytest

from golden.banked_array import BankedArray, BankedInput
from golden.banked_edge import (
    SLOT_ADDRESS_SHIFT,
    SLOT_APART,
    SLOT_CLEAR,
    SLOT_HOLD,
    SLOT_TURN,
    SLOT_WRITE,
    TOKEN_BANK_SHIFT,
    TOKEN_DRAIN,
    TOKEN_SET,
    TOKEN_VALID,
    banked_edge,
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


@pytest.mark.parametrize("activation", [name for name in BANKED_FORMATS if name != "fp32"])
def test_the_edge_keeps_every_value(activation):
    """Shifted significand and bank are the code's value; specials are 0 with their marks."""
    fmt = format_named(activation)
    banks = Banks(fmt, WeightCode(3), 21)
    codes = np.arange(1 << fmt.bits)[:, None]
    x, slot = banked_edge(banks, codes, np.full(codes.shape, TOKEN_VALID))
    for code in range(1 << fmt.bits):
        significand = int(x[code, 0]) % (1 << banks.significand_bits)
        negative, nan, inf = ((int(x[code, 0]) >> (banks.significand_bits + i)) & 1 for i in range(3))
        bank = int(slot[code, 0]) >> SLOT_ADDRESS_SHIFT
        value = value_of(fmt, code)
        assert negative == code >> (fmt.bits - 1)
        if isinstance(value, Fraction):
            unit = Fraction(2) ** (fmt.lsb_exponent + banks.shift_of(bank))
            assert ((-1) ** negative * significand * unit, nan, inf) == (value, 0, 0)
        else:
            assert (significand, nan, inf) == (0, value == "nan", value != "nan")


def test_the_slots():
    """Apart but from product to product of the same word; wipes and drain slots clear, and only drain slots are read; a tile ends
    with the first product of the other set, or with its first drain slot, and a wipe ends any."""
    banks = Banks(format_named("fp16"), WeightCode(3), 21)
    one, two = 15 << 10, 23 << 10  # banks 3 and 5
    p, d, wipe = TOKEN_VALID, TOKEN_DRAIN, TOKEN_VALID | TOKEN_DRAIN
    five = 5 << TOKEN_BANK_SHIFT
    w, c, a, h, t = SLOT_WRITE, SLOT_CLEAR, SLOT_APART, SLOT_HOLD, SLOT_TURN
    given = [
        (one, p, w | a | h, 3),
        (one, p, w | c | h, 3),
        (two, p, w | a | h, 5),
        (two, p | TOKEN_SET, w | a | h | t, 13),
        (two, d | five, w | c | a, 5),
        (two, d | five | TOKEN_SET, w | c | a | t, 13),
        (two, d | five | TOKEN_SET, w | c | a, 13),
        (two, p, w | a | h, 5),
        (two, wipe | five | TOKEN_SET, w | c | a | h | t, 13),
        (two, five, a | h, 5),
        (two, p, w | a | h, 5),
        (two, p | TOKEN_SET, w | a | h | t, 13),
    ]
    _, slot = banked_edge(banks, np.array([[g[0]] for g in given]), np.array([[g[1]] for g in given]))
    assert slot[:, 0].tolist() == [flags | address << SLOT_ADDRESS_SHIFT for *_, flags, address in given]


def test_shapes_are_checked():
    config = a_config(2, 3, "fp16", 3)
    given = BankedInput(*(np.zeros((4, 2), np.uint8),) * 5)
    with pytest.raises(InputError, match=r"w of the array must be of shape \(4, 3\), not \(4, 2\)"):
        BankedArray(config).trace(given)
