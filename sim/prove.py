"""Proofs by SAT with yosys, and the seeded faults that each of them must refute: `python -m sim.prove`.

A proof counts when it holds *and* all of its mutants (a change of text in a copy of the sources) are refuted. The last line on
standard output is JSON; the exit status is 1 when a proof does not count.
"""

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from shiftforge.errors import CheckFailed, InputError, ShiftForgeError, ToolError
from shiftforge.progress import Progress, duration
from shiftforge.tools import Command, run, telling_line
from sim.proofs.catalogue import proofs
from sim.proofs.miter import Mutant, Proof, Script
from sim.proofs.pipeline import latency_of

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("hw", "shiftforge", "sim")

_READ = "read_rtlil miter.il; {library}hierarchy -top top; proc -norom; flatten; "
# Registers become wires, which start as nothing: sound after `latency_of`.
_WIRES = """module \\$dff (CLK, D, Q);
parameter WIDTH = 0; parameter CLK_POLARITY = 1;
input CLK; input [WIDTH-1:0] D; output [WIDTH-1:0] Q; assign Q = D;
endmodule
"""
_AS_WIRES = "setattr -unset init w:*; techmap -map wires.v; opt -full; "

Verdict = Literal["proven", "refuted"]

_Z3_START = "import sys, z3; s = z3.Solver(); s.from_file(sys.argv[1]); print(s.check())"
_Z3 = Command("z3", (sys.executable, "-c", _Z3_START))
_Z3_VERDICTS: dict[str, Verdict] = {"unsat": "proven", "sat": "refuted"}


def verdict(script: Script, folder: Path, limit_s: float) -> Verdict:
    """Prove or refute a miter; its RTLIL, netlist and log (with the counterexample) are left in `folder`.

    `ToolError` when yosys fails or takes longer than `limit_s`.
    """
    (folder / "miter.il").write_text(script.rtlil, encoding="utf-8")
    models = f"read_verilog -nooverwrite -icells {' '.join(script.library)}; " if script.library else ""
    read = _READ.format(library=models)
    if script.latency is None:
        steps = _induction(script)
    else:
        (folder / "wires.v").write_text(_WIRES, encoding="utf-8")
        run(
            "yosys",
            ["-q", "-p", read + "opt_clean; write_json miter.json"],
            cwd=folder,
            log=folder / "read.log",
            timeout_s=limit_s,
        )
        try:
            latency = latency_of(json.loads((folder / "miter.json").read_text()), script.output, script.stable)
        except CheckFailed as error:
            (folder / "sat.log").write_text(f"{error}\n", encoding="utf-8")
            return "refuted"
        if latency != script.latency:
            (folder / "sat.log").write_text(f"latency {latency}, not {script.latency}\n", encoding="utf-8")
            return "refuted"
        if script.smt:
            return _by_z3(script, folder, limit_s)
        steps = _AS_WIRES + "sat -prove bad 0 -show-inputs top"
    printed = run("yosys", ["-Q", "-p", read + steps], cwd=folder, log=folder / "sat.log", timeout_s=limit_s)
    if "no model found: SUCCESS!" in printed or "Induction step proven: SUCCESS!" in printed:
        return "proven"
    if "proof finished - model found" in printed:
        return "refuted"
    raise ToolError(
        f"yosys must prove or refute, and did neither ({telling_line(printed)}); its log is {folder / 'sat.log'}"
    )


def _by_z3(script: Script, folder: Path, limit_s: float) -> Verdict:
    if importlib.util.find_spec("z3") is None:
        raise ToolError("z3 must be installed (a second truth): `pip install -c constraints.txt -e '.[dev]'`")
    steps = _AS_WIRES + "write_smt2 -wires unit.smt2"
    run("yosys", ["-q", "-p", _READ.format(library="") + steps], cwd=folder, log=folder / "smt.log", timeout_s=limit_s)
    question = (folder / "unit.smt2").read_text(encoding="utf-8") + script.smt
    (folder / "question.smt2").write_text(question, encoding="utf-8")
    printed = run(_Z3, ["question.smt2"], cwd=folder, log=folder / "sat.log", timeout_s=limit_s).strip()
    if printed not in _Z3_VERDICTS:
        raise ToolError(f"z3 must say sat or unsat, not {printed!r}; its log is {folder / 'sat.log'}")
    return _Z3_VERDICTS[printed]


def _induction(script: Script) -> str:
    """Induction over time, with memories as registers; the base case starts from the reset state, and `rst` is free."""
    named = [*script.equal, *((mine, port) for port, mine in script.peeked)]
    # Without `keep`, a register that is merged with the specification's loses its name.
    keep = [f"setattr -set keep 1 w:unit.{mine} w:{its}" for mine, its in named]
    peeks = [f"-set \\{port} \\unit.{mine}" for port, mine in script.peeked]
    claims = [f"-prove \\unit.{mine} \\{its}" for mine, its in script.equal]
    sat = ["sat -tempinduct -show-inputs", f"-maxsteps {script.steps}", *peeks, "-prove bad 0", *claims, "top"]
    return "; ".join([*keep, "memory_map", "opt -full", " ".join(sat)])


