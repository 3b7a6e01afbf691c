"""The systolic array cycle by cycle: every register of every PE, the read-out of the columns and the sums they give."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from golden.pe import (
    PE,
    TALLY_LAST,
    TALLY_NEGATIVE,
    TALLY_READ,
    TOKEN_HOLD,
    TOKEN_LAST,
    TOKEN_VALID,
    Int64,
    PEInput,
    PEState,
    UInt8,
    UInt64,
)
from golden.row_edge import row_edge
from golden.skew import check_inputs, read_out, skewed
from shiftforge import timing
from shiftforge.config import Config
from shiftforge.errors import InputError


@dataclass(frozen=True, eq=False)
class ArrayInput:
    """Everything that enters the array, cycle by cycle.

    Parameters
    ----------
    x : int64 array (cycles, rows)
        Row r's activation in fixed point, already r cycles after row 0's.
    special, token : uint8 arrays (cycles, rows)
        Marks and tokens, with the same skew.
    w : uint8 array (cycles, cols)
        Weight codes of a whole word, together with row 0's activation: the array skews them itself.
    """

    x: Int64
    special: UInt8
    token: UInt8
    w: UInt8


@dataclass(frozen=True, eq=False)
class Trace:
    """What every register holds in every cycle: index t is after t rising edges, so index 0 is the reset state.

    Parameters
    ----------
    pe : PEState
        Arrays (cycles + 1, rows, cols).
    tally : array (cycles + 1, cols)
        What the column's first row has accumulated, as late as its captures.
    reading, flags : arrays (cycles + 1, cols)
        Output of each column's OR tree: row r's capture, or zero.
    """

    pe: PEState
    tally: UInt8
    reading: UInt64
    flags: UInt8


@dataclass(frozen=True)
class Reading:
    """A finished dot product as a column reader writes it.

    Parameters
    ----------
    cycle : int
        Index of the trace at which the capture of the tile's last block is at the column reader; the sum is in the drain buffer
        after `timing.COLUMN` more edges.
    row, tile : int
    value : int
        The exact sum, two's complement.
    flags : int
        ``golden.pe.FLAG_*``.
    """

    cycle: int
    row: int
    tile: int
    value: int
    flags: int


class Array:
    """An array of ``rows`` x ``cols`` PEs behind the row edges."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def schedule(
        self,
        tiles: Sequence[tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]],
        bubbles: npt.NDArray[np.bool_] | None = None,
    ) -> ArrayInput:
        """The array's inputs for tiles one after the other, each activation codes (rows, K) and weight codes (K, cols).

        K must be a multiple of ``rows``, as it is for the feed, which sends whole words of ``rows`` elements, a block each.

        ``bubbles[t]`` makes cycle t at row 0 a bubble; None is none. Bubbles carry the product before or zeros, which must not
        matter. The result is as long as the captures need to leave the columns.
        """
        config = self.config
        for x, _ in tiles:
            if not x.shape[1] or x.shape[1] % config.rows:
                raise InputError(f"K of a tile must be a multiple of rows = {config.rows}, not {x.shape[1]}")
        slots: list[tuple[int, int]] = [(i, k) for i, (x, _) in enumerate(tiles) for k in range(x.shape[1])]
        pattern = np.zeros(0, np.bool_) if bubbles is None else np.asarray(bubbles)
        length = len(slots) + int(pattern.sum())
        tail = config.rows + config.cols + timing.pe(config) + timing.read_out(config)
        codes = np.zeros((length + tail, config.rows), np.uint32)
        token = np.full((length + tail, config.rows), TOKEN_HOLD, np.uint8)
        w = np.zeros((length + tail, config.cols), np.uint8)
        following = iter(slots)
        for t in range(length):
            if t < len(pattern) and pattern[t]:
                codes[t], w[t] = codes[t - 1], w[t - 1]
                continue
            i, k = next(following, (-1, 0))
            if i < 0:
                break
            tile_x, tile_w = tiles[i]
            codes[t], w[t] = tile_x[:, k], tile_w[k]
            hold = TOKEN_HOLD if (k + 1) % config.rows else 0
            token[t] = TOKEN_VALID | hold | (TOKEN_LAST if k == tile_x.shape[1] - 1 else 0)
        for r in range(1, config.rows):  # the tail holds no valid token, so nothing valid wraps around
            codes[:, r], token[:, r] = np.roll(codes[:, r], r), np.roll(token[:, r], r)
        x, special = row_edge(config.activation, codes)
        return ArrayInput(x, special, token, w)

    def trace(self, given: ArrayInput) -> Trace:
        """Run the array from reset over all the cycles of ``given``."""
        rows, cols = self.config.rows, self.config.cols
        cycles = len(given.w)
        check_inputs(self.config, {"x": given.x, "special": given.special, "token": given.token}, given.w)
        weights = skewed(given.w)
        grid = PE(self.config, (rows, cols))
        states = [grid.state]
        for t in range(cycles):
            old = grid.state

            def shifted(entering: npt.NDArray, held: npt.NDArray, axis: int) -> npt.NDArray:
                inner = held[:, :-1] if axis == 1 else held[:-1]
                return np.concatenate([np.expand_dims(entering, axis), inner], axis=axis)

            states.append(
                grid.step(
                    PEInput(
                        shifted(given.x[t], old.x_out, 1),
                        shifted(given.special[t], old.special_out, 1),
                        shifted(given.token[t], old.token_out, 1),
                        shifted(weights[t], old.w_out, 0),
                    )
                )
            )
        pe = PEState(**{f.name: np.stack([getattr(s, f.name) for s in states]) for f in fields(PEState)})
        reading, flags = (
            read_out(self.config, np.bitwise_or.reduce(captured, axis=1))
            for captured in (pe.capture_reading, pe.capture_flags)
        )
        return Trace(pe, read_out(self.config, pe.tally[:, 0]), reading, flags)

    def readings(self, trace: Trace) -> list[list[Reading]]:
        """For each column its sums in order: of a tile's blocks, each the reading less the same PE's before, and the number of its
        products of negative weights, which the PE has added as one's complement."""
        config = self.config
        columns: list[list[Reading]] = []
        for c in range(config.cols):
            previous, values, flags = ([0] * config.rows for _ in range(3))
            found: list[Reading] = []
            before = tile = 0
            for t in map(int, np.flatnonzero(trace.tally[:, c] & TALLY_READ)):
                negatives = int(np.count_nonzero(trace.tally[before : t + 1, c] & TALLY_NEGATIVE))
                before = t + 1
                for row in range(config.rows):
                    reading = int(trace.reading[t + row, c])
                    values[row] += _signed(reading - previous[row], config.block_bits) + negatives
                    flags[row] |= int(trace.flags[t + row, c])
                    previous[row] = reading
                if trace.tally[t, c] & TALLY_LAST:
                    sums = enumerate(zip(values, flags, strict=True))
                    found += [Reading(t + row, row, tile, value, seen) for row, (value, seen) in sums]
                    values, flags, tile = [0] * config.rows, [0] * config.rows, tile + 1
            columns.append(found)
        return columns


def _signed(value: int, bits: int) -> int:
    """`value` modulo 2**bits, in two's complement."""
    value &= (1 << bits) - 1
    return value - (value >> (bits - 1) << bits)
