"""`generate`: a whole folder or none, that says what it is; and the cache that simulations share."""

import hashlib
import json
from pathlib import Path

import pytest

from hw import verilog
from shiftforge import maps
from shiftforge.config import load
from sim import design

GENERATE = ("generate", "c.toml", "--out", "rtl")


def test_the_folder_says_what_it_is(config, shiftforge):
    code, out, _ = shiftforge(*GENERATE, "--json")
    assert code == 0
    told = json.loads(out)
    folder = Path("rtl")
    assert told["files"] == sorted(path.name for path in folder.iterdir())
    assert told["verilog"][-1] == "shiftforge_top.v"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["hash"] == told["hash"] == f"{config.hash:#010x}"
    assert manifest["config"] == config.to_dict()
    listed = {entry["name"]: entry["sha256"] for entry in manifest["files"]}
    assert listed == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != "manifest.json"
    }
    header = (folder / "shiftforge_top.v").read_text().split(");")[0]
    for port in manifest["ports"]:
        assert port["name"] in header
    assert (folder / "shiftforge.h").read_text() == maps.c_header(config)

    # Again, over what it wrote itself: replaced whole, and the same bytes.
    (folder / "stray").write_text("")
    before = (folder / "shiftforge_top.v").read_bytes()
    code, out, _ = shiftforge(*GENERATE)
    assert code == 0
    assert "accumulator" in out
    assert not (folder / "stray").exists()
    assert (folder / "shiftforge_top.v").read_bytes() == before


def test_an_unknown_target(work, shiftforge):
    message = "--target must be one of generic, ecp5, not 'ice40'"
    assert shiftforge(*GENERATE, "--target", "ice40") == (2, "", message)
    assert not Path("rtl").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("rows = 2", "rows = 0"), "c.toml: array.rows must be 1..256, not 0"),
        (("rows = 2\n", ""), "c.toml: array.rows must be given, and the configuration lacks it"),
        (("[array]", "[arrays]"), "c.toml: section [arrays] is unknown; did you mean 'array'?"),
        (("weight_bits = 2", "weight_bits = 5"), "c.toml: weight_bits must be 2, 3 or 4, not 5"),
        (
            ("max_k = 16", 'max_k = 16\naccumulator = "exact"'),
            "c.toml: array.accumulator must be 'aligned' or 'banked', not 'exact'",
        ),
    ],
)
def test_wrong_configurations(change, message, work, shiftforge):
    Path("c.toml").write_text(Path("c.toml").read_text().replace(*change))
    assert shiftforge(*GENERATE) == (2, "", message)
    assert not Path("rtl").exists()


def test_a_format_without_gateware(work, shiftforge):
    Path("c.toml").write_text(Path("c.toml").read_text().replace("[array]", '[array]\naccumulator = "banked"'))
    code, _, message = shiftforge(*GENERATE)
    assert code == 2
    assert message.startswith("array.accumulator must be 'aligned' for hardware with int8")
    assert not Path("rtl").exists()


def test_a_folder_that_is_not_ours_is_left_alone(work, shiftforge):
    Path("rtl").mkdir()
    Path("rtl/thesis.tex").write_text("x")
    message = "output folder must be new, empty or written by shiftforge, not 'rtl'"
    assert shiftforge(*GENERATE) == (2, "", message)
    assert [path.name for path in Path("rtl").iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_written(work, shiftforge):
    Path("file").write_text("")
    code, _, message = shiftforge("generate", "c.toml", "--out", "file/rtl")
    assert code == 2
    assert message.startswith("output folder must be writable, not 'file/rtl' (")


def test_a_failure_leaves_nothing(work, shiftforge, monkeypatch):
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("half-way")

    monkeypatch.setattr(verilog, "emit", fail)
    with pytest.raises(RuntimeError, match="half-way"):
        shiftforge(*GENERATE)
    assert [path.name for path in Path().iterdir()] == ["c.toml"]


def test_the_cache_generates_once(config, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    calls = []

    def write(config: object, directory: Path, progress: object) -> None:
        calls.append(config)
        (directory / "manifest.json").write_text("{}")

    monkeypatch.setattr(design, "write_design", write)
    first = design.cached_design(config)
    assert design.cached_design(config) == first
    assert len(calls) == 1
    Path("d.toml").write_text(Path("c.toml").read_text() + 'overflow = "saturate"\n')
    assert design.cached_design(load("d.toml")) == first, "overflow is the driver's, not the machine's"
    Path("d.toml").write_text(Path("c.toml").read_text().replace("max_k = 16", "max_k = 17"))
    assert design.cached_design(load("d.toml")) != first
    assert len(calls) == 2
