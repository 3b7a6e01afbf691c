"""The one entry to cocotb simulations: build once, run benches with a clock, a time-out and opt-in waves.

A bench is a module of ``@cocotb.test()`` coroutines; :func:`bench_parameters` gives it the JSON object that
:func:`run_bench` was given, :func:`sim.clock.start_clock` its clock. A failing assertion in the bench surfaces here as
`CheckFailed` with the assertion's text.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TextIO, cast
from xml.etree import ElementTree

from cocotb_tools.runner import Icarus, Runner, Verilator

from shiftforge import tools
from shiftforge.errors import CheckFailed, InputError, ToolError
from sim.verilate import cache_directory, find_toolchain

PARAMETERS_VARIABLE = "SHIFTFORGE_BENCH"
"""Environment variable that carries a bench's parameters as JSON into the simulator's process."""
ICARUS_PATIENCE = 6
"""Icarus interprets: it may take this many times as long."""
DEFAULT_TIMEOUT = 240.0
"""Wall-clock seconds for one build or one run."""

Simulator = Literal["verilator", "icarus"]


def bench_parameters() -> dict[str, object]:
    """The parameters of the running bench, as given to :func:`run_bench`; empty outside one."""
    return cast("dict[str, object]", json.loads(os.environ.get(PARAMETERS_VARIABLE, "{}")))


class _Guarded(Runner):
    """A runner whose commands end with an error of ours after `limit` seconds, with all output in the log file."""

    limit = DEFAULT_TIMEOUT

    def _execute_cmds(
        self, cmds: Sequence[list[str]], cwd: os.PathLike[str] | str, stdout: TextIO | None = None
    ) -> None:
        for cmd in cmds:
            try:
                done = subprocess.run(
                    cmd, cwd=cwd, env=self.env, check=False, stdout=stdout, stderr=subprocess.STDOUT, timeout=self.limit
                )
            except subprocess.TimeoutExpired:
                raise ToolError(f"{Path(cmd[0]).name} must end within {self.limit:.0f} s, and it did not") from None
            except OSError as error:
                raise ToolError(f"{cmd[0]} must be an installed program: {error.strerror}") from None
            if done.returncode != 0:
                raise ToolError(f"{Path(cmd[0]).name} must exit with 0, not {done.returncode}{_tail(self.log_file)}")


class _Verilator(_Guarded, Verilator):
    """cocotb's Verilator runner without ``--public-flat-rw``, which costs a third of the speed and most of the build.

    The objects of Verilator's run time, most of a build, depend on the design only through a few macros: a cache keeps them.
    """

    def _simulator_in_path_build_only(self) -> None:
        self.executable: str = tools.find("verilator").argv[0]

    def _set_env_build(self) -> None:
        super()._set_env_build()
        self.build_dir.mkdir(parents=True, exist_ok=True)
        self.env.update(tools.verilator_environment(self.build_dir))

    def _build_command(self) -> list[list[str]]:
        verilate, make = super()._build_command()
        verilate = [word for word in verilate if word != "--public-flat-rw"]
        make = [*make, "OPT_FAST=-O1", "OPT_SLOW=-O0", f"PYTHON3={sys.executable}"]
        return [[verilate[0], "--output-split", "0", *verilate[1:]], make]

    def _execute_cmds(
        self, cmds: Sequence[list[str]], cwd: os.PathLike[str] | str, stdout: TextIO | None = None
    ) -> None:
        for cmd in cmds:
            cached = self._runtime_objects() if cmd[0] == "make" else {}
            for target, kept in cached.items():
                if kept.is_file():
                    shutil.copyfile(kept, target)
            super()._execute_cmds([cmd], cwd, stdout)
            for target, kept in cached.items():
                if not kept.is_file():
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    partial = kept.with_suffix(f".{os.getpid()}")
                    shutil.copyfile(target, partial)
                    partial.replace(kept)

    def _runtime_objects(self) -> dict[Path, Path]:
        """Object in the build folder -> its place in the cache."""
        classes = (self.build_dir / "Vtop_classes.mk").read_text(encoding="utf-8")
        macros = re.findall(r"^VM_\w+ = \w+$", classes, re.MULTILINE)
        blocks = re.findall(r"^VM_GLOBAL_(?:FAST|SLOW) \+= \\\n((?:\t?\s*\S+ \\\n)*)", classes, re.MULTILINE)
        names = [word for block in blocks for word in block.split() if word != "\\"]
        chain = find_toolchain()
        words = [chain.verilator_version, chain.compiler_version, *chain.verilator.argv, *macros, f"waves {self.waves}"]
        key = hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]
        return {self.build_dir / f"{name}.o": cache_directory() / f"bench-{name}-{key}.o" for name in names}


class _Icarus(_Guarded, Icarus):
    """cocotb's Icarus runner."""


