"""Claims about the column reader of the aligned accumulator: the sum that is read is its blocks' sums, added."""

from amaranth.hdl import Cat, Const, Mux, Signal, Value, signed

from hw.column import Column, sum_layout
from hw.delay import register
from shiftforge import timing
from sim.proofs.element import config_for
from sim.proofs.miter import Mutant, Proof, Script
from sim.proofs.words import Words, always, memories, pick, without_reset


def column_script(name: str, weight_bits: int, rows: int) -> Script:
    """`Column`: for each row one number to which a block's sum is added as it comes, and for each set the last one that was whole.

    Of what comes it is promised that the rows of a block come in consecutive cycles, and that no block has more than `rows`
    products of negative weights. What comes when there is no reading does not matter.
    """
    config = config_for(name, weight_bits, rows=rows)
    flag_bits, bits, width = config.activation.flag_bits, config.block_bits, config.accumulator_bits
    unit = Column(config)
    machine = without_reset(unit)
    m = machine.m

    def later(value: Value, label: str) -> Signal:
        return register(m, value, f"spec_{label}")

    # A reading comes with the tally, and in as many cycles after it as there are further rows.
    read, last = unit.tally.read, unit.tally.last
    recent: list[Value] = [read]
    for i in range(1, rows):
        recent.append(later(recent[-1], f"read_{i}"))
    valid = Cat(*recent).any()
    row = Signal(range(max(rows, 2)), name="spec_row", reset_less=True)
    with m.If(valid):
        m.d.sync += row.eq(Mux(row == rows - 1, 0, row + 1))
    at_end = valid & (row == rows - 1)
    ending = Signal(name="spec_ending", reset_less=True)
    ends = Mux(read, last, ending)
    set_, begun = (Signal(name=f"spec_{of}", reset_less=True) for of in ("set", "begun"))
    with m.If(valid):
        m.d.sync += ending.eq(ends)
    with m.If(at_end):
        m.d.sync += [set_.eq(set_ ^ ends), begun.eq(~ends)]

    # Products of negative weights since the block before, this cycle's among them; those of the block whose rows come.
    counted = Signal(range(rows + 1), name="spec_counted", reset_less=True)
    negatives, held = (Signal(range(rows + 2), name=f"spec_{of}", reset_less=True) for of in ("negatives", "held"))
    m.d.comb += negatives.eq(counted + unit.tally.negative)
    m.d.sync += counted.eq(Mux(read, 0, negatives))
    with m.If(read):
        m.d.sync += held.eq(negatives)
    always(machine, (negatives <= rows) & (~read | ~Cat(*recent[1:]).any()))

    # The block's sum: by how much the row's reading has changed, and what its products of negative weights lack.
    reading, flags = unit.capture.reading, Value.cast(unit.capture.flags) if flag_bits else Const(0, 1)
    before = [Signal(bits, name=f"spec_before_{r}", reset_less=True) for r in range(rows)]
    written = [Signal(name=f"spec_written_{r}", reset_less=True) for r in range(rows)]
    change = Signal(signed(bits), name="spec_change")
    m.d.comb += change.eq(reading - pick(m, before, row))
    for r in range(rows):
        with m.If(valid & (row == r)):
            m.d.sync += [before[r].eq(reading), written[r].eq(1)]
    sum_ = change + Mux(read, negatives, held)
    now = {"valid": valid, "sum": sum_, "flags": flags, "row": row, "set": set_, "begun": begun, "ends": ends}
    for i in range(1, timing.COLUMN):
        now = {key: later(value, f"{key}_{i}") for key, value in now.items()}
    layout = sum_layout(config)
    running = [Signal(layout.size, name=f"spec_running_{r}", reset_less=True) for r in range(rows)]
    whole = [Signal(layout.size, name=f"spec_whole_{i}", reset_less=True) for i in range(2 * rows)]
    kept = Mux(now["begun"], pick(m, running, now["row"]), 0)
    total = (kept[flag_bits:] + now["sum"])[:width]
    word = Cat(kept[:flag_bits] | now["flags"], total) if flag_bits else total
    for i in range(2 * rows):
        here = now["valid"] & (now["row"] == i % rows)
        with m.If(here & now["ends"] & (now["set"] == i // rows)):
            m.d.sync += whole[i].eq(word)
        if i < rows:
            with m.If(here):
                m.d.sync += running[i].eq(word)

    # ---- what is in the memories, and how far it has come
    readings = Words("readings", bits, max(rows, 2), init=2)  # which must not matter
    buffer = Words("buffer", layout.size, 2 * rows)
    for r in range(rows):
        machine.claim(readings.words[r] == before[r], when=written[r])
        machine.claim((before[r] == 0) | written[r])
        machine.claim(written[r] == (written[-1] | (row > r)))
    sums = [Words("sums", layout.size, rows)] if rows > 1 else []
    of_rows = sums[0].words if sums else [machine.peek("before", layout.size)]
    for mine, its in zip([*of_rows, *buffer.words], [*running, *whole], strict=True):
        machine.claim(mine == its)
    machine.claim(readings.read.addr == row)
    machine.claim(Cat(*recent[1:]).any() == (row != 0))
    states = {"primed": written[-1], "begun": begun, "bank": set_, "counting": counted, "lacking": held}
    for name_, value in states.items():
        machine.claim(machine.peek(name_, len(counted) if name_ in ("counting", "lacking") else 1) == value)
    if rows > 1:
        machine.claim(machine.peek("ending", 1) == ending)
    machine.claim(row < rows)

    # ---- what is read
    asked = Mux(unit.set, rows, 0) + unit.row
    at = later(asked, "address")
    machine.claim(machine.peek("read_address", len(at)) == at)
    fetched = Signal(layout.size, name="spec_read", reset_less=True)
    known = later(later(unit.row < rows, "fits"), "known")
    m.d.sync += fetched.eq(pick(m, whole, at))
    machine.claim(Value.cast(unit.read) == fetched, when=known)
    machine.claim(unit.tile == later(now["valid"] & now["ends"] & (now["row"] == rows - 1), "tile"))

    with memories("hw.column.memory.Memory", readings, *sums, buffer):
        return machine.script()


_COLUMN = "hw/column.py"
_MUTANTS = (
    Mutant(_COLUMN, "with m.If(~primed):", "with m.If(0):"),
    Mutant(_COLUMN, "bank.eq(bank ^ ends)", "bank.eq(~bank)"),
    Mutant(_COLUMN, "begun.eq(~ends)", "begun.eq(1)"),
    Mutant(_COLUMN, "counting.eq(Mux(self.tally.read, 0, following))", "counting.eq(following)"),
    Mutant(_COLUMN, "lacking.eq(following)", "lacking.eq(counting)"),
    Mutant(_COLUMN, 'register(m, lacking, "lacking_late")', "lacking"),
    Mutant(_COLUMN, "change + self.negatives", "change"),
    Mutant(_COLUMN, "store.en.eq(marks[1])", "store.en.eq(marks[0])"),
    Mutant(_COLUMN, "Mux(self.set, rows, 0) + self.row", "Mux(self.set, 0, rows) + self.row"),
)
_ROWS = (
    Mutant(_COLUMN, "self.tally.read | (row != 0)", "self.tally.read"),
    Mutant(_COLUMN, "Mux(row == 0, self.tally.last, ending)", "self.tally.last"),
    Mutant(_COLUMN, "with m.If(~begun):", "with m.If(0):"),
)
"""Only where there are several rows."""
_ONE_ROW = Mutant(_COLUMN, 'register(m, begun, "begun_late")', "begun")
_FLAGS = Mutant(_COLUMN, "kept.flags.as_value() | flags", "flags")


def column_proofs() -> list[Proof]:
    """One row, whose blocks may come in every cycle, two and three; no flag, one and three."""
    return [
        Proof(
            f"column {name} w{bits}, {rows} row{'s' * (rows > 1)}",
            lambda n=name, b=bits, r=rows: column_script(n, b, r),
            (*_MUTANTS, *(_ROWS if rows > 1 else (_ONE_ROW,)), *((_FLAGS,) if name != "int8" else ())),
            fast=name == "int8" and rows == 2,
        )
        for name, bits, rows in (("int8", 2, 1), ("int8", 2, 2), ("fp8_e4m3", 3, 2), ("fp8_e5m2", 2, 1), ("int8", 3, 3))
    ]
