"""Engine of a banked machine: every slot in every cycle, drain slots and waits included, and what the cycle model says of it."""

from dataclasses import dataclass, field

import cocotb
import numpy as np

from golden.decoder import Layer
from golden.engine import BankedEngine, tile_latency
from shiftforge import timing
from shiftforge.banks import Banks
from shiftforge.config import Config, ceil_div
from sim.benches.engine import BUFFERS, Slot, issued, layer_slots, random_image
from sim.benches.lockstep import Script, Values, bench_setup, pack_layer, play, random_layer

LAYERS = 60


@dataclass
class Device:
    """The rules, cycle by cycle: what a running layer's tiles and drain slots have come to."""

    config: Config
    banks: int
    wiping: int = 0
    """Slots of the wipe after a reset that are still to come."""
    tile_set: int = 0
    read_set: int = 0
    bank: int = 0
    taken: int = 0
    """Drain buffers."""
    ends: list[int] = field(default_factory=list)
    """Cycle of each tile's last product."""
    reads: list[int] = field(default_factory=list)
    """Cycle of each tile's last drain slot."""
    last_read: int = -99

    def reset(self) -> None:
        self.wiping, self.tile_set, self.read_set, self.bank, self.taken = 2 * self.banks, 0, 0, 0, 0
        self.ends, self.reads = [], []

    def may_read(self, now: int, boundary: bool) -> bool:
        """Whether this cycle is a drain slot."""
        if (
            not boundary
            or len(self.reads) == len(self.ends)
            or now < self.last_read + timing.drain_spacing(self.config)
        ):
            return False
        return now >= self.ends[len(self.reads)] + timing.BANK_SETTLE and (self.bank > 0 or self.taken < BUFFERS)

    def tile_waits(self, now: int) -> bool:
        """Whether the set of banks of the tile that comes next is not free."""
        before = len(self.ends) - 2
        return before >= 0 and (len(self.reads) <= before or now < self.reads[before] + timing.BANK_SETTLE)

    def read(self, now: int) -> Values:
        """Issue a drain slot."""
        expected = {"token": 2 | self.read_set << 2 | self.bank << 3}
        self.taken += self.bank == 0
        self.last_read = now
        self._next_bank()
        if self.bank == 0:
            self.reads.append(now)
        return expected

    def wipe(self) -> Values:
        """Issue a slot of the wipe."""
        self.wiping -= 1
        expected = {"token": 3 | self.read_set << 2 | self.bank << 3}
        self._next_bank()
        return expected

    def _next_bank(self) -> None:
        self.bank = (self.bank + 1) % self.banks
        self.read_set ^= self.bank == 0

    def product(self, now: int, slot: Slot) -> Values:
        """Issue a product."""
        expected = issued(slot, self.config) | {"token": 1 | self.tile_set << 2 | self.bank << 3}
        if slot.token & 4:  # `last`
            self.ends.append(now)
            self.tile_set ^= 1
        return expected

    def step(self, now: int, slots: list[Slot]) -> Values:
        """One cycle; `slots` are the products that are not issued yet, of which the first one is taken out when it is issued."""
        slot = slots[0] if slots else None
        begins = slot is not None and slot.first
        waits = begins and (self.wiping > 0 or self.tile_waits(now))
        expected = {"load": 0, "slot": 0, "stall": int(waits)}
        if self.wiping:
            return expected | self.wipe()
        if self.may_read(now, slot is None or slot.load):
            return expected | self.read(now)
        if slot is None or waits:
            return expected | {"token": self.tile_set << 2 | self.bank << 3}
        slots.pop(0)
        return expected | self.product(now, slot)


def plan(layer: Layer, rng: np.random.Generator, start: int, wiped: int, pace: int) -> tuple[list[int], list[int], int]:
    """The cycle model's timeline, with drains up to `pace` cycles late: tiles' last drain slots, their drains' ends, stalls."""
    engine = BankedEngine(layer, start, wiped)
    reads: list[int] = []
    ends: list[int] = [start]
    for _ in range(layer["n_tiles"] * ceil_div(layer["pixels"], layer.config.rows)):
        complete = engine.complete()
        reads.append(complete - tile_latency(layer.config))
        ends.append(max(complete, ends[-1]) + 1 + int(rng.integers(pace)))
        engine.drained(ends[-1])
    return reads, ends[1:], engine.stall


@cocotb.test()
async def every_slot(dut) -> None:
    """One slot per cycle, a product or a drain slot, as the rules say; the cycle model tells the same drain slots and stalls."""
    config, rng = bench_setup()
    script, device = Script(), Device(config, Banks.of(config).count)
    waited = stolen = 0
    for number in range(LAYERS):
        fields = random_layer(rng, config)
        image = random_image(rng, config) if number % 2 else None
        if image is not None:
            g = image.geometry
            fields |= g.descriptor(image.address, config.activation_page, image.pixel_words, image.tap_words)
        slots = list(layer_slots(config, fields, image))
        wiped = 0
        if number % 4 == 0:  # the wipe goes on while the layer comes
            script.cycle({"rst": 1, "start": 0, "tile_drained": 0})
            device.reset()
            wiped = script.now + device.wiping
        for given in [
            {"layer": pack_layer(config, fields), "rst": 0, "start": 0},
            *[{}] * int(rng.integers(1, 9)),
            {"start": 1},
        ]:
            script.cycle(given, device.step(script.now, []))
        start = script.now - 1
        device.ends.clear()
        device.reads.clear()
        pace = (1, 4 * config.rows, 8 * config.rows * config.max_k_words)[number % 3]
        reads, drains, stalls = plan(Layer(fields, config), rng, start, wiped, pace)
        counted = 0
        # Some layers are left by a reset.
        leave = start + int(rng.integers(1, drains[-1] - start)) if number % 4 == 3 else drains[-1]
        while script.now <= leave:
            drained = int(script.now in drains)
            expected = device.step(script.now, slots)
            stolen += bool(slots) and expected["token"] & 3 == 2
            counted += expected["stall"]
            script.cycle({"start": 0, "tile_drained": drained}, expected)
            device.taken -= drained
        script.cycle({"tile_drained": 0})
        if number % 4 != 3:
            assert device.reads == reads, "the cycle model must tell the last drain slot of every tile"
            assert counted == stalls, f"the cycle model must tell {counted} stalls, not {stalls}"
        waited += counted
    assert waited > LAYERS, f"the stimulus must make tiles wait, not only {waited} times"
    assert stolen > LAYERS, f"drain slots must come between products, not only {stolen} times"
    await play(dut, script)
