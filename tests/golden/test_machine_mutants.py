"""Seeded faults in the emulator, the cycle-true array and the cycle model: the named tests must find each of them."""

# ruff: noqa: E501 - one fault per line reads better

import pytest

from tests.golden.test_mutants import copy, run

__all__ = ["copy"]  # the fixture

# file, text as it is (exactly once), text as the fault makes it, tests that must fail
MUTANTS = [
    ("golden/decoder.py", "offset + count > port.half", "offset + count > port.words", "golden/test_emulator.py"),
    ("golden/decoder.py", "self.errors |= error\n            self._clear_commits()", "self.errors |= error", "golden/test_emulator.py"),
    ("golden/decoder.py", "if not self.errors:\n", "if True:\n", "golden/test_emulator.py"),
    ("golden/decoder.py", "(min(beats, wanted) - 1) * beat", "min(beats, wanted) * beat", "golden/test_emulator.py"),
    ("golden/decoder.py", '        if layer["post"]:\n            operands', "        if False:\n            operands", "golden/test_emulator.py"),
    ("golden/drain.py", 'layer["k_words"] * layer.config.rows', "layer.k", "golden/test_emulator.py"),
    ("golden/drain.py", "channel % rows]", "(channel - layer[\"output_bank\"]) % rows]", "golden/test_emulator.py"),
    ("golden/memory.py", "[:, : n * self.element_bits]", "[:, -n * self.element_bits :]", "golden/test_emulator.py"),
    ("golden/pe.py", "^ -sign.astype(np.int64)", "* (1 - 2 * sign.astype(np.int64))", "golden/test_array.py"),
    ("golden/pe.py", "np.where(restart, 0, old.flags)", "old.flags", "golden/test_array.py"),
    ("golden/array.py", "value = (total - previous[row])", "value = total", "golden/test_array.py"),
    ("golden/array.py", "skewed[c:, c] = given.w[: max(0, cycles - c), c]", "skewed[:, c] = given.w[:, c]", "golden/test_array.py"),
    ("golden/schedule.py", "self.stall += taken - sent - 1", "self.stall += taken - sent", "golden/test_cycles.py"),
    ("golden/schedule.py", "self.stall += max(0, free - block)", "self.stall += 0", "golden/test_cycles.py"),
    ("golden/cycles.py", "self.stall_input += cycle - ready", "self.stall_input += cycle - ready - 1", "golden/test_cycles.py"),
    ("golden/cycles.py", "ready = cycle + words", "ready = cycle + 1", "golden/test_cycles.py"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("test", sorted({test for *_, test in MUTANTS}))
def test_the_copy_passes_as_it_is(copy, test):
    result = run(copy, test)
    assert result.returncode == 0, result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("file, old, new, test", MUTANTS, ids=[f"{m[0]}:{m[2].strip()}" for m in MUTANTS])
def test_the_fault_is_found(copy, file, old, new, test):
    path = copy / file
    source = path.read_text()
    assert source.count(old) == 1, f"{file} must hold {old!r} once"
    path.write_text(source.replace(old, new))
    try:
        result = run(copy, test)
    finally:
        path.write_text(source)
    assert result.returncode == 1, result.stdout
