"""Seeded faults: small changes to the source, in a copy of the tree, that a named test must find.

A list of faults is a list of (file, old text, new text, test file), paths relative to the root and to ``tests/``.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]

Fault = tuple[str, str, str, str]


def name_of(fault: Fault) -> str:
    """Identifies a fault in pytest's output."""
    return f"{fault[0]}:{fault[2].strip()}"


def relied_on(faults: Sequence[Fault]) -> list[str]:
    """Every test file that a list of faults relies on, once."""
    return sorted({test for *_, test in faults})


def copy_tree(folder: Path, *parts: str, without: Sequence[str] = ()) -> Path:
    """Copy these folders of the project, and what pytest reads, into `folder`."""
    for part in parts:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", *without))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def run_test(folder: Path, test: str) -> subprocess.CompletedProcess[str]:
    """One test file in the copy, which comes before the installed project on the path."""
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/{test}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@contextmanager
def seeded(folder: Path, fault: Fault) -> Iterator[None]:
    """The copy with the fault in it, within the block. The old text must stand in the file exactly once."""
    file, old, new, _ = fault
    path = folder / file
    source = path.read_text(encoding="utf-8")
    assert source.count(old) == 1, f"{file} must hold {old!r} once"
    path.write_text(source.replace(old, new), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(source, encoding="utf-8")


def check_passes(folder: Path, test: str) -> None:
    """Without a fault the copy's test passes: else it would find every fault."""
    result = run_test(folder, test)
    assert result.returncode == 0, result.stdout


def check_found(folder: Path, fault: Fault) -> None:
    """With the fault the test fails (and does not merely stop)."""
    with seeded(folder, fault):
        result = run_test(folder, fault[3])
    assert result.returncode == 1, result.stdout
