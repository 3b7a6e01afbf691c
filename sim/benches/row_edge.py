"""Row edge: every code of the format, one per cycle, against the golden model and `timing.ROW_EDGE`."""

from typing import cast

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge

from golden.row_edge import row_edge
from shiftforge import timing
from shiftforge.config import from_dict
from sim.clock import start_clock
from sim.runner import bench_parameters


@cocotb.test()
async def every_code(dut) -> None:
    """x and the marks follow the code by exactly the latency; between two codes nothing else is ever seen."""
    config = from_dict(cast("dict[str, object]", bench_parameters()["config"]))
    fmt = config.activation
    codes = np.random.default_rng(1).permutation(1 << fmt.bits).astype(np.uint32)
    dut.code.value = 0
    await start_clock(dut)
    await FallingEdge(dut.clk)
    seen_x, seen_special = [], []
    for code in [*codes.tolist(), *[0] * timing.ROW_EDGE]:
        dut.code.value = code
        await FallingEdge(dut.clk)
        seen_x.append(int(dut.x.value))
        seen_special.append(int(dut.special.value) if fmt.flag_bits else 0)
    x, special = row_edge(fmt, codes)
    late = timing.ROW_EDGE - 1
    mask = (1 << fmt.fixed_bits) - 1
    for i, code in enumerate(codes.tolist()):
        found = (seen_x[late + i], seen_special[late + i])
        expected = (int(x[i]) & mask, int(special[i]))
        assert found == expected, f"(x, special) of {fmt.name} code {code:#x} must be {expected}, not {found}"
