"""Column: tiles at random distances, every buffer word read at random, tile by tile, with resets in between."""

import cocotb

from shiftforge import timing
from shiftforge.config import Config
from shiftforge.counter import states
from sim.benches.lockstep import Script, Values, bench_setup, bits, chance, play

CYCLES = 4000


def capture(config: Config, low: int, flags: int, early: int, counts: int) -> int:
    """What comes through the OR tree in one cycle: low bits and flags of one reading, the counters of an earlier one."""
    value = place = 0
    fields = [(config.activation.flag_bits, flags), (config.low_bits, low), (1, early)]
    for length in config.carries.lengths:
        cycle = states(length)
        fields.append((length, cycle[counts % len(cycle)]))
    for width, field in fields:
        value |= field << place
        place += width
    return value


@cocotb.test()
async def every_sum(dut) -> None:
    """Sums of as many random products as there are slots, as readings of PEs that started anywhere, against those sums."""
    config, rng = bench_setup()
    rows, flag_bits = config.rows, config.activation.flag_bits
    width, low_bits, product_bits = config.accumulator_bits, config.low_bits, config.product_bits
    script = Script()
    buffer: dict[tuple[int, int], int] = {}
    landing: dict[int, tuple[int, int, int]] = {}  # cycle from which a sum can be read -> set, row, sum and flags
    previous = [0] * rows
    pending: dict[int, tuple[int, int]] = {}  # cycle -> early and other carries that come in it
    products, tile_products, tile, row, until_last = 0, 0, 0, 0, 1
    for t in range(CYCLES):
        if t in landing:
            place = landing.pop(t)
            buffer[place[:2]] = place[2]
        reset = chance(rng, 0.002) and row == 0
        product = chance(rng, 0.7) and not reset and products < config.max_k
        until_last -= int(product)
        last = bool(product and until_last <= 0 and row == 0)
        products += int(product)
        valid = last or row > 0
        low, flags = (
            bits(rng, low_bits),
            bits(rng, flag_bits) if flag_bits else 0,
        )  # what is not asked for must not matter
        early, others = pending.pop(t, (chance(rng, 0.5), int(rng.integers(config.carries.modulus))))
        if last:
            tile_products = products
            products, until_last = 0, int(rng.integers(rows, config.max_k + 1))
        if valid:
            largest = config.activation.max_fixed << config.weights.max_exponent
            ends = (-largest, largest)
            drawn = [ends[int(rng.integers(2))] if chance(rng, 0.3) else int(rng.integers(-largest, largest + 1))]
            value = sum(drawn * tile_products) if chance(rng, 0.5) else int(drawn[0])
            reading = previous[row] + value + (tile_products << (product_bits - 1))
            low, carries = reading & ((1 << low_bits) - 1), reading >> low_bits
            previous[row] = low
            first = int(carries > 0 and chance(rng, 0.5))
            pending[t + timing.COUNTS] = (first, carries - first)
            landing[t + timing.COLUMN] = (tile % 2, row, flags | (value & ((1 << width) - 1)) << flag_bits)
        bank, at = chance(rng, 0.5), int(rng.integers(rows))
        given: Values = {
            "rst": int(reset),
            "capture": capture(config, low, flags, int(early), others),
            "tally": int(product) | int(last) << 1,
            "set": bank,
            "row": at,
        }
        if (bank, at) in buffer and not reset:
            script.promise(1, {"read": buffer[bank, at]})
        script.promise(timing.COLUMN, {"tile": int(valid and row == rows - 1)})
        if valid:
            row = (row + 1) % rows
            tile += row == 0
        if reset:
            # A write that is under way ends with the reset; what the buffer holds where it would have gone is not defined.
            for late in range(t, t + timing.COLUMN):
                if late in landing:
                    buffer.pop(landing.pop(late)[:2], None)
                script.promise(late - t + 1, {"tile": 0})
            previous, products, tile, until_last = [0] * rows, 0, 0, int(rng.integers(rows, config.max_k + 1))
        script.cycle(given)
    await play(dut, script)
