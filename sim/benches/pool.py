"""The maximum over windows: random layers of random words, tile by tile with pauses between; every write and every end."""

import cocotb
import numpy as np

from golden.pool import codes_of_keys, order_keys
from golden.rounding import storage_dtype
from shiftforge import timing
from shiftforge.config import Config, ceil_div
from sim.benches.lockstep import Script, Values, bench_setup, chance, pack_layer, play, random_layer

LAYERS = 30


def random_words(rng: np.random.Generator, config: Config, count: int) -> np.ndarray:
    """Elements (count, rows): any codes, zeros of both signs, few values so that some are equal, infinities and NaNs."""
    fmt = config.activation
    shape = (count, config.rows)
    codes = rng.integers(0, 1 << fmt.bits, shape, np.uint64)
    some = np.array([0, fmt.sign_bit, fmt.lowest, fmt.max_finite, 1, fmt.sign_bit | 1], np.uint64)
    if fmt.is_float:
        some = np.append(some, np.array([fmt.nan, fmt.sign_bit | fmt.nan], np.uint64))
    picked = rng.choice(some, shape)
    return np.where(rng.random(shape) < 0.4, picked, codes).astype(storage_dtype(fmt))


def packed(config: Config, elements: np.ndarray) -> int:
    """A word of these elements, element 0 lowest."""
    return sum(int(code) << (config.activation.bits * i) for i, code in enumerate(elements))


def reading(*, first: int = 0, outside: int = 0, write: int = 0, pass_end: int = 0, layer_end: int = 0) -> int:
    """As `hw.pool.READING` has it."""
    return first | outside << 1 | write << 2 | pass_end << 3 | layer_end << 4


@cocotb.test()
async def every_maximum(dut) -> None:
    """The largest element of each window's words inside the image, written whole, word after word and pixel after pixel."""
    config, rng = bench_setup()
    rows, fmt = config.rows, config.activation
    script = Script()
    arriving: list[int] = []  # words read in the cycles before
    written = 0

    def cycle(word: np.ndarray, given: Values, after: Values | None = None, end: int = 0) -> None:
        """A cycle that reads a word, which comes later; `after` is what is written of it."""
        script.promise(timing.POOL, {"writing": 0, **(after or {})})
        script.promise(timing.POOL + 1, {"layer_written": end})
        arriving.append(packed(config, word))
        here = arriving.pop(0) if len(arriving) > timing.MEMORY_READ else 0
        script.cycle({**given, "data": here})

    def pause() -> None:
        """A cycle without a read: whatever lies at the memory's output means nothing."""
        chances = {"first": chance(rng, 0.5), "outside": chance(rng, 0.5)}
        cycle(random_words(rng, config, 1)[0], {"start": 0, "reading": reading(**chances)})

    for _ in range(LAYERS):
        layer = random_layer(rng, config) | {"to_stream": 0, "pool_kind": 1}
        cycle(random_words(rng, config, 1)[0], {"layer": pack_layer(config, layer), "start": 0, "reading": 0})
        cycle(random_words(rng, config, 1)[0], {"start": 1})
        tiles = ceil_div(layer["pixels"], rows)
        blocks = layer["k_words"]
        for t in range(layer["n_tiles"]):
            for mt in range(tiles):
                while chance(rng, 0.2):
                    pause()
                words = random_words(rng, config, blocks * rows).reshape(blocks, rows, rows)
                outside = rng.random((blocks, rows)) < rng.choice([0.0, 0.3, 0.9])
                keys = order_keys(fmt, words)
                lowest = order_keys(fmt, np.array(fmt.lowest, words.dtype))
                best = codes_of_keys(fmt, np.where(outside[..., None], lowest, keys).max(axis=0))
                for block, j in np.ndindex(blocks, rows):
                    pixel = mt * rows + j
                    write = int(block == blocks - 1 and pixel < layer["pixels"])
                    pass_end = int(block == blocks - 1 and j == rows - 1 and mt == tiles - 1)
                    layer_end = int(pass_end and t == layer["n_tiles"] - 1)
                    flags = {"first": int(block == 0), "outside": int(outside[block, j]), "write": write}
                    given = {"start": 0, "reading": reading(**flags, pass_end=pass_end, layer_end=layer_end)}
                    after: Values = {}
                    if write:
                        address = layer["output_address"] + pixel * layer["output_stride"] + t
                        after = {"writing": 1, "write_data": packed(config, best[j])}
                        after["write_address"] = address % config.activation_words
                        written += 1
                    cycle(words[block, j], given, after, layer_end)
        for _ in range(timing.POOL + 2):
            pause()
    assert written > 2 * LAYERS, f"the stimulus must end windows, not only {written}"
    await play(dut, script)
