"""What the units' benches share: inputs driven and outputs compared on every cycle, and random layers with their drain steps."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from shiftforge.config import Config, ceil_div, from_dict
from shiftforge.packets import LAYER_FIELDS
from sim.clock import start_clock
from sim.runner import bench_parameters

Values = dict[str, int]
Layer = dict[str, int]


def bench_setup() -> tuple[Config, np.random.Generator]:
    """The bench's configuration and its source of chance, from its parameters ``config`` and ``seed``."""
    parameters = bench_parameters()
    config = from_dict(cast("dict[str, object]", parameters["config"]))
    return config, np.random.default_rng(cast("int", parameters["seed"]))


def chance(rng: np.random.Generator, probability: float) -> int:
    """1 with that probability, else 0."""
    return int(rng.random() < probability)


def bits(rng: np.random.Generator, width: int) -> int:
    """A random pattern of `width` bits, of any width."""
    return int.from_bytes(rng.bytes((width + 7) // 8), "little") & ((1 << width) - 1)


@dataclass
class Script:
    """A unit's inputs, and what a model expects of its outputs, cycle by cycle.

    Members
    -------
    given : list of {port: value}
        A port that is left out keeps its value; all begin as 0.
    expected : {cycle: {port: value}}
        Outputs while the inputs of that cycle stand, before its rising edge; what is left out is not checked.
    """

    given: list[Values] = field(default_factory=list)
    expected: defaultdict[int, Values] = field(default_factory=lambda: defaultdict(dict))

    @property
    def now(self) -> int:
        """Index of the cycle that comes next."""
        return len(self.given)

    def cycle(self, given: Values, expected: Values | None = None) -> None:
        """One cycle more; `expected` adds to what earlier cycles have promised for it."""
        if expected:
            self.expected[self.now].update(expected)
        self.given.append(given)

    def promise(self, cycles: int, expected: Values) -> None:
        """Outputs `cycles` after the cycle that comes next."""
        self.expected[self.now + cycles].update(expected)


async def play(dut, script: Script) -> None:  # the design has attributes only at run time
    """Run a script from reset, then compare all that was seen; the first difference is named."""
    handles = {name: getattr(dut, name) for values in script.given for name in values}
    held = dict.fromkeys(handles, 0)
    for name, handle in handles.items():
        if name != "rst":
            handle.value = 0
    await start_clock(dut)
    seen: list[tuple[int, str, int, int]] = []
    outputs: dict[str, object] = {}
    for t, given in enumerate(script.given):
        await FallingEdge(dut.clk)
        for name, value in given.items():
            if held[name] != value:
                handles[name].value = held[name] = value
        await ReadOnly()
        for name, wanted in script.expected.get(t, {}).items():
            if name not in outputs:
                outputs[name] = getattr(dut, name)
            seen.append((t, name, int(outputs[name].value), wanted))  # pyright: ignore[reportAttributeAccessIssue]
    for t, name, found, wanted in seen:
        assert found == wanted, f"{name} must be {wanted:#x} in cycle {t}, not {found:#x}"
    assert len(seen) > len(script.given) // 4, (
        f"the script must check its {len(script.given)} cycles, not {len(seen)} values"
    )


# ---- layers


def pack_layer(config: Config, layer: Layer) -> int:
    """The descriptor as the gateware's `layer` ports hold it: the fields with a register, in order, from the lowest bit on."""
    value = place = 0
    for f in LAYER_FIELDS:
        if not f.fixed(config):
            value |= (layer.get(f.name, 0) & ((1 << f.width) - 1)) << place
            place += f.width
    return value


def _near(rng: np.random.Generator, low: int, high: int) -> int:
    """low..high, an end or its neighbour half of the time."""
    if rng.random() < 0.5:
        return int(rng.choice([low, min(low + 1, high), max(high - 1, low), high]))
    return int(rng.integers(low, high + 1))


def random_layer(rng: np.random.Generator, config: Config) -> Layer:
    """A descriptor that the decoder would pass, of up to three channel tiles and about three pixel tiles."""
    whole = config.rows * int(rng.integers(1, 4))
    pixels = whole if rng.random() < 0.3 else _near(rng, 1, 3 * config.rows + 1)
    return {
        "to_stream": chance(rng, 0.5),
        "pixels": pixels,
        "k_words": _near(rng, 1, min(config.max_k_words, 5)),
        "k_tail": _near(rng, 1, config.rows),
        "n_tiles": _near(rng, 1, 3),
        "n_tail": _near(rng, 1, config.cols),
        "input_address": int(rng.integers(config.activation_words)),
        "output_address": int(rng.integers(config.activation_words)),
        "input_stride": int(rng.integers(0, 1 << int(rng.integers(1, 16)))),
        "output_stride": int(rng.integers(0, 1 << int(rng.integers(1, 16)))),
        "output_bank": _near(rng, 0, config.rows - 1),
        "weight_address": int(rng.integers(config.weight_words)),
        "parameter_address": int(rng.integers(config.parameter_words)),
        **(_random_residual(rng, config) if config.residual else {}),
    }


def _random_residual(rng: np.random.Generator, config: Config) -> Layer:
    return {
        "residual_address": int(rng.integers(config.activation_words)),
        "residual_stride": int(rng.integers(0, 1 << int(rng.integers(1, 16)))),
        "residual_bank": _near(rng, 0, config.rows - 1),
    }


@dataclass(frozen=True)
class Step:
    """A drain step: `group` of the columns of channel tile `tile`, for `pixel`, which is row `row` of its pixel tile."""

    tile: int
    pixel: int
    row: int
    group: int
    row_end: bool
    tile_end: bool
    pass_end: bool
    layer_end: bool
    last_tile: bool
    channels: int
    """Valid channels of the channel tile."""


def layer_steps(config: Config, layer: Layer) -> Iterator[Step]:
    """A layer's drain steps in order: channel tile, pixel tile, row, group; valid rows and groups only."""
    for tile in range(layer["n_tiles"]):
        last_tile = tile == layer["n_tiles"] - 1
        channels = layer["n_tail"] if last_tile else config.cols
        groups = ceil_div(channels, config.lanes)
        for pixel in range(layer["pixels"]):
            row = pixel % config.rows
            last_pixel = pixel == layer["pixels"] - 1
            for group in range(groups):
                row_end = group == groups - 1
                tile_end = row_end and (last_pixel or row == config.rows - 1)
                pass_end = row_end and last_pixel
                layer_end = pass_end and last_tile
                yield Step(tile, pixel, row, group, row_end, tile_end, pass_end, layer_end, last_tile, channels)
