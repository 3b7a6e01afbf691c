"""Row edge of banked accumulators: codes and tokens to what a row's PEs add, and to which word, as in `hw/banked_edge.py`."""

import numpy as np
import numpy.typing as npt

from shiftforge.banks import Banks

TOKEN_VALID, TOKEN_DRAIN, TOKEN_SET = 1, 2, 4
"""Bits of a token; above them the bank. Valid alone is a product, drain alone a drain slot, both a wipe."""
TOKEN_BANK_SHIFT = 3
SLOT_WRITE, SLOT_CLEAR, SLOT_APART, SLOT_HOLD, SLOT_TURN = 1, 2, 4, 8, 16
"""Bits of a slot; above them the word's address: the bank, and the set above it."""
SLOT_ADDRESS_SHIFT = 5
SLOT_IDLE = SLOT_HOLD
"""After a reset."""

UInt64 = npt.NDArray[np.uint64]
UInt16 = npt.NDArray[np.uint16]


def banked_edge(banks: Banks, codes: npt.NDArray[np.integer], token: npt.NDArray[np.integer]) -> tuple[UInt64, UInt16]:
    """What leaves the row edges, without their latency.

    Parameters
    ----------
    banks : Banks
    codes, token : integer arrays of one shape, cycles first
        Consecutive cycles of the same row: the first cycle has no product before it, and set 0 is under way.

    Returns
    -------
    x : uint64
        As the port holds it: shifted significand (0 in what is no finite product), above it sign, NaN mark and infinity mark.
    slot : uint16
        ``SLOT_*`` and the address.
    """
    fmt = banks.activation
    codes = np.asarray(codes).astype(np.uint64)
    token = np.asarray(token).astype(np.uint8)
    product = token & (TOKEN_VALID | TOKEN_DRAIN) == TOKEN_VALID
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

    bank = (exponent >> np.uint64(banks.granularity)).astype(np.uint16) << np.uint16(banks.w_bank_bits)
    address = np.where(product, bank, token >> TOKEN_BANK_SHIFT).astype(np.uint16)
    address |= np.where(token & TOKEN_SET, banks.count, 0).astype(np.uint16)
    forward = np.zeros(token.shape, np.bool_)
    forward[1:] = product[1:] & product[:-1] & (address[1:] == address[:-1])
    drain = token & TOKEN_DRAIN != 0
    reads = drain & (token & TOKEN_VALID == 0)
    slot = address << np.uint16(SLOT_ADDRESS_SHIFT)
    for mark, where in (
        (SLOT_WRITE, product | drain),
        (SLOT_CLEAR, drain | forward),
        (SLOT_APART, ~forward),
        (SLOT_HOLD, ~reads),
        (SLOT_TURN, _turns(token, product, reads) | (drain & ~reads)),
    ):
        slot |= np.where(where, mark, 0).astype(np.uint16)
    return x, slot


def _turns(
    token: npt.NDArray[np.uint8], product: npt.NDArray[np.bool_], reads: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Where another tile begins: the first product of the other set, or the first drain slot of the set that was under way."""
    under_way = np.zeros(token.shape[1:], np.bool_)
    turns = np.zeros(token.shape, np.bool_)
    for t in range(len(token)):
        of_set = (token[t] & TOKEN_SET != 0) ^ reads[t]
        turns[t] = (product[t] | reads[t]) & (of_set != under_way)
        under_way = under_way ^ turns[t]
    return turns
