# amaranth: UnusedElaboratable=no
"""The prover on small units: it proves, it refutes, it checks latencies, and no proof in the catalogue is without mutants."""

from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Const, Module, Signal, signed

from hw.lane import Lane
from shiftforge.config import BANKED_FORMATS
from shiftforge.errors import CheckFailed, InputError, ToolError
from shiftforge.formats import FORMATS, WEIGHT_BITS
from sim.proofs.banked import banked_config
from sim.proofs.catalogue import proofs
from sim.proofs.element import ALIGNED_FORMATS, config_for
from sim.proofs.miter import Claims, Mutant, Proof, Script
from sim.proofs.pipeline import latency_of
from sim.proofs.rounding import Jammed
from sim.prove import ROOT, check, main, mutate, verdict
from tests.hw.sum_of_two import sum_script

LIMIT_S = 120.0


def test_a_true_claim_is_proven(tmp_path: Path):
    assert verdict(sum_script(), tmp_path, LIMIT_S) == "proven"


def test_a_false_claim_is_refuted_with_a_counterexample(tmp_path: Path):
    assert verdict(sum_script(wrong=True), tmp_path, LIMIT_S) == "refuted"
    log = (tmp_path / "sat.log").read_text()
    assert "\\in_a" in log
    assert "\\in_b" in log


@pytest.mark.parametrize(
    "script, why",
    [
        (lambda: sum_script(late=True), "must be of the same cycle"),
        (lambda: sum_script(loop=True), "must have no loop"),
        (lambda: sum_script(latency=3), "must be of the same cycle"),
        (lambda: replace(sum_script(), latency=1), "latency 2, not 1"),
    ],
)
def test_what_is_not_a_function_of_that_latency_is_refuted(tmp_path: Path, script, why: str):
    # With registers as wires all but the loop would be proven.
    assert verdict(script(), tmp_path, LIMIT_S) == "refuted"
    assert why in (tmp_path / "sat.log").read_text()


def test_a_register_with_an_enable_is_no_pipeline():
    cell = {"type": "$dffe", "port_directions": {}, "connections": {}}
    netlist: dict[str, object] = {
        "modules": {"top": {"ports": {"bad": {"direction": "output", "bits": [2]}}, "cells": {"r": cell}}}
    }
    with pytest.raises(CheckFailed, match=r"^cell r of a pipeline must be a register or combinational, not \$dffe$"):
        latency_of(netlist, "bad", ())


def test_a_netlist_that_yosys_refuses_is_no_verdict(tmp_path: Path):
    with pytest.raises(ToolError, match="yosys failed"):
        verdict(Script("module \\top\n"), tmp_path, LIMIT_S)


def test_a_mutant_is_one_change_of_text(tmp_path: Path):
    mutate(Mutant("hw/pe.py", "sign, exponent = self.w[code.exponent_bits]", "sign, exponent = self.w[0]"), tmp_path)
    assert "sign, exponent = self.w[0]" in (tmp_path / "hw" / "pe.py").read_text()
    with pytest.raises(InputError, match=r"^'no such text' must occur once in hw/pe.py, not 0 times$"):
        mutate(Mutant("hw/pe.py", "no such text", ""), tmp_path / "second")


def test_every_mutant_has_its_place():
    """Cheap, so that a change of a source shows at once which mutants must follow it."""
    for file, old in {(mutant.file, mutant.old) for proof in proofs() for mutant in proof.mutants}:
        count = (ROOT / file).read_text(encoding="utf-8").count(old)
        assert count == 1, f"{old!r} must occur once in {file}, not {count} times"


def test_a_proof_without_mutants_does_not_count():
    assert "must have a mutant" in check(Proof("p", sum_script, ())).error


def test_a_proof_that_proves_a_mutant_does_not_count():
    harmless = Mutant("hw/row_edge.py", '"""Row edge:', '"""The row edge:')
    (edge,) = (p for p in proofs() if p.name == "row edge int8")
    outcome = check(replace(edge, mutants=(harmless,)))
    assert outcome.mutants_refuted == 0
    assert "must be refuted, and was proven" in outcome.error


