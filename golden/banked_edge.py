"""Row edge of banked accumulators: codes and tokens to what a row's PEs add, and to which word, as in `hw/banked_edge.py`."""

import numpy as np
import numpy.typing as npt

from shiftforge.banks import WORDS, Banks

TOKEN_WRITE, TOKEN_HOLD, TOKEN_OTHER, TOKEN_TURN = 1, 2, 4, 8
"""Bits of a token, as `hw.banked_pe.BANKED_TOKEN` has them; above them the address."""
TOKEN_ADDRESS_SHIFT = 4
TOKEN_PRODUCT = TOKEN_WRITE | TOKEN_HOLD
TOKEN_DRAIN = TOKEN_WRITE | TOKEN_OTHER
TOKEN_WIPE = TOKEN_WRITE | TOKEN_HOLD | TOKEN_OTHER | TOKEN_TURN
TOKEN_BUBBLE = TOKEN_HOLD | TOKEN_OTHER
SLOT_WRITE, SLOT_CLEAR, SLOT_HOLD, SLOT_TURN = 1, 2, 4, 8
"""Bits of a slot, as `hw.banked_pe.slot_layout` has them. Above them `SLOT_APART`, or where the weight adds to the bank two bits
`near` and `SLOT_FULL`; then the address."""
SLOT_APART = 16
SLOT_NEAR_SHIFT = 4
SLOT_FULL = 64
SLOT_IDLE = SLOT_HOLD
"""After a reset."""

UInt64 = npt.NDArray[np.uint64]
UInt16 = npt.NDArray[np.uint16]


def slot_address_shift(banks: Banks) -> int:
    """Place of a slot's address."""
    return 7 if banks.w_bank_bits else 5


def banked_edge(banks: Banks, codes: npt.NDArray[np.integer], token: npt.NDArray[np.integer]) -> tuple[UInt64, UInt16]:
    """What leaves the row edges, without their latency.

    Parameters
    ----------
    banks : Banks
    codes, token : integer arrays of one shape, cycles first
        Consecutive cycles of the same row: the first cycle has no product before it.

    Returns
    -------
    x : uint64
        As the port holds it: shifted significand (0 in what is no finite product), above it sign, NaN mark and infinity mark.
    slot : uint16
        ``SLOT_*`` and the address.
    """
    fmt = banks.activation
    codes = np.asarray(codes).astype(np.uint64)
    token = np.asarray(token).astype(np.uint16)
    product = token & TOKEN_OTHER == 0
    fraction = codes & np.uint64((1 << fmt.fraction_bits) - 1)
    field = (codes >> np.uint64(fmt.fraction_bits)) & np.uint64((1 << fmt.exponent_bits) - 1)
    magnitude = codes & np.uint64(fmt.sign_bit - 1)
    infinite = magnitude == (fmt.inf if fmt.has_inf else fmt.sign_bit)
    nan = magnitude > fmt.inf if fmt.has_inf else magnitude == fmt.nan
    significand = fraction + (np.minimum(field, 1) << np.uint64(fmt.fraction_bits))
    exponent = np.maximum(field, 1)
    shifted = significand << (exponent & np.uint64((1 << banks.granularity) - 1))
    x = np.where(product & ~infinite & ~nan, shifted, 0).astype(np.uint64)
    for place, mark in enumerate((codes & np.uint64(fmt.sign_bit) != 0, nan & product, infinite & product)):
        x |= mark.astype(np.uint64) << np.uint64(banks.significand_bits + place)

    bank = np.where(product, (exponent >> np.uint64(banks.granularity)).astype(np.int64), 0)
    given = (token >> TOKEN_ADDRESS_SHIFT).astype(np.int64)
    # Where a tile's first word is that of half of the memory, its banks are the bits below the highest.
    address = (given + bank) % WORDS if banks.stride > WORDS // 2 else given | bank
    follows = np.zeros(token.shape, np.bool_)
    follows[1:] = product[1:] & product[:-1]
    if not banks.awaited:
        follows[1:] &= given[1:] // (WORDS // 2) == given[:-1] // (WORDS // 2)
    distance = np.zeros_like(bank)
    distance[1:] = bank[1:] - bank[:-1]
    slot = (address << slot_address_shift(banks)).astype(np.uint16)
    marks = [
        (SLOT_WRITE, token & TOKEN_WRITE != 0),
        (SLOT_HOLD, token & TOKEN_HOLD != 0),
        (SLOT_TURN, token & TOKEN_TURN != 0),
    ]
    if banks.w_bank_bits:
        near = np.select([distance == 0, distance == 1, distance == -1], [3, 1, 2], 0)
        slot |= np.where(follows, near << SLOT_NEAR_SHIFT, 0).astype(np.uint16)
        marks += [(SLOT_CLEAR, ~product), (SLOT_FULL, address % 4 == 3)]
    else:
        forward = follows & (distance == 0)
        marks += [(SLOT_CLEAR, ~product | forward), (SLOT_APART, ~forward)]
    for mark, where in marks:
        slot |= np.where(where, mark, 0).astype(np.uint16)
    return x, slot
