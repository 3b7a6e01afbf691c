"""Array of banked PEs: every register of every PE and every column output against the golden array, on every cycle."""

from typing import cast

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge

from golden.banked_array import BankedArray
from shiftforge import timing
from sim.benches.banked_pe import register_names
from sim.benches.lockstep import bench_setup
from sim.clock import start_clock
from sim.stimulus import hard_tiles


@cocotb.test()
async def every_register_of_every_pe(dut) -> None:
    """Tiles back to back, each drained while the next one accumulates; the first difference is named."""
    config, rng = bench_setup()
    array = BankedArray(config)
    given = array.schedule(hard_tiles(config, rng), rng)
    trace = array.trace(given)
    rows, cols, bits = config.rows, config.cols, config.weights.element_bits

    def drive(t: int) -> None:
        for r in range(rows):
            getattr(dut, f"x_{r}").value = int(given.x[t, r])
            getattr(dut, f"slot_{r}").value = int(given.slot[t, r])
        dut.w.value = sum(int(element) << (bits * c) for c, element in enumerate(given.w[t]))

    names = register_names(config)
    places = [(r, c) for r in range(rows) for c in range(cols)]
    drive(len(given.w) - 1)
    await start_clock(dut, reset_cycles=timing.reset(config))
    handles = [getattr(getattr(dut, f"pe_{r}_{c}"), name) for name in names for r, c in places]
    handles += [getattr(dut, f"{port}_{c}") for port in ("column", "tally") for c in range(cols)]
    labels = [f"{name} {place}" for name in names for place in places]
    labels += [f"{port} {c}" for port in ("column", "tally") for c in range(cols)]
    parts = [getattr(trace.pe, name).reshape(len(trace.column), -1) for name in names]
    expected = np.concatenate([*parts, trace.column, trace.tally], axis=1)
    # Before its first product has passed, an input register holds whatever stood at the ports during the reset.
    settled = rows + cols + 3
    seen = []
    for t in range(len(given.w) + 1):
        await FallingEdge(dut.clk)
        seen.append([int(handle.value) for handle in handles])
        if t < len(given.w):
            drive(t)
    for t in range(settled, len(seen)):
        for label, found, wanted in zip(labels, seen[t], cast("list[int]", expected[t].tolist()), strict=True):
            assert found == wanted, f"{label} must be {wanted:#x} in cycle {t}, not {found:#x}"
    captured = sum(int(first) for first in trace.tally.flat)
    assert captured == 12 * cols * array.banks.count, "the stimulus must drain its twelve tiles"
