"""The smallest bench: a counter with a step; it shows that the simulation entry itself works (``tests/sim/test_runner.py``)."""

import cocotb
from cocotb.triggers import ClockCycles, ReadOnly

from sim.clock import start_clock
from sim.runner import bench_parameters


@cocotb.test()
async def counts(dut) -> None:
    """After n cycles with a constant step the count is n * step."""
    parameters = bench_parameters()
    dut.step.value = int(str(parameters["step"]))
    await start_clock(dut)
    await ClockCycles(dut.clk, int(str(parameters["cycles"])))
    await ReadOnly()
    found, expected = int(dut.count.value), int(str(parameters["expected"]))
    assert found == expected, f"count must be {expected}, not {found}"
