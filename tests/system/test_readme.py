"""What the README shows is what happens: its commands run, in its order, and its links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKE = {"make demo", "make test"}
"""Run by CI themselves: the one runs this test, the other takes minutes."""


def shell_commands(text: str) -> list[str]:
    """The lines of all ``sh`` blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def test_the_make_targets_exist_and_ci_runs_them() -> None:
    commands = shell_commands(README)
    assert set(commands) >= MAKE
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in MAKE:
        assert re.search(rf"^ *{command}\b", ci, re.MULTILINE), command


def test_links_lead_to_files() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


@pytest.mark.timeout(1200)
def test_the_commands_run_in_order(tmp_path: Path) -> None:
    """In a copy of the examples, so that `out/` does not land in the checkout."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for command in shell_commands(README):
        if command in MAKE:
            continue
        tool, *words = shlex.split(command)
        start = {
            "mkdir": ["mkdir"],
            ".venv/bin/python": [sys.executable],
            ".venv/bin/shiftforge": [sys.executable, "-m", "shiftforge.cli"],
        }
        done = subprocess.run(
            [*start[tool], *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {
        "digits.pt2",
        "digits.test.npz",
        "digits.sfp",
        "rtl",
        "logits.npy",
        "operands",
        "Y.npy",
        "digits.html",
    }
