"""What the README shows is what happens: its commands run, in its order, and its links lead somewhere."""

import json
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

    def run(command: str) -> str:
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
        return done.stdout

    def cycles(config: str, program: str) -> int:
        """Of the batch of 360; they do not depend on what was trained."""
        found = run(f".venv/bin/shiftforge estimate examples/{config} out/{program} --batch 360 --json")
        return json.loads(found)["program"]["cycles"]

    for command in shell_commands(README):
        if command not in MAKE:
            run(command)
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
    demo = cycles("demo.toml", "digits.sfp")
    assert f"│ {demo:,} and {demo:,}, every beat equal" in README
    assert f"│ {demo / 360:.1f} " in README
    assert f" {cycles('cnn.toml', 'cnn.sfp') / 360:,.0f} cycles in a batch of 360 (" in README
