"""Claims about handshakes and order, by induction over time: the output stream, the unpacker, the delay line."""

from amaranth.back import rtlil
from amaranth.hdl import Cat, Module, Mux, ResetSignal, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO

import hw.emitter
from hw.delay import LONGEST_IN_MEMORY, Delay
from hw.emitter import Emitter
from hw.unpacker import Unpacker
from shiftforge.config import STREAM_BITS
from shiftforge.packets import word_stride_bits
from sim.proofs.element import config_for
from sim.proofs.miter import Claims, Mutant, Proof, Script

_FLUSH = 4
"""The emitter's last state; states are numbered in the order of their definition."""


class Machine(Claims):
    """The miter of a state machine: its inputs are free at every cycle, its reset too."""

    def __init__(self, unit: wiring.Component) -> None:
        super().__init__(Module())
        self.unit = unit
        self.m.submodules.unit = unit
        self.ports: list[Signal] = []
        self._peeked: list[tuple[str, str]] = []
        assert isinstance(unit.signature, wiring.Signature)
        for name, member in unit.signature.members.items():
            if member.flow == wiring.In:
                target = Value.cast(getattr(unit, name))
                source = Signal(len(target), name=f"in_{name}")
                self.m.d.comb += target.eq(source)
                self.ports.append(source)

    def peek(self, name: str, width: int) -> Signal:
        """A register inside the unit: an input of the miter that the solver is told to be equal to it."""
        port = Signal(width, name=f"peek_{name}")
        self.ports.append(port)
        self._peeked.append((port.name, name))
        return port

    def held(self, valid: Value, taken: Value, payload: Value, unless: Value) -> None:
        """Claim that what is offered and not taken is offered again, the same, unless `unless` was true or the reset was."""
        waiting, before = Signal(), Signal(len(payload))
        self.m.d.sync += [waiting.eq(valid & ~taken & ~unless), before.eq(payload)]
        self.claim(valid & (payload == before), when=waiting)

    def script(self, equal: tuple[tuple[str, Signal], ...] = (), twins: tuple[str, ...] = ()) -> Script:
        """`twins` are registers of `unit` and of a second unit, `other`."""
        named = (*((mine, its.name) for mine, its in equal), *((name, f"other.{name}") for name in twins))
        ports = [*self.ports, *(its for _, its in equal), self.close()]
        return Script(
            rtlil.convert(self.m, name="top", ports=ports, emit_src=False), equal=named, peeked=tuple(self._peeked)
        )


def emitter_script(stream_bits: int) -> Script:
    """`Emitter`: tvalid is never withdrawn, tdata and tlast are stable while they wait, tkeep is full, `stall` says so."""
    config = config_for("fp16", 3, output="int8", stream_bits=stream_bits)
    machine = Machine(Emitter(config, room=2))
    unit = machine.unit
    valid, ready = unit.m_axis_tvalid, unit.m_axis_tready
    payload = Cat(unit.m_axis_tdata, unit.m_axis_tkeep, unit.m_axis_tlast)
    machine.held(valid, ready, payload, Value.cast(0))
    machine.claim(unit.m_axis_tkeep.all())
    machine.claim(unit.stall == (valid & ~ready))
    # The last beat waits in a state of its own, which ends the packet: one tlast per packet, and done when that is taken.
    waits = machine.peek("fsm_state", 3) == _FLUSH
    machine.claim(waits == (valid & unit.m_axis_tlast))
    machine.claim((unit.result_done | unit.status_done) == (waits & ready))
    machine.claim(~(unit.result_done & unit.status_done))
    return machine.script()


def independent_script(stream_bits: int) -> Script:
    """`Emitter`: tvalid never waits for tready, because without tvalid tready changes nothing at all.

    Two emitters with the same inputs, but for tready while no beat is offered, which is free in each: all registers stay equal.
    What the FIFO offers is free, the same for both.
    """
    config = config_for("fp16", 3, output="int8", stream_bits=stream_bits)
    machine = Machine(Emitter(config, room=2))
    m, unit, other = machine.m, machine.unit, Emitter(config, room=2)
    m.submodules.other = other
    for name, member in unit.signature.members.items():
        if member.flow == wiring.In and name != "m_axis_tready":
            m.d.comb += Value.cast(getattr(other, name)).eq(Value.cast(getattr(unit, name)))
    ready, offered = Signal(name="in_other_ready"), Signal(config.lanes * config.output.bits + 1, name="in_fifo_data")
    some = Signal(name="in_fifo_ready")
    machine.ports += [ready, offered, some]
    m.d.comb += other.m_axis_tready.eq(Mux(unit.m_axis_tvalid, unit.m_axis_tready, ready))
    waits = machine.peek("fsm_state", 3) == _FLUSH
    machine.claim(waits == (unit.m_axis_tvalid & unit.m_axis_tlast))
    registers = ["m_axis_tvalid", "m_axis_tlast", "m_axis_tdata", "fsm_state", "index", "is_status", "kept_sequence"]
    registers += ["kept_cycles", "kept_stall_output", "gathered"]
    for name, member in unit.signature.members.items():
        if member.flow == wiring.Out and name != "taken":
            machine.claim(getattr(unit, name) == getattr(other, name))

    def free_fifo(width: int, depth: int) -> SyncFIFO:
        fifo = _FreeFIFO(width=width, depth=depth)
        fifo.offered, fifo.some = offered, some
        return fifo

    usual = hw.emitter.SyncFIFO
    hw.emitter.SyncFIFO = free_fifo
    try:
        return machine.script(twins=tuple(registers))
    finally:
        hw.emitter.SyncFIFO = usual


