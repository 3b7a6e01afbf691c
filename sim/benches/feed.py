"""Feed: blocks at any distance, each row's elements and each bank's address checked on every cycle."""

import cocotb

from shiftforge import timing
from sim.benches.lockstep import Script, Values, bench_setup, bits, chance, play

LAYERS = 8
CYCLES = 200
"""Of a layer."""


@cocotb.test()
async def every_element(dut) -> None:
    """Row r's elements are those of the word read in the block's cycle r, each from its bank a cycle after the one before."""
    config, rng = bench_setup()
    rows, width = config.rows, config.activation.bits
    words: list[int] = [bits(rng, width * rows) for _ in range(LAYERS * CYCLES + 4 * rows)]
    codes: dict[tuple[int, int], int] = {}  # (cycle, row)
    inputs: list[Values] = []
    for layer in range(LAYERS):
        held = {"k_tail": int(rng.integers(1, rows + 1))}
        if config.max_pool:
            held["whole"] = layer % 3 == 2
        next_block = len(inputs)
        for cycle in range(CYCLES):
            now = len(inputs)
            # Word after word, as in a layer, or with pauses; none at the end, while the last words are on their way.
            load = now >= next_block and cycle < CYCLES - 4 * rows and (layer % 2 == 0 or chance(rng, 0.3))
            if load:
                next_block = now + rows
            inputs.append(
                {
                    **held,
                    "load": int(load),
                    "address": int(rng.integers(config.activation_words)),
                    "zero": chance(rng, 0.2),
                    "tail": chance(rng, 0.5),
                    "data": words[now],
                }
            )
    for now, given in enumerate(inputs):
        if given["load"]:
            for r in range(rows):
                read = inputs[now + r]
                for i in range(rows):
                    element = words[now + r + i + timing.MEMORY_READ] >> (width * i) & ((1 << width) - 1)
                    beyond = read["tail"] and i >= given["k_tail"]
                    at = now + r + i + timing.MEMORY_READ + timing.ROW_FEED
                    codes[at, r] = 0 if read["zero"] or beyond else element
    script = Script()
    for now, given in enumerate(inputs):
        expected: Values = {}
        if now >= rows + timing.ROW_FEED:
            expected = {f"code_{r}": codes.get((now, r), 0) for r in range(rows)}
            for b in range(rows):
                source = now if given.get("whole") else now - b
                expected[f"bank_address_{b}"] = inputs[source]["address"]
        script.cycle(given, expected)
    await play(dut, script)
