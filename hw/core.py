"""Core: everything between the two streams."""

from amaranth.hdl import Cat, Const, DomainRenamer, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw import reset
from hw.accumulator import column_of, element_of, idle_token, row_edge_of
from hw.array import Array
from hw.decoder import Decoder
from hw.delay import chain, delayed
from hw.drain import Drain, Writer
from hw.emitter import Emitter
from hw.engine import Engine
from hw.feed import Feed
from hw.instance import Ports, Unit
from hw.lane import Lane
from hw.layer import within_page
from hw.memories import ActivationMemory, WordMemory
from hw.pool import Pool
from hw.registers import COUNTERS
from hw.residual import Residual
from hw.streams import input_stream_members, output_stream_members
from shiftforge import timing
from shiftforge.config import Config
from shiftforge.packets import STATUS_FIELDS
from shiftforge.registers import Error, Status

LANE_SETTINGS = ("exponent_bias", "post", "saturate", "act_kind", "act_shift", "clamp_lo", "clamp_hi")
"""Descriptor fields that a lane reads."""
_PARTS = ("decoder", "engine", "drain", "writer", "emitter", "activations")
"""Submodules, and the domains that reset them."""


class Core(wiring.Component):
    """Decoder, memories, engine, array, drain, lanes, writer and emitter, wired together.

    Parameters
    ----------
    config : Config

    Members
    -------
    s_axis_*, m_axis_* : the streams
    enable, clear_errors, clear_flags : In
    errors, error_sequence, flags, status, <counter> : Out

    Attributes
    ----------
    resets : tuple of str
    units : tuple of Unit
        What is instantiated here and emitted once by `hw.verilog`.
    """

    def __init__(self, config: Config):
        config.require_hardware()
        self.config = config
        self._row_resets, self._column_resets = reset.rows(config.rows), reset.columns(config.cols)
        self.array = Array(config, element_of(config), self._row_resets)
        self.activations = ActivationMemory(config)
        self.feed, self.lane = Feed(config, self._row_resets), Lane(config)
        self.row_edge, self.column = row_edge_of(config), column_of(config)
        super().__init__(
            {
                **input_stream_members(config),
                **output_stream_members(config),
                "enable": In(1),
                "clear_errors": In(len(Error)),
                "clear_flags": In(3),
                "errors": Out(len(Error)),
                "error_sequence": Out(16),
                "flags": Out(3),
                "status": Out(len(Status)),
                **{name: Out(32) for name in COUNTERS},
            }
        )

    @property
    def resets(self) -> tuple[str, ...]:
        """Domains other than ``sync`` that it needs, equal to it but for the net of their reset."""
        return (*_PARTS, *self._row_resets, *self._column_resets)

    @property
    def units(self) -> tuple[Unit, ...]:
        return (self.array.pe, *self.feed.units, self.row_edge, self.column, self.lane, self.activations.bank)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        rows, cols, lanes = config.rows, config.cols, config.lanes
        room = timing.fifo_steps(config)
        decoder = Decoder(config)
        engine = Engine(config)
        array = self.array
        drain = Drain(config, room)
        writer = Writer(config)
        emitter = Emitter(config, room)
        activations = self.activations
        for part, unit in zip(_PARTS, (decoder, engine, drain, writer, emitter, activations), strict=True):
            m.submodules[part] = DomainRenamer(part)(unit)
        m.submodules.array = array
        m.submodules.weights = weights = WordMemory(config.weight_words, config.weight_word_bits)
        m.submodules.parameters = parameters = WordMemory(config.parameter_words, config.parameter_word_bits)

        pool_written: Value = Const(0, 1)
        pool = Pool(config) if config.max_pool else None
        if pool is not None:
            m.submodules.pool = pool
            m.d.comb += [
                pool.layer.eq(decoder.layer),
                pool.start.eq(decoder.start),
                pool.reading.eq(engine.reading),
                pool.data.eq(activations.data),
            ]
            pool_written = pool.layer_written

        # ---- streams and layer control
        for name in ("tdata", "tkeep", "tvalid", "tlast"):
            m.d.comb += getattr(decoder, f"s_axis_{name}").eq(getattr(self, f"s_axis_{name}"))
            m.d.comb += getattr(self, f"m_axis_{name}").eq(getattr(emitter, f"m_axis_{name}"))
        m.d.comb += [
            self.s_axis_tready.eq(decoder.s_axis_tready),
            emitter.m_axis_tready.eq(self.m_axis_tready),
            decoder.enable.eq(self.enable),
            decoder.idle.eq(~decoder.busy & emitter.idle),
            decoder.layer_done.eq(writer.layer_written | emitter.result_done | pool_written),
            decoder.status_done.eq(emitter.status_done),
            emitter.layer.eq(decoder.layer),
            emitter.sequence.eq(decoder.sequence),
            emitter.result.eq(decoder.start & decoder.layer.to_stream),
            emitter.status.eq(decoder.status_request),
        ]
        for unit in (engine, drain, writer):
            m.d.comb += [unit.layer.eq(decoder.layer), unit.start.eq(decoder.start)]

        # ---- memories' write sides
        m.d.comb += [
            weights.write.eq(decoder.weight_write),
            weights.write_address.eq(decoder.write_address),
            weights.write_data.eq(decoder.weight_data),
            parameters.write.eq(decoder.parameter_write),
            parameters.write_address.eq(decoder.write_address),
            parameters.write_data.eq(decoder.parameter_data),
        ]

        def in_output_page(address: Value) -> Value:
            return within_page(address, decoder.layer.output_address, config.activation_page)

        for b in range(rows):
            write, address, data = (
                getattr(activations, f"write_{b}"),
                getattr(activations, f"write_address_{b}"),
                getattr(activations, f"write_data_{b}"),
            )
            m.d.comb += [
                write.eq(decoder.activation_write),
                address.eq(decoder.write_address),
                data.eq(decoder.activation_data.word_select(b, config.activation.bits)),
            ]
            with m.If(writer.writing):
                m.d.comb += [
                    write.eq(getattr(writer, f"write_{b}")),
                    address.eq(in_output_page(getattr(writer, f"write_address_{b}"))),
                    data.eq(getattr(writer, f"write_data_{b}")),
                ]
            if pool is not None:
                with m.If(pool.writing):
                    m.d.comb += [
                        write.eq(1),
                        address.eq(in_output_page(pool.write_address)),
                        data.eq(pool.write_data.word_select(b, config.activation.bits)),
                    ]
        if config.activation_pages > 2:
            m.d.comb += decoder.hold.eq(writer.writing | (pool.writing if pool is not None else 0))

        # ---- feed: memory, row feeds and edges; tokens and weights meet the activations at the array
        layer = decoder.layer
        m.submodules.feed = feed = self.feed
        m.d.comb += [getattr(feed, name).eq(getattr(engine, name)) for name in ("address", "zero", "tail", "load")]
        m.d.comb += [feed.k_tail.eq(layer.k_tail), feed.data.eq(activations.data)]
        if pool is not None:
            m.d.comb += feed.whole.eq(layer.pool_kind)
        # The edge of banked accumulators takes the token with the code; the aligned one leaves it to its delay.
        to_edge = timing.feed(config) - (timing.row_edge(config) if config.banked else 0)
        idle = idle_token(config)
        token = chain(m, engine.token.as_value(), to_edge, "token", idle)
        for r in range(rows):
            edge = Ports(self.row_edge, f"edge_{r}", self._row_resets[r])
            m.submodules[f"edge_{r}"] = edge.instance
            m.d.comb += [
                getattr(activations, f"address_{r}").eq(getattr(feed, f"bank_address_{r}")),
                edge["code"].eq(getattr(feed, f"code_{r}")),
                *([edge["token"].eq(token)] if config.banked else []),
                *(getattr(array, f"{name}_{r}").eq(token if name == "token" else edge[name]) for name in array.moving),
            ]
            token = chain(m, token, 1, f"token_{r}", idle)
        m.d.comb += [
            weights.address.eq(
                within_page(
                    delayed(m, engine.weight_address, timing.feed(config) - timing.MEMORY_READ, "weight_address"),
                    layer.weight_address,
                    config.weight_words // 2,
                )
            ),
            array.w.eq(weights.data),
        ]

        # ---- drain: columns, lanes, writer
        for c in range(cols):
            column = Ports(self.column, f"column_{c}", self._column_resets[c])
            m.submodules[f"column_{c}"] = column.instance
            m.d.comb += [
                column["capture"].eq(getattr(array, f"column_{c}")),
                column["set"].eq(drain.set),
                column["row"].eq(drain.row),
                column["tally"].eq(getattr(array, f"tally_{c}")),
                getattr(drain, f"read_{c}").eq(column["read"]),
            ]
            if c == cols - 1:
                m.d.comb += drain.tile.eq(column["tile"])
        # A credit takes a cycle back to the drain (`timing.CREDIT`): the FIFO's output is late in the cycle, and the drain far off.
        taken = Signal()
        m.d.sync += taken.eq(emitter.taken)
        m.d.comb += [
            drain.taken.eq(taken),
            engine.tile_drained.eq(drain.tile_drained),
            parameters.address.eq(
                within_page(
                    delayed(
                        m,
                        drain.parameter_address,
                        timing.DRAIN_READ + timing.lane_parameters(config) - timing.MEMORY_READ,
                        "parameter_address",
                    ),
                    layer.parameter_address,
                    config.parameter_words // 2,
                )
            ),
        ]
        # On its way to the writer a step passes the cycle in which its residual is read.
        to_residual = timing.DRAIN_READ + timing.lane_residual(config) - timing.RESIDUAL_READ if config.residual else 0
        step = chain(m, drain.step, to_residual, "residual_step")
        to_writer = timing.DRAIN_READ + timing.lane(config) - to_residual
        m.d.comb += writer.step.eq(chain(m, step, to_writer, "step"))
        residual = Residual(config) if config.residual else None
        if residual is not None:
            m.submodules.residual = residual
            m.d.comb += [
                residual.layer.eq(layer),
                residual.start.eq(decoder.start),
                residual.step.eq(step),
                residual.data.eq(activations.residual_data),
                *(
                    getattr(activations, f"residual_address_{b}").eq(getattr(residual, f"address_{b}"))
                    for b in range(rows)
                ),
            ]
        for i in range(lanes):
            lane = Ports(self.lane, f"lane_{i}")
            m.submodules[f"lane_{i}"] = lane.instance
            total = getattr(drain, f"sum_{i}")
            m.d.comb += lane["sum"].eq(total.sum)
            if config.activation.flag_bits:
                m.d.comb += lane["flags"].eq(total.flags)
            m.d.comb += [lane[name].eq(decoder.layer[name]) for name in LANE_SETTINGS]
            if residual is not None:
                m.d.comb += [
                    lane["residual"].eq(getattr(residual, f"element_{i}")),
                    lane["add_residual"].eq(decoder.layer.residual),
                    lane["residual_scale"].eq(decoder.layer.residual_scale),
                ]
            m.d.comb += [
                lane["to_activation"].eq(~decoder.layer.to_stream),
                lane["scale"].eq(parameters.data[64 * i : 64 * i + 32]),
                lane["bias"].eq(parameters.data[64 * i + 32 : 64 * i + 64]),
                getattr(writer, f"code_{i}").eq(lane["code"]),
            ]
            m.d.comb += [getattr(writer, f"{flag}_{i}").eq(lane[flag]) for flag in ("nv", "of", "nx")]
        m.d.comb += [
            emitter.fifo_write.eq(writer.fifo_write),
            emitter.fifo_data.eq(writer.fifo_data),
            emitter.fifo_last.eq(writer.fifo_last),
        ]

        # ---- sticky errors and flags, counters, status
        clear = decoder.status_clear
        m.d.sync += self.flags.eq((self.flags & ~(self.clear_flags | clear.replicate(3))) | writer.flags)
        m.d.sync += self.errors.eq((self.errors & ~(self.clear_errors | clear.replicate(len(Error)))) | decoder.error)
        with m.If(decoder.error.any() & (self.errors == 0)):
            m.d.sync += self.error_sequence.eq(decoder.error_sequence)
        m.d.comb += self.status.eq(Cat(decoder.busy, decoder.configured))
        events = {
            "cycles": 1,
            "busy_cycles": decoder.busy,
            "slots": engine.slot,
            "stall_drain": engine.stall,
            "stall_input": decoder.stall,
            "stall_output": emitter.stall,
            "packets": decoder.accepted,
        }
        for name, event in events.items():
            counter = getattr(self, name)
            if name in ("slots", "stall_drain"):  # late in the cycle; a layer that is over has long been counted
                happened = Signal(name=f"{name}_happened")
                m.d.sync += happened.eq(event)
                event = happened
            m.d.sync += counter.eq(counter + event)
        for name, _ in STATUS_FIELDS:
            value = config.hash if name == "hash" else getattr(self, name)
            m.d.comb += getattr(emitter, f"status_{name}").eq(value)
        return m
