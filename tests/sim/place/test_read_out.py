"""Bits of the read-out go to the elements that they read, evenly, and nothing else does."""

import pytest

from sim.place.netlist import Bit, Cell, Netlist
from sim.place.read_out import hosted

ROWS, BITS = 6, 5
ELEMENTS = {(r, c): {f"x{b}": f"pe_{r}_{c}.x{b}" for b in range(BITS)} for r in range(ROWS) for c in range(2)}


@pytest.fixture
def netlist() -> Netlist:
    """Two columns of six rows: nodes of four and two rows, and one of both, which has the port's name."""
    cells: dict[str, Cell] = {}
    number = iter(range(2, 1000))

    def register(name: str, source: Bit) -> Bit:
        cells[name] = Cell("TRELLIS_FF", {"DI": [source], "Q": [next(number)]}, frozenset({"Q"}))
        return cells[name].bits["Q"][0]

    def node(name: str, inputs: list[Bit]) -> Bit:
        lookup = Cell("LUT4", dict(zip("ABCD", ([i] for i in inputs), strict=False)), frozenset({"Z"}))
        lookup.bits["Z"] = [next(number)]
        cells[f"{name}_DI_LUT4_Z"] = lookup
        return register(name, lookup.bits["Z"][0])

    words = {at: [register(full, next(number)) for full in names.values()] for at, names in ELEMENTS.items()}
    for c in range(2):
        for b in range(BITS):
            bit = f"_TRELLIS_FF_Q_{b}" if b else "_TRELLIS_FF_Q"
            upper = node(f"array.column_{c}_or_0_0_0{bit}", [words[r, c][b] for r in range(4)])
            lower = node(f"array.column_{c}_or_0_0_4{bit}", [words[r, c][b] for r in (4, 5)])
            node(f"array.column_{c}{bit}", [upper, lower])
    return Netlist(cells, {}, {})


def test_every_bit_is_a_guest_of_one_of_the_rows_that_it_reads(netlist):
    found = hosted(netlist, ELEMENTS, 1)
    registers = {full: at for at, names in found.items() for name, full in names.items() if name.endswith("register")}
    assert set(registers) == {name for name in netlist.cells if "column" in name and not name.endswith("LUT4_Z")}
    for full, (row, col) in registers.items():
        assert full.startswith(f"array.column_{col}")
        if "_or_0_0_0" in full:
            assert row < 4
        if "_or_0_0_4" in full:
            assert row in (4, 5)
    for names in found.values():
        for name, full in names.items():
            part = {"register": "lut", "lut": "register"}[name.rpartition(".")[2]]
            other = names[f"{name.rpartition('.')[0]}.{part}"]
            assert {full, other} == {full.removesuffix("_DI_LUT4_Z"), full.removesuffix("_DI_LUT4_Z") + "_DI_LUT4_Z"}
    count = {
        (part, row): sum(part in full for name, full in found[row, 0].items() if name.endswith("register"))
        for part in ("_or_0_0_0", "_or_0_0_4", "column_0_TRELLIS")
        for row in range(ROWS)
    }
    assert [count["_or_0_0_0", row] for row in range(4)] == [1, 3, 1, 0], (
        "5 bits of four rows, and as many as any in row 1"
    )
    assert [count["_or_0_0_4", row] for row in (4, 5)] == [3, 2]
    assert [count["column_0_TRELLIS", row] for row in range(ROWS)] == [0, 0, 2, 3, 0, 0], (
        "5 bits, to the middle of six rows"
    )
    assert max(len(names) for names in found.values()) == len(found[1, 0]) == 2 * 3


def test_no_element_hosts_more_than_it_must(netlist):
    """Also where the bits of one row alone, which have no lookup, are more than its share."""
    for b in range(BITS):
        bit = f"_TRELLIS_FF_Q_{b}" if b else "_TRELLIS_FF_Q"
        name = f"array.column_0_or_0_0_4{bit}"
        netlist.cells[name].bits["DI"] = netlist.cells[f"pe_5_0.x{b}"].bits["Q"]
        netlist.cells.pop(f"{name}_DI_LUT4_Z")
    found = hosted(netlist, ELEMENTS, 1)
    bare, looked_up = (
        [sum(n.startswith(f"read_{kind}_") for n in found[row, 0]) for row in range(ROWS)] for kind in ("word", "or")
    )
    assert bare == [0, 1, 1, 1, 1, 1], "5 bits of the last of six rows"
    assert sum(looked_up) == 2 * 10
    assert max(looked_up) == 2 * 2


def test_what_reads_anything_else_is_no_guest(netlist):
    """A register of two columns, one with an input from elsewhere, and a lookup that another cell reads as well."""
    bit = "_TRELLIS_FF_Q_1"
    above, inside = netlist.cells[f"array.column_0_or_0_0_0{bit}_DI_LUT4_Z"], netlist.cells[f"pe_0_1.x{1}"]
    above.bits["B"] = inside.bits["Q"]
    netlist.cells[f"array.column_1_or_0_0_4{bit}_DI_LUT4_Z"].bits["C"] = [5000]
    read = netlist.cells["array.column_1_or_0_0_0_TRELLIS_FF_Q_2_DI_LUT4_Z"].bits["Z"]
    netlist.cells["other"] = Cell("LUT4", {"A": read, "Z": [6000]}, frozenset({"Z"}))
    guests = {full for names in hosted(netlist, ELEMENTS, 1).values() for full in names.values()}
    for name in (f"array.column_0_or_0_0_0{bit}", f"array.column_0{bit}", f"array.column_1_or_0_0_4{bit}"):
        assert name not in guests
        assert f"{name}_DI_LUT4_Z" not in guests
    assert "array.column_1_or_0_0_0_TRELLIS_FF_Q_2" not in guests
    assert "array.column_1_or_0_0_0_TRELLIS_FF_Q_3" in guests
