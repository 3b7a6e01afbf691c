"""Seeded faults in the emulator, the cycle-true array and the cycle model: the named tests must find each of them."""

# ruff: noqa: E501 - one fault per line reads better

from pathlib import Path

import pytest

from tests.faults import Fault, check_found, check_passes, copy_tree, name_of, relied_on

# file, text as it is (exactly once), text as the fault makes it, tests that must fail
FAULTS: list[Fault] = [
    ("golden/decoder.py", "offset + count > port.page", "offset + count > port.words", "golden/test_emulator.py"),
    ("golden/decoder.py", "self.errors |= error\n            self._clear_commits()", "self.errors |= error", "golden/test_emulator.py"),
    ("golden/decoder.py", "if not self.errors:\n", "if True:\n", "golden/test_emulator.py"),
    ("golden/decoder.py", "(min(beats, wanted) - 1) * beat", "min(beats, wanted) * beat", "golden/test_emulator.py"),
    ("golden/decoder.py", '        if layer["post"]:\n            operands', "        if False:\n            operands", "golden/test_emulator.py"),
    ("golden/drain.py", '(layer["k_words"] * layer.config.rows) + valid', "layer.k + valid", "golden/test_emulator.py"),
    ("golden/drain.py", "elements[read.outside] = 0", "pass", "golden/test_patch.py"),
    ("golden/patch.py", "(pixel - row) * layer", "pixel * layer", "golden/test_patch.py"),
    ("golden/patch.py", "(row - image) * layer", "row * layer", "golden/test_patch.py"),
    ("golden/patch.py", "line * layer", "row * layer", "golden/test_patch.py"),
    ("golden/patch.py", "(tap - tap_row) * _signed", "tap * _signed", "golden/test_patch.py"),
    ("golden/patch.py", "tap_column * layer[\"dilation_x\"]", "tap_column * layer[\"dilation_y\"]", "golden/test_patch.py"),
    ("golden/patch.py", "(across >= layer[\"input_width\"]) |", "", "golden/test_patch.py"),
    ("golden/patch.py", "at_end |= block %", "at_end = block %", "golden/test_patch.py"),
    ("golden/drain.py", ", channel % layer.config.rows", ", (channel + 1) % layer.config.rows", "golden/test_emulator.py"),
    ("golden/memory.py", "[:, : n * self.element_bits]", "[:, -n * self.element_bits :]", "golden/test_emulator.py"),
    ("golden/pe.py", "^ -sign.astype(np.int64)", "* (1 - 2 * sign.astype(np.int64))", "golden/test_array.py"),
    ("golden/pe.py", "acc=np.where(enable, total, old.acc)", "acc=np.where(valid, total, old.acc)", "golden/test_masks.py"),
    ("golden/pe.py", "negated=(enable & (negate != 0))", "negated=(valid & (negate != 0))", "golden/test_masks.py"),
    ("golden/pe.py", "np.where(given.w & mask_bit, 0, _marks", "np.where(False, 0, _marks", "golden/test_masks.py"),
    ("golden/memory.py", "config.weights.element_bits)", "config.weights.bits)", "golden/test_emulator.py"),
    ("golden/pe.py", "np.where(held, old.flags, 0)", "old.flags", "golden/test_array.py"),
    ("golden/pe.py", "np.where(valid, now, 0)", "now", "golden/test_array.py"),
    ("golden/array.py", "_signed(reading - previous[row],", "_signed(reading,", "golden/test_array.py"),
    ("golden/array.py", "config.block_bits) + negatives", "config.block_bits)", "golden/test_array.py"),
    ("golden/array.py", "flags[row] |= int", "flags[row] = int", "golden/test_array.py"),
    ("shiftforge/config.py", "self.product_bits + (self.rows - 1).bit_length()", "self.product_bits", "golden/test_array.py"),
    ("golden/skew.py", "entering[c:, c] = w[: max(0, len(w) - c), c]", "entering[:, c] = w[:, c]", "golden/test_array.py"),
    ("golden/schedule.py", "self.stall += taken - sent - 1", "self.stall += taken - sent", "golden/test_cycles.py"),
    ("golden/engine.py", "self.stall += max(0, free - block)", "self.stall += 0", "golden/test_cycles.py"),
    ("golden/engine.py", "begin = max(start + 1, wiped)", "begin = start + 1", "golden/test_cycles.py"),
    ("golden/engine.py", "max(self._end + timing.BANK_SETTLE, self._slot", "max(self._end + 1, self._slot", "golden/test_cycles.py"),
    ("golden/engine.py", "self._slot + timing.BANK_SETTLE)  #", "self._slot + 1)  #", "golden/test_cycles.py"),
    ("golden/engine.py", "range(self._banks.awaited):", "range(0):", "golden/test_cycles.py"),
    ("golden/engine.py", "range(self._banks.awaited, self._banks.count)", "range(self._banks.count)", "golden/test_cycles.py"),
    ("golden/engine.py", "earliest = self._slot + self._spacing\n", "earliest = self._slot + 1\n", "golden/test_cycles.py"),
    ("golden/engine.py", "now = max(now, self._slot + 1)", "pass", "golden/test_cycles.py"),
    ("golden/engine.py", "self._slot = max(earliest, now)", "self._slot = earliest", "golden/test_cycles.py"),
    ("golden/engine.py", "self.stall += now - (self._end + 1)", "self.stall += 0", "golden/test_cycles.py"),
    ("golden/decoder.py", "and output_page in read", "and output_page == read[0]", "golden/test_residual.py"),
    ("golden/decoder.py", "*([self[\"residual_address\"]] if self[\"residual\"] else [])", "", "golden/test_residual.py"),
    ("golden/decoder.py", "layer[\"residual\"] and not layer[\"post\"]", "False", "golden/test_residual.py"),
    ("golden/decoder.py", "address // self._ports[opcode].page", "int(address >= self._ports[opcode].page)", "golden/test_residual.py"),
    ("golden/decoder.py", "<= MAX_POOL_WORDS if maximum", "<= MAX_POOL_WORDS + 1 if maximum", "golden/test_pool.py"),
    ("golden/decoder.py", "        if not layer[\"pool_kind\"]:\n            operands", "        if True:\n            operands", "golden/test_pool.py"),
    ("golden/memory.py", "(base & ~low) |", "(base & self.port.words // 2) |", "golden/test_residual.py"),
    ("golden/drain.py", "\"residual\", start, stop, 0,", "\"residual\", 0, stop - start, 1,", "golden/test_residual.py"),
    ("golden/drain.py", "residual_scale=_fp32(layer[\"residual_scale\"])", "residual_scale=1.0", "golden/test_residual.py"),
    ("golden/pool.py", "keys[read.outside] = lowest", "pass", "golden/test_pool.py"),
    ("golden/pool.py", "read.offsets + tile", "read.offsets", "golden/test_pool.py"),
    ("golden/pool.py", "layer[\"output_stride\"] + tile", "layer[\"output_stride\"] + layer[\"n_tiles\"] - 1 - tile", "golden/test_pool.py"),
    ("golden/pool.py", "np.where(magnitude > largest, fmt.nan, keys)", "keys", "golden/test_pool.py"),
    ("golden/schedule.py", "tile - config.rows + timing.POOL", "tile - config.rows + timing.POOL + 1", "golden/test_cycles.py"),
    ("golden/schedule.py", "cycle = max(cycle, self._last[run] + 1)", "cycle = max(cycle, self._last[run])", "golden/test_cycles.py"),
    ("golden/schedule.py", "begin - (start + 1), writes)", "0, writes)", "golden/test_cycles.py"),
    ("golden/cycles.py", "held = port.opcode == Opcode.ACTIVATIONS and", "held =", "golden/test_cycles.py"),
    ("golden/cycles.py", "other // port.page == address // port.page", "True", "golden/test_cycles.py"),
    ("golden/cycles.py", "self.stall_input += cycle - ready", "self.stall_input += cycle - ready - 1", "golden/test_cycles.py"),
    ("golden/cycles.py", "(words if beats_left > 1", "(1 if beats_left > 1", "golden/test_schedule.py"),
    ("golden/engine.py", "self._slot += cycles", "self._slot += 0", "golden/test_schedule.py"),
    ("golden/schedule.py", "stream.skip(times * period * steps,", "stream.skip(times * period,", "golden/test_schedule.py"),
    ("golden/schedule.py", "return self._gathered, *", "return 0, *", "golden/test_schedule.py"),
    ("golden/cycles.py", "cycle += (count - 2) * words", "cycle += (count - 1) * words", "golden/test_schedule.py"),
]  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_tree(
        tmp_path_factory.mktemp("faults"), "golden", "shiftforge", "tests/golden", "tests/shiftforge", without=["train"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("test", relied_on(FAULTS))
def test_the_copy_passes_as_it_is(copy: Path, test: str) -> None:
    check_passes(copy, test)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=name_of)
def test_the_fault_is_found(copy: Path, fault: Fault) -> None:
    check_found(copy, fault)
