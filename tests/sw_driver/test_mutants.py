"""Seeded faults in the driver: each is put into a copy of the sources, and the named tests must find it."""

# ruff: noqa: E501 - one fault per line reads better

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# file, text as it is (exactly once), text as the fault makes it, tests that must fail
MUTANTS = [
    ("sw_driver/layout.py", "return k - (k_words(config, k) - 1) * config.rows", "return config.rows", "sw_driver/test_compiler.py"),
    ("sw_driver/layout.py", "ceil_div(n_tail(config, n), config.lanes)", "config.groups", "sw_driver/test_layout.py"),
    ("sw_driver/layout.py", ".transpose(1, 0, 2).reshape(tiles * depth, config.cols)", ".reshape(tiles * depth, config.cols)", "sw_driver/test_layout.py"),
    ("sw_driver/values.py", "np.where(magnitude == 0, fmt.min_exponent,", "np.where(magnitude < 0, fmt.min_exponent,", "sw_driver/test_values.py"),
    ("sw_driver/values.py", "np.rint(np.ldexp(", "np.floor(np.ldexp(", "sw_driver/test_values.py"),
    ("sw_driver/compiler/place.py", "opens = self.at % self.half == 0", "opens = False", "sw_driver/test_compiler.py"),
    ("sw_driver/compiler/place.py", "half = len(pieces) % 2", "half = 0 * len(pieces)", "sw_driver/test_compiler.py"),
    ("sw_driver/compiler/place.py", "widest = max(layout.k_words(config, layer.k) for layer in layers)", "widest = layout.k_words(config, layers[0].k)", "sw_driver/test_compiler.py"),
    ("sw_driver/compiler/emit.py", '"output_bank"] = piece.first % config.rows', '"output_bank"] = 0', "sw_driver/test_compiler.py"),
    ("sw_driver/compiler/emit.py", "(piece.layer + 1) % 2 * half + piece.first // config.rows", "(piece.layer + 1) % 2 * half", "sw_driver/test_compiler.py"),
    ("sw_driver/compiler/fold.py", "target.bias.astype(np.float64) * node.scale + node.bias", "target.bias.astype(np.float64) + node.bias", "sw_driver/test_compiler.py"),
    ("sw_driver/compiler/fold.py", "layer.scale * added", "added", "sw_driver/test_compiler.py"),
    ("sw_driver/compiler/quantise.py", "node.bias.astype(np.float64) / scale", "node.bias.astype(np.float64)", "sw_driver/test_compiler.py"),
    ("sw_driver/compiler/quantise.py", "fp32_value(activation.hi) / scale", "fp32_value(activation.hi)", "sw_driver/test_compiler.py"),
    ("sw_driver/stream.py", "upper ^= recipe.flips", "upper ^= False", "sw_driver/test_compiler.py"),
    ("sw_driver/accelerator.py", "(self._sequence + 1) & 0xFFFF\n        expected", "self._sequence + 1\n        expected", "sw_driver/test_accelerator.py"),
    ("sw_driver/accelerator.py", "self._check_errors(replies[-1], labels, error)", "pass", "sw_driver/test_accelerator.py"),
    ("sw_driver/accelerator.py", "w_bytes + pieces * x_bytes", "w_bytes + x_bytes", "sw_driver/test_accelerator.py"),
    ("sw_driver/importers/weights.py", "np.ldexp(scale, offset)", "scale", "sw_driver/importers/test_pt2.py"),
    ("sw_driver/importers/build.py", "beta - mean * scale", "beta - mean", "sw_driver/importers/test_pt2.py"),
    ("shiftforge/program.py", "if hashlib.sha256(data[:-_DIGEST_BYTES]).digest() != data[-_DIGEST_BYTES:]:", "if False:", "shiftforge/test_program.py"),
    ("golden/network.py", "config.output if node is graph.output else config.activation", "config.activation", "sw_driver/test_compiler.py"),
]  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mutants")
    for name in ("golden", "shiftforge", "sw_driver", "tests/sw_driver", "tests/shiftforge"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def run(folder: Path, test: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/{test}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("test", sorted({test for *_, test in MUTANTS}))
def test_the_copy_passes_as_it_is(copy, test):
    result = run(copy, test)
    assert result.returncode == 0, result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("file, old, new, test", MUTANTS, ids=[f"{m[0]}:{m[2].strip()}" for m in MUTANTS])
def test_the_fault_is_found(copy, file, old, new, test):
    path = copy / file
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    try:
        path.write_text(text.replace(old, new), encoding="utf-8")
        result = run(copy, test)
    finally:
        path.write_text(text, encoding="utf-8")
    assert result.returncode == 1, result.stdout
