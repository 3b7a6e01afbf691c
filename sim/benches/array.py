"""Array: every register of every PE and every column output against the golden array, on every cycle."""

from typing import cast

import cocotb
import numpy as np
import numpy.typing as npt
from cocotb.triggers import FallingEdge

from golden.array import Array, ArrayInput, Trace
from golden.pe import PEState
from shiftforge.config import Config, from_dict
from sim.clock import start_clock
from sim.runner import bench_parameters

PlainInts = npt.NDArray[np.object_]


def register_names(config: Config) -> list[str]:
    """The registers of a PE, ports among them, as the gateware names them."""
    names = ["x_out", "token_out", "w_out", "addend", "negate", "acc", "last_2", "capture"]
    return [*names, "special_out", "now", "flags"] if config.activation.flag_bits else names


def packed_registers(config: Config, state: PEState) -> dict[str, PlainInts]:
    """The golden registers as the bits that the gateware's hold, in the order of `register_names`."""

    def bits(array: npt.NDArray[np.generic], width: int) -> PlainInts:
        return np.asarray(np.asarray(array).astype(object) & ((1 << width) - 1), dtype=object)

    capture = np.asarray(state.capture_sum).astype(object) << (1 + config.activation.flag_bits)
    capture = capture | (np.asarray(state.capture_flags).astype(object) << 1)
    values = {
        "x_out": bits(state.x_out, config.activation.fixed_bits),
        "token_out": bits(state.token_out, 3),
        "w_out": bits(state.w_out, config.weights.element_bits),
        "addend": bits(state.addend, config.product_bits),
        "negate": bits(state.negate, 1),
        "acc": bits(state.acc, config.accumulator_bits),
        "last_2": bits(state.last_2, 1),
        "capture": np.asarray(capture | np.asarray(state.capture_valid).astype(object)),
        "special_out": bits(state.special_out, 3),
        "now": bits(state.now, 3),
        "flags": bits(state.flags, 3),
    }
    return {name: np.asarray(values[name], dtype=object) for name in register_names(config)}


def stimulus(config: Config, seed: int) -> ArrayInput:
    """Tiles back to back and with bubbles, of the shortest, the longest and other K, with any codes."""
    rng = np.random.default_rng(seed)
    depths = [config.rows, config.rows, config.max_k, *rng.integers(config.rows, config.max_k + 1, 4)]
    tiles = [
        (
            rng.integers(0, 1 << config.activation.bits, (config.rows, int(k))).astype(np.uint32),
            rng.integers(0, 1 << config.weights.element_bits, (int(k), config.cols)).astype(np.uint8),
        )
        for k in depths
    ]
    slots = int(sum(depths))
    bubbles = rng.random(slots) < 0.25
    bubbles[: 2 * config.rows + config.max_k] = False  # the first tiles follow one another without any
    return Array(config).schedule(tiles, bubbles)


@cocotb.test()
async def every_register_of_every_pe(dut) -> None:
    """Samples between rising edges, compares at the end in one batch, and names the first difference."""
    parameters = bench_parameters()
    config = from_dict(cast("dict[str, object]", parameters["config"]))
    given = stimulus(config, cast("int", parameters["seed"]))
    trace = Array(config).trace(given)
    rows, cols, bits = config.rows, config.cols, config.weights.element_bits
    floats = bool(config.activation.flag_bits)

    def drive(t: int) -> None:
        for r in range(rows):
            getattr(dut, f"x_{r}").value = int(given.x[t, r])
            getattr(dut, f"token_{r}").value = int(given.token[t, r])
            if floats:
                getattr(dut, f"special_{r}").value = int(given.special[t, r])
        dut.w.value = sum(int(code) << (bits * c) for c, code in enumerate(given.w[t]))

    names = register_names(config)
    dut.reset.value = 0
    drive(len(given.w) - 1)
    await start_clock(dut)
    handles = [
        getattr(getattr(dut, f"pe_{r}_{c}"), name) for name in names for r in range(rows) for c in range(cols)
    ] + [getattr(dut, f"column_{c}") for c in range(cols)]
    seen = np.zeros((len(given.w) + 1, len(handles)), dtype=object)
    for t in range(len(given.w) + 1):
        await FallingEdge(dut.clk)
        seen[t] = [int(handle.value) for handle in handles]
        if t < len(given.w):
            drive(t)
    expected = _expected(config, trace)
    if not np.array_equal(seen, expected):
        t, i = (int(v) for v in np.argwhere(seen != expected)[0])
        name, place = "column", (i - len(names) * rows * cols,)
        if place[0] < 0:
            kind, flat = divmod(i, rows * cols)
            name, place = names[kind], divmod(flat, cols)
        raise AssertionError(f"{name} {place} must be {expected[t, i]:#x} in cycle {t}, not {seen[t, i]:#x}")
    assert trace.pe.capture_valid.sum() == 7 * rows * cols, "the stimulus must finish its seven tiles"


def _expected(config: Config, trace: Trace) -> PlainInts:
    cycles = len(trace.column_valid)
    parts = [values.reshape(cycles, -1) for values in packed_registers(config, trace.pe).values()]
    column = trace.column_sum.astype(object) << (1 + config.activation.flag_bits)
    column = column | (trace.column_flags.astype(object) << 1) | trace.column_valid.astype(object)
    return np.concatenate([*parts, column], axis=1, dtype=object)
