"""Engine: random layers, drain buffers that free up early and late; every read and token in every cycle."""

from collections.abc import Iterator
from dataclasses import dataclass

import cocotb

from shiftforge.config import Config, ceil_div
from sim.benches.lockstep import Layer, Script, Values, bench_setup, chance, pack_layer, play, random_layer

LAYERS = 25
BUFFERS = 2


@dataclass(frozen=True)
class Slot:
    """What the engine issues in one cycle; `address` is None where it reads for no pixel, `gate` needs a free buffer."""

    address: int | None
    weight_address: int
    token: int
    load: bool
    tail: bool
    gate: bool


def layer_slots(config: Config, layer: Layer) -> Iterator[Slot]:
    """Every slot of a layer in order: channel tile, pixel tile, block, pixel of the tile."""
    rows, words = config.rows, layer["k_words"]
    for tile in range(layer["n_tiles"]):
        for first in range(0, ceil_div(layer["pixels"], rows) * rows, rows):
            for block in range(words):
                for j in range(rows):
                    pixel = first + j
                    k = block * rows + j
                    at_last = block == words - 1
                    address = (layer["input_address"] + pixel * layer["input_stride"] + block) % config.activation_words
                    token = 1 | (k == 0) << 1 | (k == words * rows - 1) << 2
                    yield Slot(
                        address=address if pixel < layer["pixels"] else None,
                        weight_address=(layer["weight_address"] + tile * words * rows + k) % config.weight_words,
                        token=token,
                        load=j == 0,
                        tail=at_last,
                        gate=at_last and j == 0,
                    )


def _issued(slot: Slot) -> Values:
    expected = {"zero": int(slot.address is None), "weight_address": slot.weight_address}
    expected |= {"token": slot.token, "load": int(slot.load), "tail": int(slot.tail)}
    return expected if slot.address is None else {**expected, "address": slot.address}


@cocotb.test()
async def every_slot(dut) -> None:
    """One slot per cycle; a tile's last block waits exactly while both drain buffers are taken."""
    config, rng = bench_setup()
    script = Script()
    stalls = 0
    for number in range(LAYERS):
        layer = random_layer(rng, config)
        slots = list(layer_slots(config, layer))
        script.cycle({"layer": pack_layer(layer), "start": 0, "tile_drained": 0}, {"load": 0, "stall": 0})
        script.cycle({}, {"load": 0, "stall": 0})
        script.cycle({"start": 1}, {"load": 0, "stall": 0})
        taken = position = 0
        pace = (1.0, 0.3, 1 / (2 * config.rows), 0.02)[number % 4]
        while position < len(slots) or taken:
            drained = chance(rng, pace) if taken else 0
            given = {"start": 0, "tile_drained": drained}
            if position == len(slots):
                script.cycle(given, {"load": 0, "stall": 0})
            elif slots[position].gate and taken == BUFFERS:
                stalls += 1
                script.cycle(given, {"load": 0, "stall": 1})
            else:
                script.cycle(given, {"stall": 0, **_issued(slots[position])})
                taken += slots[position].gate
                position += 1
            taken -= drained
        script.cycle({"tile_drained": 0}, {"load": 0, "stall": 0})
    assert stalls > LAYERS, f"the stimulus must make the engine wait, not only {stalls} times"
    await play(dut, script)
