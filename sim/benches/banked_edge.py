"""Row edge of banked accumulators: every code under tokens of every kind, against the golden model and `timing.BANKED_EDGE`."""

import cocotb
import numpy as np

from golden.banked_edge import TOKEN_ADDRESS_SHIFT, TOKEN_BUBBLE, TOKEN_PRODUCT, banked_edge
from shiftforge import timing
from shiftforge.banks import ADDRESS_BITS, WORDS, Banks
from sim.benches.lockstep import Script, bench_setup, play

SAMPLES = 20000
"""Codes of a format that has more than 2**16."""
LEAST = 4000
"""Small formats go round and round."""


@cocotb.test()
async def every_code(dut) -> None:
    """Products of all codes, some with the exponent of the one before, then random tokens."""
    config, rng = bench_setup()
    fmt = config.activation
    whole = rng.permutation(1 << fmt.bits) if fmt.bits <= 16 else rng.integers(0, 1 << fmt.bits, SAMPLES)
    codes = np.resize(whole, max(len(whole), LEAST))
    # Some codes are followed by one of the same exponent.
    repeats = 1 + np.flatnonzero(rng.random(len(codes)) < 0.2)
    codes = np.insert(codes, repeats, codes[repeats - 1] ^ rng.integers(0, 2, len(repeats)))
    # Every code is a product once; what comes after all of them is any kind of token.
    order = np.concatenate([codes, rng.choice(codes, 2000)])
    token = rng.integers(0, 1 << (TOKEN_ADDRESS_SHIFT + ADDRESS_BITS), len(order))
    token[: len(codes)] = (token[: len(codes)] >> TOKEN_ADDRESS_SHIFT << TOKEN_ADDRESS_SHIFT) | TOKEN_PRODUCT
    banks = Banks.of(config)
    # Mostly of one tile; the others' first words are any that a tile may begin with.
    tiles = np.where(rng.random(len(order)) < 0.8, 0, rng.integers(0, WORDS, len(order))) * banks.stride % WORDS
    product = token & TOKEN_BUBBLE == TOKEN_BUBBLE & TOKEN_PRODUCT
    token = np.where(product, token % (1 << TOKEN_ADDRESS_SHIFT) | tiles << TOKEN_ADDRESS_SHIFT, token)
    x, slot = banked_edge(banks, order[:, None], token[:, None])
    script = Script()
    for t, (code, bits) in enumerate(zip(order.tolist(), token.tolist(), strict=True)):
        script.promise(timing.BANKED_EDGE, {"x": int(x[t, 0]), "slot": int(slot[t, 0])})
        script.cycle({"code": code, "token": bits})
    for _ in range(timing.BANKED_EDGE + 1):
        script.cycle({"token": TOKEN_BUBBLE})
    await play(dut, script)
