"""Building and keeping simulated designs: the cache, the port check, the lint, and what is refused."""

import os
from pathlib import Path

import pytest

from shiftforge.errors import CheckFailed, DeviceError, InputError, ToolError
from sim import verilate
from sim.rtl import RtlTransport

SOURCE = Path(__file__).with_name("loopback.v").read_text()


@pytest.fixture
def design(tmp_path):
    path = tmp_path / "verilog" / "top.v"
    path.parent.mkdir()
    path.write_text(SOURCE)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """This module's own: its tests look at what lies there, and other processes build in the shared one."""
    return tmp_path_factory.mktemp("cache")


def test_an_unchanged_design_is_not_built_twice_and_a_changed_one_is(design, cache, monkeypatch):
    first = verilate.build([design], build_dir=cache, stream_bits=64)
    assert first.is_file()
    with monkeypatch.context() as patch:
        patch.setattr(verilate, "_verilate", lambda *arguments: pytest.fail("verilated again"))
        assert verilate.build([design], build_dir=cache, stream_bits=64) == first
        copy = design.parent.parent / "elsewhere" / "top.v"
        copy.parent.mkdir()
        copy.write_text(SOURCE)
        assert verilate.build([copy], build_dir=cache, stream_bits=64) == first
    design.write_text(SOURCE.replace("t[3:0] >= 3", "t[3:0] >= 4"))
    second = verilate.build([design], build_dir=cache, stream_bits=64)
    assert second != first
    assert second.read_bytes() != first.read_bytes()
    assert not list(cache.glob("building-*"))


def test_a_changed_header_is_another_design(design, cache, monkeypatch):
    keys = []
    monkeypatch.setattr(verilate, "_verilate", lambda *arguments: (_ for _ in ()).throw(InputError("stop here")))
    monkeypatch.setattr(verilate, "_digest", lambda words, files: keys.append(list(files)) or "0" * 64)
    (design.parent / "sizes.vh").write_text("`define W 64\n")
    with pytest.raises(InputError, match="stop here"):
        verilate.build([design], build_dir=cache, stream_bits=64)
    assert design.parent / "sizes.vh" in keys[0]


def test_the_digest_sees_names_lengths_and_order(tmp_path):
    (tmp_path / "a.v").write_text("xy")
    (tmp_path / "b.v").write_text("xy")
    a, b = tmp_path / "a.v", tmp_path / "b.v"
    digests = {
        verilate._digest(words, files)
        for words, files in [
            (["ab", "c"], [a]),
            (["a", "bc"], [a]),
            (["ab", "c"], [b]),
            (["c", "ab"], [a]),
            ([], [a, b]),
        ]
    }
    assert len(digests) == 5


def test_the_oldest_libraries_leave_the_cache(tmp_path, monkeypatch):
    for age in range(5):
        (tmp_path / str(age)).mkdir()
        os.utime(tmp_path / str(age), (1000 - age, 1000 - age))
    (tmp_path / "runtime-verilated-0.o").write_text("")
    monkeypatch.setattr(verilate, "KEEP_BUILDS", 3)
    verilate._prune(tmp_path, tmp_path / "4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "4", "runtime-verilated-0.o"]


@pytest.mark.parametrize(
    "old, new, message",
    [
        (
            "input [3:0] s_axil_wstrb",
            "input [1:0] s_axil_wstrb",
            "port s_axil_wstrb of .* must be an input of 4 bits, not",
        ),
        (
            "parameter W = 64",
            "parameter W = 32",
            "port s_axis_tdata .* must be an input of 64 bits, not an input of 32",
        ),
        ("output reg [1:0] s_axil_bresp", "input [1:0] s_axil_bresp", "accepted by verilator, but: .*bresp"),
        ("    input rst,\n", "    input rst,\n    input loose,\n", "must have no inputs but .*, not 'loose'"),
        ("    input [2:0] s_axil_arprot,\n", "", "must have a port s_axil_arprot, but the Verilog has none"),
        ("endmodule", "endmodul", "the Verilog must be accepted by verilator, but: %Error"),
        ("module shiftforge_top", "module other_top", "accepted by verilator, but: .*shiftforge_top"),
    ],
)
def test_other_ports_and_broken_verilog_are_refused_before_anything_is_compiled(design, cache, old, new, message):
    changed = SOURCE.replace(old, new)
    if new == "":
        changed = changed.replace(", s_axil_arprot", "")
    assert changed != SOURCE
    design.write_text(changed)
    with pytest.raises(InputError, match=message):
        verilate.build([design], build_dir=cache, stream_bits=64)


def test_wrong_requests_are_refused(design, tmp_path):
    with pytest.raises(InputError, match="stream_bits must be one of 32, 64, 128, not 48"):
        verilate.build([design], build_dir=tmp_path, stream_bits=48)
    with pytest.raises(InputError, match="threads must be at least 1, not 0"):
        verilate.build([design], build_dir=tmp_path, stream_bits=64, threads=0)
    with pytest.raises(InputError, match="must be at least one file, not none"):
        verilate.build([], build_dir=tmp_path, stream_bits=64)
    with pytest.raises(InputError, match="a Verilog source must be a file, not .*missing"):
        verilate.build([tmp_path / "missing.v"], build_dir=tmp_path, stream_bits=64)
    with pytest.raises(InputError, match="must be a writable folder, not "):
        verilate.build([design], build_dir=design / "cache", stream_bits=64)


def test_a_missing_tool_is_named(design, tmp_path, monkeypatch):
    verilate.find_toolchain.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    try:
        with pytest.raises(ToolError, match=r"g\+\+ must be installed"):
            verilate.build([design], build_dir=tmp_path, stream_bits=64)
    finally:
        verilate.find_toolchain.cache_clear()


def test_a_failing_compiler_leaves_nothing_behind(design, cache, monkeypatch):
    monkeypatch.setattr(verilate, "HARNESS", design)  # Verilog is no C++
    before = sorted(cache.iterdir())
    with pytest.raises(ToolError, match=r"g\+\+ must compile the simulation, but it said: .*error"):
        verilate.build([design], build_dir=cache, stream_bits=64)
    assert [path for path in sorted(cache.iterdir()) if path.is_dir()] == [path for path in before if path.is_dir()]


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert verilate.cache_directory() == tmp_path / "shiftforge" / "rtl"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert verilate.cache_directory() == tmp_path / ".cache" / "shiftforge" / "rtl"


def test_a_combinational_loop_ends_the_transfer_and_not_python(design, cache):
    design.write_text(SOURCE.replace("wire unused =", "wire spin = !(spin & s_axis_tvalid);\n    wire unused = spin &"))
    looped = SOURCE.replace("&& !late;", "&& !late && (s_axis_tvalid ? !s_axis_tready : 1'b1);")
    assert looped != SOURCE
    design.write_text(looped)
    with RtlTransport(design.parent, stream_bits=64, cache=cache) as transport:
        with pytest.raises(DeviceError, match="simulator stopped: .*converge"):
            transport.transfer([bytes(8)], 1)


def test_lint_passes_good_verilog_and_names_what_is_wrong(design):
    verilate.lint([design])
    design.write_text(SOURCE.replace("wire unused =", "wire dangling;\n    wire unused = dangling &"))
    with pytest.raises(CheckFailed, match=r"(?s)must pass verilator -Wall, but:.*UNDRIVEN.*dangling"):
        verilate.lint([design])