def _tail(log: object, lines: int = 12) -> str:
    """The end of a log for an error message; empty when there is none."""
    if not isinstance(log, Path) or not log.is_file():
        return ""
    return "\n" + "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def module_ports(verilog: str, top: str) -> list[str]:
    """Port names of module `top`, in the style that Amaranth's Verilog writer uses (names in the header)."""
    header = re.search(rf"\bmodule\s+\\?{re.escape(top)}\s*\(([^)]*)\)\s*;", verilog)
    if header is None:
        raise InputError(f"top must be a module of the Verilog, not {top!r}")
    return [name.split()[-1].lstrip("\\") for name in header[1].split(",") if name.strip()]


@dataclass(frozen=True)
class Design:
    """A built simulation: run any number of benches on it with :meth:`run`."""

    runner: Runner = field(repr=False)
    top: str
    build_dir: Path
    waves: bool

    def run(
        self,
        module: str,
        *,
        parameters: Mapping[str, object] | None = None,
        name: str = "bench",
        timeout: float = DEFAULT_TIMEOUT,
        seed: int = 1,
    ) -> Path:
        """Run the tests of `module` (dotted path); returns the log.

        Raises
        ------
        CheckFailed
            A test failed; the message holds each failing test's name and assertion.
        ToolError
            The simulator crashed, ran into the time-out, or found no test.
        """
        test_dir = self.build_dir / name
        shutil.rmtree(test_dir, ignore_errors=True)
        test_dir.mkdir(parents=True)
        results, log = test_dir / "results.xml", test_dir / "log.txt"
        assert isinstance(self.runner, _Guarded)
        self.runner.limit = timeout * (ICARUS_PATIENCE if isinstance(self.runner, _Icarus) else 1)
        with _outside_pytest():
            self.runner.test(
                test_module=module,
                hdl_toplevel=self.top,
                hdl_toplevel_lang="verilog",
                build_dir=self.build_dir,
                test_dir=test_dir,
                results_xml=str(results),
                log_file=log,
                extra_env={PARAMETERS_VARIABLE: json.dumps(dict(parameters or {})), "NO_COLOR": "1"},
                waves=self.waves,
                seed=seed,
            )
        _raise_failures(results, log)
        return log


@contextmanager
def _outside_pytest() -> Iterator[None]:
    """Hide pytest from cocotb's runner, which exits the process under pytest instead of raising."""
    saved = os.environ.pop("PYTEST_CURRENT_TEST", None)
    try:
        yield
    except SystemExit as error:
        raise ToolError(f"the simulation must end normally: {error}") from None
    finally:
        if saved is not None:
            os.environ["PYTEST_CURRENT_TEST"] = saved


