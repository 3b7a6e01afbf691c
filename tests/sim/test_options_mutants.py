"""Seeded faults in what joins residuals, maxima and pages to the machine: the random programs must find each of them."""

# ruff: noqa: E501 - one fault per line reads better

from pathlib import Path

import pytest

from tests.faults import Fault, check_found, check_passes, copy_tree, name_of

_TEST = "sim/test_options.py"
FAULTS: list[Fault] = [
    ("hw/core.py", "decoder.hold.eq(writer.writing | (pool.writing if pool is not None else 0))", "decoder.hold.eq(writer.writing)", _TEST),
    ("hw/core.py", "decoder.hold.eq(writer.writing | (pool.writing if pool is not None else 0))", "decoder.hold.eq(pool.writing if pool is not None else 0)", _TEST),
    ("hw/core.py", "emitter.result_done | pool_written", "emitter.result_done", _TEST),
    ("hw/core.py", "lane[\"add_residual\"].eq(decoder.layer.residual)", "lane[\"add_residual\"].eq(1)", _TEST),
    ("hw/core.py", "timing.lane_residual(config) - timing.RESIDUAL_READ if", "timing.lane_residual(config) - timing.RESIDUAL_READ + 1 if", _TEST),
    ("hw/core.py", "data.eq(pool.write_data.word_select(b,", "data.eq(pool.write_data.word_select(0,", _TEST),
    ("hw/core.py", "within_page(address, decoder.layer.output_address, config.activation_page)", "address", _TEST),
    ("shiftforge/timing.py", "POOL = MEMORY_READ + 3", "POOL = MEMORY_READ + 4", _TEST),
    ("golden/cycles.py", "written = self._writes.free(written + 1)", "written = written + 1", _TEST),
]  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_tree(
        tmp_path_factory.mktemp("faults"), "golden", "hw", "shiftforge", "sim", "sw_driver", "tests", without=["train"]
    )


@pytest.mark.slow
def test_the_copy_passes_as_it_is(copy: Path) -> None:
    check_passes(copy, _TEST)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=name_of)
def test_the_fault_is_found(copy: Path, fault: Fault) -> None:
    check_found(copy, fault)
