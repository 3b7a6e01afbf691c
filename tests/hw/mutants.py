"""Seeded faults of the gateware, each of which one unit's bench must find (`tests/hw/test_mutants.py`).

The lane has a list of its own, `tests/hw/lane_mutants.py`. A fault is put into a copy of the sources.
"""

# ruff: noqa: E501 - one fault per line reads better

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from shiftforge.config import Config
from tests.hw.bench import a_config

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("shiftforge", "hw", "golden", "sim")

E4M3 = a_config(1, 1, "fp8_e4m3")
TWO_BITS = a_config(1, 1, weight_bits=2)
ONE_ROW = a_config(1, 7, max_k=3)
BANKED_E4M3 = a_config(1, 1, "fp8_e4m3", accumulator="banked")
BANKED_BF16 = a_config(1, 1, "bf16", accumulator="banked")
BANKED_MASK = a_config(1, 1, "fp8_e5m2", mask=True, accumulator="banked")
BANKED_MASK_ARRAY = a_config(2, 3, "fp8_e5m2", mask=True, accumulator="banked")
EIGHT_ROWS = a_config(8, 13)
WIDE_STEPS = a_config(9, 15, output="fp32")
TWO_BITS_ARRAY = a_config(2, 3, weight_bits=2)
MASKED = a_config(1, 1, "fp16", mask=True)
MASKED_ARRAY = a_config(2, 3, mask=True)


@dataclass(frozen=True)
class Fault:
    """One change of text (found exactly once) in a source, the unit whose bench finds it, and a configuration if not the unit's."""

    file: str
    unit: str
    old: str
    new: str
    config: Config | None = None

    def __str__(self) -> str:
        return f"{self.file}: {self.old} -> {self.new}"


