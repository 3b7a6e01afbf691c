"""Array: every register of every PE and every column output against the golden array, on every cycle."""

from collections.abc import Sequence
from typing import cast

import cocotb
import numpy as np
import numpy.typing as npt
from cocotb.triggers import FallingEdge

from golden.array import Array, ArrayInput, Trace
from golden.pe import TALLY_LAST, PEState
from hw.pe import segments
from shiftforge.config import Config, from_dict
from sim.clock import start_clock
from sim.runner import bench_parameters

PlainInts = npt.NDArray[np.object_]


def register_names(config: Config) -> list[str]:
    """The registers of a PE, ports among them, as the gateware names them."""
    names = ["x_out", "token_out", "w_out", "negate", "acc", "added", "product", "old_top", "carry"]
    names += ["direct", "raised"] if config.weights.bits == 2 else ["addend", "top", "select"]
    names += ["carried", "count_0", "count_1", "early", "counted_more", "tally", "capture"]
    if config.low_bits == config.product_bits:
        names += ["added_top"]
    if config.weights.bits == 4:
        names += ["shift", "addend_2", "top_2", "negate_2", "select_2", "token_2"]
        names += ["masked_2"] if config.weights.mask else []
    wide = "negate" if config.weights.bits == 2 else "select_2" if config.weights.bits == 4 else "select"
    names += [f"{wide}_copy_{i}" for i in range(1, segments(config))]
    if config.activation.flag_bits:
        names += ["special_out", "now", "flags"]
        names += ["now_2"] if config.weights.bits == 4 else []
    return names


def _bits(array: npt.NDArray[np.generic], width: int) -> PlainInts:
    return np.asarray(np.asarray(array).astype(object) & ((1 << width) - 1), dtype=object)


def packed_capture(config: Config, flags: npt.NDArray, low: npt.NDArray, counters: Sequence[npt.NDArray]) -> PlainInts:
    """A capture as the bits that the gateware's holds; `counters` are the early carry and both states."""
    place = config.activation.flag_bits
    packed = _bits(flags, place) if place else _bits(low, 0)
    for array, width in zip((low, *counters), (config.low_bits, 1, *config.carries.lengths), strict=True):
        packed = np.asarray(packed | (_bits(array, width) << place), dtype=object)
        place += width
    return packed


def packed_registers(config: Config, state: PEState) -> dict[str, PlainInts]:
    """The golden registers as the bits that the gateware's hold, in the order of `register_names`."""
    fixed, lengths = config.activation.fixed_bits, config.carries.lengths
    lower = fixed + (config.weights.bits > 2)
    widths = {
        "x_out": fixed,
        "w_out": config.weights.element_bits,
        "direct": fixed,
        "raised": fixed,
        "addend": lower,
        "addend_2": lower + 2,
        "acc": config.low_bits,
    }
    widths |= {"count_0": lengths[0], "count_1": lengths[1]}
    counters = (state.capture_early, state.capture_count_0, state.capture_count_1)
    values: dict[str, PlainInts] = {}
    for name in register_names(config):
        if name == "capture":
            values[name] = packed_capture(config, state.capture_flags, state.capture_low, counters)
        else:
            values[name] = _bits(
                getattr(state, name[name.find("copy_") :] if "copy_" in name else name), widths.get(name, 3)
            )
    return values


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
    ] + [getattr(dut, f"{port}_{c}") for port in ("column", "tally") for c in range(cols)]
    seen = np.zeros((len(given.w) + 1, len(handles)), dtype=object)
    for t in range(len(given.w) + 1):
        await FallingEdge(dut.clk)
        seen[t] = [int(handle.value) for handle in handles]
        if t < len(given.w):
            drive(t)
    expected = _expected(config, trace)
    if not np.array_equal(seen, expected):
        t, i = (int(v) for v in np.argwhere(seen != expected)[0])
        port, c = divmod(i - len(names) * rows * cols, cols)
        name, place = ("column", "tally")[max(port, 0)], (c,)
        if port < 0:
            kind, flat = divmod(i, rows * cols)
            name, place = names[kind], divmod(flat, cols)
        raise AssertionError(f"{name} {place} must be {expected[t, i]:#x} in cycle {t}, not {seen[t, i]:#x}")
    finished = np.count_nonzero(trace.pe.tally & TALLY_LAST)
    assert finished == 7 * rows * cols, "the stimulus must finish its seven tiles"


def _expected(config: Config, trace: Trace) -> PlainInts:
    cycles = len(trace.tally)
    parts = [values.reshape(cycles, -1) for values in packed_registers(config, trace.pe).values()]
    column = packed_capture(config, trace.flags, trace.low, (trace.early, trace.count_0, trace.count_1))
    return np.concatenate([*parts, column, _bits(trace.tally, 2)], axis=1, dtype=object)
