"""Row feed: words loaded at random, each element and each latency checked (`timing.ROW_FEED`)."""

import cocotb

from shiftforge import timing
from sim.benches.lockstep import Script, bench_setup, bits, chance, play

CYCLES = 1500


@cocotb.test()
async def every_element(dut) -> None:
    """Element i of a word comes i cycles after its first, until the next word is loaded; then zeros."""
    config, rng = bench_setup()
    rows, width = config.rows, config.activation.bits
    script = Script()
    for t in range(CYCLES):
        # Mostly word after word, as in a layer, and at any distance.
        load = int(t % rows == 0) if t < CYCLES // 2 else chance(rng, 1.5 / (rows + 1))
        word = bits(rng, width * rows)
        if load:
            for i in range(2 * rows):
                script.promise(timing.ROW_FEED + i, {"code": word >> (width * i) & ((1 << width) - 1)})
        script.cycle({"load": load, "word": word})
    await play(dut, script)
