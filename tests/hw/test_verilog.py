"""What is emitted: file per module, the processing element once, lint and netlist checks clean, in bounded time."""

import time
from pathlib import Path

import pytest

from hw.verilog import emit
from shiftforge import tools
from shiftforge.config import Config, from_dict
from shiftforge.errors import InputError, NotBuiltError
from sim import verilate

TOP = "shiftforge_top"


def _config(
    rows: int, cols: int, activation: str, output: str, weight_bits: int, stream_bits: int = 64, **more: str
) -> Config:
    array = {
        **more,
        "rows": rows,
        "cols": cols,
        "activation": activation,
        "output": output,
        "weight_bits": weight_bits,
        "max_k": 48,
    }
    return from_dict({"array": array, "interface": {"stream_bits": stream_bits}})


def _check_netlist(files: list[Path], log: Path) -> None:
    """Yosys `check -assert`: no loop, no conflict, no undriven wire."""
    reads = "\n".join(f'read_verilog -sv "{path.name}"' for path in files)
    (log.parent / "check.ys").write_text(f"{reads}\nhierarchy -check -top {TOP}\nproc\ncheck -assert\n")
    # Names relative to the folder: the WebAssembly build of yosys sees no other part of the file system.
    tools.run("yosys", ["-q", "-s", "check.ys"], cwd=log.parent, log=log, timeout_s=280)


def test_each_module_is_written_once(tmp_path: Path) -> None:
    files = emit(_config(3, 2, "fp8_e4m3", "fp16", 3), tmp_path)
    assert sorted(files) == sorted(tmp_path.glob("*.v"))
    assert files[-1].name == f"{TOP}.v"
    texts = [path.read_text() for path in files]
    declared = [line.split("(")[0] for text in texts for line in text.splitlines() if line.startswith("module ")]
    assert len(declared) == len(set(declared))
    top = texts[-1]
    assert top.count("sf_pe_aligned_fp8_e4m3_w3") == 3 * 2
    assert "[-1:0]" not in "".join(texts), "no wire may have zero width"


def test_the_same_configuration_gives_the_same_text(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        emit(_config(2, 2, "int8", "int8", 2), folder)
    for path in first.iterdir():
        assert path.read_text() == (second / path.name).read_text()


def test_an_unknown_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="^target must be one of generic, ecp5, not 'ice40'$"):
        emit(_config(2, 2, "int8", "int8", 2), tmp_path, target="ice40")


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_pairs_without_gateware_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(NotBuiltError, match=rf"array.accumulator must be 'banked' for hardware with {name}"):
        emit(_config(2, 2, name, name, 3, accumulator="aligned"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "shape", [(1, 1, "int8", "int8", 2, 32), (3, 5, "fp16", "fp16", 3, 64), (2, 3, "bf16", "fp32", 4, 64)]
)
def test_lint_and_netlist_checks_are_clean(shape: tuple[int, int, str, str, int, int], tmp_path: Path) -> None:
    files = emit(_config(*shape), tmp_path)
    verilate.lint(files, TOP)
    _check_netlist(files, tmp_path / "yosys.log")


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape",
    [
        (1, 7, "fp8_e5m2", "fp32", 4, 128),
        (7, 1, "int16", "bf16", 2, 32),
        (4, 6, "fp8_e4m3", "fp8_e4m3", 4, 64),
        (8, 8, "fp16", "fp16", 3, 64),
        (1, 1, "fp32", "fp32", 2, 32),
        (16, 16, "fp16", "fp16", 4, 64),
    ],
)
def test_lint_and_netlist_checks_are_clean_for_more_shapes(
    shape: tuple[int, int, str, str, int, int], tmp_path: Path
) -> None:
    files = emit(_config(*shape), tmp_path)
    verilate.lint(files, TOP)
    _check_netlist(files, tmp_path / "yosys.log")


@pytest.mark.slow
@pytest.mark.parametrize(("size", "seconds"), [(16, 10), (32, 30)])
def test_large_arrays_are_written_in_time(size: int, seconds: int, tmp_path: Path) -> None:
    """Processor seconds, so that a busy machine does not decide."""
    start = time.process_time()
    emit(_config(size, size, "fp16", "fp16", 3), tmp_path)
    assert time.process_time() - start < seconds
