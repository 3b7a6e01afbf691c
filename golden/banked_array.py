"""The systolic array with banked accumulators cycle by cycle: every register of every PE, the columns' words, their sums."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from golden.banked_edge import (
    TOKEN_ADDRESS_SHIFT,
    TOKEN_BUBBLE,
    TOKEN_DRAIN,
    TOKEN_PRODUCT,
    TOKEN_TURN,
    TOKEN_WIPE,
    banked_edge,
)
from golden.banked_pe import BankedPE, BankedPEState, Ints, integers
from golden.skew import check_inputs, read_out, skewed
from shiftforge import timing
from shiftforge.banks import WORDS, Banks
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

        A tile's drain slots stand among the products of the next one wherever the rules of `timing` and `Banks` let them, at
        random. What bubbles, drain slots and wipes carry besides must not matter: it is random.
        """
        config, banks = self.config, self.banks
        spacing = timing.drain_spacing(config)
        events: list[tuple[int, int, int]] = []  # token, tile, k
        for address in range(WORDS):
            events.append((TOKEN_WIPE | address << TOKEN_ADDRESS_SHIFT, -1, 0))
        ended = begins = 0  # cycles from which the tile before may be read, and from which this one may begin
        drained = -spacing
        for tile in range(len(tiles) + 1):
            products = list(range(tiles[tile][0].shape[1])) if tile < len(tiles) else []
            words = [(tile - 1) * banks.stride + bank for bank in range(banks.count)] if tile else []
            awaited = banks.awaited if tile else 0
            turn = TOKEN_TURN  # of the first of this tile's products and the last one's drain slots
            while products or words:
                now = len(events)
                if words and now >= max(drained + spacing, ended) and (not products or rng.random() < 0.5):
                    address = words.pop(0) % WORDS
                    events.append((TOKEN_DRAIN | turn | address << TOKEN_ADDRESS_SHIFT, -1, 0))
                    drained, awaited, turn = now, awaited - 1, 0
                    begins = now + timing.BANK_SETTLE if awaited == 0 else begins
                elif products and awaited <= 0 and now >= begins and rng.random() >= bubbles:
                    base = tile * banks.stride % WORDS
                    events.append((TOKEN_PRODUCT | turn | base << TOKEN_ADDRESS_SHIFT, tile, products.pop(0)))
                    turn = 0
                else:
                    events.append((TOKEN_BUBBLE | int(rng.integers(WORDS)) << TOKEN_ADDRESS_SHIFT, -1, 0))
            last = max((t for t, event in enumerate(events) if event[1] == tile), default=0)
            ended, begins = last + timing.BANK_SETTLE, drained + timing.BANK_SETTLE
        idle = (TOKEN_BUBBLE, -1, 0)
        tail = config.rows + config.cols + timing.BANKED_PE + timing.read_out(config)
        events += [idle] * tail

        codes = rng.integers(0, 1 << config.activation.bits, (len(events), config.rows)).astype(np.uint64)
        w = rng.integers(0, 1 << config.weights.element_bits, (len(events), config.cols)).astype(np.uint8)
        token = np.full(codes.shape, TOKEN_BUBBLE, np.uint8)
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
            w = np.concatenate([grid.wires(weights[t], slot[0])[None, :], old.w_out[:-1]], axis=0)
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