def mutate(mutant: Mutant, copy: Path) -> None:
    """Copy the sources to `copy` with one change of text; `InputError` when it is not found exactly once."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__", "benches"))
    source = copy / mutant.file
    text = source.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise InputError(f"{mutant.old!r} must occur once in {mutant.file}, not {text.count(mutant.old)} times")
    source.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")


def _mutated_script(proof: Proof, mutant: Mutant, folder: Path) -> Script:
    copy = folder / "copy"
    mutate(mutant, copy)
    words = [sys.executable, "-m", "sim.prove", "--emit", proof.name]
    try:
        done = subprocess.run(words, cwd=copy, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        raise ToolError(f"emission of mutant {mutant.new!r} must end within 120 s") from None
    if done.returncode != 0:
        raise ToolError(f"mutant {mutant.new!r} must still elaborate, and did not: {telling_line(done.stderr)}")
    fields = json.loads(done.stdout)
    lists = {name: tuple(map(tuple, fields.pop(name))) for name in ("equal", "peeked")}
    flat = {name: tuple(fields[name]) for name in ("stable", "library")}
    return Script(**{**fields, **lists, **flat})


def _counterexample(log: str) -> str:
    """The table of signals in yosys' log, or all of a short one."""
    _, title, table = log.partition("  Signal Name")
    return title + table.partition("\n\nEnd of script")[0] if title else log[-1000:]


@dataclass(frozen=True)
class Outcome:
    """Of one proof: `error` is empty when it holds and all of its mutants were refuted."""

    name: str
    seconds: float
    mutants_refuted: int
    error: str = ""


def check(proof: Proof, mutants: bool = True) -> Outcome:
    """Run a proof, then its mutants."""
    start = time.monotonic()
    seconds = 0.0
    refuted = 0
    try:
        if not proof.mutants:
            raise CheckFailed("a proof must have a mutant that it refutes, and has none")
        with tempfile.TemporaryDirectory(prefix="prove-") as name:
            found = verdict(proof.build(), Path(name), proof.limit_s)
            seconds = time.monotonic() - start
            if found != "proven":
                raise CheckFailed(f"refuted by\n{_counterexample((Path(name) / 'sat.log').read_text())}")
        for mutant in proof.mutants if mutants else ():
            with tempfile.TemporaryDirectory(prefix="prove-") as name:
                if verdict(_mutated_script(proof, mutant, Path(name)), Path(name), proof.limit_s) != "refuted":
                    raise CheckFailed(
                        f"mutant {mutant.file}: {mutant.old!r} -> {mutant.new!r} must be refuted, and was proven"
                    )
            refuted += 1
    except ShiftForgeError as error:
        return Outcome(proof.name, seconds or time.monotonic() - start, refuted, str(error))
    return Outcome(proof.name, seconds, refuted)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m sim.prove", description=__doc__, epilog="example: python -m sim.prove --fast --only round"
    )
    parser.add_argument("--fast", action="store_true", help="a subset that takes less than three minutes on one core")
    parser.add_argument("--only", default="", metavar="TEXT", help="proofs whose name contains this")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument(
        "--no-mutants", action="store_true", help="skip the mutants; nothing then counts as a proof in CI"
    )
    parser.add_argument("--emit", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.emit:
        (proof,) = (p for p in proofs() if p.name == options.emit)
        print(json.dumps(asdict(proof.build())))
        return 0
    chosen = [p for p in proofs() if options.only in p.name and (p.fast or not options.fast)]
    if options.list:
        print("\n".join(p.name for p in chosen))
        return 0
    progress = Progress()
    outcomes: list[Outcome] = []
    start = time.monotonic()
    for i, proof in enumerate(chosen, 1):
        outcome = check(proof, mutants=not options.no_mutants)
        outcomes.append(outcome)
        told = f"FAILED: {outcome.error}" if outcome.error else f"proven in {duration(outcome.seconds)}"
        progress.say(f"[{i}/{len(chosen)}] {proof.name}: {told}, {outcome.mutants_refuted} mutants refuted")
    failed = [o.name for o in outcomes if o.error]
    summary = {
        "proofs": len(outcomes) - len(failed),
        "mutants_refuted": sum(o.mutants_refuted for o in outcomes),
        "failed": failed,
        "seconds": round(time.monotonic() - start, 1),
        "slowest": max(((o.seconds, o.name) for o in outcomes), default=(0.0, ""))[1],
    }
    print(json.dumps(summary))
    return 1 if failed or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
