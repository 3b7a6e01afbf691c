import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from shiftforge import cli
from shiftforge.commands.frame import Subparsers, add_command, print_json, print_table
from shiftforge.errors import CheckFailed, DeviceError, InputError, NotBuiltError, ToolError


@pytest.fixture
def command(monkeypatch):
    """A command `probe` whose run is replaced by each test: `command.run = ...`."""
    holder = SimpleNamespace(run=lambda args: 0)

    def add(subparsers: Subparsers) -> None:
        parser = add_command(
            subparsers, "probe", "probes", lambda args: holder.run(args), text="Probes.", example="shiftforge probe 3"
        )
        parser.add_argument("number", type=int)
        parser.add_argument("--verbose", action="store_true")

    module = SimpleNamespace(add=add)
    monkeypatch.setattr(cli, "COMMANDS", ("probe", "other"))
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: module if name.endswith("probe") else EMPTY)
    return holder


EMPTY = SimpleNamespace(add=lambda subparsers: None)


def test_runs_and_returns_the_code(command):
    command.run = lambda args: args.number
    assert cli.main(["probe", "1"]) == 1
    assert cli.main(["probe", "0"]) == 0


@pytest.mark.parametrize(
    ("error", "code"), [(InputError, 2), (NotBuiltError, 2), (CheckFailed, 1), (ToolError, 3), (DeviceError, 3)]
)
def test_errors_are_one_sentence_and_their_code(command, capsys, error, code):
    def fail(args: object) -> int:
        raise error("rows must be positive, not 0")

    command.run = fail
    assert cli.main(["probe", "1"]) == code
    assert capsys.readouterr() == ("", "shiftforge: error: rows must be positive, not 0\n")


def test_interrupt_is_130(command, capsys):
    def interrupt(args: object) -> int:
        raise KeyboardInterrupt

    command.run = interrupt
    assert cli.main(["probe", "1"]) == 130
    assert capsys.readouterr().err == "shiftforge: interrupted\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prob"], "command must be one of probe, other, not 'prob' (did you mean probe?)"),
        (["zzz"], "command must be one of probe, other, not 'zzz'"),
        ([], "the following arguments are required: COMMAND; `shiftforge --help` lists what is accepted"),
        (["probe"], "the following arguments are required: number; `shiftforge probe --help` lists what is accepted"),
        (["probe", "x"], "argument number: invalid int value: 'x'; `shiftforge probe --help` lists what is accepted"),
        (["probe", "1", "--verb"], "unrecognized arguments: --verb; `shiftforge --help` lists what is accepted"),
    ],
)
def test_wrong_command_lines_exit_2(command, capsys, words, message):
    assert cli.main(words) == 2
    assert capsys.readouterr() == ("", f"shiftforge: error: {message}\n")


def test_a_mistake_of_ours_keeps_its_traceback(command):
    def bug(args: object) -> int:
        raise KeyError("x")

    command.run = bug
    with pytest.raises(KeyError):
        cli.main(["probe", "1"])


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help_with_an_example(capsys, name):
    with pytest.raises(SystemExit) as caught:
        cli.main([name, "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert f"example:\n  shiftforge {name}" in out


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    out = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert f"\n    {name} " in out


def test_start_imports_nothing_heavy():
    heavy = ("numpy", "torch", "amaranth", "rich", "cocotb", "golden", "hw", "sim", "sw_driver")
    code = f"import sys, shiftforge.cli as c; c.build_parser(); print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_closed_pipe_is_no_error():
    code = (
        "import sys, shiftforge.cli as c\n"
        "from types import SimpleNamespace as N\n"
        "c._check_command = lambda words: None\n"
        "c.build_parser = lambda: N(parse_args=lambda w: N(run=lambda a: print('x' * 1000000) or 0))\n"
        "raise SystemExit(c.main([]))\n"
    )
    read, write = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    os.close(read)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, b"")


def test_synth_refuses_other_targets(capsys):
    assert cli.main(["synth", "c.toml", "--target", "ice40"]) == 2
    assert (
        capsys.readouterr().err
        == "shiftforge: error: target must be one of ecp5, xilinx7, asic in this version, not 'ice40'\n"
    )
    assert cli.main(["synth", "c.toml", "--target", "abacus"]) == 2
    assert cli.main(["synth", "c.toml", "--target", "ecp5", "--seeds", "0"]) == 2
    assert capsys.readouterr().err.endswith("shiftforge: error: --seeds must be at least 1, not 0\n")


def test_json_is_strict(capsys):
    print_json({"a": [1, None]})
    assert json.loads(capsys.readouterr().out) == {"a": [1, None]}
    with pytest.raises(ValueError, match="Out of range float"):
        print_json({"a": float("nan")})


def test_tables_take_brackets_as_text(capsys):
    print_table("t", ["a"], [["[bold]x"]])
    assert "[bold]x" in capsys.readouterr().out


def test_termination_stops_the_tool_that_runs(tmp_path):
    # The tool writes its process number and sleeps; after SIGTERM to us neither may be left.
    code = """
import sys
from pathlib import Path
from types import SimpleNamespace
from shiftforge import cli
from shiftforge.tools import Command, run

here = Path(sys.argv[1])
words = ("sh", "-c", "echo $$ > pid.part; mv pid.part pid; sleep 60")

def start(args):
    run(Command("sleeper", words), [], cwd=here, log=here / "log", timeout_s=60)
    return 0

cli._check_command = lambda words: None
cli.build_parser = lambda: SimpleNamespace(parse_args=lambda words: SimpleNamespace(run=start))
raise SystemExit(cli.main(["sleeper"]))
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE, text=True)
    for _ in range(2000):
        if (tmp_path / "pid").exists():
            break
        time.sleep(0.05)
    time.sleep(0.5)  # the tool may be there before we know of it
    process.terminate()
    _, errors = process.communicate(timeout=100)
    assert (process.returncode, errors) == (143, "shiftforge: terminated\n")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