def _raise_failures(results: Path, log: Path) -> None:
    if not results.is_file():
        raise ToolError(f"the simulation must leave results{_tail(log)}")
    failures: list[str] = []
    count = 0
    for case in ElementTree.parse(results).getroot().iter("testcase"):
        count += 1
        for kind in ("failure", "error"):
            for found in case.iter(kind):
                text = found.get("error_msg") or found.get("message") or found.text or kind
                failures.append(f"{case.get('classname')}.{case.get('name')}: {text}")
    if failures:
        raise CheckFailed("; ".join(failures) + f" (log: {log})")
    if count == 0:
        raise ToolError(f"the bench must have tests{_tail(log)}")


def build_design(
    verilog: Sequence[Path],
    top: str,
    build_dir: Path,
    *,
    simulator: Simulator = "verilator",
    waves: bool = False,
    public: Sequence[tuple[str, str]] = (),
    timeout: float = DEFAULT_TIMEOUT,
) -> Design:
    """Compile `verilog` in a fresh `build_dir` (removed first).

    Parameters
    ----------
    public : sequence of (module, variable)
        Internal signals that the bench reads, besides the ports of `top`; ``*`` is a wildcard in both.
    waves : bool
        Record a dump (VCD for Verilator, FST for Icarus) in the bench's folder below `build_dir`.
    """
    text = "\n".join(path.read_text(encoding="utf-8") for path in verilog)
    shutil.rmtree(build_dir, ignore_errors=True)
    build_dir.mkdir(parents=True)
    sources: list[Path] = list(verilog)
    arguments: list[str] = []
    with _outside_pytest():
        if simulator == "verilator":
            control = build_dir / "public.vlt"
            visible = [(top, port) for port in module_ports(text, top)] + list(public)
            lines = [f'public_flat_rw -module "{module}" -var "{variable}"' for module, variable in visible]
            control.write_text("`verilator_config\n" + "\n".join(lines) + "\n", encoding="utf-8")
            sources.insert(0, control)
            arguments = ["-Wno-fatal", "-Wno-lint", "--no-timing", "-O3", "--x-assign", "fast", "--x-initial", "fast"]
            runner: _Guarded = _Verilator()
        elif shutil.which("iverilog"):
            sources = _evaluated_at_start(verilog, build_dir)
            runner = _Icarus()
        else:
            raise ToolError("iverilog must be installed to use the simulator 'icarus'")
        runner.limit = timeout * (ICARUS_PATIENCE if simulator == "icarus" else 1)
        runner.build(
            sources=sources,
            hdl_toplevel=top,
            build_dir=build_dir,
            build_args=arguments,
            waves=waves,
            timescale=("1ns", "1ps"),
            log_file=build_dir / "build.log",
        )
    return Design(runner=runner, top=top, build_dir=build_dir, waves=waves)


def _evaluated_at_start(verilog: Sequence[Path], folder: Path) -> list[Path]:
    """Copies of the files in which every ``always @*`` is an ``always_comb``.

    IEEE Std 1364 starts an ``always @*`` at the first change of an input, so in Icarus the output of a block whose inputs keep
    their initial values stays X; IEEE Std 1800 clause 9.2.2.2 has ``always_comb`` evaluated once at time zero.
    """
    copies = []
    for path in verilog:
        copies.append(folder / path.name)
        text = path.read_text(encoding="utf-8")
        copies[-1].write_text(text.replace("always @*", "always_comb"), encoding="utf-8")
    return copies


def run_bench(
    name: str,
    verilog: Sequence[Path],
    top: str,
    *,
    module: str,
    build_dir: Path,
    parameters: Mapping[str, object] | None = None,
    simulator: Simulator = "verilator",
    waves: bool = False,
    public: Sequence[tuple[str, str]] = (),
    timeout: float = DEFAULT_TIMEOUT,
) -> Path:
    """Build and run one bench: :func:`build_design`, then :meth:`Design.run`; returns the log."""
    design = build_design(verilog, top, build_dir, simulator=simulator, waves=waves, public=public, timeout=timeout)
    return design.run(module, parameters=parameters, name=name, timeout=timeout)
