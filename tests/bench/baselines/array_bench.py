"""Cocotb bench: drives a shell's codes, token and weights as the tables say, and samples its columns after every cycle."""

import json
from pathlib import Path
from typing import cast

import cocotb
from cocotb.triggers import FallingEdge

from sim.clock import start_clock
from sim.runner import bench_parameters


@cocotb.test()
async def sample_columns(dut) -> None:
    """Writes the samples as JSON to the file named by ``out``; the caller judges them."""
    parameters = bench_parameters()
    drive = cast("dict[str, list[int]]", json.loads(Path(cast(str, parameters["drive"])).read_text(encoding="utf-8")))
    columns = [getattr(dut, f"column_{c}") for c in range(cast(int, parameters["cols"]))]
    length = len(next(iter(drive.values())))
    for name in drive:
        getattr(dut, name).value = 0
    await start_clock(dut)
    seen: list[list[int]] = []
    for t in range(length):
        for name, values in drive.items():
            getattr(dut, name).value = values[t]
        await FallingEdge(dut.clk)
        seen.append([int(column.value) for column in columns])
    assert any(any(row) for row in seen), "the columns must show something"
    Path(cast(str, parameters["out"])).write_text(json.dumps(seen), encoding="utf-8")
