"""The bench of the largest array: what it predicts, how it searches, what it keeps and refuses; and once with the real tools."""

import json
from pathlib import Path

import pytest

from bench import largest, measure
from bench.largest import SAMPLES, TREE, Bench, Prediction, Use, candidates, search
from bench.measure import Cost, Measure
from shiftforge.errors import CheckFailed, InputError, ToolError
from shiftforge.progress import SILENT
from sim.route import Flow, flip_flop_places

FITS = {
    # Weight code and capture bits; nextpnr's count of `SAMPLES` and the flip-flops' places; the same of other sizes.
    "fp16 x 3-bit banked": (
        (3, 32),
        [Use(2279, 3056, 3184), Use(4360, 5822, 6000), Use(4684, 6232, 6480), Use(8971, 11830, 12168)],
        {(12, 10): Use(16511, 21751, 22344), (20, 21): Use(56927, 75319, 76944)},
    ),
    "int8 x 3-bit aligned": (
        (3, 23),
        [Use(563, 1452, 1720), Use(1123, 2826, 3344), Use(1211, 2988, 3512), Use(2419, 5770, 6808)],
        {(12, 10): Use(4413, 10577, 12504)},
    ),
    TREE: (
        (8, 27),
        [Use(2255, 2674, 2776), Use(4507, 5358, 5552), Use(4615, 5442, 5640), Use(9227, 10774, 11160)],
        {(12, 10): Use(17163, 19958, 20680)},
    ),
}


def prediction(name: str) -> Prediction:
    (code_bits, capture_bits), uses, _ = FITS[name]
    return Prediction.fit(dict(zip(SAMPLES, uses, strict=True)), code_bits, lambda rows: capture_bits)


@pytest.mark.parametrize("name", FITS)
def test_sizes_that_were_not_fitted_are_predicted(name):
    made = prediction(name)
    for size, use in FITS[name][2].items():
        assert made.use(size).luts == pytest.approx(use.luts, rel=0.015), size
        assert made.use(size).ffs == pytest.approx(use.ffs, rel=0.005), size
        assert made.use(size).places == pytest.approx(use.places, rel=0.005), size
    for size, use in zip(SAMPLES, FITS[name][1], strict=True):
        assert made.use(size).luts == pytest.approx(use.luts), "what was fitted comes back"
        assert made.use(size).ffs == pytest.approx(use.ffs)
        assert made.use(size).places == pytest.approx(use.places)


def test_ram_takes_the_places_of_two_more_luts():
    packed = {"TRELLIS_COMB": (7947, 83640), "TRELLIS_RAMW": (512, 10455), "TRELLIS_FF": (11830, 83640)}
    assert Use.of(packed, 12168) == Use(7947 + 1024, 11830, 12168)
    assert Use(50, 20, 30).percent(200) == 25
    assert Use(50, 90, 100).percent(200) == 50


def test_the_eight_of_a_tile_share_a_reset_and_the_two_of_a_slice_an_enable(tmp_path):
    def flip_flop(reset, enable, cemux="CE"):
        pins = {"CLK": [2], "LSR": [reset], "CE": [enable], "DI": [3], "Q": [4]}
        return {
            "type": "TRELLIS_FF",
            "attributes": {},
            "parameters": {"LSRMUX": "LSR", "CEMUX": cemux},
            "connections": pins,
        }

    def places(*groups):
        made = [flip_flop(*kind) for n, *kind in groups for _ in range(n)]
        cells = {str(i): cell for i, cell in enumerate([*made, flip_flop(8, 8) | {"type": "LUT4"}])}
        module = {
            "attributes": {"top": "00000000000000000000000000000001"},
            "cells": cells,
            "netnames": {},
            "ports": {},
        }
        library = {"attributes": {"blackbox": "1"}, "cells": {"x": flip_flop(9, 9)}}
        (tmp_path / "netlist.json").write_text(json.dumps({"modules": {"LUT4": library, "bench_array": module}}))
        return flip_flop_places(tmp_path)

    assert places() == 0
    assert places((8, 5, 6)) == 8
    assert places((9, 5, 6)) == 16
    assert places((1, 5, 6), (1, 7, 6)) == 16, "two resets, two tiles"
    assert places((3, 5, 6), (3, 5, 7)) == 8
    assert places((3, 5, 6), (5, 5, 7)) == 16, "four and six of a tile's eight"
    assert places((3, 5, 6), (5, 5, 6, "INV")) == 16


def test_candidates():
    flat = Prediction(((10.0, 0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 100.0), (1.0, 0.0, 0.0, 100.0)), 0, lambda rows: 0)
    sizes = candidates(flat, 1000, 12)
    assert sizes[:4] == [(3, 4), (4, 3), (3, 3), (2, 4)], "12 elements of 10 LUT4 at most, the squarer first"
    assert all(max(size) <= 2 * min(size) for size in sizes)
    assert sorted(sizes) == sorted({*sizes}), "each once"
    assert candidates(flat, 1000, 10.9)[0] == (3, 3)
    assert candidates(flat, 1000, 0.5) == []
    full = prediction("fp16 x 3-bit banked")
    best = candidates(full, 83640, 95)[0]
    elements = best[0] * best[1]
    assert full.use(best).percent(83640) <= 95
    for rows in range(1, 60):  # by another way: nothing larger fits
        for cols in range(1, 60):
            if rows * cols > elements and max(rows, cols) <= 2 * min(rows, cols):
                assert full.use((rows, cols)).percent(83640) > 95


