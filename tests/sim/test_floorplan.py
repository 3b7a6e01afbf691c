"""Registers of a systolic array's elements, fixed in a grid."""

import json

import pytest

from shiftforge.errors import ToolError
from sim.floorplan import ANCHORS, anchor


def cell(kind, directions, **nets):
    """A cell of yosys' JSON; a net is a number or the text of a constant."""
    return {
        "type": kind,
        "parameters": {},
        "attributes": {},
        "port_directions": {port: "output" if port in directions else "input" for port in nets},
        "connections": {port: [net] for port, net in nets.items()},
    }


def design(rows, cols, registers):
    """In each element a chain of registers, one with a reset, one with an enable, one behind a LUT; all chains begin outside."""
    cells = {"source": cell("TRELLIS_FF", "Q", CLK=2, DI=3, Q=4)}
    net = 5
    for row in range(rows):
        for col in range(cols):
            before = 4
            for i in range(registers):
                cells[f"array.pe_{row}_{col}.x_{i:02}"] = cell("TRELLIS_FF", "Q", CLK=2, DI=before, LSR="0", Q=net)
                before, net = net, net + 1
            pe = f"array.pe_{row}_{col}"
            cells[f"{pe}.reset"] = cell("TRELLIS_FF", "Q", CLK=2, DI=before, LSR=3, Q=net)
            cells[f"{pe}.enable"] = cell("TRELLIS_FF", "Q", CLK=2, DI=before, CE=3, Q=net + 1)
            cells[f"{pe}.lut"] = cell("LUT4", "Z", A=before, B="0", C="0", D="0", Z=net + 2)
            cells[f"{pe}.behind"] = cell("TRELLIS_FF", "Q", CLK=2, DI=net + 2, Q=net + 3)
            net += 4
    return {"modules": {"top": {"attributes": {"top": "1"}, "cells": cells, "netnames": {}}}}


def fixed(path):
    cells = json.loads(path.read_text())["modules"]["top"]["cells"]
    return {name: entry["attributes"]["BEL"] for name, entry in cells.items() if "BEL" in entry["attributes"]}


def test_the_elements_lie_in_a_grid(tmp_path):
    (tmp_path / "netlist.json").write_text(json.dumps(design(2, 3, 20)))
    px, py = anchor(tmp_path, 2, 3, tmp_path / "fixed.json")
    found = fixed(tmp_path / "fixed.json")
    assert len(found) == 2 * 3 * ANCHORS
    assert len(set(found.values())) == len(found), "no site is taken twice"
    assert all(".x_" in name for name in found), "none with a reset, an enable or a LUT before it, and none outside"
    tiles = {}
    for name, bel in found.items():
        x, y = bel.split("/")[:2]
        tiles.setdefault(name.split(".")[1], set()).add((int(x[1:]), int(y[1:])))
    places = {element: next(iter(tile)) for element, tile in tiles.items() if len(tile) == 1}
    assert len(places) == 6, "one tile for each element"
    for row in range(2):
        for col in range(3):
            x, y = places[f"pe_{row}_{col}"]
            assert x == places["pe_0_0"][0] + col * px
            assert y == places[f"pe_{row}_0"][1]
    assert places["pe_1_0"][1] - places["pe_0_0"][1] >= py
    assert "BEL" not in (tmp_path / "netlist.json").read_text(), "the netlist itself stays"


def test_what_has_most_readers_is_fixed(tmp_path):
    whole = design(1, 1, 12)
    cells = whole["modules"]["top"]["cells"]
    last = cells["array.pe_0_0.x_11"]["connections"]["Q"][0]
    for i in range(3):
        cells[f"reader_{i}"] = cell("LUT4", "Z", A=last, B="0", C="0", D="0", Z=1000 + i)
    (tmp_path / "netlist.json").write_text(json.dumps(whole))
    anchor(tmp_path, 1, 1, tmp_path / "fixed.json")
    assert fixed(tmp_path / "fixed.json")["array.pe_0_0.x_11"].endswith("SLICEA.FF0")


def test_the_pitch_follows_from_the_cells(tmp_path):
    pitches = []
    for registers in (8, 100):
        (tmp_path / "netlist.json").write_text(json.dumps(design(2, 2, registers)))
        px, py = anchor(tmp_path, 2, 2, tmp_path / "fixed.json")
        pitches.append(px * py)
    assert pitches[0] < 12 < 20 < pitches[1] < 50


def test_an_array_beyond_the_device_is_refused(tmp_path):
    (tmp_path / "netlist.json").write_text(json.dumps(design(1, 1, 2)))
    with pytest.raises(
        ToolError, match=r"an array of 100x2 elements must have a tile for each, and the device has too few"
    ):
        anchor(tmp_path, 100, 2, tmp_path / "fixed.json")
    assert not (tmp_path / "fixed.json").exists()
