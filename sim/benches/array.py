"""Array: every register of every PE and every column output against the golden array, on every cycle."""

from typing import cast

import cocotb
import numpy as np
import numpy.typing as npt
from cocotb.triggers import FallingEdge

from golden.array import Array, ArrayInput, Trace
from golden.pe import TALLY_LAST, PEState, UInt8
from shiftforge import timing
from shiftforge.config import Config, from_dict
from sim.clock import start_clock
from sim.runner import bench_parameters

PlainInts = npt.NDArray[np.object_]


def register_names(config: Config) -> list[str]:
    """The registers of a PE, ports among them, as the gateware names them."""
    names = ["x_out", "token_out", "w_out", "negate", "acc", "added", "negated", "tally", "capture"]
    names += ["direct", "raised"] if config.weights.bits == 2 else ["addend", "select"]
    if config.weights.bits == 4:
        names += ["shift", "addend_2", "negate_2", "select_2", "token_2"]
        names += ["masked_2"] if config.weights.mask else []
    wide = "negate" if config.weights.bits == 2 else "select_2" if config.weights.bits == 4 else "select"
    names += [f"{wide}_copy_{i}" for i in range(1, config.adder_copies)]
    if config.activation.flag_bits:
        names += ["special_out", "now", "flags"]
        names += ["now_2"] if config.weights.bits == 4 else []
    return names


def _bits(array: npt.NDArray[np.generic], width: int) -> PlainInts:
    return np.asarray(np.asarray(array).astype(object) & ((1 << width) - 1), dtype=object)


def packed_capture(config: Config, flags: npt.NDArray, reading: npt.NDArray) -> PlainInts:
    """A capture as the bits that the gateware's holds."""
    place = config.activation.flag_bits
    packed = _bits(reading, config.block_bits) << place
    return np.asarray(packed | _bits(flags, place) if place else packed, dtype=object)


def packed_weights(config: Config, w: UInt8) -> UInt8:
    """Weight elements as they travel: with 2-bit weights the complement of the exponent above them."""
    if config.weights.bits != 2:
        return w
    return (w | (~w & 1) << config.weights.element_bits).astype(np.uint8)


def packed_registers(config: Config, state: PEState) -> dict[str, PlainInts]:
    """The golden registers as the bits that the gateware's hold, in the order of `register_names`."""
    fixed = config.activation.fixed_bits
    lower = fixed + (config.weights.bits > 2)
    widths = {
        "x_out": fixed,
        "w_out": config.weights.element_bits + (config.weights.bits == 2),
        "direct": fixed,
        "raised": fixed,
        "addend": lower,
        "addend_2": lower + 2,
        "acc": config.block_bits,
    }
    values: dict[str, PlainInts] = {}
    for name in register_names(config):
        if name == "w_out":
            values[name] = _bits(packed_weights(config, state.w_out), widths[name])
        elif name == "capture":
            values[name] = packed_capture(config, state.capture_flags, state.capture_reading)
        else:
            values[name] = _bits(
                getattr(state, name[name.find("copy_") :] if "copy_" in name else name), widths.get(name, 3)
            )
    return values


def stimulus(config: Config, seed: int) -> ArrayInput:
    """Tiles back to back and with bubbles, of the shortest, the longest and other K, with any codes."""
    rng = np.random.default_rng(seed)
    words = [1, 1, config.max_k_words, *rng.integers(1, config.max_k_words + 1, 4)]
    depths = [int(n) * config.rows for n in words]
    tiles = [
        (
            rng.integers(0, 1 << config.activation.bits, (config.rows, k)).astype(np.uint32),
            rng.integers(0, 1 << config.weights.element_bits, (k, config.cols)).astype(np.uint8),
        )
        for k in depths
    ]
    bubbles = rng.random(sum(depths)) < 0.25
    bubbles[: sum(depths[:3])] = False  # the first tiles follow one another without any
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
    drive(len(given.w) - 1)
    for r in range(rows):
        getattr(dut, f"token_{r}").value = 0
    # Until a weight has come down to it, an element knows no complement of an exponent; and a reset lasts until no token is left.
    await start_clock(dut, reset_cycles=rows + timing.reset(config))
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
    column = packed_capture(config, trace.flags, trace.reading)
    return np.concatenate([*parts, column, _bits(trace.tally, 3)], axis=1, dtype=object)
