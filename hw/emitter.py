"""Emitter: RESULT and STATUS_REPLY packets onto the output stream."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.layer import layer_layout
from hw.streams import output_stream_members
from shiftforge.config import Config
from shiftforge.packets import HEADER_BYTES, MAGIC, STATUS_BYTES, STATUS_FIELDS, Opcode


class Emitter(wiring.Component):
    """One packet at a time; outputs are registered, tvalid never waits for tready, and a beat stays until it is taken.

    A RESULT packet begins with its layer, its header leaving while the first tile still accumulates. Steps wait in a FIFO of `room`
    steps, into which the drain issues only what fits.

    Parameters
    ----------
    config : Config
    room : int
        Steps in the FIFO.

    Members
    -------
    m_axis_* : the output stream
    layer, sequence : In
    result : In(1)
        A layer that goes to the stream starts.
    status : In(1), status_<field> : In(32)
        A status request; `cycles` and `stall_output` are kept from that cycle, the others must be stable until `done`.
    fifo_write, fifo_data, fifo_last : In
    taken : Out(1)
        A step has left the FIFO.
    result_done, status_done : Out(1)
        The packet's last beat has been taken.
    idle : Out(1) ; stall : Out(1)
        A beat is offered and not taken.
    """

    def __init__(self, config: Config, room: int):
        self.config, self.room = config, room
        super().__init__(
            {
                **output_stream_members(config),
                "layer": In(layer_layout(config)),
                "sequence": In(16),
                "result": In(1),
                "status": In(1),
                **{f"status_{name}": In(32) for name, _ in STATUS_FIELDS},
                "fifo_write": In(1),
                "fifo_data": In(config.lanes * config.output.bits),
                "fifo_last": In(1),
                "taken": Out(1),
                "result_done": Out(1),
                "status_done": Out(1),
                "idle": Out(1),
                "stall": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self.config.stream_bits
        step_bits = self.config.lanes * self.config.output.bits
        header_beats = 8 * HEADER_BYTES // width
        status_beats = 8 * STATUS_BYTES // width

        m.submodules.fifo = fifo = SyncFIFO(width=step_bits + 1, depth=self.room)
        step, step_last = fifo.r_data[:step_bits], fifo.r_data[step_bits]
        m.d.comb += [
            fifo.w_en.eq(self.fifo_write),
            fifo.w_data.eq(Cat(self.fifo_data, self.fifo_last)),
            fifo.r_en.eq(self.taken),
            self.m_axis_tkeep.eq(-1),
            self.stall.eq(self.m_axis_tvalid & ~self.m_axis_tready),
        ]
        free = Signal()
        m.d.comb += free.eq(~self.stall)
        with m.If(free):
            m.d.sync += self.m_axis_tvalid.eq(0)

        def send(beat: Value, last: Value) -> None:
            m.d.sync += [self.m_axis_tdata.eq(beat), self.m_axis_tvalid.eq(1), self.m_axis_tlast.eq(last)]

        is_status = Signal()
        kept_sequence = Signal(16)
        kept = {name: Signal(32, name=f"kept_{name}") for name in ("cycles", "stall_output")}
        header = Cat(
            Const(MAGIC, 16),
            Mux(is_status, int(Opcode.STATUS_REPLY), int(Opcode.RESULT)) & Const(0xFF, 8),
            Const(0, 8),
            kept_sequence,
            Const(0, 16),
            Const(0, 32),
            Mux(is_status, Const(STATUS_BYTES, 32), self.layer.result_bytes),
        )
        words = Cat(kept.get(name, getattr(self, f"status_{name}")) for name, _ in STATUS_FIELDS)
        index = Signal(range(max(header_beats, status_beats, step_bits // width, width // step_bits)))

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(1)
                m.d.sync += [kept_sequence.eq(self.sequence), is_status.eq(self.status), index.eq(0)]
                with m.If(self.status):
                    m.d.sync += [kept[name].eq(getattr(self, f"status_{name}")) for name in kept]
                with m.If(self.status | self.result):
                    m.next = "HEADER"
            with m.State("HEADER"), m.If(free):
                send(header.word_select(index, width), Const(0, 1))
                m.d.sync += index.eq(index + 1)
                with m.If(index == header_beats - 1):
                    m.d.sync += index.eq(0)
                    with m.If(is_status):
                        m.next = "STATUS"
                    with m.Else():
                        m.next = "RESULT"
            with m.State("STATUS"), m.If(free):
                send(words.word_select(index, width), index == status_beats - 1)
                m.d.sync += index.eq(index + 1)
                with m.If(index == status_beats - 1):
                    m.next = "FLUSH"
            with m.State("RESULT"):
                if step_bits <= width:
                    steps = width // step_bits
                    gathered = Signal(width)
                    whole = Signal(width)
                    complete = Signal()
                    m.d.comb += [
                        whole.eq(gathered),
                        whole.word_select(index, step_bits).eq(step),
                        complete.eq((index == steps - 1) | step_last),
                        self.taken.eq(fifo.r_rdy & (free | ~complete)),
                    ]
                    with m.If(self.taken):
                        m.d.sync += [gathered.eq(whole), index.eq(index + 1)]
                        with m.If(complete):
                            m.d.sync += [gathered.eq(0), index.eq(0)]
                            send(whole, step_last)
                            with m.If(step_last):
                                m.next = "FLUSH"
                else:
                    last = index == step_bits // width - 1
                    with m.If(fifo.r_rdy & free):
                        send(step.word_select(index, width), step_last & last)
                        m.d.comb += self.taken.eq(last)
                        m.d.sync += index.eq(Mux(last, 0, index + 1))
                        with m.If(last & step_last):
                            m.next = "FLUSH"
            with m.State("FLUSH"), m.If(self.m_axis_tready):
                m.d.comb += [self.result_done.eq(~is_status), self.status_done.eq(is_status)]
                m.next = "IDLE"
        return m
