"""Engine of a banked machine: every slot in every cycle, drain slots and waits included, and what the cycle model says of it."""

from dataclasses import dataclass, field

import cocotb
import numpy as np

from golden.banked_edge import (
    TOKEN_ADDRESS_SHIFT,
    TOKEN_BUBBLE,
    TOKEN_DRAIN,
    TOKEN_PRODUCT,
    TOKEN_TURN,
    TOKEN_WIPE,
)
from golden.decoder import Layer
from golden.engine import BankedEngine, tile_latency
from shiftforge import timing
from shiftforge.banks import WORDS, Banks
from shiftforge.config import Config, ceil_div
from sim.benches.engine import BUFFERS, Slot, issued, layer_slots, random_image
from sim.benches.lockstep import Script, Values, bench_setup, pack_layer, play, random_layer

LAYERS = 60


@dataclass
class Device:
    """The rules, cycle by cycle: what a running layer's tiles and drain slots have come to."""

    config: Config
    banks: Banks
    wiping: int = 0
    """Slots of the wipe after a reset that are still to come."""
    base: int = 0
    """First word of the tile that issues products, or comes next."""
    address: int = 0
    """The next word to be read."""
    bank: int = 0
    """Which of its tile's it is."""
    turned: bool = True
    """Whether the tile last begun or, where it has ended, the next one is told from the one before it."""
    taken: int = 0
    """Drain buffers."""
    ends: list[int] = field(default_factory=list)
    """Cycle of each tile's last product."""
    slots: list[int] = field(default_factory=list)
    """Cycles of the drain slots, of all tiles in turn."""
    last_read: int = -99

    def reset(self) -> None:
        self.wiping, self.base, self.address, self.bank, self.taken, self.turned = WORDS, 0, 0, 0, 0, True
        self.layer()

    def layer(self) -> None:
        """Another layer begins."""
        self.ends, self.slots = [], []

    @property
    def reads(self) -> list[int]:
        """Cycle of each tile's last drain slot."""
        return self.slots[self.banks.count - 1 :: self.banks.count]

    def may_read(self, now: int, boundary: bool) -> bool:
        """Whether this cycle is a drain slot."""
        read = len(self.slots) // self.banks.count
        if not boundary or read == len(self.ends) or now < self.last_read + timing.drain_spacing(self.config):
            return False
        return now >= self.ends[read] + timing.BANK_SETTLE and (self.bank > 0 or self.taken < BUFFERS)

    def tile_waits(self, now: int) -> bool:
        """Whether a word of the tile that comes next is still one of the tile before it, or of the one before that."""
        tiles = len(self.ends)
        needed = max((tiles - 1) * self.banks.count, 0) + (self.banks.awaited if tiles else 0)
        read = sum(cycle + timing.BANK_SETTLE <= now for cycle in self.slots)
        return read < needed

    def read(self, now: int) -> Values:
        """Issue a drain slot."""
        newest = len(self.slots) // self.banks.count == len(self.ends) - 1
        expected = self._token(TOKEN_DRAIN, self.address, newest)
        self.taken += self.bank == 0
        self.last_read = now
        self.slots.append(now)
        self.bank = (self.bank + 1) % self.banks.count
        self.address += 1 if self.bank else self.banks.stride - self.banks.count + 1
        return expected

    def wipe(self) -> Values:
        """Issue a slot of the wipe."""
        expected = {"token": TOKEN_WIPE | (WORDS - self.wiping) << TOKEN_ADDRESS_SHIFT}
        self.wiping -= 1
        return expected

    def _token(self, kind: int, address: int, newest: bool) -> Values:
        """With the mark of a turn where it is the first of what follows a tile's end."""
        turn = newest and not self.turned
        self.turned |= turn
        return {"token": kind | turn * TOKEN_TURN | address % WORDS << TOKEN_ADDRESS_SHIFT}

    def product(self, now: int, slot: Slot) -> Values:
        """Issue a product."""
        expected = issued(slot, self.config) | self._token(TOKEN_PRODUCT, self.base, True)
        if slot.token & 4:  # `last`
            self.ends.append(now)
            self.base += self.banks.stride
            self.turned = False
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
            return expected | {"token": TOKEN_BUBBLE | self.base % WORDS << TOKEN_ADDRESS_SHIFT}
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
    script, device = Script(), Device(config, Banks.of(config))
    waited = stolen = 0
    for number in range(LAYERS):
        fields = random_layer(rng, config)
        image = random_image(rng, config) if number % 2 else None
        if image is not None:
            fields |= image.fields(config)
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
        device.layer()
        pace = (1, 4 * config.rows, 8 * config.rows * config.max_k_words)[number % 3]
        reads, drains, stalls = plan(Layer(fields, config), rng, start, wiped, pace)
        counted = 0
        # Some layers are left by a reset.
        leave = start + int(rng.integers(1, drains[-1] - start)) if number % 4 == 3 else drains[-1]
        while script.now <= leave:
            drained = int(script.now in drains)
            expected = device.step(script.now, slots)
            stolen += bool(slots) and expected["token"] & TOKEN_WIPE & ~TOKEN_TURN == TOKEN_DRAIN
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
