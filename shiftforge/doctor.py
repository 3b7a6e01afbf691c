"""Checks that this machine has what the commands need; every miss comes with its mend.

A tool is not only looked up but started, and the compiler compiles a program, because a wheel for another system, a
compiler without its library or a cache that cannot be written are as bad as a missing tool.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires
from importlib.metadata import version as installed_version
from pathlib import Path

from shiftforge.errors import ToolError
from shiftforge.progress import SILENT, Progress
from shiftforge.tools import TOOLS, Tool, run

_TIMEOUT_S = 120.0
_PROGRAM = (
    "#include <cstdint>\n#include <vector>\nint main() { std::vector<std::int64_t> v(3); return int(v.size()) - 3; }\n"
)
_VERILOG = "module doctor(input clk, output reg q); always @(posedge clk) q <= ~q; endmodule\n"


@dataclass(frozen=True)
class Check:
    """One finding.

    Parameters
    ----------
    name : str
        What was checked.
    ok : bool
        Whether it is there and works.
    needed : bool
        Whether something of the commands fails without it.
    found : str
        The version, or what is wrong.
    mend : str
        How to get it; empty when `ok`.
    """

    name: str
    ok: bool
    needed: bool
    found: str
    mend: str = ""

    def to_json(self) -> dict[str, object]:
        """The same fields with JSON's types."""
        return asdict(self)


def examine(progress: Progress = SILENT) -> list[Check]:
    """Check Python, the packages and every tool; starts each tool once (WebAssembly is compiled at the first start)."""
    checks = [check_python(sys.version_info[:3]), _check_libpython(), *check_packages()]
    for tool in TOOLS.values():
        checks.append(check_tool(tool, progress))
    return checks


def check_python(found: tuple[int, int, int]) -> Check:
    """Whether a Python version will do: 3.11 or newer."""
    text = ".".join(map(str, found))
    if found >= (3, 11, 0):
        return Check("python", True, True, text)
    return Check("python", False, True, text, "install Python 3.11 and make .venv again with it")


def check_packages(root: str = "shiftforge") -> list[Check]:
    """Whether the distributions that `root` asks for are installed; those of an extra are not needed."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in requires(root) or []]
    except PackageNotFoundError:
        return [Check(root, False, True, "not installed", f"`pip install -c constraints.txt -e .` in {root}'s folder")]
    checks = []
    for requirement in sorted(wanted, key=lambda r: r.name.lower()):
        extra = _extra(str(requirement.marker or ""))
        mend = f"`pip install -c constraints.txt -e '.[{extra}]'`" if extra else "`pip install -c constraints.txt -e .`"
        try:
            found = installed_version(requirement.name)
        except PackageNotFoundError:
            checks.append(Check(requirement.name, False, extra is None, "not installed", mend))
            continue
        ok = requirement.specifier.contains(found, prereleases=True)
        text = found if ok else f"{found}, which is not {requirement.specifier}"
        checks.append(Check(requirement.name, ok, extra is None, text, "" if ok else mend))
    return checks


def check_tool(tool: Tool, progress: Progress = SILENT) -> Check:
    """Whether a tool is there and works: its version, and for the simulator's tools one small job."""
    command = tool.locate()
    if command is None:
        return Check(tool.name, False, tool.needed, "not found", tool.mend)
    with tempfile.TemporaryDirectory(prefix="shiftforge-doctor-") as folder:
        work = Path(folder)
        try:
            output = run(
                command, tool.version_arguments, cwd=work, log=work / "log", timeout_s=_TIMEOUT_S, progress=progress
            )
            if tool.name in _JOBS:
                _JOBS[tool.name](work)
        except ToolError as error:
            return Check(tool.name, False, tool.needed, str(error).partition("; its log")[0], tool.mend)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return Check(tool.name, True, tool.needed, lines[0] if lines else "works")


def _compile(work: Path) -> None:
    (work / "t.cpp").write_text(_PROGRAM, encoding="utf-8")
    words = ["-std=c++17", "-fPIC", "-shared", "-o", "t.so", "t.cpp"]
    run("g++", words, cwd=work, log=work / "log", timeout_s=_TIMEOUT_S)


def _translate(work: Path) -> None:
    (work / "doctor.v").write_text(_VERILOG, encoding="utf-8")
    run("verilator", ["--cc", "doctor.v"], cwd=work, log=work / "log", timeout_s=_TIMEOUT_S)


_JOBS: dict[str, Callable[[Path], None]] = {"g++": _compile, "verilator": _translate}


def _check_libpython() -> Check:
    """cocotb loads Python into the simulator as a shared library, which some builds of Python do not have."""
    from find_libpython import find_libpython

    path = find_libpython()
    if path is None:
        mend = "use a Python built with --enable-shared, or install libpython3.11"
        return Check("libpython", False, True, "no shared library of this Python", mend)
    return Check("libpython", True, True, str(path))


def _extra(marker: str) -> str | None:
    """The extra that a requirement belongs to, None for the needed ones."""
    _, _, tail = marker.partition("extra ==")
    return tail.strip().strip("'\"") or None
