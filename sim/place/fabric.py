"""The logic tiles of ECP5 devices, and where in them an array's elements go.

A tile has eight slots in four slices, each a LUT4 and a flip-flop. Rows of block memories and multipliers lie between bands of
logic.

Source: which ``BEL`` names nextpnr 0.11 knows for each device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

from shiftforge.config import ceil_div

SLOTS = 8
"""Of a tile."""
ROOM = 60
"""Percent of the tiles that the blocks leave that the rest may fill, with its flip-flops or its LUTs: resets and carry chains
take more. What is left free within blocks does not count: it shares tiles, and their resets, with what is not."""
ASIDE = 30
"""Percent of those tiles that the rest takes at least of which it is better off with all of them in one piece."""
FORM = 1.3
"""Columns per row of a good block: carry chains run along rows."""


@dataclass(frozen=True)
class Fabric:
    """The logic of one device.

    Parameters
    ----------
    columns : int
        They are numbered from 2 up.
    between : tuple of int
        Rows without logic: those outside the first and the last band, and those between bands.
    """

    columns: int
    between: tuple[int, ...]

    @property
    def bands(self) -> tuple[range, ...]:
        """The rows of logic."""
        return tuple(range(a + 1, b) for a, b in pairwise(self.between))

    @property
    def rows(self) -> tuple[int, ...]:
        return tuple(row for band in self.bands for row in band)

    def block_rows(self, count: int, height: int, *, aside: bool = False) -> list[Sequence[int]] | None:
        """The rows of each of so many blocks, one above the other; None when they do not fit.

        In the middle of the device, and no block across a row without logic where that can be had. Or at its end, if `aside`, with
        all else in one piece.
        """
        rows = self.rows
        start = len(rows) - count * height
        if start < 0:
            return None
        if aside:
            return [rows[start + i * height : start + (i + 1) * height] for i in range(count)]
        whole = [band[i : i + height] for band in self.bands for i in range(0, len(band) - height + 1, height)]
        if len(whole) >= count:
            skipped = (len(whole) - count) // 2
            return list(whole[skipped : skipped + count])
        start //= 2
        return [rows[start + i * height : start + (i + 1) * height] for i in range(count)]

    def first_column(self, width: int) -> int | None:
        """Where so many columns in the middle of the device begin; None when they do not fit."""
        spare = self.columns - width
        return None if spare < 0 else 2 + spare // 2


FABRICS = MappingProxyType(
    {
        "25k": Fabric(69, (1, 13, 25, 37, 49)),
        "45k": Fabric(87, (1, 10, 22, 34, 46, 58, 70)),
        "85k": Fabric(123, (1, 10, 22, 34, 46, 58, 70, 82, 94)),
    }
)
"""The LFE5U devices by nextpnr's names."""


@dataclass(frozen=True)
class Grid:
    """An array on a device: blocks of ``width`` x ``height`` tiles, and left of each row of them one of ``edge`` x ``height``.

    ``left`` is the first column of the blocks, ``bands`` holds the rows of each row of blocks. ``aside``: the rest of the design is
    large, and all that the blocks leave is in one piece.
    """

    width: int
    height: int
    edge: int
    left: int
    bands: tuple[Sequence[int], ...]
    aside: bool = False


def grids(tiles: int, edge_tiles: int, others: int, fabric: Fabric, rows: int, cols: int) -> list[Grid]:
    """Grids of rows x cols blocks that take `tiles` each, and `edge_tiles` those beside them, the best first.

    Best are those that leave room for the `others` tiles of the design; of these, those with a fifth of the block's tiles to spare;
    of these, those a little wider than high.
    """
    found: dict[tuple[int, int], tuple[bool, int, float, Grid]] = {}
    for percent in (80, 90, 100):
        for height in range(1, len(fabric.rows) // rows + 1):
            width = max(1, ceil_div(100 * tiles, percent * height))
            edge = ceil_div(100 * edge_tiles, min(percent, 90) * height)  # there are few of them
            left = fabric.columns * len(fabric.rows) - rows * height * (cols * width + edge)
            aside = left * ASIDE < others * 100
            first = fabric.first_column(cols * width + edge)
            bands = fabric.block_rows(rows, height, aside=aside)
            if first is None or bands is None or (width, height) in found:
                continue
            form = width / height / FORM
            grid = Grid(width, height, edge, first + edge, tuple(bands), aside)
            found[width, height] = left * ROOM < others * 100, 100 - percent, max(form, 1 / form), grid
    ranked = sorted(
        found.values(),
        key=lambda entry: (entry[0], entry[3].width * entry[3].height if entry[0] else -entry[1], entry[2]),
    )
    return [grid for *_, grid in ranked]
