"""The systolic array with banked accumulators cycle by cycle: every register of every PE, the columns' words, their sums."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from golden.banked_edge import (
    TOKEN_BANK_SHIFT,
    TOKEN_DRAIN,
    TOKEN_SET,
    TOKEN_VALID,
    banked_edge,
)
from golden.banked_pe import BankedPE, BankedPEState, Ints, integers
from golden.skew import check_inputs, read_out, skewed
from shiftforge import timing
from shiftforge.banks import SETS, Banks
from shiftforge.config import Config, ceil_div

Codes = npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class BankedInput:
    """Everything that enters the array, cycle by cycle.

    Parameters
    ----------
    codes, token : integer arrays (cycles, rows)
        What enters the row edges; row r already r cycles after row 0.
    x, slot : integer arrays (cycles, rows)
        What leaves them, as the ports hold it, taken without their latency.
    w : uint8 array (cycles, cols)
        Weight elements of a whole word, together with row 0's `x`: the array skews them itself.
    """

    codes: Codes
    token: Codes
    x: Codes
    slot: Codes
    w: Codes


@dataclass(frozen=True, eq=False)
class BankedTrace:
    """What every register holds in every cycle: index t is after t rising edges, so index 0 is the start.

    Parameters
    ----------
    pe : BankedPEState
        Arrays (cycles + 1, rows, cols).
    column : object array (cycles + 1, cols)
        Output of each column's OR trees as the port holds it, one after the other: row r's capture, or zero.
    tally : object array (cycles + 1, cols)
        1 with the lower half of row 0's word.
    """

    pe: BankedPEState
    column: Ints
    tally: Ints


class BankedArray:
    """An array of ``rows`` x ``cols`` PEs behind the row edges."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.banks = Banks.of(config)

    def schedule(
        self, tiles: Sequence[tuple[Codes, Codes]], rng: np.random.Generator, bubbles: float = 0.1
    ) -> BankedInput:
        """A wipe of all words, then tiles one after the other, each activation codes (rows, K) and weights (K, cols).

        Tiles use the sets in turn, and a tile's drain slots stand among the products of the next one wherever the rules of
        `timing` let them, at random. What bubbles, drain slots and wipes carry besides must not matter: it is random.
        """
        config, count = self.config, self.banks.count
        spacing = timing.drain_spacing(config)
        events: list[tuple[int, int, int]] = []  # token, tile, k
        wipe = TOKEN_VALID | TOKEN_DRAIN
        for address in range(SETS * count):
            events.append((wipe | _place(address // count, address % count), -1, 0))
        touched = [0] * SETS  # cycle of the last product, or drain slot, of the set
        drained = -spacing
        for tile in range(len(tiles) + 1):
            products = list(range(tiles[tile][0].shape[1])) if tile < len(tiles) else []
            banks = list(range(count)) if tile else []
            mine, other = tile % SETS, (tile - 1) % SETS
            other_touched = touched[other] + timing.BANK_SETTLE
            mine_touched = touched[mine] + timing.BANK_SETTLE
            while products or banks:
                now = len(events)
                may_drain = banks and now >= max(drained + spacing, other_touched)
                if may_drain and (not products or rng.random() < 0.5):
                    events.append((TOKEN_DRAIN | _place(other, banks.pop(0)), -1, 0))
                    touched[other] = drained = now
                elif products and now >= mine_touched and rng.random() >= bubbles:
                    events.append((TOKEN_VALID | _place(mine, int(rng.integers(count))), tile, products.pop(0)))
                    touched[mine] = now
                else:
                    events.append((_place(int(rng.integers(SETS)), int(rng.integers(count))), -1, 0))
        tail = config.rows + config.cols + timing.BANKED_PE + timing.read_out(config)
        events += [(0, -1, 0)] * tail

        codes = rng.integers(0, 1 << config.activation.bits, (len(events), config.rows)).astype(np.uint64)
        w = rng.integers(0, 1 << config.weights.element_bits, (len(events), config.cols)).astype(np.uint8)
        token = np.zeros(codes.shape, np.uint8)
        for t, (bits, tile, k) in enumerate(events):
            for r in range(config.rows):
                if t + r < len(events):
                    token[t + r, r] = bits
                    if tile >= 0:
                        codes[t + r, r] = tiles[tile][0][r, k]
            if tile >= 0:
                w[t] = tiles[tile][1][k]
        return BankedInput(codes, token, *banked_edge(self.banks, codes, token), w)

    def trace(self, given: BankedInput) -> BankedTrace:
        """Run the array over all the cycles of ``given``, from registers and memories of zeros."""
        rows, cols = self.config.rows, self.config.cols
        cycles = len(given.w)
        check_inputs(self.config, {"x": given.x, "slot": given.slot}, given.w)
        weights = skewed(given.w)
        grid = BankedPE(self.config, (rows, cols))
        states = [grid.state]
        for t in range(cycles):
            old = grid.state
            x = np.concatenate([integers(given.x[t])[:, None], old.x_out[:, :-1]], axis=1)
            slot = np.concatenate([integers(given.slot[t])[:, None], old.slot_out[:, :-1]], axis=1)
            w = np.concatenate([integers(weights[t])[None, :], old.w_out[:-1]], axis=0)
            states.append(grid.step(x, slot, w))
        pe = BankedPEState(**{f.name: np.stack([getattr(s, f.name) for s in states]) for f in fields(BankedPEState)})
        part = ceil_div(rows, timing.read_out_ends(self.config))
        ends = [np.bitwise_or.reduce(pe.capture[:, r : r + part], axis=1) for r in range(0, rows, part)]
        merged = np.zeros_like(ends[0])
        for i, end in enumerate(ends):
            merged |= end << (i * self.capture_bits)
        return BankedTrace(pe, read_out(self.config, merged), read_out(self.config, pe.tally[:, 0]))

    @property
    def capture_bits(self) -> int:
        """A PE's capture: flags and word."""
        return self.config.activation.flag_bits + self.banks.word_bits

    def sums(self, trace: BankedTrace) -> list[list[tuple[int, int]]]:
        """For each column its (exact sum, flags) in order, tile by tile and row by row: each word at its bank's weight."""
        rows, banks, flag_bits = self.config.rows, self.banks, self.config.activation.flag_bits
        low_mask, capture_mask = (1 << (flag_bits + banks.low_bits)) - 1, (1 << self.capture_bits) - 1
        columns: list[list[tuple[int, int]]] = []
        for c in range(self.config.cols):
            ends = [(int(value) >> self.capture_bits) | (int(value) & capture_mask) for value in trace.column[:, c]]
            first = np.flatnonzero(trace.tally[:, c].astype(np.int64)).tolist()
            words = [(ends[t + r] & low_mask) | (ends[t + r + 1] & ~low_mask) for t in first for r in range(rows)]
            found: list[tuple[int, int]] = []
            for tile in range(len(words) // (rows * banks.count)):
                for row in range(rows):
                    halves, flags = 0, 0
                    for bank in range(banks.count):
                        captured = words[(tile * banks.count + bank) * rows + row]
                        word = captured >> flag_bits
                        word -= word >> (banks.word_bits - 1) << banks.word_bits
                        halves += word << (banks.shift_of(bank) + 1)
                        flags = captured & ((1 << flag_bits) - 1)  # the last bank's count
                    found.append((halves // 2, flags))
            columns.append(found)
        return columns


def _place(of_set: int, bank: int) -> int:
    """The bits of a token that name a word."""
    return of_set * TOKEN_SET | bank << TOKEN_BANK_SHIFT