FAULTS = (
    # PE: sign, exponent, what the shift fills with, flags, capture, tally
    Fault("pe.py", "pe", "lower ^ sign.replicate(len(lower))", "lower"),
    Fault("pe.py", "pe", "exponent = self.w[code.exponent_bits], self.w[: code.exponent_bits]", "exponent = self.w[code.exponent_bits], self.w[1 : code.exponent_bits + 1]"),
    Fault("pe.py", "pe", "Cat(negate.replicate(distance), addend)", "Cat(Const(0, distance), addend)"),
    Fault("pe.py", "pe", "c=_extended(addend, bits)", "c=_extended(Cat(addend, 0), bits)"),
    Fault("pe.py", "pe", "addend = register(m, _shifted(addend, negate, shift, 2), \"addend_2\")", "addend = register(m, _shifted(addend, Const(0, 1), shift, 2), \"addend_2\")"),
    Fault("pe.py", "pe", "register(m, enable & negative,", "register(m, negative,", ONE_ROW),
    Fault("pe.py", "pe", "flags.as_value() & added.hold.replicate(len(now))", "flags.as_value()"),
    Fault("pe.py", "pe", "now & token.valid.replicate(len(now))", "now"),
    Fault("pe.py", "pe", "negative = self.special.negative ^ sign", "negative = self.special.negative"),
    Fault("pe.py", "pe", "Cat(negated, added.valid & ~added.hold,", "Cat(negated, ~added.hold,"),
    Fault("pe.py", "pe", "~added.hold, added.last)", "~added.hold, token.last)"),
    Fault("delay.py", "pe", "gated.eq(0)", "gated.eq(1)"),
    # PE with 2-bit weights: what a register is that is not in use, the lowest bit, the sign, the wires of a weight
    Fault("pe.py", "pe", "direct.eq(ones - 1)", "direct.eq(ones)", TWO_BITS),
    Fault("pe.py", "pe", "raised.eq(ones)", "raised.eq(0)", TWO_BITS),
    Fault("pe.py", "pe", "with m.If(self.w[-1])", "with m.If(self.w[0])", TWO_BITS),
    Fault("pe.py", "pe", "c=_extended(direct, bits)", "c=_extended(Cat(direct, 1), bits)", TWO_BITS),
    Fault("pe.py", "pe", "_extended(Cat(1, raised), bits)", "_extended(Cat(0, raised), bits)", TWO_BITS),
    Fault("pe.py", "array", "Cat(element, ~element[0])", "Cat(element, element[0])", TWO_BITS_ARRAY),
    # PE with masks: the accumulator, each flag, what is counted
    Fault("pe.py", "pe", "token.valid & ~masked", "token.valid", MASKED),
    Fault("pe.py", "pe", "token.valid & ~masked", "token.valid & ~self.w_out[code.bits - 1]", MASKED_ARRAY),
    Fault("pe.py", "pe", "masked = self.w_out[code.bits] if", "masked = self.w[code.bits] if", MASKED),
    Fault("pe.py", "pe", "self.special.nan & ~self.w[code.bits]", "self.special.nan", MASKED),
    Fault("pe.py", "pe", "self.special.inf & ~self.w[code.bits]", "self.special.inf", MASKED),
    Fault("pe.py", "pe", "register(m, enable & negative,", "register(m, token.valid & negative,", MASKED),
    # row edge: subnormals, shifts, negation, specials
    Fault("row_edge.py", "row_edge", "parts.exponent - 1", "parts.exponent"),
    Fault("parts.py", "row_edge", "Cat(fraction, normal)", "Cat(fraction, 1)"),
    Fault("row_edge.py", "row_edge", "significand << shift[:2]", "significand << shift[:1]"),
    Fault("row_edge.py", "row_edge", "self.x.eq(ones + sign_3)", "self.x.eq(ones)"),
    Fault("row_edge.py", "row_edge", "& parts.finite.replicate(fmt.precision)", "& Cat(1).replicate(fmt.precision)"),
    Fault("parts.py", "row_edge", "top & ~fraction.any(), ~top", "top, ~top"),
    Fault("parts.py", "row_edge", "nan, inf = top & fraction.all()", "nan, inf = top", E4M3),
    # row feed
    Fault("row_feed.py", "row_feed", "step.live & ~zero", "~zero"),
    Fault("row_feed.py", "row_feed", "~(tail & step.beyond)", "~tail"),
    Fault("row_feed.py", "row_feed", "with m.If(step.first):", "with m.If(1):"),
    Fault("row_feed.py", "row_feed", "self.step_out.eq(self.step)", "self.step_out.eq(step.live << 1)"),
    Fault("row_feed.py", "row_feed", 'register(m, index[2:], "group")', "index[2:]", a_config(7, 2)),
    Fault("tech/choose.py", "row_feed", "Choices(self.words)", "Choices(self.words[::-1])"),
    # feed: each bank's address, row 0's steps, what a pool reads
    Fault("feed.py", "feed", 'register(m, later, f"address_{b}")', "self.address"),
    Fault("feed.py", "feed", "Mux(self.whole, self.address, later)", "Mux(self.whole, later, self.address)"),
    Fault("feed.py", "feed", "step.live.eq(0)", "step.live.eq(1)"),
    Fault("feed.py", "feed", "following >= self.k_tail", "following > self.k_tail"),
    Fault("feed.py", "feed", "step.index.eq(0), step.beyond.eq(0)", "step.index.eq(0)"),
    Fault("feed.py", "feed", 'feed["tail"].eq(tail)', 'feed["tail"].eq(zero)'),
    Fault("feed.py", "feed", 'below = feed["step_out"]', "below = step.as_value()"),
    # array: skew of the weights, movement, OR tree
    Fault("array.py", "array", "(c, bits), c, f\"w_skew", "(c, bits), c + 1, f\"w_skew"),
    Fault("array.py", "array", 'grid[r - 1][c]["w_out"]', 'grid[r - 1][c]["w"]'),
    Fault("array.py", "array", "total = total | other", "total = total ^ other if i else other"),
    # column: readings before, first block, halves, rows, negatives, blocks of a tile, flags
    Fault("column.py", "column", "self.reading - self.previous", "self.reading"),
    Fault("column.py", "column", "with m.If(~primed):", "with m.If(0):"),
    Fault("column.py", "column", "bank.eq(bank ^ ends), primed.eq(1)", "primed.eq(1)"),
    Fault("column.py", "column", "begun.eq(~ends)", "begun.eq(1)"),
    Fault("column.py", "column", "row.eq(Mux(at_last, 0, row + 1))", "row.eq(row + 1)"),
    Fault("column.py", "column", "valid & ends & at_last)", "ends & at_last)", ONE_ROW),
    Fault("column.py", "column", "valid & ends & at_last)", "valid & at_last)"),
    Fault("column.py", "column", "Mux(row == 0, self.tally.last, ending)", "self.tally.last"),
    Fault("column.py", "column", "keep.en.eq(valid)]\n", "keep.en.eq(1)]\n"),
    Fault("column.py", "column", "Mux(self.set, rows, 0) + self.row", "Mux(self.set, 0, rows) + self.row"),
    Fault("column.py", "column", "counting.eq(Mux(self.tally.read, 0, following))", "counting.eq(following)"),
    Fault("column.py", "column", "lacking.eq(following)", "lacking.eq(counting)"),
    Fault("column.py", "column", 'register(m, lacking, "lacking_late")', "lacking"),
    Fault("column.py", "column", "change + self.negatives", "change"),
    Fault("column.py", "column", "with m.If(~begun):", "with m.If(0):"),
    Fault("column.py", "column", 'register(m, begun, "begun_late")', "begun", ONE_ROW),
    Fault("column.py", "column", "kept.flags.as_value() | flags", "flags"),
    Fault("column.py", "column", "keep.en.eq(valid),", "keep.en.eq(1),"),
    # banked edge: subnormals, shift, specials, what is no product, banks and words, one word after the other
    Fault("parts.py", "banked_edge", "Cat(field[0] | ~normal, field[1:])", "field"),
    Fault("parts.py", "banked_edge", "Cat(fraction, normal)", "Cat(fraction, 1)"),
    Fault("banked_edge.py", "banked_edge", "significand << exponent[:fine_bits]", "significand << exponent[: fine_bits - 1]"),
    Fault("banked_edge.py", "banked_edge", "fine << Cat(*[0] * fine_bits, coarse)", "fine << Cat(*[0] * fine_bits, coarse[1:])", BANKED_BF16),
    Fault("banked_edge.py", "banked_edge", "unless(m, ~parts.finite, parts", "unless(m, Const(0, 1), parts"),
    Fault("banked_edge.py", "banked_edge", "unless(m, token_1.other, significand", "unless(m, Const(0, 1), significand"),
    Fault("banked_edge.py", "banked_edge", "unless(m, token_1.other, exponent", "unless(m, Const(0, 1), exponent"),
    Fault("banked_edge.py", "banked_edge", "unless(m, self.token.other, found", "unless(m, Const(0, 1), found"),
    Fault("parts.py", "banked_edge", "nan, inf = top & fraction.all()", "nan, inf = top", BANKED_E4M3),
    Fault("banked_edge.py", "banked_edge", "Cat(address[:x_bits] | bank,", "Cat(address[:x_bits],"),
    Fault("banked_edge.py", "ring_edge", "_ripple(address, bank)", "address | bank"),
    Fault("banked_edge.py", "ring_edge", "a[i] & carry |", ""),
    Fault("banked_edge.py", "banked_edge", "token.other | register(m, token.other, \"was_other\")", "token.other"),
    Fault("banked_edge.py", "banked_edge", "apart |= register(m, token_1.address[-1] != address[-1], \"other_half\")", "pass"),
    Fault("banked_edge.py", "banked_edge", "following == bank, \"same\"", "Const(1, 1), \"same\""),
    Fault("banked_edge.py", "banked_edge", "token.other | forward", "forward"),
    Fault("banked_edge.py", "banked_edge", "self.slot.write.eq(token.write)", "self.slot.write.eq(1)"),
    Fault("banked_edge.py", "banked_edge", "self.slot.turn.eq(token.turn)", "self.slot.turn.eq(token_1.turn)"),
    Fault("banked_edge.py", "ring_edge", "self.slot.clear.eq(token.other),", "self.slot.clear.eq(apart),"),
    Fault("banked_edge.py", "ring_edge", "self.slot.near.eq(0)", "self.slot.near.eq(1)"),
    Fault("banked_edge.py", "ring_edge", "word[:2].all()", "word[:2].any()"),
    Fault("banked_edge.py", "ring_edge", "(high == v + 1) & (before == v)", "(high == v) & (before == v + 1)"),
    Fault("banked_edge.py", "ring_edge", "Mux(was_odd & ~odd, above, same)", "Mux(was_odd, above, same)"),
    Fault("banked_edge.py", "ring_edge", "Mux(odd & ~was_odd, below, same)", "same"),
    # banked PE: sign, shift, choice of words and addends, what the weight adds to the bank, capture; it is of fp16 with 4 bits
    Fault("banked_pe.py", "banked_pe", "self.x.negative ^ self.w[code.bits - 1]", "self.x.negative"),
    Fault("banked_pe.py", "banked_pe", "x.significand << w[:shift_bits]", "x.significand << w[: shift_bits - 1]"),
    Fault("banked_pe.py", "banked_pe", "with m.If(clear):", "with m.If(0):"),
    Fault("banked_pe.py", "banked_pe", "with m.If(apart):", "with m.If(0):"),
    Fault("banked_pe.py", "banked_pe", "with m.If(w[-1]):", "with m.If(0):"),
    Fault("banked_pe.py", "ring_array", "plain = ~element[", "plain = element["),
    Fault("banked_pe.py", "ring_array", "element[place] & ~slot.clear", "element[place]"),
    Fault("banked_pe.py", "banked_pe", "register(m, slot.clear | forward", "register(m, slot.clear"),
    Fault("banked_pe.py", "banked_pe", "(near == 3) & (up == before)", "(near == 3)"),
    Fault("banked_pe.py", "banked_pe", "(near == 1) & ~up & before", "(near == 1) & before"),
    Fault("banked_pe.py", "banked_pe", "(near == 2) & up & ~before", "(near == 2) & ~up & before"),
    Fault("banked_pe.py", "banked_pe", "up & slot.full & slot.address[2])", "up & slot.address[2])"),
    Fault("banked_pe.py", "banked_pe", "register(m, slot.write,", "register(m, Const(1, 1),"),
    Fault("banked_pe.py", "banked_pe", "direct[-1].replicate(lift)", "Cat(0).replicate(lift)"),
    Fault("banked_pe.py", "banked_pe", "raised[-1].replicate(lift), raised[:-1]", "Cat(0).replicate(lift), raised[:-1]"),
    Fault("banked_pe.py", "banked_array", "above = negate.replicate(", "above = Cat(0).replicate("),
    Fault("banked_pe.py", "banked_pe", "\"carry\": carry}", "\"carry\": Const(0, 1)}"),
    Fault("banked_pe.py", "banked_pe", "unless(m, hold, read_port.data", "unless(m, Const(0, 1), read_port.data"),
    Fault("banked_pe.py", "banked_pe", "register(m, ~slot.hold,", "register(m, slot.clear,"),
    # its upper half: a cycle late in all of its inputs, and what reaches it
    Fault("banked_pe.py", "banked_array", "\"carry\": top,", "\"carry\": Const(0, 1),"),
    Fault("banked_pe.py", "banked_array", "register(m, total[-1], \"top\")", "register(m, total[-2], \"top\")"),
    Fault("banked_pe.py", "banked_pe", "slot=(address_2, *", "slot=(address, *"),
    Fault("banked_pe.py", "banked_pe", "write=(address_3, write_3)", "write=(address_2, write_3)"),
    Fault("banked_pe.py", "banked_pe", "write=(address_3, write_3)", "write=(address_3, write_2)"),
    Fault("banked_pe.py", "banked_array", "upper[low_bits:], \"upper_2\"", "lower[low_bits:], \"upper_2\""),
    Fault("banked_pe.py", "banked_pe", "& ~total[-1] ^ negate", "& total[-1] ^ negate"),
    Fault("banked_pe.py", "banked_pe", "ones = (2 << banks.reach) - 1", "ones = 1 << banks.reach"),
    Fault("banked_pe.py", "banked_pe", "down.replicate(width", "Const(0, 1).replicate(width"),
    Fault("banked_pe.py", "banked_pe", "register(m, negate, \"down\"), top", "register(m, negate, \"down\"), ~top", BANKED_E4M3),
    # its marks: sticky, of the tile that ends, until it is read
    Fault("banked_pe.py", "banked_pe", "m.d.sync += seen.eq(seen | Cat(now))", "m.d.sync += seen.eq(Cat(now))"),
    Fault("banked_pe.py", "banked_pe", "kept.eq(seen | Cat(now))", "kept.eq(seen)"),
    Fault("banked_pe.py", "banked_pe", ", seen.eq(0)]", "]"),
    Fault("banked_pe.py", "banked_pe", "with m.If(slot.turn):", "with m.If(slot.turn & slot.clear):"),
    Fault("banked_pe.py", "banked_pe", "unless(m, slot.hold, kept", "unless(m, slot.hold, seen"),
    Fault("banked_pe.py", "banked_pe", "now += [inf & ~negate, inf & negate]", "now += [inf, inf & negate]"),
    Fault("banked_pe.py", "banked_pe", "now += [inf & ~negate, inf & negate]", "now += [inf & ~negate_1, inf & negate_1]"),
    # its masks
    Fault("banked_pe.py", "banked_pe", "with m.If(w[shift_bits] | masked):", "with m.If(w[shift_bits]):", BANKED_MASK),
    Fault("banked_pe.py", "banked_array", "plain = plain | element[code.bits]", "pass", BANKED_MASK_ARRAY),
    Fault("banked_pe.py", "banked_pe", "x.nan & ~masked", "x.nan", BANKED_MASK),
    Fault("banked_pe.py", "banked_pe", "x.inf & ~masked", "x.inf", BANKED_MASK),
    Fault("banked_pe.py", "banked_pe", "negative & ~self.w[code.bits]", "negative", BANKED_MASK),
    Fault("tech/add_merge.py", "banked_array", "(self.a | self.b)", "(self.a ^ self.b ^ self.c)"),
    Fault("tech/add_gated.py", "ring_array", "(self.c & self.d)", "self.c"),
    # the array's two ends, and the tally in step with them
    Fault("array.py", "banked_array", "Cat(ends)", "Cat(ends[::-1])"),
    Fault("array.py", "banked_array", "captures[r : r + part]", "captures[: r + part]"),
    Fault("array.py", "banked_array", "[\"tally\"], timing.read_out(self.config)", "[\"tally\"], timing.read_out(self.config) - 1"),
    # banked column: first bank, signs, ends, halves, digits, rows, sets, flags
    Fault("banked_column.py", "banked_column", "with m.If(bank == 0):", "with m.If(0):"),
    Fault("banked_column.py", "banked_column", "before[-1].replicate(step)", "Cat(0).replicate(step)"),
    Fault("banked_column.py", "banked_column", "word[-1].replicate(", "Cat(0).replicate("),
    Fault("banked_column.py", "banked_column", "d=words[1],", "d=0,"),
    Fault("banked_column.py", "banked_column", "register(m, part.low, f\"low_{i}\")", "part.low"),
    Fault("banked_column.py", "banked_column", "seen[0] | seen[1]", "seen[0]"),
    Fault("banked_column.py", "banked_column", "register(m, register(m, seen[0] | seen[1], \"flags_1\"), \"flags\")", "register(m, seen[0] | seen[1], \"flags\")"),
    Fault("banked_column.py", "banked_column", "total[1:step]", "total[: step - 1]"),
    Fault("banked_column.py", "banked_column", "valid_2 & bank_2[i]", "valid_2"),
    Fault("banked_column.py", "banked_column", "set_.eq(~set_)", "set_.eq(0)"),
    Fault("banked_column.py", "ring_column", "bank.eq(Mux(at_last_bank, 0, bank + 1))", "bank.eq(bank + 1)"),
    Fault("banked_column.py", "banked_column", "self.tally.word | (row != 0)", "self.tally.word"),
    Fault("banked_column.py", "banked_column", "row.eq(Mux(at_last_row, 0, row + 1))", "row.eq(row + 1)"),
    Fault("banked_column.py", "banked_column", "valid & at_last_row & at_last_bank", "valid & at_last_row"),
    Fault("banked_column.py", "banked_column", "Mux(self.set, rows, 0) + self.row", "Mux(self.set, 0, rows) + self.row"),
    Fault("banked_column.py", "banked_column", "keep.en.eq(valid_2)", "keep.en.eq(1)"),
    # engine: stall, addresses, tail and zero, weights again, first and last slot
    Fault("engine.py", "engine", "waiting == timing.DRAIN_SETS", "waiting == timing.DRAIN_SETS - 1"),
    Fault("engine.py", "engine", "running & first_phase & last_block & full", "running & last_block & full"),
    Fault("engine.py", "engine", "with m.If(reserve & ~self.tile_drained):", "with m.If(reserve):"),
    Fault("engine.py", "engine", "(pixels_left <= phase) |", "(pixels_left < phase) |"),
    Fault("engine.py", "engine", "(pixels_left <= phase) | patch.outside", "pixels_left <= phase"),
    # engine and drain slots of a banked machine: when a slot is given up, waits, sets, banks, the wipe
    Fault("engine.py", "banked_engine", "drains.may.eq(~running | first_phase)", "drains.may.eq(~running)"),
    Fault("engine.py", "banked_engine", "drains.may.eq(~running | first_phase)", "drains.may.eq(1)"),
    Fault("engine.py", "banked_engine", "drains.full.eq(full)", "drains.full.eq(0)"),
    Fault("engine.py", "banked_engine", "self.stall.eq(running & first_phase & drains.blocked)", "self.stall.eq(0)"),
    Fault("engine.py", "banked_engine", "reserve.eq(drains.first)", "reserve.eq(drains.slot)"),
    Fault("engine.py", "banked_engine", "base.eq(base + banks.stride)", "base.eq(base + banks.count + 1)"),
    Fault("engine.py", "ring_engine", "base.eq(base + banks.stride)", "base.eq(base + 8)"),
    Fault("engine.py", "banked_engine", "parity.eq(~parity)", "parity.eq(parity ^ self.start)"),
    Fault("engine.py", "banked_engine", "Mux(drains.slot, drains.address, base)", "base"),
    Fault("engine.py", "banked_engine", "self.token.write.eq(product | drains.slot)", "self.token.write.eq(product)"),
    Fault("engine.py", "banked_engine", "self.token.hold.eq(~reading)", "self.token.hold.eq(~drains.slot)"),
    Fault("engine.py", "banked_engine", "self.token.turn.eq(turn | drains.wipe)", "self.token.turn.eq(turn)"),
    Fault("engine.py", "banked_engine", "(product | reading) & (Mux", "product & (Mux"),
    Fault("engine.py", "banked_engine", "Mux(reading, ~drains.parity, parity) ^ under_way", "Mux(reading, drains.parity, parity) ^ under_way"),
    Fault("engine.py", "banked_engine", "under_way.eq(under_way ^ turn)", "under_way.eq(parity)"),
    Fault("drain_slots.py", "banked_engine", "(gap <= 1) & ~reading", "~reading"),
    Fault("drain_slots.py", "banked_engine", "(gap <= 1)", "(gap == 0)"),
    Fault("drain_slots.py", "banked_engine", "first_bank.eq(last_bank)", "first_bank.eq(0)"),
    Fault("drain_slots.py", "banked_engine", "gap.eq(spacing - 1)", "gap.eq(spacing)"),
    Fault("drain_slots.py", "banked_engine", "~(first_bank & self.full)", "~self.full"),
    Fault("drain_slots.py", "banked_engine", "wiping | Mux(self.tile_end", "Mux(self.tile_end"),
    Fault("drain_slots.py", "ring_engine", "most = banks.count - banks.awaited", "most = banks.count"),
    Fault("drain_slots.py", "banked_engine", "unread > most + 1, unread > most", "unread > 1, unread > 0"),
    Fault("drain_slots.py", "banked_engine", "self.address != WORDS - 1", "self.address != WORDS - 2"),
    Fault("drain_slots.py", "ring_engine", "banks.stride - banks.count + 1", "0"),
    Fault("drain_slots.py", "banked_engine", "settled(self.tile_end) - (reading", "self.tile_end - (reading"),
    Fault("drain_slots.py", "banked_engine", "word_read = Signal.like(readable), settled(reading)", "word_read = Signal.like(readable), reading"),
    # patch walk: pixels, rows, taps, tiles, edges
    Fault("patch.py", "engine", "layer.row_step, layer.input_stride))", "layer.row_step, layer.output_stride))"),
    Fault("patch.py", "engine", "layer.row_step, layer.input_stride))", "layer.input_stride, layer.input_stride))"),
    Fault("patch.py", "engine", "Mux(row_end, row_x, walk.x + layer.stride_x)", "Mux(row_end, origin.x, walk.x + layer.stride_x)"),
    Fault("patch.py", "engine", "walk.y + Mux(row_end, layer.stride_y, 0)", "walk.y + Mux(row_end, layer.stride_x, 0)"),
    Fault("patch.py", "engine", "Mux(taps_end, layer.tap_row_step, Mux(tap_end, layer.tap_step, 1))", "Mux(tap_end, layer.tap_step, 1)"),
    Fault("patch.py", "engine", "Mux(taps_end, first.x, base.x + columns)", "base.x + columns"),
    Fault("patch.py", "engine", "Mux(taps_end, layer.dilation_y, 0)", "Mux(tap_end, layer.dilation_y, 0)"),
    Fault("patch.py", "engine", "ends[0] & ends[1] & ends[2]", "ends[0] & ends[1]"),
    Fault("patch.py", "engine", "Mux(patch_end, first.y, ", "Mux(0, first.y, "),
    Fault("patch.py", "engine", "Mux(patch_end, first.address, ", "Mux(0, first.address, "),
    Fault("patch.py", "engine", "Mux(last, 0, count + 1)", "count + 1"),
    Fault("patch.py", "engine", "Mux(taps_end, origin.x, row_x + columns)", "row_x + columns"),
    Fault("patch.py", "engine", "Cat(next_block, *ends).all()", "next_block"),
    Fault("patch.py", "engine", "with m.If(first_block):\n                    m.d.sync += [after", "with m.If(1):\n                    m.d.sync += [after"),
    Fault("patch.py", "engine", "here.eq(first_place),\n                ]", "here.eq(corner),\n                ]"),
    Fault("patch.py", "engine", "enter_tile(next_pixel, next_place)", "enter_tile(after, after_place)"),
    Fault("patch.py", "engine", "with m.If(self.last_pixels):", "with m.If(0):"),
    Fault("patch.py", "engine", "Mux(last, only, count == before_last)", "count == before_last"),
    Fault("patch.py", "engine", "size - 2", "size - 1"),
    Fault("patch.py", "engine", "corner.row_end.eq(layer.output_width == 1)", "corner.row_end.eq(0)"),
    Fault("patch.py", "long_engine", "in_rows & (here.column", "(here.column"),
    Fault("patch.py", "engine", "corner.last_row.eq(layer.output_height == 1)", "corner.last_row.eq(0)"),
    Fault("patch.py", "tall_engine", "in_images & (here.row", "(here.row"),
    Fault("patch.py", "engine", "Mux(image_end, layer.image_step, ", "Mux(0, layer.image_step, "),
    Fault("patch.py", "engine", "Mux(image_end, row_y, ", "Mux(image_end, origin.y, "),
    Fault("patch.py", "engine", "Mux(patch_end, origin.y, row_y + rows)", "row_y + rows"),
    Fault("patch.py", "engine", "Mux(image_end, 0, here.row + 1)", "here.row + 1"),
    Fault("patch.py", "engine", "[count.eq(0), last.eq(only)]", "last.eq(only)"),
    Fault("patch.py", "engine", "in_image & ~inside", "~inside"),
    Fault("patch.py", "engine", "(walk.x < layer.input_width) & (walk.y < layer.input_height)", "(walk.x < layer.input_width)"),
    Fault("patch.py", "engine", "self.tail.eq(tap_end | self.last_block)", "self.tail.eq(self.last_block)"),
    Fault("patch.py", "engine", "self.tail.eq(tap_end | self.last_block)", "self.tail.eq(tap_end)"),
    Fault("patch.py", "engine", "within_page(walk.address, layer.input_address, self.config.activation_page)", "walk.address"),
    Fault("engine.py", "engine", "last_pixels.eq(pixels_left <= 2 * rows)", "last_pixels.eq(pixels_left < 2 * rows)"),
    Fault("engine.py", "engine", "self.weight_address.eq(tile_weights)", "self.weight_address.eq(self.weight_address + 1)"),
    Fault("engine.py", "engine", "tile_weights.eq(self.weight_address + 1)", "tile_weights.eq(layer.weight_address)"),
    Fault("engine.py", "engine", "self.token.hold.eq(~(product & last_phase))", "self.token.hold.eq(~(product & first_phase))"),
    Fault("engine.py", "pool_engine", "self.token.hold.eq(~(product & last_phase))", "self.token.hold.eq(~last_phase)"),
    Fault("engine.py", "engine", "self.token.last.eq(product & last_phase & last_block)", "self.token.last.eq(product & last_block)"),
    Fault("engine.py", "engine", "last_tile.eq(tiles_left == 2)", "last_tile.eq(tiles_left == 1)"),
    # walk: groups of the last tile, ragged rows
    Fault("walk.py", "walk", "(layer.n_tail + (lanes - 1))", "(layer.n_tail + lanes)"),
    Fault("walk.py", "walk", "Mux(is_last, tail_group, config.groups - 1)", "tail_group"),
    Fault("walk.py", "walk", "((self.row == config.rows - 1) | last_pixel)", "(self.row == config.rows - 1)"),
    Fault("walk.py", "walk", "Mux(last_pixel, one_pixel, pixels_left == 2)", "pixels_left == 2"),
    Fault("walk.py", "walk", "one_pixel.eq(layer.pixels == 1)", "one_pixel.eq(0)", ONE_ROW),
    Fault("walk.py", "walk", "enter_tile(layer.n_tiles == 1)", "enter_tile(layer.n_tiles == 2)"),
    Fault("walk.py", "walk", "Mux(self.tile_end, 0, self.row + 1)", "Mux(last_pixel, 0, self.row + 1)"),
    # drain: credits, halves of the buffers, parameters, tiles that meet
    Fault("drain.py", "drain", "(complete != 0) & (~layer.to_stream | (credits != 0))", "complete != 0"),
    Fault("drain.py", "drain", "with m.If(spend & ~self.taken):", "with m.If(spend):"),
    Fault("drain.py", "drain", "spend = self.step & layer.to_stream", "spend = self.step"),
    Fault("drain.py", "drain", "with m.If(self.tile_drained):", "with m.If(self.step & walk.pass_end):"),
    Fault("drain.py", "drain", "with m.If(self.tile & ~self.tile_drained):", "with m.If(self.tile):"),
    Fault("drain.py", "drain", "tile_parameters + config.groups", "tile_parameters + 1"),
    Fault("drain.py", "drain", "self.parameter_address.eq(tile_parameters + walk.group)", "self.parameter_address.eq(tile_parameters)"),
    Fault("drain.py", "drain", "timing.DRAIN_READ - 1, \"group\"", "timing.DRAIN_READ - 2, \"group\""),
    # writer: banks, words, valid lanes, the last step
    Fault("walk.py", "writer", "wraps = bank + lanes >= rows", "wraps = bank + lanes > rows", EIGHT_ROWS),
    Fault("walk.py", "writer", "wraps = tile_bank + cols % rows >= rows", "wraps = tile_bank + cols % rows > rows", EIGHT_ROWS),
    Fault("walk.py", "writer", "tile_word + cols // rows + wraps", "tile_word + cols // rows"),
    Fault("walk.py", "writer", "word.eq(word + wraps)", "word.eq(word + 1)"),
    Fault("walk.py", "writer", "[bank.eq(tile_bank), word.eq(new_word)", "[word.eq(new_word)"),
    Fault("drain.py", "writer", ".eq(word + before)", ".eq(word)"),
    Fault("drain.py", "writer", "walk.group * lanes + lane < channels", "walk.group * lanes + lane <= channels"),
    Fault("drain.py", "writer", "Mux(walk.last_tile, layer.n_tail, cols)", "cols"),
    Fault("drain.py", "writer", "Mux(valid[lane], codes[lane], 0)", "codes[lane]"),
    Fault("drain.py", "writer", "self.fifo_last.eq(walk.layer_end)", "self.fifo_last.eq(walk.pass_end)"),
    Fault("drain.py", "writer", "ending.eq(store & walk.layer_end)", "ending.eq(self.step & walk.layer_end)"),
    Fault("drain.py", "writer", 'Mux(self.step & here, getattr(self, f"of_{lane}") << 1, 0)', 'Mux(self.step, getattr(self, f"of_{lane}") << 1, 0)'),
    # memories
    Fault("memories.py", "memories", "store.en.eq(self.write)", "store.en.eq(1)"),
    Fault("memories.py", "memories", "m.d.sync += self.data.eq(fetch.data)", "m.d.comb += self.data.eq(fetch.data)"),
    Fault("memories.py", "memories", 'bank["write"].eq(getattr(self, f"write_{b}"))', 'bank["write"].eq(self.write_0)'),
    # unpacker
    Fault("unpacker.py", "unpacker", "((count == 1) & self.word_ready)", "(count == 1)"),
    Fault("unpacker.py", "unpacker", "self.beat_ready.eq(~full | self.word_ready)", "self.beat_ready.eq(~full)"),
    Fault("unpacker.py", "unpacker", "count.eq(Mux(full, 1, count + 1))", "count.eq(Mux(full, 0, count + 1))"),
    Fault("unpacker.py", "unpacker", "with m.If(self.flush):", "with m.If(self.flush & ~take):"),
    # emitter: last, padding, header, back-pressure
    Fault("emitter.py", "emitter", "complete.eq((index == steps - 1) | step_last)", "complete.eq(index == steps - 1)"),
    Fault("emitter.py", "emitter", "[gathered.eq(0), index.eq(0)]", "[index.eq(0)]"),
    Fault("emitter.py", "emitter", "send(whole, step_last)", "send(whole, Const(1, 1))"),
    Fault("emitter.py", "emitter", "self.taken.eq(fifo.r_rdy & (free | ~complete))", "self.taken.eq(fifo.r_rdy)"),
    Fault("emitter.py", "emitter", "Mux(is_status, Const(STATUS_BYTES, 32), self.layer.result_bytes)", "self.layer.result_bytes"),
    Fault("emitter.py", "emitter", "[kept_sequence.eq(self.sequence), is_status", "[is_status"),
    Fault("emitter.py", "emitter", "index == status_beats - 1)\n                m.d", "Const(0, 1))\n                m.d"),
    Fault("emitter.py", "emitter", "kept.get(name, getattr(self", "{}.get(name, getattr(self"),
    Fault("emitter.py", "emitter", "free.eq(~self.stall)", "free.eq(1)"),
    Fault("emitter.py", "emitter", "step_last & last)", "step_last)", WIDE_STEPS),
    Fault("emitter.py", "emitter", "self.taken.eq(last)", "self.taken.eq(1)", WIDE_STEPS),
    # decoder: commit bits, ends, pages in use, ranges, hash
    Fault("decoder.py", "decoder", "[*(valid[name].eq(0) for name in _NAMES), tainted.eq(1)]", "[tainted.eq(1)]"),
    Fault("decoder.py", "decoder", "~layer.to_stream & ~tainted", "~layer.to_stream"),
    Fault("decoder.py", "decoder", "((kind == number) & (page == i))", "(kind == number)"),
    Fault("decoder.py", "decoder", '& (pool | valid["weight"].bit_select(weight_page, 1))', ""),
    Fault("decoder.py", "decoder", "self.s_axis_tlast & (beats_left != 1)", "self.s_axis_tlast & (beats_left == 0)"),
    Fault("decoder.py", "decoder", "~self.s_axis_tlast & (beats_left == 1)", "~self.s_axis_tlast & (beats_left == 0)"),
    Fault("decoder.py", "decoder", "header_last & (beats_left != 0)", "Const(0, 1)"),
    Fault("decoder.py", "decoder", "~header_last & (beats_left == 0)", "Const(0, 1)"),
    Fault("decoder.py", "decoder", "m.If(~in_use[name].bit_select(target_page, 1))", "m.If(1)"),
    Fault("decoder.py", "decoder", "one_hot(output_page, running & ~layer.to_stream)", "Const(0, 2)"),
    Fault("decoder.py", "decoder", "one_hot(parameter_page, running & layer.post)", "Const(0, 2)"),
    Fault("decoder.py", "decoder", "address[:page_bits] > port.page", "address[:page_bits] >= port.page"),
    Fault("decoder.py", "decoder", "| address[word_bits:].any()", ""),
    Fault("decoder.py", "decoder", "((length & (stride - 1)) != 0)", "Const(0, 1)"),
    Fault("decoder.py", "decoder", "self.s_axis_tdata[:32] == config.hash", "self.s_axis_tdata[:16] == config.hash & 0xFFFF"),
    Fault("decoder.py", "decoder", "Mux(index == 0, 0, header_holes) | ~whole", "~whole"),
    Fault("decoder.py", "decoder", "unpacker.word_valid & unpacker.word_ready & (words_left != 0)\n", "unpacker.word_valid & unpacker.word_ready\n"),
    Fault("decoder.py", "decoder", "[flush.eq(1), error_sequence.eq(0)]", "[flush.eq(1)]"),
    Fault("decoder.py", "decoder", "[flush.eq(1), error_sequence.eq(0)]", "[error_sequence.eq(0)]"),
    Fault("decoder.py", "decoder", "self.status_clear.eq(clear[0])", "self.status_clear.eq(1)"),
    Fault("layer.py", "decoder", "(layer.k_words != config.max_k_words) | (layer.k_tail <= last_k)", "Const(1, 1)"),
    Fault("layer.py", "decoder", "_between(layer.n_tail, 1, config.cols)", "_between(layer.n_tail, 0, config.cols)"),
    Fault("layer.py", "decoder", "layer.output_bank < config.rows", "layer.output_bank <= config.rows"),
    Fault("layer.py", "decoder", "layer.weight_address < config.weight_words", "layer.weight_address <= config.weight_words"),
    Fault("layer.py", "decoder", "order(low) <= order(high)", "order(low) < order(high)"),
    Fault("layer.py", "decoder", "(low[:31] <= infinity) &", ""),
    Fault("layer.py", "decoder", "layer.to_stream | (page_of(layer.input_address", "Const(1, 1) | (page_of(layer.input_address"),
    # maximum, residual, pages
    Fault("pool.py", "pool", "first | (key > before)", "key > before"),
    Fault("pool.py", "pool", "first | (key > before)", "first | (key < before)"),
    Fault("pool.py", "pool", "Mux(outside, Const(lowest_key(fmt), width), key)", "key"),
    Fault("pool.py", "pool", "Mux(magnitude > largest,", "Mux(magnitude >= largest,"),
    Fault("pool.py", "pool", "Mux(magnitude > largest, fmt.nan | fmt.sign_bit, key)", "Mux(magnitude > largest, key | fmt.sign_bit, key)"),
    Fault("pool.py", "pool", "fmt.lowest ^ ((1 << fmt.bits) - 1) if fmt.is_float else 0", "0"),
    Fault("pool.py", "pool", "word.eq(channel_word + 1), channel_word.eq(channel_word + 1)", "word.eq(channel_word + 1)"),
    Fault("pool.py", "pool", "delayed(m, best, rows - 1,", "delayed(m, best, rows,"),
    Fault("pool.py", "pool", "ending.eq(found.layer_end)", "ending.eq(found.pass_end)"),
    Fault("pool.py", "pool", "word.eq(word + layer.output_stride)", "word.eq(word + 1)"),
    Fault("residual.py", "residual", "elements[lane:] + elements[:lane]", "elements"),
    Fault("residual.py", "residual", "(b < channels.bank)", "(b <= channels.bank)"),
    Fault("residual.py", "residual", "channels.first_bank.eq(layer.residual_bank)", "channels.first_bank.eq(layer.output_bank)"),
    Fault("residual.py", "residual", "within_page(word, layer.residual_address, config.activation_page)", "word"),
    Fault("memories.py", "residual_memories", "_banks(m, \"residual_bank\", \"residual_address\",", "_banks(m, \"residual_bank\", \"address\","),
    Fault("lane.py", "residual_lane", "Mux(self.add_residual, multiply.code, 1 << 31)", "multiply.code"),
    Fault("lane.py", "residual_lane", "Mux(self.add_residual, multiply.code, 1 << 31)", "Mux(self.add_residual, multiply.code, 0)"),
    Fault("widen.py", "residual_lane", "Mux(normalize.result[-1], (top - normalize.left)[:8], 0)", "(top - normalize.left)[:8]"),
    Fault("widen.py", "residual_lane", "Mux(nan, FP32.nan, Mux(inf, infinite, finite))", "Mux(inf, infinite, finite)"),
    Fault("decoder.py", "options_decoder", "else loading & ~hold", "else loading"),
    Fault("decoder.py", "options_decoder", "| one_hot(residual_page, running)", ""),
    Fault("decoder.py", "options_decoder", '& valid["activation"].bit_select(residual_page, 1)', ""),
    Fault("decoder.py", "options_decoder", '(pool | valid["weight"]', '(valid["weight"]'),
    Fault("layer.py", "options_decoder", "layer.residual_bank < config.rows", "layer.residual_bank <= config.rows"),
    Fault("layer.py", "options_decoder", "layer.post | ~residual,", "Const(1, 1),"),
    Fault("layer.py", "options_decoder", "layer.to_stream | ~residual |", "Const(1, 1) |"),
    Fault("layer.py", "options_decoder", "checks.append(~pool | alone)", "pass"),
    Fault("layer.py", "options_decoder", "_between(layer.k_words, 1, MAX_POOL_WORDS)", "_between(layer.k_words, 1, MAX_POOL_WORDS + 1)"),
    Fault("layer.py", "pool_engine", "Cat(address[:low], start[low : len(address)])", "Cat(address[: low + 1], start[low + 1 : len(address)])"),
    Fault("engine.py", "pool_engine", "product.eq(issue & ~pool)", "product.eq(issue)"),
    Fault("engine.py", "pool_engine", "(phase < pixels_left)", "(phase == phase)"),
    Fault("engine.py", "pool_engine", "last_read & last_tile", "last_read"),
    Fault("engine.py", "pool_engine", "MAX_POOL_WORDS if config.max_pool else 2", "2"),
    Fault("patch.py", "pool_engine", "again_address + layer.pool_kind", "again_address"),
    Fault("patch.py", "pool_engine", "layer.input_address + layer.pool_kind", "layer.input_address"),
    # registers: write 1 to clear, refusals, strobes, soft reset
    Fault("registers.py", "registers", "self.clear_errors.eq(written)", "self.clear_errors.eq(data)"),
    Fault("registers.py", "registers", "self.clear_flags.eq(written)", "self.clear_flags.eq(-1)"),
    Fault("registers.py", "registers", "self.s_axil_rresp.eq(SLVERR)", "self.s_axil_rresp.eq(OKAY)"),
    Fault("registers.py", "registers", "self.s_axil_bresp.eq(SLVERR)", "self.s_axil_bresp.eq(OKAY)"),
    Fault("registers.py", "registers", "with m.If(strobe[0]):", "with m.If(1):"),
    Fault("registers.py", "registers", "with m.If(has_address & has_data):", "with m.If(has_address):"),
    Fault("registers.py", "registers", "resetting.eq(most)", "resetting.eq(1)"),
    Fault("registers.py", "registers", "init=most)", "init=0)"),
    Fault("registers.py", "registers", "with m.If(resetting != 0):", "with m.If(0):"),
    # What only the whole machine shows.
    Fault("top.py", "top", "core.s_axis_tready & ~resetting", "core.s_axis_tready"),
    Fault("top.py", "top", "core.m_axis_tvalid & ~resetting", "core.m_axis_tvalid"),
    Fault("reset.py", "top", "self.given | ResetSignal()", "self.given"),
    Fault("reset.py", "top", "self.given | ResetSignal()", "ResetSignal()"),
)  # fmt: skip

