"""Designs around units for their benches: what has no Verilog module of its own, or needs more than one."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.unpacker import Unpacker
from shiftforge.config import STREAM_BITS

UNPACKER_WORDS = (1, 8, 9, 27, 32, 64, 80, 128, 200, 300)
"""Widths of the words: below a byte, whole bytes, powers of two, and those that are not."""
UNPACKERS = tuple((word, beat) for beat in STREAM_BITS for word in UNPACKER_WORDS)


class Unpackers(wiring.Component):
    """An unpacker of every width of `UNPACKERS`, side by side; unit i's ports end in ``_i``."""

    def __init__(self) -> None:
        self.units = [Unpacker(word, beat) for word, beat in UNPACKERS]
        members: dict[str, wiring.Member] = {}
        for i, (word, beat) in enumerate(UNPACKERS):
            members |= {f"{name}_{i}": In(1) for name in ("flush", "beat_valid", "word_ready")}
            members |= {f"{name}_{i}": Out(1) for name in ("beat_ready", "word_valid")}
            members |= {f"beat_{i}": In(beat), f"word_{i}": Out(word)}
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for i, unit in enumerate(self.units):
            m.submodules[f"unit_{i}"] = unit
            for name in ("flush", "beat", "beat_valid", "word_ready"):
                m.d.comb += getattr(unit, name).eq(getattr(self, f"{name}_{i}"))
            for name in ("beat_ready", "word", "word_valid"):
                m.d.comb += getattr(self, f"{name}_{i}").eq(getattr(unit, name))
        return m
