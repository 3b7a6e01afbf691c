"""Column reader of banked accumulators: from the banks' words to finished sums, kept in a drain buffer of two tiles."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.banked_pe import DRAINED, banked_capture_layout
from hw.column import sum_layout
from hw.delay import register
from hw.instance import Unit
from hw.tech.add_merge import AddMerge
from shiftforge import timing
from shiftforge.banks import Banks
from shiftforge.config import Config


class BankedColumn(wiring.Component):
    """Adds the banks' words of each row at their weights, and keeps the sums of two tiles, so that one drains while the next is
    written.

    Words come bank by bank from the lowest, and in each bank row by row in consecutive cycles, row 0's with the `tally` that it is
    one; the upper half of each one cycle after the lower. ``running = (running >> step) + word``: the `step` lowest
    bits are then final and go to the drain buffer, the others wait in a small memory for the row's next word. The result is the
    exact sum, as `hw.column.Column` has it for the aligned accumulator. A row's word comes from one of the `read_out_ends`, and the
    other is zero: their OR lies in the adder's own logic.

    `timing.BANKED_COLUMN` cycles from a row's last word to its sum in the buffer; a row's words must be as far apart.

    Members
    -------
    capture : In(array of banked_capture_layout)
        Of each of the parts of the rows that are read side by side.
    tally : In(DRAINED)
    set, row : In
        Buffer address to read: a register of its own holds it, and `read` what is there two cycles later.
    read : Out(sum_layout)
    tile : Out(1)
        For one cycle when a tile's last row is in the buffer.
    """

    def __init__(self, config: Config):
        self.config = config
        self.adder = AddMerge(Banks.of(config).running_bits, 0)
        super().__init__(
            {
                "capture": In(data.ArrayLayout(banked_capture_layout(config), timing.read_out_ends(config))),
                "tally": In(DRAINED),
                "set": In(1),
                "row": In(range(max(config.rows, 2))),
                "read": Out(sum_layout(config)),
                "tile": Out(1),
            }
        )

    @property
    def module_name(self) -> str:
        """Name of the generated module, with the parameters that shape it."""
        c, banks = self.config, Banks.of(self.config)
        words = f"word{banks.word_bits}_{banks.low_bits}"
        return f"sf_column_banked_{c.rows}x{banks.count}x{banks.step}_{words}_sum{c.accumulator_bits}"

    @property
    def units(self) -> tuple[Unit, ...]:
        """What is instantiated here by name."""
        return (self.adder,)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, banks = self.config, Banks.of(self.config)
        rows, step = config.rows, banks.step

        # ---- where the word belongs
        row, set_ = Signal(range(max(rows, 2))), Signal()
        bank = Signal(range(banks.count))
        valid, at_last_row, at_last_bank = Signal(), Signal(), Signal()
        m.d.comb += [
            valid.eq(self.tally.word | (row != 0)),
            at_last_row.eq(row == rows - 1),
            at_last_bank.eq(bank == banks.count - 1),
        ]
        with m.If(valid):
            m.d.sync += row.eq(Mux(at_last_row, 0, row + 1))
            with m.If(at_last_row):
                m.d.sync += bank.eq(Mux(at_last_bank, 0, bank + 1))
                with m.If(at_last_bank):
                    m.d.sync += set_.eq(~set_)

        # ---- read, add, write: three registers from a word's lower half to the memories
        running_bits = banks.running_bits - step
        m.submodules.running = running = memory.Memory(shape=running_bits, depth=max(rows, 2), init=[])
        old, keep = running.read_port(domain="comb"), running.write_port()
        m.d.comb += old.addr.eq(row)
        before = Signal(running_bits, reset_less=True)
        m.d.sync += before.eq(old.data)
        with m.If(bank == 0):
            m.d.sync += before.eq(0)
        words, seen = [], []
        for i in range(len(self.capture)):
            part = self.capture[i]
            word = Value.cast(Cat(register(m, part.low, f"low_{i}"), part.high))
            words.append(Cat(word, word[-1].replicate(banks.running_bits - banks.word_bits)))
            seen.append(Value.cast(part.flags))
        added = self.adder.add(
            m,
            "adder",
            a=Cat(before, before[-1].replicate(step)),
            b=Const(0, banks.running_bits),
            c=words[0],
            d=words[1],
        )
        total = register(m, added, "total")
        flags = register(m, register(m, seen[0] | seen[1], "flags_1"), "flags")
        valid_1, valid_2, last_1, last_2 = Signal(), Signal(), Signal(), Signal()
        bank_1, bank_2 = Signal(banks.count, reset_less=True), Signal(banks.count, reset_less=True)
        row_1, row_2 = Signal(row.shape(), reset_less=True), Signal(row.shape(), reset_less=True)
        set_1, set_2 = Signal(reset_less=True), Signal(reset_less=True)
        m.d.sync += [
            valid_1.eq(valid),
            last_1.eq(valid & at_last_row & at_last_bank),
            bank_1.eq(1 << bank),
            row_1.eq(row),
            set_1.eq(set_),
            *(later.eq(now) for later, now in ((valid_2, valid_1), (last_2, last_1), (bank_2, bank_1))),
            *(later.eq(now) for later, now in ((row_2, row_1), (set_2, set_1), (self.tile, last_2))),
        ]
        m.d.comb += [keep.addr.eq(row_2), keep.data.eq(total[step:]), keep.en.eq(valid_2)]

        # ---- drain buffer: a memory for each bank's final bits. Bank 0's lowest bit is half a unit, and always zero.
        top = min(banks.running_bits, config.accumulator_bits - banks.shift_of(banks.count - 1))
        stored = [total[1:step], *[total[:step]] * (banks.count - 2), Cat(total[:top], flags)]
        read_address = register(m, Mux(self.set, rows, 0) + self.row, "read_address")
        write_address = Mux(set_2, rows, 0) + row_2
        found = []
        for i, final in enumerate(stored):
            buffer = memory.Memory(shape=len(final), depth=2 * rows, init=[])
            m.submodules[f"buffer_{i}"] = buffer
            store, fetch = buffer.write_port(), buffer.read_port(domain="comb")
            m.d.comb += [
                store.addr.eq(write_address),
                store.data.eq(final),
                store.en.eq(valid_2 & bank_2[i]),
                fetch.addr.eq(read_address),
            ]
            found.append(fetch.data)
        highest, flags_found = found[-1][:top], found[-1][top:]
        m.d.sync += [
            self.read.sum.eq(Cat(*found[:-1], highest).as_signed()),
            self.read.flags.eq(flags_found),
        ]
        return m
