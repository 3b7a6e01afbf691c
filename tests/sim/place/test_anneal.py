"""One element in a rectangle: what is placed is legal, by rules written here anew, and better than at the start."""

import pytest

from sim.place import anneal
from sim.place.anneal import RectangleFullError, place
from sim.place.graph import Feed
from sim.place.netlist import Cell


def flip_flop(q, *, di=None, m=None, reset=None, enable=None):
    bits = {"CLK": [1], "Q": [q]}
    for port, bit in (("DI", di), ("M", m), ("LSR", reset), ("CE", enable)):
        if bit is not None:
            bits[port] = [bit]
    parameters = {"CEMUX": "1" if enable is None else "CE", "LSRMUX": "LSR"}
    return Cell("TRELLIS_FF", bits, frozenset({"Q"}), parameters)


def lut(z, *inputs):
    return Cell("TRELLIS_COMB", {"F": [z], **{p: [b] for p, b in zip("ABCD", inputs, strict=False)}}, frozenset({"F"}))


def carry(number, z, fci, fco, *inputs):
    bits = {"F": [z], "FCO": [fco], **{p: [b] for p, b in zip("ABCD", inputs, strict=False)}}
    if fci is not None:
        bits["FCI"] = [fci]
    return Cell("TRELLIS_COMB", bits, frozenset({"F", "FCO"}), {"MODE": "CCU2", "number": str(number)})


def memory(name, first, address, data):
    """Four cells that read, two that are in the way, one that writes."""
    cells = {
        f"{name}$DPRAM_COMB{k}": Cell(
            "TRELLIS_COMB", {"A": [address], "F": [first + k]}, frozenset({"F"}), {"MODE": "DPRAM"}
        )
        for k in range(4)
    }
    cells |= {f"{name}$RAMW_BLOCK{k}": Cell("TRELLIS_COMB", {}, frozenset(), {"MODE": "RAMW_BLOCK"}) for k in range(2)}
    cells[f"{name}$RAMW_SLICE"] = Cell("TRELLIS_RAMW", {"A0": [address], "D1": [data]}, frozenset())
    return cells


def element():
    """An accumulator of 10 bits behind a memory, registers with three resets and an enable, and some logic."""
    cells = {f"in_{i}": flip_flop(100 + i, m=200 + i) for i in range(12)}
    cells |= {f"early_{i}": flip_flop(300 + i, m=100 + i, reset=111) for i in range(9)}
    cells |= {f"late_{i}": flip_flop(320 + i, m=300 + i % 9, reset=110) for i in range(5)}
    cells |= {f"held_{i}": flip_flop(340 + i, m=300 + i, enable=109) for i in range(3)}
    cells |= {f"lut_{i}": lut(400 + i, 300 + i, 320 + i % 5) for i in range(6)}
    cells |= {f"behind_{i}": flip_flop(420 + i, di=400 + i) for i in range(4)}
    for i in range(10):
        fci = None if i == 0 else 500 + i - 1
        cells[f"sum_{i}"] = carry(i, 520 + i, fci, 500 + i, 600 + i % 4, 420 + i % 4)
        cells[f"acc_{i}"] = flip_flop(540 + i, di=520 + i)
    return cells | memory("ram", 600, 103, 520)


def slots(placed, cells):
    """Cell -> tile and slot; the sites are told apart by kind."""
    return {
        name: ((at.column, at.row), 2 * "ABCD".index(at.site[5]) + int(at.site[-1]))
        for name, at in placed.positions.items()
        if cells[name].kind != "TRELLIS_RAMW"
    }


def require_legal(placed, cells):
    at = slots(placed, cells)
    assert set(placed.positions) == set(cells)
    for kind in ("TRELLIS_COMB", "TRELLIS_FF"):
        of_kind = [name for name in cells if cells[name].kind == kind]
        assert len({at[name] for name in of_kind}) == len(of_kind), "no slot twice"
    registers = [name for name in cells if cells[name].kind == "TRELLIS_FF"]
    resets, enables = {}, {}
    for name in registers:
        tile, slot = at[name]
        assert 0 <= tile[0] < placed.width
        assert 0 <= tile[1] < placed.height
        assert resets.setdefault(tile, cells[name].net("LSR")) == cells[name].net("LSR"), "a tile has one reset"
        assert enables.setdefault((tile, slot // 2), cells[name].net("CE")) == cells[name].net("CE"), (
            "a slice has one enable"
        )
    driver = {bit: name for name, cell in cells.items() for _, _, bit in cell.pins(driving=True)}
    for name in registers:
        if cells[name].net("DI") is not None:
            assert at[name] == at[driver[cells[name].net("DI")]], "DI comes from the LUT of the slot"
    for i in range(10):
        (column, row), slot = at[f"sum_{i}"]
        (first, line), start = at["sum_0"]
        assert start == 0
        assert (row, 8 * (column - first) + slot) == (line, i), "the chain fills slot after slot"
    for part, slot in [(f"DPRAM_COMB{k}", k) for k in range(4)] + [(f"RAMW_BLOCK{k}", 4 + k) for k in range(2)]:
        assert at[f"ram${part}"] == (at["ram$DPRAM_COMB0"][0], slot)
    port = placed.positions["ram$RAMW_SLICE"]
    assert ((port.column, port.row), port.site) == (at["ram$DPRAM_COMB0"][0], "SLICEC.RAMW")


@pytest.mark.parametrize("size", [(4, 3), (3, 5), (2, 7), (12, 1)])
def test_every_placement_is_legal(size):
    cells = element()
    placed = place(cells, {}, *size, seed=3)
    require_legal(placed, cells)


def test_the_same_seed_gives_the_same_placement_and_another_another():
    cells = element()
    one, again, other = (place(cells, {}, 4, 3, seed) for seed in (1, 1, 2))
    assert one == again
    assert one.positions != other.positions


def test_annealing_shortens_the_longest_path(monkeypatch):
    cells = element()
    long = place(cells, {}, 8, 8, 1).longest
    monkeypatch.setattr(anneal, "MOVES_PER_CLUSTER", 0)
    assert long < place(cells, {}, 8, 8, 1).longest - 0.2


def test_the_estimate_of_a_path():
    """One register, one LUT, one register in its slot: clock to output, a wire in the tile or beyond, the LUT, the wire to DI."""
    cells = {"a": flip_flop(2, m=9), "l": lut(3, 2), "b": flip_flop(4, di=3)}
    assert place(cells, {}, 1, 1, 1).longest == pytest.approx(0.52 + 0.42 + 0.24 + 0.13)


def test_a_neighbour_pulls_to_the_border():
    """What the left neighbour's last register drives lies on the left, and that register on the right."""
    cells = {"sink": flip_flop(3, m=2), "source": flip_flop(4, m=5)}
    placed = place(cells, {2: Feed(4, 0, -1)}, 9, 1, 1)
    assert placed.positions["source"].column - placed.positions["sink"].column in (8, 9 - 0)
    placed = place(cells, {2: Feed(4, -1, 0)}, 1, 9, 1)
    assert placed.positions["source"].row - placed.positions["sink"].row == 8


def test_what_does_not_fit_is_refused():
    cells = element()
    with pytest.raises(RectangleFullError, match=r"^an element's 66 cells must fit a block of 3x2 tiles$"):
        place(cells, {}, 3, 2, 1)
    with pytest.raises(RectangleFullError):
        place(cells, {}, 1, 12, 1)  # the chain takes two tiles side by side
