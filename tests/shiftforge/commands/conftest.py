"""A small machine, operands and a program in the working folder of each test, and the command line as a function."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shiftforge import cli
from shiftforge.config import Config, load
from sw_driver.compiler.pipeline import compile_graph
from tests.sw_driver.networks import network

TINY = """[array]
rows = 2
cols = 2
activation = "int8"
output = "int16"
weight_bits = 2
max_k = 16
"""

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """An empty working folder with c.toml."""
    monkeypatch.chdir(tmp_path)
    Path("c.toml").write_text(TINY)
    return tmp_path


@pytest.fixture
def config(work) -> Config:
    return load("c.toml")


@pytest.fixture
def operands(work) -> tuple[np.ndarray, np.ndarray]:
    """X.npy (5, 7) and W.npy (7, 3) as a user would have them: integers and floats."""
    rng = np.random.default_rng(1)
    x = rng.integers(-128, 128, (5, 7))
    w = rng.choice([-2.0, -1.0, 1.0, 2.0], (7, 3)).astype(np.float32)
    np.save("X.npy", x)
    np.save("W.npy", w)
    return x, w


@pytest.fixture
def program(config) -> Path:
    """p.sfp, a network 6-5-3 for c.toml, and P.npy, a batch of 7 for it."""
    rng = np.random.default_rng(2)
    graph = network(rng, [6, 5, 3], bits=2, size=4.0)
    compile_graph(graph, config, name="small").save("p.sfp")
    np.save("P.npy", rng.integers(-128, 128, (7, 6)).astype(np.float32))
    return Path("p.sfp")


@pytest.fixture
def shiftforge(capsys) -> Cli:
    """Runs one command line: (exit code, standard output, the error sentence without its prefix)."""

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(list(words))
        said = capsys.readouterr()
        errors = [line for line in said.err.splitlines() if line.startswith("shiftforge: error: ")]
        assert len(errors) == (code != 0)
        return code, said.out, errors[0].removeprefix("shiftforge: error: ") if errors else ""

    return call
