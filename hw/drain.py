"""Drain: reads finished tiles out of the columns, step by step, into the post-processing lanes."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.column import sum_layout
from hw.delay import delayed
from hw.layer import layer_layout
from hw.walk import ChannelWalk, TileWalk
from shiftforge import timing
from shiftforge.config import Config


class Drain(wiring.Component):
    """Issues a step whenever a tile is complete and, for a layer that goes to the stream, the output FIFO has room for it.

    A step reads row `row` of `lanes` neighbouring columns; its sums reach the lanes `timing.DRAIN_READ` cycles later.

    Parameters
    ----------
    config : Config
    room : int
        Steps that the output FIFO holds.

    Members
    -------
    layer, start : In
    tile : In(1)
        The last column has completed a tile.
    taken : In(1)
        A step has left the output FIFO.
    set, row : Out ; read_c : In(sum_layout), one per column c
        The columns' buffers.
    sum_l : Out(sum_layout), one per lane l
    step : Out(1)
        A step is issued in this cycle, with `parameter_address`.
    tile_drained : Out(1)
    """

    def __init__(self, config: Config, room: int):
        self.config, self.room = config, room
        super().__init__(
            {
                "layer": In(layer_layout(config)),
                "start": In(1),
                "tile": In(1),
                "taken": In(1),
                "set": Out(1),
                "row": Out(range(max(config.rows, 2))),
                **{f"read_{c}": In(sum_layout(config)) for c in range(config.cols)},
                **{f"sum_{lane}": Out(sum_layout(config)) for lane in range(config.lanes)},
                "step": Out(1),
                "parameter_address": Out(range(config.parameter_words)),
                "tile_drained": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, layer = self.config, self.layer
        m.submodules.walk = walk = TileWalk(config)
        complete = Signal(range(4))
        credits = Signal(range(self.room + 1), init=self.room)
        m.d.comb += [
            walk.layer.eq(layer),
            walk.start.eq(self.start),
            walk.step.eq(self.step),
            self.row.eq(walk.row),
            self.step.eq((complete != 0) & (~layer.to_stream | (credits != 0))),
            self.tile_drained.eq(self.step & walk.tile_end),
        ]
        with m.If(self.tile & ~self.tile_drained):
            m.d.sync += complete.eq(complete + 1)
        with m.Elif(~self.tile & self.tile_drained):
            m.d.sync += complete.eq(complete - 1)
        with m.If(self.tile_drained):
            m.d.sync += self.set.eq(~self.set)
        spend = self.step & layer.to_stream
        with m.If(spend & ~self.taken):
            m.d.sync += credits.eq(credits - 1)
        with m.Elif(~spend & self.taken):
            m.d.sync += credits.eq(credits + 1)

        tile_parameters = Signal(range(config.parameter_words))
        m.d.comb += self.parameter_address.eq(tile_parameters + walk.group)
        with m.If(self.start):
            m.d.sync += tile_parameters.eq(layer.parameter_address)
        with m.Elif(self.step & walk.pass_end):
            m.d.sync += tile_parameters.eq(tile_parameters + config.groups)

        group = delayed(m, walk.group, timing.DRAIN_READ - 1, "group")
        for lane in range(config.lanes):
            choices = [getattr(self, f"read_{c}").as_value() for c in range(lane, config.cols, config.lanes)]
            m.d.sync += getattr(self, f"sum_{lane}").eq(Array(choices)[group])
        return m


class Writer(wiring.Component):
    """Takes the lanes' results in step order: to the activation memory, or to the output FIFO.

    Memory writes leave one cycle after the step. `layer_written` follows the last of an on-chip layer, once it is in the memory.

    Parameters
    ----------
    config : Config

    Members
    -------
    layer, start : In
    step : In(1)
        Results of a step are at `code_l`, with `nv_l`, `of_l`, `nx_l`.
    write_b, write_address_b, write_data_b : Out, one of each per activation bank
    fifo_write, fifo_data, fifo_last : Out
        A step of the RESULT packet: lane 0 lowest, lanes past the last channel zero.
    flags : Out(3)
        NV, OF, NX of valid results, one cycle after the step.
    layer_written : Out(1)
    """

    def __init__(self, config: Config):
        self.config = config
        code = max(config.activation.bits, config.output.bits)
        members: dict[str, wiring.Member] = {
            "layer": In(layer_layout(config)),
            "start": In(1),
            "step": In(1),
            "fifo_write": Out(1),
            "fifo_data": Out(config.lanes * config.output.bits),
            "fifo_last": Out(1),
            "flags": Out(3),
            "layer_written": Out(1),
            "writing": Out(1),
        }
        for lane in range(config.lanes):
            members[f"code_{lane}"] = In(code)
            members |= {f"{flag}_{lane}": In(1) for flag in ("nv", "of", "nx")}
        for b in range(config.rows):
            members[f"write_{b}"] = Out(1)
            members[f"write_address_{b}"] = Out(range(config.activation_words))
            members[f"write_data_{b}"] = Out(config.activation.bits)
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, layer = self.config, self.layer
        rows, cols, lanes = config.rows, config.cols, config.lanes
        m.submodules.walk = walk = TileWalk(config)
        m.d.comb += [walk.layer.eq(layer), walk.start.eq(self.start), walk.step.eq(self.step)]

        # Which lanes carry a channel of this layer.
        codes, valid, flags = [], [], []
        channels = Signal(range(cols + 1))
        m.d.comb += channels.eq(Mux(walk.last_tile, layer.n_tail, cols))
        for lane in range(lanes):
            here = Signal(name=f"valid_{lane}")
            m.d.comb += here.eq(walk.group * lanes + lane < channels)
            valid.append(here)
            codes.append(getattr(self, f"code_{lane}"))
            flags.append(
                Mux(self.step & here, getattr(self, f"nv_{lane}"), 0)
                | Mux(self.step & here, getattr(self, f"of_{lane}") << 1, 0)
                | Mux(self.step & here, getattr(self, f"nx_{lane}") << 2, 0)
            )
        for lane in range(1, lanes):
            flags[0] = flags[0] | flags[lane]
        m.d.sync += self.flags.eq(flags[0])

        # To the stream.
        out = config.output.bits
        m.d.comb += [
            self.fifo_write.eq(self.step & layer.to_stream),
            self.fifo_last.eq(walk.layer_end),
        ]
        for lane in range(lanes):
            m.d.comb += self.fifo_data.word_select(lane, out).eq(Mux(valid[lane], codes[lane], 0))

        # To the memory.
        m.submodules.channels = tensor = ChannelWalk(config)
        m.d.comb += [
            tensor.start.eq(self.start),
            tensor.step.eq(self.step),
            tensor.row_end.eq(walk.row_end),
            tensor.pass_end.eq(walk.pass_end),
            tensor.first_bank.eq(layer.output_bank),
            tensor.first_word.eq(layer.output_address),
            tensor.stride.eq(layer.output_stride),
        ]
        bank, word = tensor.bank, tensor.word
        store = self.step & ~layer.to_stream
        for b in range(rows):
            before = Signal(name=f"before_{b}")
            m.d.comb += before.eq(b < bank if b < rows - 1 else 0)
            lane = Signal(range(max(rows, 2)), name=f"lane_{b}")
            m.d.comb += lane.eq(Mux(before, b + rows, b) - bank)
            padding = [0] * ((1 << len(lane)) - lanes)
            m.d.sync += [
                getattr(self, f"write_{b}").eq(store & Array([*valid, *padding])[lane]),
                getattr(self, f"write_address_{b}").eq(word + before),
                getattr(self, f"write_data_{b}").eq(Array(codes)[lane] if lanes > 1 else codes[0]),
            ]
        ending = Signal()
        m.d.sync += [self.writing.eq(store), ending.eq(store & walk.layer_end), self.layer_written.eq(ending)]
        return m
