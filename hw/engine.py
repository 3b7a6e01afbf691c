"""Engine: walks a layer's tiles and issues activation reads, weight reads and the tokens that travel with them."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.banked_pe import BANKED_TOKEN
from hw.drain_slots import DrainSlots
from hw.layer import layer_layout, option
from hw.patch import PatchWalk
from hw.pe import TOKEN
from hw.pool import READING
from shiftforge import timing
from shiftforge.banks import ADDRESS_BITS, Banks
from shiftforge.config import Config
from shiftforge.packets import MAX_POOL_WORDS


class Engine(wiring.Component):
    """Static schedule of a layer: channel tiles outside, pixel tiles inside, blocks of `rows` cycles within.

    In cycle j of a block it reads the block's word of the tile's pixel j and issues slot j of the dot products.

    With the aligned accumulator a tile's last block waits until one of the two drain buffers is free; nothing else ever stops it.
    With the banked one a cycle before a block may be given up to a drain slot of the tile before, and a tile does not begin before
    the words that it takes have been read (`hw.drain_slots.DrainSlots`).

    Parameters
    ----------
    config : Config

    Members
    -------
    layer, start : In
    tile_drained : In(1)
        A tile's last step has been read out of its drain buffer.
    address : Out
        Activation read (`hw.patch.PatchWalk`). `zero` (no such pixel, or outside the image) and `tail` (a tap's last word)
        belong to it.
    load : Out(1)
        First read of a block: row 0 loads its feed with it, each row below one cycle later.
    token, weight_address : Out
        Of the slot issued in this cycle.
    slot : Out(1)
        It is a product.
    reading : Out(READING), absent without `max_pool`
        Of the read of this cycle, for `hw.pool.Pool`; a maximum issues no products.
    stall : Out(1)
        A tile waits: its last block for a drain buffer (aligned), or its first for words (banked).
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "layer": In(layer_layout(config)),
                "start": In(1),
                "tile_drained": In(1),
                "address": Out(range(config.activation_words)),
                "zero": Out(1),
                "tail": Out(1),
                "load": Out(1),
                "token": Out(BANKED_TOKEN if config.banked else TOKEN),
                "weight_address": Out(range(config.weight_words)),
                "slot": Out(1),
                "stall": Out(1),
                **({"reading": Out(READING)} if config.max_pool else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, layer = self.config, self.layer
        rows = config.rows
        pool = option(layer, "pool_kind", config)
        most_blocks = max(config.max_k_words, MAX_POOL_WORDS if config.max_pool else 2)

        running = Signal()
        phase = Signal(range(max(rows, 2)))
        block = Signal(range(most_blocks))
        tiles_left = Signal(16)
        pixels_left = Signal(24)
        tile_weights = Signal(range(config.weight_words))
        waiting = Signal(range(timing.DRAIN_SETS + 1))
        # What a comparison decides is decided one tile ahead, so that no long comparison stands in the path of a slot.
        last_pixels, last_tile, one_tile_of_pixels = Signal(), Signal(), Signal()
        last_block_index = Signal(range(most_blocks))
        m.d.sync += [one_tile_of_pixels.eq(layer.pixels <= rows), last_block_index.eq(layer.k_words - 1)]

        m.submodules.patch = patch = PatchWalk(config)
        issue, product, full = Signal(), Signal(), Signal()
        first_phase = Signal(init=1)  # phase == 0; what is issued waits for it, so it is a register
        last_phase, last_block = Signal(), Signal()
        m.d.comb += [
            last_phase.eq(phase == rows - 1),
            last_block.eq(block == last_block_index),
            full.eq(waiting == timing.DRAIN_SETS),
            product.eq(issue & ~pool),
            self.slot.eq(product),
            self.address.eq(patch.address),
            self.zero.eq((pixels_left <= phase) | patch.outside),
            self.tail.eq(patch.tail),
            self.load.eq(issue & first_phase),
        ]

        if config.max_pool:
            last_read = issue & pool & last_phase & last_block & last_pixels
            m.d.comb += [
                self.reading.first.eq(block == 0),
                self.reading.outside.eq(patch.outside),
                self.reading.write.eq(issue & pool & last_block & (phase < pixels_left)),
                self.reading.pass_end.eq(last_read),
                self.reading.layer_end.eq(last_read & last_tile),
            ]

        reserve = Signal()  # of a drain buffer
        if not config.banked:
            m.d.comb += [
                self.stall.eq(running & first_phase & last_block & full),
                issue.eq(running & ~self.stall),
                reserve.eq(product & first_phase & last_block),
                self.token.valid.eq(product),
                self.token.hold.eq(~(product & last_phase)),
                self.token.last.eq(product & last_phase & last_block),
            ]
        else:
            m.submodules.drain_slots = drains = DrainSlots(config)
            banks = Banks.of(config)
            base, parity = Signal(ADDRESS_BITS), Signal()  # of the tile that issues its products
            tile_end = product & last_phase & last_block
            with m.If(tile_end):
                m.d.sync += [base.eq(base + banks.stride), parity.eq(~parity)]
            # Products and drain slots are in turn of one tile and the next: where that changes, the tile under way has ended.
            reading, turn = drains.slot & ~drains.wipe, Signal()
            under_way = (
                Signal()
            )  # parity of the tile that has had its first product or whose predecessor its first drain slot
            m.d.comb += turn.eq((product | reading) & (Mux(reading, ~drains.parity, parity) ^ under_way))
            m.d.sync += under_way.eq(under_way ^ turn)
            m.d.comb += [
                drains.may.eq(~running | first_phase),
                drains.tile_end.eq(tile_end),
                drains.full.eq(full),
                self.stall.eq(running & first_phase & drains.blocked),
                issue.eq(running & ~self.stall & ~drains.slot),
                reserve.eq(drains.first),
                self.token.write.eq(product | drains.slot),
                self.token.hold.eq(~reading),
                self.token.other.eq(~product),
                self.token.turn.eq(turn | drains.wipe),
                self.token.address.eq(Mux(drains.slot, drains.address, base)),
            ]
        with m.If(reserve & ~self.tile_drained):
            m.d.sync += waiting.eq(waiting + 1)
        with m.Elif(~reserve & self.tile_drained):
            m.d.sync += waiting.eq(waiting - 1)

        m.d.comb += [
            patch.layer.eq(layer),
            patch.start.eq(self.start),
            patch.step.eq(issue),
            patch.last_phase.eq(last_phase),
            patch.last_block.eq(last_block),
            patch.last_pixels.eq(last_pixels),
        ]
        with m.If(self.start):
            m.d.sync += [
                running.eq(1),
                phase.eq(0),
                first_phase.eq(1),
                block.eq(0),
                tiles_left.eq(layer.n_tiles),
                pixels_left.eq(layer.pixels),
                self.weight_address.eq(layer.weight_address),
                tile_weights.eq(layer.weight_address),
                last_pixels.eq(one_tile_of_pixels),
                last_tile.eq(layer.n_tiles == 1),
            ]
        with m.Elif(issue):
            m.d.sync += [
                phase.eq(Mux(last_phase, 0, phase + 1)),
                first_phase.eq(last_phase),
                self.weight_address.eq(self.weight_address + 1),
            ]
            with m.If(last_phase):
                m.d.sync += block.eq(block + 1)
                with m.If(last_block):
                    m.d.sync += block.eq(0)
                    with m.If(last_pixels):
                        m.d.sync += [
                            pixels_left.eq(layer.pixels),
                            tiles_left.eq(tiles_left - 1),
                            tile_weights.eq(self.weight_address + 1),
                            running.eq(~last_tile),
                            last_tile.eq(tiles_left == 2),
                            last_pixels.eq(one_tile_of_pixels),
                        ]
                    with m.Else():
                        m.d.sync += [
                            pixels_left.eq(pixels_left - rows),
                            last_pixels.eq(pixels_left <= 2 * rows),
                            self.weight_address.eq(tile_weights),
                        ]
        return m
