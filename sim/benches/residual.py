"""The residual's reads: random layers, steps at any distance; every address that matters, every element."""

import cocotb

from shiftforge import timing
from sim.benches.lockstep import Script, Values, bench_setup, bits, chance, layer_steps, pack_layer, play, random_layer

LAYERS = 30


@cocotb.test()
async def every_element(dut) -> None:
    """Channel n of pixel p takes element (bank + n) mod rows of its word, and never leaves the residual's page."""
    config, rng = bench_setup()
    rows, lanes, width, page = config.rows, config.lanes, config.activation.bits, config.activation_page
    script = Script()
    data: list[int] = []  # of each cycle

    def word() -> int:
        data.append(bits(rng, rows * width))
        return data[-1]

    due: dict[int, list[tuple[int, int]]] = {}  # cycle of the data: (lane, element)

    def cycle(given: Values, expected: Values | None = None) -> None:
        now = script.now
        here = word()
        for lane, element in due.pop(now, []):
            value = here >> (width * element) & ((1 << width) - 1)
            script.promise(timing.RESIDUAL_READ - timing.MEMORY_READ, {f"element_{lane}": value})
        script.cycle({**given, "data": here}, expected)

    for _ in range(LAYERS):
        layer = random_layer(rng, config)
        start = layer["residual_address"]
        cycle({"layer": pack_layer(config, layer), "start": 0, "step": 0})
        cycle({})
        cycle({"start": 1})
        hurry = float(rng.choice([1.0, 0.5]))
        for step in layer_steps(config, layer):
            while not chance(rng, hurry):
                cycle({"start": 0, "step": 0})
            expected: Values = {}
            for lane in range(lanes):
                channel = step.group * lanes + lane
                if channel >= step.channels:
                    continue
                offset, element = divmod(layer["residual_bank"] + step.tile * config.cols + channel, rows)
                address = start + step.pixel * layer["residual_stride"] + offset
                expected[f"address_{element}"] = start // page * page + address % page
                due.setdefault(script.now + timing.MEMORY_READ, []).append((lane, element))
            cycle({"start": 0, "step": 1}, expected)
        for _ in range(timing.RESIDUAL_READ + 1):
            cycle({"start": 0, "step": 0})
    await play(dut, script)
