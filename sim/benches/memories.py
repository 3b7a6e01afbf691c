"""Activation memory (and with it the word memory that its banks are): writes bank by bank, reads of whole words."""

import cocotb

from shiftforge import timing
from sim.benches.lockstep import Script, Values, bench_setup, bits, chance, play

CYCLES = 1500
FEW = 6
"""Addresses in use: reads and writes shall meet."""


@cocotb.test()
async def every_read(dut) -> None:
    """A read gives what was written before its cycle, `timing.MEMORY_READ` cycles later; so does a residual's, bank by bank."""
    config, rng = bench_setup()
    rows, width = config.rows, config.activation.bits
    places = [0, config.activation_words - 1, *rng.integers(1, config.activation_words - 1, FEW - 2).tolist()]
    held = {(place, b): 0 for place in places for b in range(rows)}
    script = Script()
    for _ in range(CYCLES):
        address = int(rng.choice(places))
        given: Values = {"address": address}
        word = sum(held[address, b] << (width * b) for b in range(rows))
        script.promise(timing.MEMORY_READ, {"data": word})
        if config.residual:
            second = {b: int(rng.choice(places)) for b in range(rows)}
            given |= {f"residual_address_{b}": place for b, place in second.items()}
            word = sum(held[place, b] << (width * b) for b, place in second.items())
            script.promise(timing.MEMORY_READ, {"residual_data": word})
        for b in range(rows):
            write, place, value = chance(rng, 0.3), int(rng.choice(places)), bits(rng, width)
            given |= {f"write_{b}": write, f"write_address_{b}": place, f"write_data_{b}": value}
            if write:
                held[place, b] = value
        script.cycle(given)
    await play(dut, script)
