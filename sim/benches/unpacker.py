"""Unpacker: every pair of widths at once, random stalls on both sides and flushes."""

import cocotb
import numpy as np

from shiftforge.packets import word_stride_bits
from sim.benches.lockstep import Script, Values, bench_setup, bits, chance, play
from sim.parts import UNPACKERS

CYCLES = 400


class Model:
    """What an unpacker holds: words that wait (a beat holds some), or beats that wait (a word takes some)."""

    def __init__(self, word_bits: int, beat_bits: int) -> None:
        self.word_bits, self.beat_bits = word_bits, beat_bits
        self.stride = word_stride_bits(word_bits)
        self.words: list[int] = []
        self.beats: list[int] = []

    def cycle(self, rng: np.random.Generator, hurry: float) -> tuple[Values, Values]:
        """Random inputs and the outputs that belong to them."""
        flush, offered, ready = chance(rng, 0.01), chance(rng, hurry), chance(rng, hurry)
        beat = bits(rng, self.beat_bits)
        valid = bool(self.words)
        gives = valid and bool(ready)
        takes = not self.words or (len(self.words) == 1 and gives)
        expected = {"beat_ready": int(takes), "word_valid": int(valid)}
        if valid:
            expected["word"] = self.words[0] & ((1 << self.word_bits) - 1)
        given = {"flush": flush, "beat": beat, "beat_valid": offered, "word_ready": ready}
        if gives:
            self.words.pop(0)
        if takes and offered:
            self.beats.append(beat)
            held = self.beat_bits * len(self.beats)
            if held >= self.stride:
                total = sum(b << (self.beat_bits * i) for i, b in enumerate(self.beats))
                self.words = [total >> place & ((1 << self.stride) - 1) for place in range(0, held, self.stride)]
                self.beats = []
        if flush:
            self.words, self.beats = [], []
        return given, expected


@cocotb.test()
async def every_width(dut) -> None:
    """Words in order, none lost, none twice, at full rate where nothing stalls."""
    _, rng = bench_setup()
    models = [Model(word, beat) for word, beat in UNPACKERS]
    script = Script()
    for t in range(CYCLES):
        given: Values = {}
        expected: Values = {}
        hurry = (1.0, 0.5, 0.8, 0.95)[t * 4 // CYCLES]
        for i, model in enumerate(models):
            one, other = model.cycle(rng, hurry)
            given |= {f"{name}_{i}": value for name, value in one.items()}
            expected |= {f"{name}_{i}": value for name, value in other.items()}
        script.cycle(given, expected)
    await play(dut, script)
