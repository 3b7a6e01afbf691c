"""The support matrix in the documentation is the importers' own."""

from pathlib import Path

import pytest

from sw_driver.importers import onnx_ops, support, torch_ops

ROOT = Path(__file__).parents[3]


def test_the_document_is_the_generated_one():
    assert (ROOT / "docs" / "support.md").read_text(encoding="utf-8") == support.markdown()


@pytest.mark.parametrize("module", [torch_ops, onnx_ops])
def test_every_operation_and_every_hint_stands_in_it(module):
    text = support.markdown()
    assert all(f"`{name}`" in text for name in module.OPERATIONS)
    assert all(f"| `{key}` | {hint} |" in text for key, hint in module.HINTS)
