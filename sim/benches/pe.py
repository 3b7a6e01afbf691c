"""PE: random inputs of every kind each cycle, every register compared with the golden PE on every cycle."""

from typing import cast

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge

from golden.pe import PE, TOKEN_HOLD, TOKEN_VALID, PEInput
from golden.row_edge import row_edge
from shiftforge import timing
from shiftforge.config import from_dict
from sim.benches.array import packed_registers, packed_weights, register_names
from sim.clock import start_clock
from sim.runner import bench_parameters


@cocotb.test()
async def every_register(dut) -> None:
    """Tokens are random too: any order of products, ends and bubbles."""
    parameters = bench_parameters()
    config = from_dict(cast("dict[str, object]", parameters["config"]))
    cycles = cast("int", parameters["cycles"])
    rng = np.random.default_rng(cast("int", parameters["seed"]))
    fmt = config.activation
    # Half of the activations from the few codes at the edges of the format, specials among them.
    edges = np.array([0, 1, fmt.sign_bit, fmt.max_finite, fmt.max_finite + 1, (1 << fmt.bits) - 1], np.uint32)
    edges &= np.uint32((1 << fmt.bits) - 1)
    codes = np.where(rng.random(cycles) < 0.5, rng.choice(edges, cycles), rng.integers(0, 1 << fmt.bits, cycles))
    x, special = row_edge(fmt, codes.astype(np.uint32))
    valid = rng.random(cycles) < 0.8
    token = np.where(valid, TOKEN_VALID | rng.integers(0, 4, cycles) << 1, TOKEN_HOLD).astype(np.uint8)
    w = rng.integers(0, 1 << config.weights.element_bits, cycles).astype(np.uint8)

    names = register_names(config)
    model = PE(config)
    seen: list[list[int]] = []
    expected: list[list[int]] = []
    dut.x.value, dut.token.value, dut.w.value = 0, 0, 0
    if fmt.flag_bits:
        dut.special.value = 0
    await start_clock(dut, reset_cycles=timing.reset(config))
    await FallingEdge(dut.clk)
    handles = [getattr(dut, name) for name in names]
    for t in range(cycles):
        dut.x.value = int(x[t])
        dut.token.value = int(token[t])
        dut.w.value = int(packed_weights(config, w)[t])
        if fmt.flag_bits:
            dut.special.value = int(special[t])
        await FallingEdge(dut.clk)
        seen.append([int(handle.value) for handle in handles])
        state = model.step(PEInput(x[t], special[t], token[t], w[t]))
        expected.append([int(value[()]) for value in packed_registers(config, state).values()])
    for t in range(cycles):
        for name, found, wanted in zip(names, seen[t], expected[t], strict=True):
            assert found == wanted, f"{name} must be {wanted:#x} in cycle {t}, not {found:#x}"