def test_a_size_that_does_not_fit_gives_way():
    sizes = [(20, 20), (19, 21), (19, 20), (18, 21), (19, 19), (10, 10)]
    asked: list[tuple[int, int]] = []

    def placed(size):
        asked.append(size)
        return (None, "Unable to find legal placement") if size[0] * size[1] > 380 else (200.0, "")

    found, mhz, attempts = search(sizes, counted=lambda size: 90.0, placed=placed, limit=95)
    assert (found, mhz) == ((19, 20), 200.0)
    # 19 x 21 has 399 elements, which is not 2 % fewer than 400.
    assert asked == [(20, 20), (19, 20)]
    assert [(a.rows, a.cols, a.reason) for a in attempts] == [(20, 20, "Unable to find legal placement")]


def test_a_size_over_the_limit_is_not_placed():
    use = {(20, 20): 95.5, (19, 21): 95.2, (19, 20): 94.0}
    asked: list[tuple[int, int]] = []

    def placed(size):
        asked.append(size)
        return 210.0, ""

    found, mhz, attempts = search(list(use), counted=use.__getitem__, placed=placed, limit=95)
    assert (found, mhz, asked) == ((19, 20), 210.0, [(19, 20)])
    # 400 elements take 95.5 %: 397 and fewer may take 95 %, so that 19 x 21 is not tried.
    assert [a.reason for a in attempts] == ["takes 95.50 % of the device, and 95 % is the limit"]
    with pytest.raises(ToolError, match=r"of 1 sizes none did; the last said: no$"):
        search([(2, 2)], counted=lambda size: 1.0, placed=lambda size: (None, "no"), limit=95)


def placing(monkeypatch, tmp_path, route) -> tuple[Measure, list[int]]:
    """A `Measure` whose nextpnr is `route`, and the seeds that it was asked for."""
    seeds: list[int] = []

    def counting(folder, *, seed, **_):
        seeds.append(seed)
        return route()

    monkeypatch.setattr(measure, "route", counting)
    return Measure(tmp_path, SILENT, timeout_s=60), seeds


def test_what_nextpnr_says_is_kept(monkeypatch, tmp_path):
    def refuse():
        raise ToolError("nextpnr-ecp5 failed: ERROR: Unable to find legal placement; its log is /some/where")

    bench, seeds = placing(monkeypatch, tmp_path, refuse)
    reason = "nextpnr-ecp5 failed: ERROR: Unable to find legal placement"
    assert bench.refusal(tmp_path, 3, label="x") == reason
    assert bench.refusal(tmp_path, 3, label="x") == reason
    assert seeds == [3], "an interrupted search does not try again"
    assert bench.refusal(tmp_path, 4, label="x") == reason
    assert bench.refusal(tmp_path, 3, label="x", flow=Flow("45k")) == reason
    assert Measure(tmp_path, SILENT, timeout_s=120).refusal(tmp_path, 3, label="x") == reason
    assert seeds == [3, 4, 3, 3], "another seed, device or time limit is another question"
    found, seeds = placing(monkeypatch, tmp_path, lambda: {"fmax": {"clk": {"achieved": 99.0}}})
    assert found.refusal(tmp_path, 5, label="x") == ""
    assert found.fmax(tmp_path, 5, label="x") == 99.0
    assert seeds == [5]


def test_a_tool_that_was_stopped_refuses_nothing(monkeypatch, tmp_path):
    def stopped():
        raise ToolError("nextpnr-ecp5 failed: exit status -9 without a word; its log is /some/where")

    bench, _ = placing(monkeypatch, tmp_path, stopped)
    with pytest.raises(ToolError, match="exit status -9"):
        bench.refusal(tmp_path, 1, label="x")
    assert list(tmp_path.iterdir()) == []


