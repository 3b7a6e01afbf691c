"""Activation memory (and with it the word memory that its banks are): writes and reads bank by bank."""

import cocotb

from shiftforge import timing
from sim.benches.lockstep import Script, Values, bench_setup, bits, chance, play

CYCLES = 1500
FEW = 6
"""Addresses in use, so that what is read has been written."""


@cocotb.test()
async def every_read(dut) -> None:
    """A read gives what was written before its cycle, `timing.MEMORY_READ` cycles later; so does a residual's.

    What is read in the cycle in which it is written is free, and never asked for.
    """
    config, rng = bench_setup()
    rows, width = config.rows, config.activation.bits
    places = [0, config.activation_words - 1, *rng.integers(1, config.activation_words - 1, FEW - 2).tolist()]
    held = {(place, b): 0 for place in places for b in range(rows)}
    script = Script()
    for _ in range(CYCLES):
        given: Values = {}
        in_use: dict[int, set[int]] = {b: set() for b in range(rows)}
        for address, data in (("address", "data"), ("residual_address", "residual_data"))[: 1 + config.residual]:
            read = {b: int(rng.choice(places)) for b in range(rows)}
            given |= {f"{address}_{b}": place for b, place in read.items()}
            word = sum(held[place, b] << (width * b) for b, place in read.items())
            script.promise(timing.MEMORY_READ, {data: word})
            for b, place in read.items():
                in_use[b].add(place)
        for b in range(rows):
            free = [place for place in places if place not in in_use[b]]
            write, place, value = chance(rng, 0.3), int(rng.choice(free)), bits(rng, width)
            given |= {f"write_{b}": write, f"write_address_{b}": place, f"write_data_{b}": value}
            if write:
                held[place, b] = value
        script.cycle(given)
    await play(dut, script)
