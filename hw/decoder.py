"""Decoder: the input stream's packets become memory writes, layer starts and status requests."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.layer import fixed_bits, in_range, layer_layout, option, page_of, store_word
from hw.streams import input_stream_members
from hw.unpacker import Unpacker
from shiftforge.config import Config
from shiftforge.packets import HEADER_BYTES, LAYER_BYTES, LAYER_WORDS, MAGIC, HeaderFlag, Opcode, memory_ports
from shiftforge.registers import Error

_NAMES = ("weight", "parameter", "activation")


class Decoder(wiring.Component):
    """One packet at a time, as `docs/architecture.md` says; tready depends on registers alone.

    Timing: a header takes its beats, then two cycles of checks (more while its memory page is in use, or, for CONFIG, LAYER and
    STATUS, until the machine is idle); a memory packet ends when its last word is written; a layer starts three cycles
    after its last beat, which it is weighed in.

    Parameters
    ----------
    config : Config

    Members
    -------
    s_axis_* : the input stream
    enable : In(1)
        While 0 no new header begins.
    idle : In(1)
        No layer runs and the output is empty.
    layer_done : In(1)
    status_done : In(1)
    hold : In(1), absent with two activation pages
        The layer writes the activation memory in this cycle: a word of an ACTIVATIONS packet waits.
    weight_write, parameter_write, activation_write : Out(1), with `write_address` and *_data
    layer, start : Out
        Descriptor registers (stable while the layer runs) and their start pulse.
    sequence : Out(16)
        Of the packet whose header came last: a layer's with `start`, a request's with `status_request`.
    error_sequence : Out(16)
        Of the packet that `error` is about; 0 for one that ended inside its header.
    status_request, status_clear : Out(1)
    error : Out(Error bits)
        For one cycle each, one cycle after what it is about.
    accepted : Out(1)
        A packet ended without an error, one cycle ago.
    stall : Out(1)
        Ready, and no beat offered, one cycle ago.
    configured : Out(1)
    busy : Out(1)
        From a layer's start to its `layer_done`.
    """

    def __init__(self, config: Config):
        self.config = config
        self.ports = memory_ports(config)
        widest = max(port.words for port in self.ports)
        super().__init__(
            {
                **input_stream_members(config),
                "enable": In(1),
                "idle": In(1),
                "layer_done": In(1),
                "status_done": In(1),
                **({"hold": In(1)} if config.activation_pages > 2 else {}),
                "write_address": Out(range(widest)),
                **{f"{name}_write": Out(1) for name in _NAMES},
                **{f"{name}_data": Out(port.word_bits) for name, port in zip(_NAMES, self.ports, strict=True)},
                "layer": Out(layer_layout(config)),
                "start": Out(1),
                "sequence": Out(16),
                "error_sequence": Out(16),
                "status_request": Out(1),
                "status_clear": Out(1),
                "error": Out(len(Error)),
                "accepted": Out(1),
                "stall": Out(1),
                "configured": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        beat_bytes = config.stream_bits // 8
        beat_shift = beat_bytes.bit_length() - 1
        header_beats = HEADER_BYTES // beat_bytes
        beat_words = config.stream_bits // 32

        whole = Signal()
        m.d.comb += [
            whole.eq(self.s_axis_tkeep.all()),
        ]
        # What the counters and the sticky state see is registered: tready is late in the cycle, and they are wide.
        error, error_sequence, accepted = Signal(len(Error)), Signal(16), Signal()
        m.d.sync += [
            self.stall.eq(self.s_axis_tready & ~self.s_axis_tvalid),
            self.error.eq(error),
            self.error_sequence.eq(error_sequence),
            self.accepted.eq(accepted),
        ]

        def fail(what: Error) -> list[object]:
            return [error.eq(int(what))]

        # ---- header registers
        header = Signal(8 * HEADER_BYTES)
        index = Signal(range(max(header_beats, LAYER_BYTES // beat_bytes) + 1))
        header_last, header_holes = Signal(), Signal()
        opcode, clear = header[16:24], header[24 : 24 + len(HeaderFlag)]
        address, length = header[64:96], header[96:128]
        m.d.comb += [self.sequence.eq(header[32:48]), error_sequence.eq(self.sequence)]

        # ---- commit bits and who uses which page
        named = dict(zip(_NAMES, self.ports, strict=True))
        valid = {name: Signal(port.pages, name=f"{name}_valid") for name, port in named.items()}
        in_use = {name: Signal(port.pages, name=f"{name}_in_use") for name, port in named.items()}
        running, tainted = Signal(), Signal()
        m.d.comb += self.busy.eq(running)
        layer = self.layer
        pool, residual = option(layer, "pool_kind", config), option(layer, "residual", config)
        weight_port, parameter_port, activation_port = self.ports
        weight_page = page_of(layer.weight_address, weight_port)
        parameter_page = page_of(layer.parameter_address, parameter_port)
        input_page = page_of(layer.input_address, activation_port)
        output_page = page_of(layer.output_address, activation_port)
        # Where a layer has no residual, the input stands for it.
        residual_page: Value = input_page
        if config.residual:
            residual_page = Mux(residual, page_of(layer.residual_address, activation_port), input_page)

        def one_hot(page: Value, used: Value) -> Value:
            return Value.cast(Cat((page == i) & used for i in range(1 << len(page))))

        m.d.comb += [
            in_use["weight"].eq(one_hot(weight_page, running & ~pool)),
            in_use["parameter"].eq(one_hot(parameter_page, running & layer.post)),
            in_use["activation"].eq(
                one_hot(input_page, running)
                | one_hot(residual_page, running)
                | one_hot(output_page, running & ~layer.to_stream)
            ),
        ]

        # ---- memory packets
        words_left = Signal(range(max(port.page for port in self.ports) + 1))
        # Longer packets are refused for their range, so their beats need not be counted.
        longest = max(LAYER_BYTES, *(port.page * port.stride_bits // 8 for port in self.ports))
        beats_left = Signal(range((longest >> beat_shift) + 2))
        kind = Signal(range(3))
        target_page = Signal(range(max(port.pages for port in self.ports)))
        closing, flush = Signal(), Signal()
        bad_length, bad_range = Signal(), Signal()
        loading = Signal()
        unpackers: list[Unpacker] = []
        # With two pages a layer that writes uses both, so that no packet comes.
        hold: Value = self.hold if config.activation_pages > 2 else Const(0, 1)
        for i, (name, port) in enumerate(zip(_NAMES, self.ports, strict=True)):
            unpacker = Unpacker(port.word_bits, config.stream_bits)
            m.submodules[f"{name}_unpacker"] = unpacker
            unpackers.append(unpacker)
            m.d.comb += [
                unpacker.beat.eq(self.s_axis_tdata),
                unpacker.beat_valid.eq(self.s_axis_tvalid & loading & ~closing & (kind == i)),
                unpacker.word_ready.eq(loading if name != "activation" else loading & ~hold),
                unpacker.flush.eq(flush),
                getattr(self, f"{name}_data").eq(unpacker.word),
                getattr(self, f"{name}_write").eq(
                    (kind == i) & unpacker.word_valid & unpacker.word_ready & (words_left != 0)
                ),
            ]
        beat_ready = Array(u.beat_ready for u in unpackers)[kind]
        given = Array(u.word_valid & u.word_ready for u in unpackers)[kind]

        # ---- layer packets
        unsupported = Signal()
        fixed = [fixed_bits(config, i) for i in range(LAYER_WORDS)]

        m.d.sync += self.start.eq(0)
        # A state says itself when it takes a beat, as tready does: through tready every path would be longer.
        with m.FSM():
            with m.State("HEADER"):
                m.d.comb += self.s_axis_tready.eq(self.enable | (index != 0))
                m.d.comb += [flush.eq(1), error_sequence.eq(0)]
                m.d.sync += closing.eq(0)
                with m.If(self.s_axis_tvalid & (self.enable | (index != 0))):
                    m.d.sync += [
                        header.eq(Cat(header[config.stream_bits :], self.s_axis_tdata)),
                        header_holes.eq(Mux(index == 0, 0, header_holes) | ~whole),
                        header_last.eq(self.s_axis_tlast),
                        index.eq(index + 1),
                    ]
                    with m.If(index == header_beats - 1):
                        m.d.sync += index.eq(0)
                        m.next = "MEASURE"
                    with m.Elif(self.s_axis_tlast):
                        m.d.sync += index.eq(0)
                        m.d.comb += fail(Error.EARLY_TLAST)

            with m.State("MEASURE"):
                m.d.sync += beats_left.eq((length[: longest.bit_length()] + (beat_bytes - 1)) >> beat_shift)
                m.d.sync += unsupported.eq(0)
                with m.Switch(opcode):
                    for i, port in enumerate(self.ports):
                        stride = port.stride_bits // 8
                        words = length >> (stride.bit_length() - 1)
                        page_bits, word_bits = port.page.bit_length() - 1, port.words.bit_length() - 1
                        beyond = words[page_bits + 1 :].any() | address[word_bits:].any()
                        with m.Case(int(port.opcode)):
                            m.d.sync += [
                                kind.eq(i),
                                words_left.eq(words),
                                bad_length.eq((length == 0) | ((length & (stride - 1)) != 0)),
                                bad_range.eq(beyond | (words[: page_bits + 1] + address[:page_bits] > port.page)),
                                target_page.eq(page_of(address, port)),
                            ]
                    for other, size in ((Opcode.CONFIG, 4), (Opcode.LAYER, LAYER_BYTES), (Opcode.STATUS, 0)):
                        with m.Case(int(other)):
                            m.d.sync += [bad_length.eq(length != size), bad_range.eq(0)]
                m.d.sync += self.write_address.eq(address)
                m.next = "CHECK"

            with m.State("CHECK"):
                known = Cat(opcode == int(o) for o in (*(p.opcode for p in self.ports), 1, 5, 6)).any()
                bad = Signal()
                m.d.comb += bad.eq(1)
                with m.If(header[:16] != MAGIC):
                    m.d.comb += fail(Error.MAGIC)
                with m.Elif(~known):
                    m.d.comb += fail(Error.OPCODE)
                with m.Elif(bad_length):
                    m.d.comb += fail(Error.LENGTH)
                with m.Elif(bad_range):
                    m.d.comb += fail(Error.ADDRESS)
                with m.Elif(header_holes):
                    m.d.comb += fail(Error.TKEEP)
                with m.Elif(header_last & (beats_left != 0)):
                    m.d.comb += fail(Error.EARLY_TLAST)
                with m.Elif(~header_last & (beats_left == 0)):
                    m.d.comb += fail(Error.LATE_TLAST)
                with m.Else():
                    m.d.comb += bad.eq(0)
                with m.If(bad):
                    with m.If(header_last):
                        m.next = "HEADER"
                    with m.Else():
                        m.next = "DRAIN"
                with m.Else():
                    with m.Switch(opcode):
                        for name, port in zip(_NAMES, self.ports, strict=True):
                            with m.Case(int(port.opcode)), m.If(~in_use[name].bit_select(target_page, 1)):
                                m.d.sync += valid[name].bit_select(target_page, 1).eq(0)
                                m.next = "LOAD"
                        with m.Case(int(Opcode.CONFIG)), m.If(self.idle):
                            m.next = "CONFIG"
                        with m.Case(int(Opcode.LAYER)), m.If(self.idle):
                            m.next = "LAYER"
                        with m.Case(int(Opcode.STATUS)), m.If(self.idle):
                            m.d.comb += self.status_request.eq(1)
                            m.next = "STATUS"

            # A beat of a payload: `good` is a whole last beat with tlast; errors end the packet here.
            def payload(good: str | None, error_state: str = "DRAIN") -> None:
                m.d.sync += beats_left.eq(beats_left - 1)
                with m.If(~whole):
                    m.d.comb += fail(Error.TKEEP)
                    with m.If(self.s_axis_tlast):
                        m.next = "HEADER"
                    with m.Else():
                        m.next = error_state
                with m.Elif(self.s_axis_tlast & (beats_left != 1)):
                    m.d.comb += fail(Error.EARLY_TLAST)
                    m.next = "HEADER"
                with m.Elif(~self.s_axis_tlast & (beats_left == 1)):
                    m.d.comb += fail(Error.LATE_TLAST)
                    m.next = error_state
                if good is not None:
                    with m.Elif(beats_left == 1):
                        m.next = good

            with m.State("LOAD"):
                m.d.comb += loading.eq(1)
                m.d.comb += self.s_axis_tready.eq(beat_ready & ~closing)
                with m.If(given & (words_left != 0)):
                    m.d.sync += [words_left.eq(words_left - 1), self.write_address.eq(self.write_address + 1)]
                with m.If(self.s_axis_tvalid & beat_ready & ~closing):
                    with m.If(whole & self.s_axis_tlast & (beats_left == 1)):
                        m.d.sync += closing.eq(1)
                    payload(None)
                with m.Elif(closing & (words_left == 0)):
                    m.d.sync += valid_set(valid, kind, target_page)
                    m.d.comb += accepted.eq(1)
                    m.next = "HEADER"

            with m.State("CONFIG"):
                m.d.comb += self.s_axis_tready.eq(1)
                with m.If(self.s_axis_tvalid):
                    payload(None)
                    with m.If(whole & self.s_axis_tlast):
                        match = self.s_axis_tdata[:32] == config.hash
                        m.d.sync += self.configured.eq(match)
                        with m.If(match):
                            m.d.comb += accepted.eq(1)
                        with m.Else():
                            m.d.comb += fail(Error.HASH)
                        m.next = "HEADER"

            with m.State("LAYER"):
                m.d.comb += self.s_axis_tready.eq(1)
                with m.If(self.s_axis_tvalid):
                    m.d.sync += index.eq(index + 1)
                    with m.Switch(index):
                        for beat in range(LAYER_BYTES // beat_bytes):
                            with m.Case(beat):
                                for i in range(beat_words):
                                    number = beat * beat_words + i
                                    word = self.s_axis_tdata.word_select(i, 32)
                                    m.d.sync += store_word(config, layer, number, word)
                                    if fixed[number]:
                                        with m.If((word & fixed[number]) != 0):
                                            m.d.sync += unsupported.eq(1)
                    payload("WEIGH")
                    with m.If((beats_left == 1) | self.s_axis_tlast | ~whole):
                        m.d.sync += index.eq(0)

            ready, fits = Signal(), Signal()
            with m.State("WEIGH"):
                m.d.sync += fits.eq(in_range(layer, config))
                m.d.sync += ready.eq(
                    valid["activation"].bit_select(input_page, 1)
                    & valid["activation"].bit_select(residual_page, 1)
                    & (pool | valid["weight"].bit_select(weight_page, 1))
                    & (~layer.post | valid["parameter"].bit_select(parameter_page, 1))
                )
                m.next = "START"

            with m.State("START"):
                with m.If(~self.configured):
                    m.d.comb += fail(Error.NOT_CONFIGURED)
                with m.Elif(unsupported):
                    m.d.comb += fail(Error.UNSUPPORTED)
                with m.Elif(~fits):
                    m.d.comb += fail(Error.DESCRIPTOR)
                with m.Elif(~ready):
                    m.d.comb += fail(Error.UNCOMMITTED)
                with m.Else():
                    m.d.sync += [self.start.eq(1), running.eq(1), tainted.eq(0)]
                    m.d.comb += accepted.eq(1)
                    with m.If(~layer.to_stream):
                        m.d.sync += valid["activation"].bit_select(output_page, 1).eq(0)
                m.next = "HEADER"

            with m.State("STATUS"):
                with m.If(self.status_done):
                    m.d.comb += [accepted.eq(1), self.status_clear.eq(clear[0])]
                    m.next = "HEADER"

            with m.State("DRAIN"):
                m.d.comb += self.s_axis_tready.eq(1)
                with m.If(self.s_axis_tvalid & self.s_axis_tlast):
                    m.next = "HEADER"

        with m.If(self.layer_done):
            m.d.sync += running.eq(0)
            with m.If(~layer.to_stream & ~tainted):
                m.d.sync += valid["activation"].bit_select(output_page, 1).eq(1)
        # Any error: what was loaded may have been meant to be replaced, so nothing stays committed.
        with m.If(self.error.any()):
            m.d.sync += [*(valid[name].eq(0) for name in _NAMES), tainted.eq(1)]
        return m


def valid_set(valid: dict[str, Signal], kind: Signal, page: Signal) -> list[object]:
    """Statements that set the commit bit of memory `kind`'s `page`."""
    return [
        signal[i].eq(signal[i] | ((kind == number) & (page == i)))
        for number, signal in enumerate(valid.values())
        for i in range(len(signal))
    ]