def test_the_whole_search_and_its_report(tmp_path, capsys, monkeypatch):
    fits = {name: prediction(name) for name in FITS}
    monkeypatch.setattr(Bench, "prediction", lambda self, samples=SAMPLES: (fits[self.name], 83640))
    monkeypatch.setattr(Bench, "packed", lambda self, size: (fits[self.name].use(size), 83640))

    def synthesized(self, size):
        return Cost(30 * size[0] * size[1], 0, 0, 100 * size[0] * size[1], 0, 0), tmp_path

    def placed(self, size):
        if self.name == TREE and size[0] * size[1] > 390:
            return None, "too full"
        return (150.0 if self.name == TREE else 300.0), ""

    monkeypatch.setattr(Bench, "synthesized", synthesized)
    monkeypatch.setattr(Bench, "placed", placed)
    monkeypatch.setattr(Measure, "ecp5", lambda self, part, *, dsp, **_: (Cost(30, 0, 0, 100, 0, 0), tmp_path))
    out = tmp_path / "largest.json"
    assert largest.main(["--cache", str(tmp_path), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[-3:] == ["GMAC/s", "x", "tree"]
    report = json.loads(out.read_text())
    fp16, int8, tree = report["rows"]
    assert [row["name"] for row in report["rows"]] == list(FITS)
    assert report["device"] == "LFE5U-85k, speed 6"
    for row in report["rows"]:
        assert row["elements"] == row["rows"] * row["cols"]
        assert row["gmac_per_s"] == pytest.approx(row["elements"] * row["fmax_mhz"] / 1000)
        assert max(row["lut_percent"], row["place_percent"]) <= largest.LIMIT
        assert row["ff_percent"] < row["place_percent"]
    assert tree["elements"] <= 390 < tree["predicted"]["rows"] * tree["predicted"]["cols"]
    assert [attempt["reason"] for attempt in tree["attempts"]] == ["too full"] * len(tree["attempts"])
    assert len(tree["attempts"]) > 1
    assert fp16["attempts"] == int8["attempts"] == []
    assert tree["of_tree"] == 1
    assert int8["of_tree"] == pytest.approx(2 * int8["elements"] / tree["elements"])
    assert lines[2].split()[4] == f"{int8['rows']}x{int8['cols']}"
    assert lines[2].split()[-1] == f"{int8['of_tree']:.2f}"
    assert largest.main(["--only", "^int8 x 3", "--size", "4x6", "--cache", str(tmp_path), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["rows"], row["cols"], row["of_tree"]) == (4, 6, None)
    # An array that lost logic is refused.
    monkeypatch.setattr(Measure, "ecp5", lambda self, part, *, dsp, **_: (Cost(30, 0, 0, 200, 0, 0), tmp_path))
    assert largest.main(["--only", "^int8 x 3", "--size", "4x6", "--cache", str(tmp_path)]) == CheckFailed.exit_code
    assert "logic was optimised away" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "8"], "--size must be ROWSxCOLS, not '8'"),
        (["--limit", "0"], "--limit must be over 0 and at most 100, not 0"),
        (["--limit", "101"], "--limit must be over 0 and at most 100, not 101"),
        (["--limit", "nan"], "--limit must be over 0 and at most 100, not nan"),
        (["--seed", "-1"], "--seed must be 0 or more, not -1"),
        (["--resets", "-1"], "--resets must be 0 or more, not -1"),
        (["--router", "router3"], "--router must be one of router1, router2, not 'router3'"),
        (["--device", "12k"], "--device must be one of 25k, 45k, 85k, not '12k'"),
        (["--timeout", "0"], "--timeout must be positive, not 0"),
        (["--only", "nothing"], f"--only must match one of {', '.join(largest.MAKE)}, not 'nothing'"),
        (
            ["--only", "("],
            "--only must be a regular expression, not '(' (missing ), unterminated subpattern at position 0)",
        ),
    ],
)
def test_refusals(arguments, message, capsys):
    assert largest.main(arguments) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"bench.largest: error: {message}"


@pytest.mark.parametrize("arguments", [["--size", "0x3"], ["--max-k", "0"]])
def test_what_there_is_no_array_for_is_refused_before_any_work(arguments, capsys, monkeypatch):
    monkeypatch.setattr(Measure, "ecp5", None)
    assert largest.main(arguments) == InputError.exit_code
    (line,) = capsys.readouterr().err.splitlines()
    assert "must be" in line


def test_a_device_without_room_for_one_element_is_refused(capsys, monkeypatch):
    monkeypatch.setattr(Bench, "prediction", lambda self, samples=SAMPLES: (prediction(self.name), 83640))
    assert largest.main(["--limit", "0.01"]) == 2
    assert "--limit must leave room for an element of fp16 x 3-bit banked, not 0.01" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_real_tools(tmp_path, capsys):
    """Predicted from arrays of two and four rows and columns, 5x6 comes out so. Then a tiny array is placed."""
    for name in largest.MAKE:
        bench = Bench(Measure(tmp_path), name, 16, 1, Flow("25k", largest.PLACER, largest.ROUTER), 0)
        made, sites = bench.prediction(((2, 2), (2, 4), (4, 2), (4, 4)))
        use, _ = bench.packed((5, 6))
        assert sites == 24288
        assert made.use((5, 6)).luts == pytest.approx(use.luts, rel=0.04), name
        assert made.use((5, 6)).ffs == pytest.approx(use.ffs, rel=0.04), name
        assert made.use((5, 6)).places == pytest.approx(use.places, rel=0.06), name
    arguments = ["--only", "int8 x 3", "--size", "2x3", "--max-k", "16", "--device", "25k", "--cache", str(tmp_path)]
    out = Path(tmp_path, "a.json")
    assert largest.main([*arguments, "--json", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert json.loads(capsys.readouterr().out) == report
    (row,) = report["rows"]
    assert 50 < row["fmax_mhz"] < 500
    assert row["gmac_per_s"] == pytest.approx(6 * row["fmax_mhz"] / 1000)
    assert 0 < row["ff_percent"] < 5
    assert row["use"]["luts"] >= row["lut4"]
