"""Claims about the column reader of banked accumulators: the sum that is read is the banks' words at their weights, added."""

from amaranth.hdl import Cat, Const, Mux, Signal, Value, signed

from hw.banked_column import BankedColumn
from hw.delay import register
from shiftforge import timing
from shiftforge.banks import Banks
from sim.proofs.banked import banked_config
from sim.proofs.miter import Mutant, Proof, Script
from sim.proofs.words import Words, always, memories, pick, with_units, without_reset


def banked_column_script(name: str, weight_bits: int, max_k: int, rows: int) -> Script:
    """`BankedColumn`: one wide number per set and row, to which each word is added at its bank's weight, with no pipeline.

    Of what comes it is promised that the rows of a bank come in consecutive cycles, that a row's words are `timing.BANKED_COLUMN`
    cycles apart, that one of the two ends is zero while the other has a row's word (either of them, for any row), that no word is
    beyond `max_k` of the largest product (`banked_wrap_script`), and that bank 0's are even (`edge_script`). What comes
    when there is no word does not matter, nor do the marks that come with another than a tile's last bank.
    """
    config = banked_config(name, weight_bits, max_k, rows)
    banks, flag_bits = Banks.of(config), config.activation.flag_bits
    step, count = banks.step, banks.count
    unit = BankedColumn(config)
    machine = without_reset(unit)
    m = machine.m

    def later(value: Value, label: str) -> Signal:
        return register(m, value, f"spec_{label}")

    # A word comes with the tally, and in as many cycles after it as there are further rows.
    tally = Value.cast(unit.tally.word)
    recent = [tally]
    for i in range(1, rows):
        recent.append(later(recent[-1], f"tally_{i}"))
    valid = Cat(*recent).any()

    # Which row and bank of which set it is: by counting all words.
    number = Signal(range(timing.DRAIN_SETS * count * rows), name="spec_number", reset_less=True)
    with m.If(valid):
        m.d.sync += number.eq(Mux(number == timing.DRAIN_SETS * count * rows - 1, 0, number + 1))
    row, bank, set_ = (
        Signal(range(max(n, 2)), name=f"spec_{of}")
        for n, of in ((rows, "row"), (count, "bank"), (timing.DRAIN_SETS, "set"))
    )
    m.d.comb += [row.eq(number % rows), bank.eq(number // rows % count), set_.eq(number // (rows * count))]
    ends = [unit.capture[i] for i in range(timing.read_out_ends(config))]
    low, flags = (Signal(len(Value.cast(getattr(ends[0], of))), name=f"spec_{of}") for of in ("low", "flags"))
    m.d.comb += [low.eq(ends[0].low | ends[1].low), flags.eq(Value.cast(ends[0].flags) | Value.cast(ends[1].flags))]
    empty = Signal(len(ends), name="spec_empty")
    m.d.comb += empty.eq(Cat(Value.cast(part.low) == 0 for part in ends))
    first: dict[str, Value] = {"valid": valid, "low": low, "flags": flags, "row": row, "bank": bank, "set": set_}
    first |= {"number": number, "empty": empty}
    one: dict[str, Value] = {key: later(value, f"{key}_1") for key, value in first.items()}
    # The upper half is here.
    high = Value.cast(ends[0].high) | Value.cast(ends[1].high)
    one["word"] = Value.cast(Cat(one["low"], high)).as_signed()
    stages = [first, one]
    for i in range(2, timing.BANKED_COLUMN):
        stages.append({key: later(value, f"{key}_{i}") for key, value in stages[-1].items()})
    now = stages[-1]

    # The specification, late by the latency: a sum at its full width for each set and row, and the last bank that is in it.
    width = step * (count - 1) + banks.running_bits
    truth = [Signal(signed(width), name=f"truth_{i}", reset_less=True) for i in range(timing.DRAIN_SETS * rows)]
    seen = [Signal(flag_bits, name=f"seen_{i}", reset_less=True) for i in range(timing.DRAIN_SETS * rows)]
    upto = [
        Signal(range(count), name=f"upto_{i}", init=count - 1, reset_less=True) for i in range(timing.DRAIN_SETS * rows)
    ]
    for i in range(timing.DRAIN_SETS * rows):
        here = now["valid"] & (now["set"] == i // rows) & (now["row"] == i % rows)
        before = Mux(now["bank"] == 0, 0, truth[i])
        with m.If(here):
            m.d.sync += [upto[i].eq(now["bank"]), seen[i].eq(now["flags"])]
            with m.Switch(now["bank"]):
                for b in range(count):
                    with m.Case(b):
                        m.d.sync += truth[i].eq(before + (now["word"] << (b * step)))

    # ---- promises: of a word once it is whole
    end = max_k * banks.max_product
    apart: Value = Const(1, 1)
    for earlier in stages[1:]:
        apart &= ~(earlier["valid"] & (earlier["row"] == row))
    in_turn = ~tally | ~Cat(*recent[1:]).any()
    inside = (one["word"] <= end) & (one["word"] >= -end) & ((one["bank"] != 0) | ~one["word"][0])
    one_end = Cat(one["empty"][i] & (Value.cast(part.high) == 0) for i, part in enumerate(ends)).any()
    always(machine, (~valid | apart) & in_turn & (~one["valid"] | (inside & one_end)))

    # ---- what is in the memories
    rest = banks.running_bits - step
    top = min(banks.running_bits, config.accumulator_bits - banks.shift_of(count - 1))
    running = Words("running", rest, max(rows, 2), init=2)  # which must not matter
    widths = [step - 1, *[step] * (count - 2), top + flag_bits]
    buffers = [Words(f"buffer_{i}", bits, timing.DRAIN_SETS * rows) for i, bits in enumerate(widths)]
    for i in range(timing.DRAIN_SETS * rows):
        for b in range(count):
            done = upto[i] >= b
            if b == 0:
                machine.claim(Cat(Const(0, 1), buffers[b].words[i]) == truth[i][:step], when=done)
            elif b < count - 1:
                machine.claim(buffers[b].words[i] == truth[i][b * step : (b + 1) * step], when=done)
            else:
                machine.claim(buffers[b].words[i] == Cat(truth[i][b * step : b * step + top], seen[i]), when=done)
    # Of every bank, for the last one alone is more steps away than the prover takes from the reset state.
    machine.claim(buffers[-1].write.data[top:] == now["flags"], when=now["valid"])
    # In what order it came: the next word's place tells how far each sum is.
    machine.claim(Cat(*recent[1:]).any() == (row != 0))
    machine.claim(running.read.addr == row)
    machine.claim(machine.peek("bank", len(bank)) == bank)
    machine.claim(machine.peek("set_", len(set_)) == set_)
    machine.claim(number < timing.DRAIN_SETS * count * rows)
    for i in range(timing.DRAIN_SETS * rows):
        open_set, before_bank = now["set"] == i // rows, Mux(now["bank"] == 0, count - 1, now["bank"] - 1)
        machine.claim(upto[i] == Mux(open_set, Mux(i % rows < now["row"], now["bank"], before_bank), count - 1))
    for r in range(rows):
        held = running.words[r].as_signed()
        for i in (r, rows + r):
            for b in range(count - 1):
                open_ = upto[i] == b
                machine.claim(held == (truth[i] >> ((b + 1) * step)), when=open_)
                machine.claim((held <= end) & (held >= -end), when=open_)

    # ---- what is read
    at = register(m, Mux(unit.set, rows, 0) + unit.row, "spec_address")
    within = register(m, unit.row < rows, "spec_within")
    machine.claim(machine.peek("read_address", len(at)) == at)
    found, complete = pick(m, truth, at), pick(m, upto, at) == count - 1
    wanted = Signal(signed(width), name="spec_read", reset_less=True)
    ready = Signal(name="spec_ready", reset_less=True)
    wanted_flags = Signal(flag_bits, name="spec_read_flags", reset_less=True)
    limit = 1 << (config.accumulator_bits - 1)
    half = found >> 1
    fits = (half < limit) & (half >= -limit)
    m.d.sync += [wanted.eq(half), ready.eq(complete & fits & within), wanted_flags.eq(pick(m, seen, at))]
    machine.claim(Value.cast(unit.read.sum).as_signed() == wanted, when=ready)
    machine.claim(Value.cast(unit.read.flags) == wanted_flags, when=ready)
    ended = Signal(name="spec_tile", reset_less=True)
    m.d.sync += ended.eq(now["valid"] & (now["row"] == rows - 1) & (now["bank"] == count - 1))
    machine.claim(unit.tile == ended)

    with memories("hw.banked_column.memory.Memory", running, *buffers):
        return with_units(machine.script(), *unit.units)


# Only what differs within the first tile: later is more steps than the prover takes from the reset state.
_COLUMN = "hw/banked_column.py"
_MUTANTS = (
    Mutant(_COLUMN, "with m.If(bank == 0):", "with m.If(0):"),
    Mutant(_COLUMN, "before[-1].replicate(step)", "Cat(0).replicate(step)"),
    Mutant(_COLUMN, "word[-1].replicate(", "Cat(0).replicate("),
    Mutant(_COLUMN, "d=words[1],", "d=0,"),
    Mutant(_COLUMN, 'register(m, part.low, f"low_{i}")', "part.low"),
    Mutant(_COLUMN, "seen[0] | seen[1]", "seen[0]"),
    Mutant(
        _COLUMN,
        'register(m, register(m, seen[0] | seen[1], "flags_1"), "flags")',
        'register(m, seen[0] | seen[1], "flags")',
    ),
    Mutant(_COLUMN, "valid_2 & bank_2[i]", "valid_2"),
    Mutant(_COLUMN, "Mux(self.set, rows, 0) + self.row", "Mux(self.set, 0, rows) + self.row"),
    Mutant(_COLUMN, "keep.en.eq(valid_2)", "keep.en.eq(1)"),
)
_ROWS = Mutant(_COLUMN, "self.tally.word | (row != 0)", "self.tally.word")
"""Only where there are several rows."""


def banked_column_proofs() -> list[Proof]:
    """Some formats, with words and sums of their own widths; one row, whose words come closest, and two."""
    found: list[Proof] = []
    for name, bits, max_k, rows in (
        ("fp8_e4m3", 2, 1, 1),
        ("fp8_e4m3", 3, 3, 2),
        ("fp8_e5m2", 3, 3, 2),
        ("fp16", 3, 3, 2),
    ):
        found.append(
            Proof(
                f"banked column {name} w{bits}, {rows} row{'s' * (rows > 1)}",
                lambda n=name, b=bits, k=max_k, r=rows: banked_column_script(n, b, k, r),
                _MUTANTS if rows == 1 else (*_MUTANTS[:4], _ROWS),
                limit_s=600.0,
            )
        )
    return found
