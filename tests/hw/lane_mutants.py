"""Seeded faults of the lane's sources, each of which the bench must find (`tests/hw/test_lane.py`)."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

FP16, TO_FP32, TO_INT = ("fp16", "fp16", 3), ("fp8_e4m3", "fp32", 4), ("fp16", "int8", 3)
FROM_FP32 = ("fp32", "fp16", 2)


@dataclass(frozen=True)
class Mutant:
    """One change of text (found exactly once) in a source, and the pair of formats that shows it."""

    file: str
    old: str
    new: str
    pair: tuple[str, str, int] = FP16

    def __str__(self) -> str:
        return f"{self.file}: {self.old} -> {self.new}"


MUTANTS = (
    # rounding
    Mutant("rounding.py", "self.aligned[1] & (self.aligned[0] | kept[0])", "self.aligned[1]"),
    Mutant("rounding.py", "self.aligned[1] & (self.aligned[0] | kept[0])", "self.aligned[1] & self.aligned[0]"),
    Mutant("rounding.py", "Cat(value[: last + 1].any(), value[last + 1 :]", "Cat(value[last], value[last + 1 :]"),
    Mutant("rounding.py", "Mux(far, value.any(), value)", "Mux(far, 0, value)"),
    Mutant("rounding.py", "finite & (huge | above)", "finite & huge"),
    Mutant("rounding.py", "finite & (huge | above)", "finite & above"),
    Mutant("rounding.py", "over & ~self.saturate", "over"),
    Mutant("rounding.py", "normal.eq(below[-1] & top)", "normal.eq(below[-1])"),
    Mutant("rounding.py", "inexact | over", "inexact"),
    Mutant("rounding.py", "up ^ self.sign", "up", TO_INT),
    Mutant("rounding.py", "(~sign).replicate(fmt.bits - 1)", "sign.replicate(fmt.bits - 1)", TO_INT),
    Mutant("rounding.py", "invalid = nan | inf", "invalid = nan", TO_INT),
    Mutant("rounding.py", "nan | (to_infinity & (not fmt.has_inf))", "nan", TO_FP32),
    # normalising
    Mutant("normalize.py", "value[:lost].any()", "value[lost - 1]"),
    Mutant("normalize.py", "& self._affords(left, level, places)", ""),
    Mutant("normalize.py", "Mux(taken, above != 1, above.any())", "above.any()", TO_FP32),
    Mutant("normalize.py", "Mux(taken, above != 1, above.any())", "above != 1", TO_FP32),
    # binary32
    Mutant("parts.py", "field[0] | ~normal", "field[0]"),
    Mutant("parts.py", "Cat(fraction, normal)", "Cat(fraction, Const(1, 1))"),
    Mutant("fp32.py", "(a.inf & b.zero) | (a.zero & b.inf)", "a.zero & b.inf"),
    Mutant("fp32.py", "a.inf & b.inf & (a.sign ^ b.sign)", "Const(0, 1)"),
    Mutant("fp32.py", "Mux(swap, b.sign, a.sign) & ~cancel", "Mux(swap, b.sign, a.sign)"),
    Mutant("fp32.py", "Cat(small[: last + 1].any(), small[last + 1 :]", "Cat(small[last], small[last + 1 :]", TO_FP32),
    Mutant("fp32.py", "Mux(far, 0, small)", "small", TO_FP32),
    Mutant("fp32.py", "total[27] & ~drop_carry", "total[27]"),
    Mutant("fp32.py", "(self.a[:31] == self.b[:31]) & (a.sign ^ b.sign)", "self.a[:31] == self.b[:31]", TO_FP32),
    # activation
    Mutant("activation.py", "order(self.x) < order(self.lo)", "order(self.x) < self.lo.as_signed()"),
    Mutant("activation.py", "result.sign & ~to_zero", "result.sign"),
    Mutant("activation.py", "Mux(leaks, self.shift, 0)", "Mux(leaks, self.shift[:3], 0)"),
    # the lane
    Mutant("lane.py", "self.saturate & ~self.post", "self.saturate", TO_FP32),
    Mutant("lane.py", "self.saturate & ~self.post", "0", TO_FP32),
    Mutant("lane.py", "both & ~nan", "both"),
    Mutant("lane.py", "first = self.post | to_binary32", "first = self.post", TO_FP32),
    Mutant("lane.py", "to_output if config.output == FP32 else ~to_output", "to_output", FROM_FP32),
    Mutant("lane.py", "Mux(to_binary32, to_fp32.code, direct)", "direct", FROM_FP32),
    Mutant("lane.py", 'timing.FP32_MULTIPLY, "bias"', 'timing.FP32_MULTIPLY + 1, "bias"'),
    Mutant("lane.py", "result[:3] | flags", "result[:3]"),
    Mutant("lane.py", "Mux(infinite, negative_infinity, negative)", "negative"),
)

_WRITE = """
import sys
from pathlib import Path
from tests.hw.test_lane import a_config, write_lane
write_lane(a_config(sys.argv[1], sys.argv[2], int(sys.argv[3])), Path(sys.argv[4]))
"""


def write_mutated_lane(mutant: Mutant, folder: Path) -> Path:
    """The lane's Verilog from a copy of the sources with the fault in it."""
    copy = folder / "copy"
    shutil.copytree(ROOT / "hw", copy / "hw", ignore=shutil.ignore_patterns("__pycache__"))
    source = copy / "hw" / mutant.file
    text = source.read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, (
        f"{mutant.old!r} must occur once in {mutant.file}, not {text.count(mutant.old)} times"
    )
    source.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    words = [sys.executable, "-c", _WRITE, *map(str, mutant.pair), str(folder)]
    path = f"{copy}:{ROOT}"
    subprocess.run(words, check=True, cwd=folder, env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin"}, timeout=120)
    return folder / "lane.v"
