"""PE with banked accumulators: random inputs of every kind each cycle, every register and word against the golden PE each cycle."""

from dataclasses import fields
from typing import cast

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, FallingEdge

from golden.banked_edge import SLOT_APART, SLOT_IDLE, TOKEN_ADDRESS_SHIFT, TOKEN_PRODUCT, TOKEN_TURN, banked_edge
from golden.banked_pe import BankedPE, BankedPEState
from shiftforge.banks import ADDRESS_BITS, Banks
from shiftforge.config import Config
from sim.benches.lockstep import bench_setup
from sim.clock import start_clock
from sim.runner import bench_parameters


def register_names(config: Config) -> list[str]:
    """The registers of a PE, ports among them, as the gateware names them."""
    banks = Banks.of(config)
    absent = set() if banks.w_bank_bits else {"clear", "apart"}
    absent |= {"lower_2", "upper_2"} if banks.upper_counts else {"down"}
    absent |= set() if banks.upper_counts and banks.reach else {"change"}
    absent |= {"memory_low", "memory_high"} | (set() if config.activation.has_inf else {"inf"})
    return [field.name for field in fields(BankedPEState) if field.name not in absent]


def register_values(config: Config, state: BankedPEState) -> list[int]:
    """One PE's golden registers, in the order of `register_names`."""
    return [int(getattr(state, name).reshape(())[()]) for name in register_names(config)]


@cocotb.test()
async def every_register(dut) -> None:
    """Tokens are random too: any order of products, drain slots and wipes, which the engine would never send."""
    config, rng = bench_setup()
    cycles = cast("int", bench_parameters()["cycles"])
    fmt, banks = config.activation, Banks.of(config)
    # Half of the activations from the few codes at the edges of the format; the exponent often is that of the cycle before.
    edges = np.array([0, 1, fmt.sign_bit, fmt.max_finite, fmt.max_finite + 1, (1 << fmt.bits) - 1], np.uint64)
    codes = np.where(rng.random(cycles) < 0.5, rng.choice(edges, cycles), rng.integers(0, 1 << fmt.bits, cycles))
    for t in np.flatnonzero(rng.random(cycles) < 0.4):
        codes[t] = int(codes[t - 1]) ^ int(rng.integers(0, 1 << fmt.fraction_bits))
    token = rng.integers(0, 1 << (TOKEN_ADDRESS_SHIFT + ADDRESS_BITS), cycles)
    token = np.where(rng.random(cycles) < 0.8, (token & TOKEN_TURN) | TOKEN_PRODUCT, token)
    x, slot = banked_edge(banks, codes[:, None], token[:, None])
    names = register_names(config)
    model = BankedPE(config)
    w = model.wires(rng.integers(0, 1 << config.weights.element_bits, cycles), slot[:, 0])
    seen: list[list[int]] = []
    expected: list[list[int]] = []
    dut.x.value, dut.slot.value, dut.w.value = 0, SLOT_IDLE | SLOT_APART, 0
    await start_clock(dut)
    dut.slot.value = SLOT_IDLE
    await ClockCycles(dut.clk, 4)
    await FallingEdge(dut.clk)
    handles = [getattr(dut, name) for name in names]
    for t in range(cycles):
        dut.x.value = int(x[t, 0])
        dut.slot.value = int(slot[t, 0])
        dut.w.value = int(w[t])
        await FallingEdge(dut.clk)
        seen.append([int(handle.value) for handle in handles])
        expected.append(register_values(config, model.step(int(x[t, 0]), int(slot[t, 0]), int(w[t]))))
    for t in range(cycles):
        for name, found, wanted in zip(names, seen[t], expected[t], strict=True):
            assert found == wanted, f"{name} must be {wanted:#x} in cycle {t}, not {found:#x}"
