"""Netlists read as yosys wrote them, written as nextpnr reads them."""

import json

import pytest

from shiftforge.errors import InputError
from sim.place.netlist import Cell, Netlist

DESIGN = {
    "modules": {
        "library": {"attributes": {"blackbox": "1"}, "ports": {}, "cells": {}, "netnames": {}},
        "top": {
            "attributes": {"top": "00000001"},
            "ports": {"a": {"direction": "input", "bits": [2, 3]}, "q": {"direction": "output", "bits": [7]}},
            "cells": {
                "lut": {
                    "type": "LUT4",
                    "parameters": {"INIT": "0110"},
                    "attributes": {"src": "x.v"},
                    "port_directions": {"A": "input", "B": "input", "Z": "output"},
                    "connections": {"A": [2], "B": ["1"], "Z": [7]},
                },
                "scope": {"type": "$scopeinfo", "parameters": {}, "attributes": {}, "connections": {}},
            },
            "netnames": {"a": {"bits": [2, 3], "attributes": {}}, "q": {"bits": [7], "attributes": {}}},
        },
    }
}


def test_what_is_read_is_written(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(DESIGN))
    found = Netlist.read(tmp_path / "a.json")
    assert list(found.cells) == ["lut"], "no scope, and of the top module alone"
    lut = found.cells["lut"]
    assert list(lut.pins(driving=True)) == [("Z", 0, 7)]
    assert list(lut.pins(driving=False)) == [("A", 0, 2), ("B", 0, "1")]
    assert (lut.net("Z"), lut.net("D")) == (7, None)
    assert found.ports == {"a": (False, [2, 3]), "q": (True, [7])}
    assert found.unused() == 8
    found.write(tmp_path / "b.json")
    assert Netlist.read(tmp_path / "b.json") == found
    written = json.loads((tmp_path / "b.json").read_text())["modules"]["top"]
    for name in ("type", "parameters", "attributes", "port_directions", "connections"):
        assert written["cells"]["lut"][name] == DESIGN["modules"]["top"]["cells"]["lut"][name]


def test_an_empty_netlist_has_numbers_to_spare():
    assert Netlist({"x": Cell("VLO", {"Z": ["0"]}, frozenset())}, {}, {}).unused() == 2


@pytest.mark.parametrize("text", ["{", "{}", '{"modules": {}}', '{"modules": {"a": {}}}', '{"modules": 3}'])
def test_a_file_that_is_no_netlist_is_one_sentence(tmp_path, text):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(InputError, match=r"^bad\.json must be a netlist with one top module, and is not \(.*\)$"):
        Netlist.read(tmp_path / "bad.json")