FOUND = 3
COMPILED = ("decoder", "emitter", "registers")
"""Units that only Verilator runs: these benches read outputs while the library, or memory not yet written, makes them unknown."""
_RUN = f"""
import json, sys
from pathlib import Path
from shiftforge.config import from_dict
from shiftforge.errors import CheckFailed
from sim.units import UNITS, run_unit
unit, config, folder, simulator = sys.argv[1:]
try:
    run_unit(UNITS[unit], Path(folder), config=from_dict(json.loads(config)) if config else None, simulator=simulator)
except CheckFailed as error:
    print(error)
    sys.exit({FOUND})
"""


def copy_sources(folder: Path) -> None:
    """A copy of what the benches need, in `folder`."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))


def run_copy(copy: Path, folder: Path, unit: str, config: Config | None) -> subprocess.CompletedProcess[str]:
    """Run a unit's bench on the copied sources; it exits with `FOUND` when the bench finds a difference."""
    text = json.dumps(config.to_dict()) if config else ""
    # Icarus builds in a moment, and a bench with a fault in its unit seldom runs long.
    simulator = "icarus" if unit not in COMPILED and shutil.which("iverilog") else "verilator"
    words = [sys.executable, "-B", "-c", _RUN, unit, text, str(folder), simulator]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=240)


def run_fault(copy: Path, folder: Path, fault: Fault) -> subprocess.CompletedProcess[str]:
    """Put a fault into the copy, run its unit's bench, take the fault out again."""
    source = copy / "hw" / fault.file
    text = source.read_text(encoding="utf-8")
    count = text.count(fault.old)
    assert count == 1, f"{fault.old!r} must occur once in {fault.file}, not {count} times"
    try:
        source.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
        return run_copy(copy, folder, fault.unit, fault.config)
    finally:
        source.write_text(text, encoding="utf-8")
