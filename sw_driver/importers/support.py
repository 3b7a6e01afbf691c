"""The support matrix, docs/support.md, from what the importers hold: `python -m sw_driver.importers.support > docs/support.md`."""

from collections.abc import Callable, Iterable, Mapping

from sw_driver.importers import onnx_ops, torch_ops

_HEAD = """\
# What networks may consist of

Generated from the importers by `python -m sw_driver.importers.support > docs/support.md`; a test compares.

Everything that depends on weights alone is computed once, whatever it consists of. What depends on the input must be in these
tables. Weights are powers of two, or sums of up to 4 of them, times one number per output channel; zeros are masked where the
machine has masks, and sums (1 - 1) where it has none. An activation, a BatchNorm and a residual addition belong to the layer
whose result they continue: that result has no other reader.

The golden network runs all of it. So does the machine, if its configuration has what the network needs: `array.residual` for
additions, `array.max_pool` for max-pools, `array.mask` for groups and averages. `compile` says what is in the way of a network,
and `run --backend golden` runs it all the same.
"""


def _table(title: str, operations: Mapping[str, Callable[..., object]], hints: Iterable[tuple[str, str]]) -> str:
    by_text: dict[str, list[str]] = {}
    for name, operation in operations.items():
        if not operation.__doc__:
            raise TypeError(f"the operation {name} must have a docstring, which is its line in the table")
        by_text.setdefault(operation.__doc__.splitlines()[0], []).append(f"`{name}`")
    lines = [f"## {title}", "", "| operations | become, if |", "|---|---|"]
    lines += [f"| {', '.join(names)} | {text} |" for text, names in by_text.items()]
    lines += ["", "Refused, with the nearest supported form:", "", "| whose name contains | instead |", "|---|---|"]
    lines += [f"| `{key}` | {text} |" for key, text in hints]
    return "\n".join(lines)


def markdown() -> str:
    """The whole document."""
    torch = _table("torch.export (.pt2)", torch_ops.OPERATIONS, torch_ops.HINTS)
    onnx = _table("ONNX (.onnx)", onnx_ops.OPERATIONS, onnx_ops.HINTS)
    return f"{_HEAD}\n{torch}\n\n{onnx}\n"


if __name__ == "__main__":
    print(markdown(), end="")
