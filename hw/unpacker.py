"""Unpacker: stream beats in, memory words out."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from shiftforge.packets import word_stride_bits


class Unpacker(wiring.Component):
    """Cuts beats into words, or joins beats to words. A word takes `word_stride_bits(word_bits)` bits, both powers of two.

    One word or one beat per cycle, whichever is scarcer. `beat_ready` depends on registers and `word_ready` alone. Latency 1.

    Parameters
    ----------
    word_bits, beat_bits : int

    Members
    -------
    flush : In(1)
        Forget what is held.
    beat, beat_valid : In ; beat_ready : Out
    word, word_valid : Out ; word_ready : In
    """

    def __init__(self, word_bits: int, beat_bits: int):
        self.word_bits, self.beat_bits = word_bits, beat_bits
        super().__init__(
            {
                "flush": In(1),
                "beat": In(beat_bits),
                "beat_valid": In(1),
                "beat_ready": Out(1),
                "word": Out(word_bits),
                "word_valid": Out(1),
                "word_ready": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stride, beat = word_stride_bits(self.word_bits), self.beat_bits
        take = self.beat_valid & self.beat_ready
        give = self.word_valid & self.word_ready
        held = Signal(max(stride, beat))
        m.d.comb += self.word.eq(held)
        if stride <= beat:
            words = beat // stride
            count = Signal(range(words + 1))
            m.d.comb += [
                self.word_valid.eq(count != 0),
                self.beat_ready.eq((count == 0) | ((count == 1) & self.word_ready)),
            ]
            with m.If(take):
                m.d.sync += [held.eq(self.beat), count.eq(words)]
            with m.Elif(give):
                m.d.sync += [held.eq(held >> stride), count.eq(count - 1)]
        else:
            beats = stride // beat
            count = Signal(range(beats + 1))
            full = count == beats
            m.d.comb += [self.word_valid.eq(full), self.beat_ready.eq(~full | self.word_ready)]
            with m.If(take):
                m.d.sync += [held.eq(Cat(held[beat:], self.beat)), count.eq(Mux(full, 1, count + 1))]
            with m.Elif(give):
                m.d.sync += count.eq(0)
        with m.If(self.flush):
            m.d.sync += count.eq(0)
        return m
