"""Column: blocks and tiles at random distances, every buffer word read at random, tile by tile, with resets in between."""

import cocotb

from shiftforge import timing
from sim.benches.lockstep import Script, Values, bench_setup, bits, chance, play

CYCLES = 4000


@cocotb.test()
async def every_sum(dut) -> None:
    """Sums of tiles of random blocks, of which the PEs' readings, started anywhere, are given."""
    config, rng = bench_setup()
    rows, flag_bits = config.rows, config.activation.flag_bits
    width, block_bits, most_blocks = config.accumulator_bits, config.block_bits, min(config.max_k_words, 4)
    largest = config.activation.max_fixed << config.weights.max_exponent
    script = Script()
    buffer: dict[tuple[int, int], int] = {}
    landing: dict[int, tuple[int, int, int]] = {}  # cycle from which a sum can be read -> set, row, sum and flags

    def idle_time() -> int:
        """Cycles from a block's end to the next one's, less those of its rows."""
        return int(rng.integers(20)) if chance(rng, 0.2) else 0

    asked = (False, 0)
    readings, sums, seen = ([0] * rows for _ in range(3))
    negatives = block_negatives = tile = row = 0
    blocks_left, last, products, wait = int(rng.integers(1, most_blocks + 1)), False, rows, idle_time()
    for t in range(CYCLES):
        if t in landing:
            place = landing.pop(t)
            buffer[place[:2]] = place[2]
        reset = chance(rng, 0.002) and row == 0
        # Row 0's products: each block ends `rows` cycles or more after the one before.
        product = not reset and wait == 0
        negative = product and chance(rng, 0.5)
        wait -= int(wait > 0)
        products -= int(product)
        negatives += int(negative)
        read = product and products == 0
        if read:
            blocks_left -= 1
            last = blocks_left == 0
            block_negatives, negatives, products, wait = negatives, 0, rows, idle_time()
            if last:
                blocks_left = int(rng.integers(1, most_blocks + 1))
        valid = read or row > 0
        # What is not asked for must not matter.
        reading, flags = bits(rng, block_bits), bits(rng, flag_bits) if flag_bits else 0
        if valid:
            ends = (-largest * rows, largest * rows)
            value = ends[int(rng.integers(2))] if chance(rng, 0.3) else int(rng.integers(ends[0], ends[1] + 1))
            # What the PE adds lies in its accumulator's range; with the correction it is `value`.
            least, most = -(1 << (block_bits - 1)), (1 << (block_bits - 1)) - 1
            value = min(max(value, least + block_negatives), most + block_negatives)
            flags = flags if chance(rng, 0.2) else 0
            readings[row] = reading = (readings[row] + value - block_negatives) % (1 << block_bits)
            sums[row] += value
            seen[row] |= flags
            if last:
                word = seen[row] | (sums[row] % (1 << width)) << flag_bits
                landing[t + timing.COLUMN] = (tile % 2, row, word)
                sums[row] = seen[row] = 0
        bank, at = chance(rng, 0.5), int(rng.integers(rows))
        given: Values = {
            "rst": int(reset),
            "capture": flags | reading << flag_bits,
            "tally": int(negative) | int(read) << 1 | int(last if read else chance(rng, 0.5)) << 2,
            "set": bank,
            "row": at,
        }
        if asked in buffer and not reset:  # a cycle ago
            script.promise(1, {"read": buffer[asked]})
        asked = bank, at
        script.promise(timing.COLUMN, {"tile": int(valid and last and row == rows - 1)})
        if valid:
            row = (row + 1) % rows
            tile += last and row == 0
        if reset:
            # A write that is under way ends with the reset; what the buffer holds where it would have gone is not defined.
            for late in range(t, t + timing.COLUMN):
                if late in landing:
                    buffer.pop(landing.pop(late)[:2], None)
                script.promise(late - t + 1, {"tile": 0})
            readings, sums, seen = ([0] * rows for _ in range(3))
            negatives = tile = 0
            blocks_left, products, wait = int(rng.integers(1, most_blocks + 1)), rows, idle_time()
        script.cycle(given)
    await play(dut, script)
