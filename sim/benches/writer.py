"""Writer: random layers with random results; every memory write, FIFO write and flag in every cycle."""

import cocotb

from sim.benches.lockstep import Script, Values, bench_setup, bits, chance, layer_steps, pack_layer, play, random_layer

LAYERS = 30


@cocotb.test()
async def every_write(dut) -> None:
    """Channel n of pixel p lands in element (bank + n) mod rows of its word; invalid lanes land nowhere and raise nothing."""
    config, rng = bench_setup()
    rows, lanes = config.rows, config.lanes
    activation, out = config.activation.bits, config.output.bits
    script = Script()
    nothing = {"writing": 0, "flags": 0, **{f"write_{b}": 0 for b in range(rows)}}

    def cycle(given: Values, expected: Values, after: Values, written: int = 0) -> None:
        script.promise(1, {**nothing, **after})
        script.promise(2, {"layer_written": written})
        results = {f"code_{i}": bits(rng, max(activation, out)) for i in range(lanes)}
        results |= {f"{flag}_{i}": chance(rng, 0.3) for flag in ("nv", "of", "nx") for i in range(lanes)}
        script.cycle({**results, **given}, expected)

    for _ in range(LAYERS):
        layer = random_layer(rng, config)
        stream = layer["to_stream"]
        idle = {"fifo_write": 0}
        cycle({"layer": pack_layer(config, layer), "start": 0, "step": 0}, idle, {})
        cycle({}, idle, {})
        cycle({"start": 1}, idle, {})
        hurry = float(rng.choice([1.0, 0.5]))
        for step in layer_steps(config, layer):
            while not chance(rng, hurry):
                cycle({"start": 0, "step": 0}, idle, {})
            codes = [bits(rng, max(activation, out)) for _ in range(lanes)]
            raised = [bits(rng, 3) & -chance(rng, 0.3) for _ in range(lanes)]
            given: Values = {"start": 0, "step": 1}
            after: Values = {"writing": 1 - stream}
            flags = data = 0
            for i in range(lanes):
                given |= {f"code_{i}": codes[i], f"nv_{i}": raised[i] & 1, f"of_{i}": raised[i] >> 1 & 1}
                given[f"nx_{i}"] = raised[i] >> 2
                channel = step.group * lanes + i
                if channel >= step.channels:
                    continue
                flags |= raised[i]
                data |= (codes[i] & ((1 << out) - 1)) << (out * i)
                if not stream:
                    word, element = divmod(layer["output_bank"] + step.tile * config.cols + channel, rows)
                    address = layer["output_address"] + step.pixel * layer["output_stride"] + word
                    after |= {
                        f"write_{element}": 1,
                        f"write_address_{element}": address % config.activation_words,
                        f"write_data_{element}": codes[i] & ((1 << activation) - 1),
                    }
            expected = {"fifo_write": stream}
            if stream:
                expected |= {"fifo_data": data, "fifo_last": int(step.layer_end)}
            cycle(given, expected, {**after, "flags": flags}, int(step.layer_end and not stream))
        cycle({"step": 0}, idle, {})
        cycle({}, idle, {})
    await play(dut, script)
