"""Drain: random layers, tiles that complete and steps that leave the FIFO at random; every step, sum and credit."""

from collections import deque

import cocotb

from shiftforge import timing
from sim.benches.lockstep import Script, Values, bench_setup, bits, chance, layer_steps, pack_layer, play, random_layer

LAYERS = 24
ROOM = 5
"""Steps that the output FIFO holds in this bench, as `sim.units` builds the drain: few, so that credits run out."""


@cocotb.test()
async def every_step(dut) -> None:
    """A step is issued exactly when a tile is complete and, to the stream, the FIFO has room for it."""
    config, rng = bench_setup()
    lanes, cols = config.lanes, config.cols
    width = config.accumulator_bits + config.activation.flag_bits
    script = Script()
    bank, in_fifo = 0, 0
    starved = waited = met = 0
    # Groups of the steps of the cycles before, whose readings come with the next ones.
    stepped: deque[int | None] = deque([None] * (timing.DRAIN_READ - 1))

    def cycle(given: Values, expected: Values) -> None:
        """A cycle with random readings: those of two cycles after a step are what its lanes must get."""
        reads = {f"read_{c}": bits(rng, width) for c in range(cols)}
        group = stepped.popleft()
        if group is not None:
            first = group * lanes
            script.promise(1, {f"sum_{i}": reads[f"read_{first + i}"] for i in range(min(lanes, cols - first))})
        stepped.append(None)
        script.cycle({**given, **reads}, expected)

    for number in range(LAYERS):
        layer = random_layer(rng, config)
        if number % 4 == 1:  # more steps than the FIFO holds, which leave it slowly, however small the array
            layer |= {"to_stream": 1, "pixels": max(layer["pixels"], 4 * ROOM)}
        stream = layer["to_stream"]
        steps = list(layer_steps(config, layer))
        tiles = sum(step.tile_end for step in steps)
        idle = {"step": 0, "tile_drained": 0}
        cycle({"layer": pack_layer(config, layer), "start": 0, "tile": 0, "taken": 0}, idle)
        cycle({}, idle)
        cycle({"start": 1}, idle)
        complete = position = 0
        pace = (0.9, 0.3, 0.05)[number % 3]
        while position < len(steps) or in_fifo:
            taken = chance(rng, (0.9, 0.2)[number % 2]) if in_fifo else 0
            go = complete > 0 and (not stream or in_fifo < ROOM)
            ends = go and steps[position].tile_end  # a tile that completes as the other is drained is a case of its own
            most = 1 if number % 3 == 2 and not ends else 2  # one by one, so that they often meet
            tile = chance(rng, 0.5 if ends else pace) if tiles and complete < most else 0
            met += ends and tile
            given = {"start": 0, "tile": tile, "taken": taken}
            starved += complete > 0 and not go
            waited += complete == 0
            drained = 0
            if go:
                step = steps[position]
                drained = int(step.tile_end)
                parameter = layer["parameter_address"] + step.tile * config.groups + step.group
                expected = {"step": 1, "set": bank, "row": step.row, "tile_drained": drained}
                cycle(given, {**expected, "parameter_address": parameter % config.parameter_words})
                stepped[-1] = step.group
                position += 1
                bank ^= drained
            else:
                cycle(given, idle)
            complete += tile - drained
            tiles -= tile
            in_fifo += (go and stream) - taken
        cycle({"tile": 0, "taken": 0}, idle)
    assert starved > 4, f"the stimulus must use up the credits, not only {starved} times"
    assert waited > 10, f"the stimulus must make the drain wait, not only {waited} times"
    assert met > 2, f"tiles must complete as others are drained, not only {met} times"
    await play(dut, script)
