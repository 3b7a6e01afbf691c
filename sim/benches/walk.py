"""Tile walk: random layers with random pauses, every output in every cycle of every layer."""

import cocotb

from sim.benches.lockstep import Script, bench_setup, chance, layer_steps, pack_layer, play, random_layer

LAYERS = 40


@cocotb.test()
async def every_step(dut) -> None:
    """The steps of channel tile, pixel tile, row and group in order, with their ends; a pause changes nothing."""
    config, rng = bench_setup()
    script = Script()
    for _ in range(LAYERS):
        layer = random_layer(rng, config)
        # The descriptor stands two cycles before the start; steps do not come before it.
        script.cycle({"layer": pack_layer(config, layer), "start": 0, "step": 0})
        script.cycle({})
        script.cycle({"start": 1})
        hurry = float(rng.choice([1.0, 0.5]))
        for step in layer_steps(config, layer):
            expected = {
                name: int(getattr(step, name))
                for name in ("row", "group", "row_end", "tile_end", "pass_end", "layer_end", "last_tile")
            }
            while not chance(rng, hurry):
                script.cycle({"start": 0, "step": 0}, dict(expected))
            script.cycle({"start": 0, "step": 1}, expected)
        script.cycle({"step": 0})
    await play(dut, script)
