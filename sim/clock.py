"""Clock and reset of the cocotb benches (imported inside the simulator's process only)."""

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge

PERIOD_NS = 10


async def start_clock(dut, *, reset_cycles: int = 2) -> None:  # noqa: ANN001  # the design has attributes only at run time
    """Start ``clk``, hold ``rst`` for `reset_cycles` rising edges (0: leave it low), return just after a rising edge."""
    dut.rst.value = 1 if reset_cycles else 0
    cocotb.start_soon(Clock(dut.clk, PERIOD_NS, unit="ns").start())
    await RisingEdge(dut.clk)
    if reset_cycles:
        await ClockCycles(dut.clk, reset_cycles)
        dut.rst.value = 0