def test_the_command_proves_and_ends_with_json(capsys: pytest.CaptureFixture[str]):
    assert main(["--only", "row edge fp8_e4m3"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith('{"proofs": 1, "mutants_refuted": 3, "failed": []')


def test_the_catalogue_covers_what_is_built():
    names = [p.name for p in proofs()]
    assert len(set(names)) == len(names)
    assert all(p.mutants for p in proofs())
    wanted = {f"{unit} to {name}" for unit in ("round", "pack") for name in FORMATS}
    wanted |= {f"{unit} {name} w{w}" for unit in ("PE", "no wrap") for name in ALIGNED_FORMATS for w in WEIGHT_BITS}
    wanted |= {f"row edge {name}" for name in ALIGNED_FORMATS}
    wanted |= {
        f"{unit} {name} w{w}"
        for unit in ("banked PE", "no wrap in banks")
        for name in BANKED_FORMATS
        for w in WEIGHT_BITS
    }
    wanted |= {f"{unit} {name} w2" for unit in ("banked edge", "banked slots") for name in BANKED_FORMATS}
    wanted |= {f"{what} {name}{to}" for what, to in (("widen", " to fp32"), ("maximum of", "")) for name in FORMATS}
    wanted |= {f"normalize {name} accumulator" for name in FORMATS}
    wanted |= {f"resolve {name} to {to}" for name in FORMATS for to in (name, "fp32", "bf16", "int8")}
    wanted |= {f"order of a jammed {name} accumulator" for name in ("bf16", "fp32")}
    wanted |= {"fp32 add: -0 changes nothing", "resolve fp16 to fp16, on a machine with residuals"}
    added = ("fp16 w4", "fp8_e5m2 w4", "fp8_e4m3 w3", "fp8_e4m3 w4")  # where the weight adds to the bank
    wanted |= {f"{unit} {what}" for unit in ("banked edge", "banked slots") for what in added}
    wanted |= {"banked column fp8_e4m3 w2, 1 row", "banked column fp8_e4m3 w3, 2 rows", "banked column fp16 w3, 2 rows"}
    wanted |= {"drain slots fp16 w3, 1 row", "drain slots fp16 w4, 2 rows", "drain slots fp8_e4m3 w4, 5 rows"}
    assert wanted <= set(names)


@pytest.mark.parametrize("name", [name for name in BANKED_FORMATS if name in ALIGNED_FORMATS])
def test_a_format_has_one_lane_whatever_the_accumulator(name: str):
    # So that a proof of the aligned machine's lane is one of the banked machine's.
    aligned, banked = (Lane(config) for config in (config_for(name, 3), banked_config(name, 3)))
    assert banked.config.banked
    assert not aligned.config.banked
    one, other = (rtlil.convert(lane, name="lane", emit_src=False) for lane in (aligned, banked))
    assert one == other


def test_a_jammed_significand_is_compared_with_short_numbers_alone():
    m = Module()
    jammed = Jammed(Signal(26), Const(0, signed(2)), Claims(m))
    with pytest.raises(InputError, match=r"^number to compare with must have at most 27 bits, not 28$"):
        jammed.compare(m, Const(0, 28), Const(0, signed(2)))


@pytest.mark.parametrize("name", ALIGNED_FORMATS)
@pytest.mark.parametrize("bits", WEIGHT_BITS)
def test_the_ledger_of_widths_holds_for_every_max_k(name: str, bits: int):
    config = config_for(name, bits)
    largest = config.activation.max_fixed << config.weights.max_exponent
    for max_k in range(1, (1 << 16) + 1, 1 if bits == 4 else 101):
        width = replace(config, max_k=max_k).accumulator_bits
        assert largest * max_k < 1 << (width - 1)
        assert largest * max_k >= 1 << (width - 2)  # and not a bit too many
