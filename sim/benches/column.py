"""Column: captures at random distances, every buffer word read at random, tile by tile, with resets in between."""

import cocotb

from shiftforge import timing
from sim.benches.lockstep import Script, Values, bench_setup, bits, chance, play

CYCLES = 3000


@cocotb.test()
async def every_sum(dut) -> None:
    """A sum is the capture less the same row's of the tile before, in the buffer after `timing.COLUMN` cycles."""
    config, rng = bench_setup()
    rows, width, flag_bits = config.rows, config.accumulator_bits, config.activation.flag_bits
    script = Script()
    previous = [0] * rows
    buffer: dict[tuple[int, int], int] = {}
    landing: dict[int, tuple[int, int, int]] = {}  # cycle from which a sum can be read -> set, row, sum and flags
    count = 0
    for t in range(CYCLES):
        if t in landing:
            place = landing.pop(t)
            buffer[place[:2]] = place[2]
        reset = chance(rng, 0.002)
        valid = chance(rng, 0.6) & ~reset
        total, flags = bits(rng, width), bits(rng, flag_bits) if flag_bits else 0
        bank, row = chance(rng, 0.5), int(rng.integers(rows))
        given: Values = {
            "rst": reset,
            "capture": valid | flags << 1 | total << (1 + flag_bits),  # what comes without `valid` must not matter
            "set": bank,
            "row": row,
        }
        if (bank, row) in buffer and not reset:
            script.promise(1, {"read": buffer[bank, row]})
        script.promise(timing.COLUMN, {"tile": int(bool(valid) and count % rows == rows - 1)})
        if valid:
            at = count % rows
            value = (total - previous[at]) & ((1 << width) - 1)
            previous[at] = total
            landing[t + timing.COLUMN] = (count // rows % 2, at, flags | value << flag_bits)
            count += 1
        if reset:
            # A write that is under way ends with the reset; what the buffer holds where it would have gone is not defined.
            for late in (t, t + 1):
                if late in landing:
                    buffer.pop(landing.pop(late)[:2], None)
            previous, count = [0] * rows, 0
            script.promise(1, {"tile": 0})
            script.promise(2, {"tile": 0})
        script.cycle(given)
    await play(dut, script)
