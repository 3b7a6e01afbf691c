import sys
from pathlib import Path

import pytest

from shiftforge import doctor
from shiftforge.commands.doctor import run as run_command
from shiftforge.doctor import check_packages, check_python, check_tool, examine
from shiftforge.tools import TOOLS, Command, Tool


def test_python_versions():
    assert check_python((3, 11, 0)).ok
    assert check_python((3, 14, 2)).ok
    old = check_python((3, 10, 13))
    assert (old.ok, old.needed, old.found) == (False, True, "3.10.13")
    assert "3.11" in old.mend


def wanted(monkeypatch, *requirements: str):
    monkeypatch.setattr(doctor, "requires", lambda root: list(requirements))
    return check_packages()


def test_packages_found_missing_and_too_old(monkeypatch):
    good, old, none, extra = wanted(
        monkeypatch, "numpy>=2", "rich>=999", "zzz-no-such>=1", "zzz-other; extra == 'train'"
    )
    assert (good.ok, good.mend) == (True, "")
    assert (old.ok, old.needed) == (False, True)
    assert old.found.endswith(", which is not >=999")
    assert (none.ok, none.needed, none.found) == (False, True, "not installed")
    assert (extra.ok, extra.needed) == (False, False)
    assert extra.mend == "`pip install -c constraints.txt -e '.[train]'`"


def test_a_root_that_is_not_installed():
    (check,) = check_packages("zzz-no-such")
    assert (check.name, check.ok, check.needed) == ("zzz-no-such", False, True)


def test_every_tool_of_this_machine_that_is_needed_works():
    for tool in TOOLS.values():
        check = check_tool(tool)
        assert check.ok or not tool.needed, check
        assert check.mend == ("" if check.ok else tool.mend)


def test_a_missing_and_a_broken_tool(tmp_path):
    missing = check_tool(Tool("ghost", "haunts", "`apt install ghost`", lambda: None))
    assert (missing.ok, missing.needed, missing.found, missing.mend) == (
        False,
        True,
        "not found",
        "`apt install ghost`",
    )
    command = Command("wreck", (sys.executable, "-c", "raise SystemExit('fatal error: bits/os.h')"))
    broken = check_tool(Tool("wreck", "sinks", "raise it", lambda: command, needed=False, version_arguments=()))
    assert (broken.ok, broken.needed, broken.mend) == (False, False, "raise it")
    assert broken.found == "wreck failed: fatal error: bits/os.h"


def test_a_compiler_without_its_library_is_found(monkeypatch):
    monkeypatch.setattr(doctor, "_PROGRAM", "#include <no_such_header>\n")
    check = check_tool(TOOLS["g++"])
    assert not check.ok
    assert "no_such_header" in check.found


@pytest.mark.parametrize("json", [False, True])
def test_command_exits_3_and_names_the_miss(monkeypatch, capsys, json):
    import argparse
    from json import loads

    found = [
        doctor.Check("g++", False, True, "not found", "`apt install g++`"),
        doctor.Check("make", True, True, "4.3"),
    ]
    monkeypatch.setattr(doctor, "examine", lambda progress: found)
    assert run_command(argparse.Namespace(json=json)) == 3
    out = capsys.readouterr().out
    if json:
        data = loads(out)
        assert data["ok"] is False
        assert data["checks"][0] == {
            "name": "g++", "ok": False, "needed": True, "found": "not found", "mend": "`apt install g++`",
        }  # fmt: skip
    else:
        assert "apt install g++" in out
        assert out.splitlines()[-1] == "missing: g++"


def test_command_is_content_without_optional_tools(monkeypatch, capsys):
    import argparse

    found = [doctor.Check("iverilog", False, False, "not found", "get it"), doctor.Check("make", True, True, "4.3")]
    monkeypatch.setattr(doctor, "examine", lambda progress: found)
    assert run_command(argparse.Namespace(json=False)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "all that is needed is there"


def test_examine_covers_every_tool(monkeypatch):
    seen: list[str] = []

    def note(tool: Tool, progress: object) -> doctor.Check:
        seen.append(tool.name)
        return doctor.Check(tool.name, True, True, "")

    monkeypatch.setattr(doctor, "check_tool", note)
    checks = examine()
    assert seen == list(TOOLS)
    assert [c.name for c in checks][:2] == ["python", "libpython"]
    libpython = checks[1]
    assert libpython.ok == Path(libpython.found).exists()
