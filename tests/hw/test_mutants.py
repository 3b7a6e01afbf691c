"""Seeded faults in the gateware: the bench of the unit must find each; the sources as they are pass."""

import pytest

from tests.hw.mutants import FAULTS, FOUND, ROOT, copy_sources, run_copy, run_fault


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    copy_sources(folder)
    return folder


def test_every_fault_has_its_place():
    """Cheap, so that a change of a source shows at once which faults must follow it."""
    for fault in FAULTS:
        count = (ROOT / "hw" / fault.file).read_text(encoding="utf-8").count(fault.old)
        assert count == 1, f"{fault.old!r} must occur once in {fault.file}, not {count} times"


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit, config", sorted({(f.unit, f.config) for f in FAULTS}, key=str), ids=lambda value: str(value)[:20]
)
def test_the_copy_passes_as_it_is(copy, unit, config, tmp_path):
    done = run_copy(copy, tmp_path, unit, config)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_the_fault_is_found(copy, fault, tmp_path):
    done = run_fault(copy, tmp_path, fault)
    assert done.returncode == FOUND, f"{fault} must be found by the bench of {fault.unit}: {done.stdout}{done.stderr}"
