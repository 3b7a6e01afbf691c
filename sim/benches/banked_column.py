"""Column of banked accumulators: words at random distances, every sum read back, tile by tile, with resets in between."""

import cocotb

from shiftforge import timing
from shiftforge.banks import Banks
from shiftforge.config import ceil_div
from sim.benches.lockstep import Script, Values, bench_setup, bits, chance, play

TILES = 120


@cocotb.test()
async def every_sum(dut) -> None:
    """A sum is all of a row's words at their banks' weights, in the buffer `timing.BANKED_COLUMN` cycles after the last word."""
    config, rng = bench_setup()
    banks = Banks.of(config)
    rows, word_bits, low_bits = config.rows, banks.word_bits, banks.low_bits
    flag_bits = config.activation.flag_bits
    capture_bits = flag_bits + word_bits
    low_mask = (1 << (flag_bits + low_bits)) - 1
    part = ceil_div(rows, timing.read_out_ends(config))
    spacing = timing.drain_spacing(config)
    most = config.max_k * banks.max_product
    script = Script()
    buffer: dict[tuple[int, int], int] = {}
    landing: dict[int, tuple[int, int, int]] = {}  # cycle from which a sum can be read -> set, row, sum and flags
    upper = 0  # half of the word before, at its place in the ends

    asked = (False, 0)

    def cycle(lower: int, tally: int = 0, reset: int = 0) -> None:
        nonlocal asked
        t = script.now
        if t in landing:
            place = landing.pop(t)
            buffer[place[:2]] = place[2]
        at, row = chance(rng, 0.5), int(rng.integers(rows))
        given: Values = {"rst": reset, "capture": lower | upper, "tally": tally, "set": at, "row": row}
        if asked in buffer and not reset:  # a cycle ago
            script.promise(1, {"read": buffer[asked]})
        asked = at, row
        script.cycle(given)

    def give(capture: int, row: int, tally: int) -> None:
        """A row's capture at its end of the read-out, its upper half a cycle late."""
        nonlocal upper
        place = row // part * capture_bits
        lower, later = (capture & low_mask) << place, (capture & ~low_mask) << place
        cycle(lower, tally)
        upper = later

    def idle() -> None:
        nonlocal upper
        anything = bits(rng, 2 * capture_bits)  # what comes without a word must not matter
        cycle(anything & (low_mask | low_mask << capture_bits))
        upper = anything & ~(low_mask | low_mask << capture_bits)
        script.promise(timing.BANKED_COLUMN - 1, {"tile": 0})

    def a_word(bank: int) -> int:
        """Within what `max_k` products can make, at the ends a third of the time; bank 0's are even."""
        word = int(rng.choice([-1, 1])) * most if chance(rng, 0.3) else (bits(rng, word_bits) % (2 * most + 1)) - most
        word = word if chance(rng, 0.8) else int(rng.integers(-2, 3))
        return word & ~1 if bank == 0 else word

    half = 0
    for _ in range(TILES):
        words = [[a_word(bank) for bank in range(banks.count)] for _ in range(rows)]
        if chance(rng, 0.3):  # nothing above some bank but the sign that comes from below it
            first = int(rng.integers(banks.count))
            words = [[word if bank <= first else 0 for bank, word in enumerate(line)] for line in words]
        flags = [[bits(rng, flag_bits) for _ in range(banks.count)] for _ in range(rows)]  # the last bank's count
        broken = int(rng.integers(banks.count)) if chance(rng, 0.05) else -1
        for row in range(rows):
            buffer.pop((half, row), None)
        for bank in range(banks.count):
            if bank == broken:
                for _ in range(timing.BANKED_COLUMN):
                    idle()
                landing.clear()
                cycle(0, reset=1)
                buffer.clear()
                upper = half = 0
                break
            for row in range(rows):
                word = words[row][bank] & ((1 << word_bits) - 1)
                last = bank == banks.count - 1
                if last:
                    halves = sum(w << (banks.shift_of(i) + 1) for i, w in enumerate(words[row]))
                    value = halves // 2 & ((1 << config.accumulator_bits) - 1)
                    landing[script.now + timing.BANKED_COLUMN] = (half, row, flags[row][bank] | value << flag_bits)
                script.promise(timing.BANKED_COLUMN, {"tile": int(last and row == rows - 1)})
                give(flags[row][bank] | word << flag_bits, row, int(row == 0))
            for _ in range(spacing - rows + (int(rng.integers(4)) if chance(rng, 0.3) else 0)):
                idle()
        else:
            half ^= 1
    for _ in range(8 * rows):
        idle()
    await play(dut, script)
