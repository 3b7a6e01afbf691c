"""Tiles of devices, and grids of blocks on them."""

import pytest

from sim.place.fabric import FABRICS, ROOM, SLOTS, grids


@pytest.mark.parametrize(("device", "luts"), [("25k", 24288), ("45k", 43848), ("85k", 83640)])
def test_the_logic_of_a_device(device, luts):
    """Lattice FPGA-DS-02012 tells 24, 44 and 84 thousand LUTs; the numbers here are of nextpnr's reports."""
    fabric = FABRICS[device]
    assert SLOTS * fabric.columns * len(fabric.rows) == luts
    assert all(b.stop + 1 == c.start for b, c in zip(fabric.bands, fabric.bands[1:], strict=False)), (
        "one row between bands"
    )


def test_blocks_lie_within_bands_where_they_can():
    fabric = FABRICS["85k"]
    for count, height in ((8, 5), (15, 5), (7, 11), (2, 1), (8, 8)):
        rows = fabric.block_rows(count, height)
        assert rows is not None
        assert [len(block) for block in rows] == [height] * count
        assert all(block[-1] - block[0] == height - 1 for block in rows), "none lies across a row without logic"
        flat = [row for block in rows for row in block]
        assert flat == sorted(set(flat))
    across = fabric.block_rows(16, 5)
    assert across is not None
    assert any(block[-1] - block[0] == 5 for block in across)
    assert {row for block in across for row in block} <= set(fabric.rows)
    assert fabric.block_rows(18, 5) is None
    assert fabric.block_rows(18, 5, aside=True) is None
    aside = fabric.block_rows(16, 4, aside=True)
    assert aside is not None
    assert [row for block in aside for row in block] == list(fabric.rows[-64:]), "what is left is one piece"
    assert fabric.first_column(123) == 2
    assert fabric.first_column(124) is None


@pytest.mark.parametrize("device", list(FABRICS))
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (3, 20), (16, 16)])
def test_grids_fit_the_device_and_hold_the_element(device, size):
    fabric, (rows, cols) = FABRICS[device], size
    for grid in grids(14, 5, 100, fabric, rows, cols):
        assert grid.width * grid.height >= 14
        assert grid.edge * grid.height >= 5
        assert grid.left - grid.edge >= 2
        assert grid.left + cols * grid.width <= 2 + fabric.columns
        assert len(grid.bands) == rows


def test_the_best_grid_has_tiles_to_spare_and_leaves_room():
    fabric = FABRICS["85k"]
    first = grids(26, 12, 300, fabric, 8, 8)[0]
    assert (first.width, first.height) == (7, 5)
    everything = fabric.columns * len(fabric.rows)
    tight = grids(26, 12, 3000, fabric, 16, 16)[0]
    left = everything - 16 * tight.height * (16 * tight.width + tight.edge)
    best = min(grid.width * grid.height for grid in grids(26, 12, 3000, fabric, 16, 16))
    assert left * ROOM >= 3000 * 100 or tight.width * tight.height == best, "room for the rest, or the most there is"
    assert tight.width * tight.height < 35
    assert grids(26, 0, 0, fabric, 8, 8)[0].edge == 0
    assert grids(26, 12, 0, FABRICS["25k"], 16, 16) == []
