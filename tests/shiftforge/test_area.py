"""The area model: its table belongs to its features, its errors are those it tells, and it knows what it has not seen."""

import json
from dataclasses import replace

import pytest

from bench import samples
from bench.samples import machine
from shiftforge import area
from shiftforge.errors import InputError, NotBuiltError
from shiftforge.formats import FORMATS


def test_block_memories_are_those_that_yosys_takes() -> None:
    """Measured, the ones of `bench.samples` (`bench.calibrate` refuses any other)."""
    sizes = {(512, 36): 1, (512, 37): 2, (1024, 18): 1, (1024, 32): 2, (2048, 24): 3, (4096, 48): 12, (16384, 16): 16}
    assert {size: area.block_memories(*size) for size in sizes} == sizes


def test_the_installed_table_is_that_of_these_features() -> None:
    """Every whole machine is estimated as when the table was written, none is more than 10 % off, and the largest error is told."""
    found = json.loads(area.TABLE.read_text())["wholes"]
    machines = list(samples.wholes())
    assert len(machines) == len(found) >= 8
    errors = []
    for config, line in zip(machines, found, strict=True):
        guess = area.estimate(config)
        for name in ("lut", "ff", "ram", "dsp"):
            assert getattr(guess, name) == line[name][1], line["machine"]
        errors += [abs(line[name][1] / line[name][0] - 1) * 100 for name in ("lut", "ff")]
        assert [line["ram"][0], line["dsp"][0]] == [line["ram"][1], line["dsp"][1]]
    assert max(errors) <= 10
    assert area.table().error_percent == pytest.approx(max(errors), abs=0.006)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("accumulator", ["aligned", "banked"])
@pytest.mark.parametrize("activation", FORMATS)
def test_every_machine_has_an_area_that_grows(activation, accumulator, bits) -> None:
    config = machine(4, 4, activation, bits, accumulator)
    try:
        small = area.estimate(config)
    except NotBuiltError:
        return
    assert all(part.lut >= 0 and part.count > 0 for part in small.parts)
    assert small.beyond == ()
    for more in (replace(config, rows=8), replace(config, cols=8), replace(config, max_k=9000)):
        large = area.estimate(more)
        assert large.lut > small.lut
        assert large.ff > small.ff
    elements = next(part for part in small.parts if part.name == "processing elements")
    assert elements.count == 16


def test_two_bit_weights_shift_in_the_carry_chain() -> None:
    """An aligned element's shift and sign then cost no lookup but a second register of the activation; a banked one's do not."""

    def element(accumulator: str, bits: int) -> area.Part:
        parts = area.estimate(machine(4, 4, "fp16", bits, accumulator)).parts
        return next(part for part in parts if part.name == "processing elements")

    two, three = element("aligned", 2), element("aligned", 3)
    assert two.lut < 0.6 * three.lut
    assert two.ff > 1.1 * three.ff
    two, three = element("banked", 2), element("banked", 3)
    assert 0.8 * three.lut < two.lut < three.lut


@pytest.mark.parametrize(
    ("rows", "aligned", "banked"), [(1, 1, 1), (2, 1, 2), (4, 1, 2), (5, 3, 2), (8, 3, 2), (9, 4, 5), (16, 5, 6)]
)
def test_nodes_of_the_read_out(rows, aligned, banked) -> None:
    """Of banked machines both halves of the rows are read side by side."""
    assert area.merges(machine(rows, 4, "fp16", 3, "aligned")) == aligned
    assert area.merges(machine(rows, 4, "fp16", 3, "banked")) == banked


def test_totals_are_the_sum_of_the_parts() -> None:
    found = area.estimate(machine(3, 5, "fp16", 3, "aligned"))
    described = area.describe(found)
    assert described["lut"] == found.lut == round(sum(part.count * part.lut for part in found.parts))
    assert found.dsp == 4 * 1
    assert found.ram == sum(part.count * part.ram for part in found.parts) == 3 + 1 + 2


@pytest.mark.parametrize(("activation", "multipliers"), [("int8", 2), ("fp16", 4)])
def test_residuals_take_a_second_copy_of_the_memory_and_multipliers(activation, multipliers) -> None:
    plain, adds = (
        area.estimate(machine(4, 4, activation, 3, "aligned", residual=residual)) for residual in (False, True)
    )
    assert adds.ram - plain.ram == 4
    assert adds.dsp - plain.dsp == multipliers
    assert 500 < adds.lut - plain.lut < 3000


def test_what_the_calibration_has_not_seen_is_told() -> None:
    config = replace(machine(32, 4, "int8", 2, "aligned", max_k=20000))
    assert area.estimate(config).beyond == ("array.rows = 32 (at most 16)", "array.max_k = 20000 (at most 9000)")


def test_a_machine_without_gateware_has_no_area() -> None:
    with pytest.raises(NotBuiltError, match="array.accumulator must be 'banked'"):
        area.estimate(machine(4, 4, "bf16", 3, "aligned"))


def test_a_table_without_a_feature_is_refused() -> None:
    known = area.table()
    cells = {name: dict(both) for name, both in known.coefficients.items()}
    cells["core"]["lut"] = {"one": 1.0}
    with pytest.raises(InputError, match="the area table must know .*; run python -m bench.calibrate"):
        area.estimate(machine(4, 4, "int8", 2, "aligned"), replace(known, coefficients=cells))


@pytest.mark.slow
def test_a_machine_of_today_is_within_ten_percent(tmp_path) -> None:
    """Synthesized now: the gateware may have changed since the table was written."""
    from hw.verilog import emit
    from sim.synth import synthesize

    config = machine(2, 2, "int8", 3, "aligned", max_k=60)
    (tmp_path / "verilog").mkdir()
    found = synthesize(emit(config, tmp_path / "verilog"), "shiftforge_top", place=False, work_dir=tmp_path)
    guess = area.estimate(config)
    assert abs(guess.lut / found.lut - 1) < 0.1
    assert abs(guess.ff / found.ff - 1) < 0.1
    assert (guess.ram, guess.dsp) == (found.ebr, found.dsp)