class _FreeFIFO(SyncFIFO):
    """Offers whatever the miter likes."""

    offered: Value
    some: Value

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += [self.r_data.eq(self.offered), self.r_rdy.eq(self.some)]
        return m


def unpacker_script(word_bits: int, beat_bits: int) -> Script:
    """`Unpacker`: each word is offered until it is taken, is stable meanwhile, and is the right part of the right beats."""
    machine = Machine(Unpacker(word_bits, beat_bits))
    m, unit = machine.m, machine.unit
    stride = word_stride_bits(word_bits)
    machine.held(unit.word_valid, unit.word_ready, unit.word, unit.flush)
    take, give = unit.beat_valid & unit.beat_ready, unit.word_valid & unit.word_ready
    if stride <= beat_bits:
        # The beat that is being cut, and which of its words is next: a multiplexer where the unit shifts.
        words = beat_bits // stride
        beat, left = Signal(beat_bits), Signal(range(words + 1), name="spec_left")
        rest = Signal(beat_bits)
        with m.If(unit.flush):
            m.d.sync += left.eq(0)
        with m.Elif(take):
            m.d.sync += left.eq(words)
        with m.Elif(give):
            m.d.sync += left.eq(left - 1)
        with m.If(take):
            m.d.sync += beat.eq(unit.beat)
        with m.Switch(left):
            for n in range(1, words + 1):
                with m.Case(n):
                    m.d.comb += rest.eq(beat[beat_bits - n * stride :])
        machine.claim(unit.word_valid == (left != 0))
        machine.claim(unit.word == rest[:word_bits], when=unit.word_valid)
        machine.claim(left <= words)
        machine.claim(unit.beat_ready == ((left == 0) | ((left == 1) & unit.word_ready)))
        return machine.script((("count", left),))
    # The beats since the last word, the first one lowest.
    beats = stride // beat_bits
    count = Signal(range(beats + 1), name="spec_count")
    places = [Signal(beat_bits, name=f"place_{i}") for i in range(beats)]
    with m.If(take):
        for i, place in enumerate(places):
            with m.If(Mux(count == beats, 0, count) == i):
                m.d.sync += place.eq(unit.beat)
        m.d.sync += count.eq(Mux(count == beats, 1, count + 1))
    with m.Elif(give):
        m.d.sync += count.eq(0)
    with m.If(unit.flush):
        m.d.sync += count.eq(0)
    machine.claim(unit.word_valid == (count == beats))
    machine.claim(unit.word == Cat(*places)[:word_bits], when=unit.word_valid)
    machine.claim(count <= beats)
    # What is collected so far, so that the induction starts from no state that cannot be.
    held = machine.peek("held", stride)
    for n in range(1, beats + 1):
        machine.claim(held[stride - n * beat_bits :] == Cat(*places[:n]), when=count == n)
    return machine.script((("count", count),))


def delay_script(cycles: int) -> Script:
    """`Delay` gives what registers give, once as many cycles have passed as it is long."""
    machine = Machine(Delay(4, cycles))
    m = machine.m
    chain: Value = machine.unit.i
    for i in range(cycles):
        stage = Signal(4, name=f"chain_{i}", reset_less=True)
        m.d.sync += stage.eq(chain)
        chain = stage
    machine.assume(~ResetSignal())
    machine.claim(machine.unit.o == chain)
    return machine.script()


_UNPACKER = "hw/unpacker.py"
_CUT = (
    Mutant(_UNPACKER, "(count == 1) & self.word_ready", "(count == 1)"),
    Mutant(_UNPACKER, "held.eq(held >> stride)", "held.eq(held >> (stride + 1))"),
)
_JOIN = (
    Mutant(_UNPACKER, "self.beat_ready.eq(~full | self.word_ready)", "self.beat_ready.eq(1)"),
    Mutant(_UNPACKER, "Cat(held[beat:], self.beat)", "Cat(self.beat, held[:-beat])"),
)
_EMITTER = (
    Mutant("hw/emitter.py", "free.eq(~self.stall)", "free.eq(1)"),
    Mutant("hw/emitter.py", "fifo.r_rdy & (free | ~complete)", "fifo.r_rdy"),
)
_WAITING = (
    Mutant("hw/emitter.py", "free.eq(~self.stall)", "free.eq(self.m_axis_tready)"),
    Mutant(
        "hw/emitter.py",
        "with m.If(self.status | self.result):",
        "with m.If(self.status & self.m_axis_tready | self.result):",
    ),
)
_DELAY = (Mutant("hw/delay.py", "depth = self.cycles - 1", "depth = self.cycles"),)


def stream_proofs() -> list[Proof]:
    """The emitter for every width of the stream; unpackers that cut, that pass on, and that join."""
    found = [
        Proof(f"emitter, stream of {bits}", lambda bits=bits: emitter_script(bits), _EMITTER, fast=bits == 32)
        for bits in STREAM_BITS
    ]
    found.append(Proof("emitter, tvalid does not wait for tready", lambda: independent_script(32), _WAITING, fast=True))
    for word, beat in ((8, 32), (9, 64), (32, 32), (80, 64), (64, 32), (300, 128)):
        stride = word_stride_bits(word)
        mutants = _JOIN if stride > beat else _CUT if stride < beat else _CUT[:1]  # one word per beat is never shifted
        found.append(
            Proof(
                f"unpacker, words of {word} from beats of {beat}",
                lambda word=word, beat=beat: unpacker_script(word, beat),
                mutants,
                fast=(word, beat) in ((8, 32), (80, 64)),
            )
        )
    found += [
        Proof(f"delay line of {n}", lambda n=n: delay_script(n), _DELAY, fast=n == 5)
        for n in (2, 5, 9, LONGEST_IN_MEMORY)
    ]
    return found
