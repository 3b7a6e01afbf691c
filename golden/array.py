"""The systolic array cycle by cycle: every register of every PE, the read-out of the columns and the sums they give."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from golden.pe import PE, TOKEN_FIRST, TOKEN_LAST, TOKEN_VALID, Bool, Int64, PEInput, PEState, UInt8, UInt64
from golden.row_edge import row_edge
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
    column_valid, column_sum, column_flags : arrays (cycles + 1, cols)
        Output of each column's OR tree: row r's capture, or zero.
    """

    pe: PEState
    column_valid: Bool
    column_sum: UInt64
    column_flags: UInt8


@dataclass(frozen=True)
class Reading:
    """A finished dot product as a column reader writes it.

    Parameters
    ----------
    cycle : int
        Index of the trace at which the capture is at the column reader; the sum is in the drain buffer after
        `timing.COLUMN` more edges.
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

        K must be at least ``rows``, as it is for the feed, which sends whole words of ``rows`` elements: else the captures of
        two tiles would meet in a column.

        ``bubbles[t]`` makes cycle t at row 0 a bubble; None is none. Bubbles carry the product before or zeros, which must not
        matter. The result is as long as the captures need to leave the columns.
        """
        config = self.config
        for x, _ in tiles:
            if x.shape[1] < config.rows:
                raise InputError(f"K of a tile must be at least rows = {config.rows}, not {x.shape[1]}")
        slots: list[tuple[int, int]] = [(i, k) for i, (x, _) in enumerate(tiles) for k in range(x.shape[1])]
        pattern = np.zeros(0, np.bool_) if bubbles is None else np.asarray(bubbles)
        length = len(slots) + int(pattern.sum())
        tail = config.rows + config.cols + timing.PE + timing.read_out(config)
        codes = np.zeros((length + tail, config.rows), np.uint32)
        token = np.zeros((length + tail, config.rows), np.uint8)
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
            last = TOKEN_LAST if k == tile_x.shape[1] - 1 else 0
            token[t] = TOKEN_VALID | (TOKEN_FIRST if k == 0 else 0) | last
        for r in range(1, config.rows):  # the tail holds no valid token, so nothing valid wraps around
            codes[:, r], token[:, r] = np.roll(codes[:, r], r), np.roll(token[:, r], r)
        x, special = row_edge(config.activation, codes)
        return ArrayInput(x, special, token, w)

    def trace(self, given: ArrayInput) -> Trace:
        """Run the array from reset over all the cycles of ``given``."""
        rows, cols = self.config.rows, self.config.cols
        cycles = len(given.w)
        for name, array, width in (
            ("x", given.x, rows),
            ("special", given.special, rows),
            ("token", given.token, rows),
            ("w", given.w, cols),
        ):
            if array.shape != (cycles, width):
                raise InputError(f"{name} of the array must be of shape {(cycles, width)}, not {array.shape}")
        skewed = np.zeros_like(given.w)
        for c in range(cols):
            skewed[c:, c] = given.w[: max(0, cycles - c), c]
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
                        shifted(skewed[t], old.w_out, 0),
                    )
                )
            )
        pe = PEState(**{f.name: np.stack([getattr(s, f.name) for s in states]) for f in fields(PEState)})
        return Trace(pe, *(self._tree(a) for a in (pe.capture_valid, pe.capture_sum, pe.capture_flags)))

    def _tree(self, captured: npt.NDArray) -> npt.NDArray:
        """The registered OR over the rows; its depth depends on the rows, its value does not."""
        merged = np.bitwise_or.reduce(captured, axis=1)
        delayed = np.zeros_like(merged)
        depth = timing.read_out(self.config)
        delayed[depth:] = merged[: max(0, len(merged) - depth)]
        return delayed

    def readings(self, trace: Trace) -> list[list[Reading]]:
        """For each column its sums in order: each capture less the same PE's capture of the tile before."""
        bits, rows = self.config.accumulator_bits, self.config.rows
        columns: list[list[Reading]] = []
        for c in range(self.config.cols):
            previous = [0] * rows
            found: list[Reading] = []
            for i, t in enumerate(np.flatnonzero(trace.column_valid[:, c])):
                tile, row = divmod(i, rows)
                total = int(trace.column_sum[t, c])
                value = (total - previous[row]) & ((1 << bits) - 1)
                previous[row] = total
                value -= (value >> (bits - 1)) << bits
                found.append(Reading(int(t), row, tile, value, int(trace.column_flags[t, c])))
            columns.append(found)
        return columns
