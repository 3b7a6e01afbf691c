"""Row feed: steps, words and masks at random, each element and each latency checked (`timing.ROW_FEED`)."""

import cocotb

from shiftforge import timing
from sim.benches.lockstep import Script, bench_setup, bits, chance, play

CYCLES = 1500


@cocotb.test()
async def every_element(dut) -> None:
    """The element that the step names, two cycles later; zero where the block's word is, or the element is beyond its tail."""
    config, rng = bench_setup()
    rows, width = config.rows, config.activation.bits
    script = Script()
    zero = tail = 0
    for t in range(CYCLES):
        first, live, beyond, index = (
            (t == 0) | chance(rng, 0.2),
            chance(rng, 0.9),
            chance(rng, 0.3),
            int(rng.integers(rows)),
        )
        word = bits(rng, width * rows)
        step = first | live << 1 | beyond << 2 | index << 3
        given = {"step": step, "zero": chance(rng, 0.3), "tail": chance(rng, 0.5), "data": word}
        code = word >> (width * index) & ((1 << width) - 1) if live and not zero and not (tail and beyond) else 0
        if t:
            script.promise(timing.ROW_FEED, {"code": code})
        script.promise(1, {"step_out": step})
        script.cycle(given)
        if first:
            zero, tail = given["zero"], given["tail"]
    await play(dut, script)
