"""The JSON netlists that yosys and nextpnr exchange: one flat module of cells and nets.

Source: yosys' ``write_json``.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from shiftforge.errors import InputError
from shiftforge.files import read_text, write_atomically

Bit = int | str
"""A net of one bit by its number, or the text of a constant: 0, 1, x or z."""


@dataclass
class Cell:
    """An instance.

    Parameters
    ----------
    kind : str
        Its type: LUT4, TRELLIS_FF, ...
    bits : dict of str to list of Bit
        Port -> its nets, the lowest bit first.
    outputs : frozenset of str
        The ports that drive; all others read.
    parameters, attributes : dict of str to str
    """

    kind: str
    bits: dict[str, list[Bit]]
    outputs: frozenset[str]
    parameters: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)

    def pins(self, *, driving: bool) -> Iterator[tuple[str, int, Bit]]:
        """Port, index in it and net of every pin that drives, or of every one that reads."""
        for port, bits in self.bits.items():
            if (port in self.outputs) == driving:
                for index, bit in enumerate(bits):
                    yield port, index, bit

    def net(self, port: str) -> Bit | None:
        """The net of a port of one bit; None when it is not connected."""
        bits = self.bits.get(port)
        return bits[0] if bits else None


@dataclass
class Netlist:
    """The top module.

    Parameters
    ----------
    cells : dict of str to Cell
        By name; without yosys' ``$scopeinfo``, which is no hardware.
    nets : dict of str to list of Bit
        By name.
    ports : dict of str to (bool, list of Bit)
        By name: whether it drives the outside, and its nets.
    """

    cells: dict[str, Cell]
    nets: dict[str, list[Bit]]
    ports: dict[str, tuple[bool, list[Bit]]]

    @staticmethod
    def read(path: Path) -> "Netlist":
        """The module with the attribute ``top``, or the only one. `InputError` when the file is no such netlist."""
        try:
            modules = json.loads(read_text(path, "netlist"))["modules"]
            tops = [entry for entry in modules.values() if int(entry["attributes"].get("top", "0"), 2)]
            (top,) = tops or modules.values()
            cells = {
                name: Cell(
                    entry["type"],
                    entry["connections"],
                    frozenset(port for port, way in entry.get("port_directions", {}).items() if way == "output"),
                    entry["parameters"],
                    entry["attributes"],
                )
                for name, entry in top["cells"].items()
                if entry["type"] != "$scopeinfo"
            }
            nets = {name: entry["bits"] for name, entry in top["netnames"].items()}
            ports = {name: (entry["direction"] == "output", entry["bits"]) for name, entry in top["ports"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path.name} must be a netlist with one top module, and is not ({error})") from None
        return Netlist(cells, nets, ports)

    def write(self, path: Path) -> None:
        """Write it as the module ``top``."""
        cells = {
            name: {
                "hide_name": 0,
                "type": cell.kind,
                "parameters": cell.parameters,
                "attributes": cell.attributes,
                "port_directions": {port: "output" if port in cell.outputs else "input" for port in cell.bits},
                "connections": cell.bits,
            }
            for name, cell in self.cells.items()
        }
        top = {
            "attributes": {"top": "1"},
            "ports": {
                name: {"direction": "output" if drives else "input", "bits": bits}
                for name, (drives, bits) in self.ports.items()
            },
            "cells": cells,
            "netnames": {name: {"hide_name": 0, "bits": bits, "attributes": {}} for name, bits in self.nets.items()},
        }
        write_atomically(path, json.dumps({"creator": "ShiftForge", "modules": {"top": top}}))

    def unused(self) -> int:
        """A number above that of every net."""
        bits = [bit for cell in self.cells.values() for bits in cell.bits.values() for bit in bits]
        bits += [bit for bits in self.nets.values() for bit in bits]
        return 1 + max((bit for bit in bits if isinstance(bit, int)), default=1)
