"""The file, the page and the plot of `bench.post_training`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from shiftforge.errors import InputError
from shiftforge.files import read_text, write_atomically

BITS = 3
ROWS = COLS = 8
CALIBRATION = 256
CHOICE_ROWS = 512
DROP = 0.01
K_BIAS_BITS = 3
EXPONENTS = ", exponents per K"
"""What the name of a fit with exponents per K index ends with."""


class Row(TypedDict):
    """One converted network; ``fit`` is "full" for the network itself, in torch alone. Accuracies 0..1 on the test set.

    ``cycles`` per input are None where the compiler does not place the network on the machine (``why`` says so).
    """

    task: str
    seed: int
    fit: str
    terms: int
    per_layer: dict[str, int]
    products: int
    torch_accuracy: float
    machine_accuracy: float | None
    cycles: float | None
    why: str | None


def load(path: Path) -> list[Row]:
    """The rows of a file, or none where there is no file."""
    if not path.exists():
        return []
    try:
        rows = json.loads(read_text(path, "results"))["rows"]
        return [row for row in rows if row.keys() == Row.__annotations__.keys() or row["not a row"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} must hold rows of this command, and does not ({error}); move it away") from None


def save(path: Path, rows: Sequence[Row]) -> None:
    """The file, a row a line, and the page and the plot beside it."""
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    write_atomically(path, f'{{\n "rows": [\n{lines}\n ]\n}}\n')
    write_atomically(path.with_suffix(".svg"), plot(rows))
    write_atomically(path.with_suffix(".md"), markdown(rows, path))


def markdown(rows: Sequence[Row], path: Path) -> str:
    """The page: a table per task, over the seeds."""
    parts = [
        "# Networks that were not trained for shifts",
        "",
        f"Written by `python -m bench.post_training --out {path.name}` from [{path.name}]({path.name}). Do not edit by hand.",
        "",
        "Full-precision networks become sums of T power-of-two terms per weight, without training. Accuracy in percent of the",
        f"test set, on the golden model of a machine of {ROWS}x{COLS}, fp16 and {BITS}-bit weights, whose bits are those of the",
        "hardware; full precision by torch in float32. Points are to each seed's own full-precision network. Cycles are those",
        f"of one input in a batch, by the exact cycle model. Calibrated fits use {CALIBRATION} training inputs, without labels;",
        f"with exponents per K index ({K_BIAS_BITS} bits) the golden network runs them, and no machine of this version. T chosen:",
        f"the fewest terms per layer that lose at most {100 * DROP:.0f} point on {CHOICE_ROWS} training inputs.",
        "",
        f"![accuracy against cycles]({path.with_suffix('.svg').name})",
    ]
    for task in dict.fromkeys(row["task"] for row in rows):
        mine = [row for row in rows if row["task"] == task]
        full = {row["seed"]: row["torch_accuracy"] for row in mine if row["fit"] == "full"}
        parts += [
            "",
            f"## {task}",
            "",
            "| Fit | T | Terms by layer | Accuracy by seed | Points, mean | Worst | Cycles |",
            "|---" * 7 + "|",
        ]
        for fit, terms in dict.fromkeys((row["fit"], row["terms"]) for row in mine):
            parts.append(_line([row for row in mine if (row["fit"], row["terms"]) == (fit, terms)], full))
        why = {row["why"] for row in mine if row["why"] and not row["fit"].endswith(EXPONENTS)}
        if why:
            parts += [
                "",
                f"The compiler does not place this network on the machine: {'; '.join(sorted(w for w in why if w))}.",
            ]
    return "\n".join(parts) + "\n"


def _percent(values: Iterable[float]) -> str:
    return " ".join(f"{100 * value:.2f}" for value in values)


def _line(rows: Sequence[Row], full: Mapping[int, float]) -> str:
    """One variant over its seeds."""
    first = rows[0]
    if first["fit"] == "full":
        return f"| full precision |  |  | {_percent(full.values())} |  |  |  |"
    right = [row["machine_accuracy"] or 0.0 for row in rows]
    points = [100 * (value - full[row["seed"]]) for value, row in zip(right, rows, strict=True)]
    layers = " / ".join(dict.fromkeys(" ".join(str(t) for t in row["per_layer"].values()) for row in rows))
    cycles = [row["cycles"] for row in rows if row["cycles"] is not None]
    return (
        f"| {first['fit']} | {first['terms'] or 'chosen'} | {layers} | {_percent(right)} | "
        f"{sum(points) / len(points):+.2f} | {min(points):+.2f} | {f'{sum(cycles) / len(cycles):,.0f}' if cycles else ''} |"
    )


def plot(rows: Sequence[Row]) -> str:
    """An SVG: a panel per task, accuracy on the machine upwards, cycles per input (products, where there are none) to the right."""
    width, height, left, body, top = 460, 150, 60, [], 24
    for task in dict.fromkeys(row["task"] for row in rows):
        mine = [
            row
            for row in rows
            if row["task"] == task and row["machine_accuracy"] is not None and not row["fit"].endswith(EXPONENTS)
        ]
        full = [100 * row["torch_accuracy"] for row in rows if row["task"] == task and row["fit"] == "full"]
        if not mine:
            continue
        timed = all(row["cycles"] is not None for row in mine)
        across = [float(row["cycles"] if timed and row["cycles"] is not None else row["products"]) for row in mine]
        up = [100 * (row["machine_accuracy"] or 0.0) for row in mine]
        low, high, most = min(up + full) - 0.5, min(100.0, max(up + full) + 0.5), 1.1 * max(across)
        body.append(f'<text x="{left}" y="{top - 8}" font-weight="bold">{task}: % on the machine against '
                    f'{"cycles" if timed else "products"} per input</text>')  # fmt: skip

        def y_of(value: float, low: float = low, high: float = high, top: int = top) -> float:
            return top + height * (high - value) / (high - low)

        for i in range(5):
            value = low + (high - low) * i / 4
            body.append(
                f'<line x1="{left}" y1="{y_of(value):.1f}" x2="{left + width}" y2="{y_of(value):.1f}" stroke="#ddd"/>'
            )
            body.append(f'<text x="{left - 6}" y="{y_of(value) + 4:.1f}" text-anchor="end">{value:.1f}</text>')
            body.append(
                f'<text x="{left + width * i / 4:.1f}" y="{top + height + 14}" text-anchor="middle">{most * i / 4:,.0f}</text>'
            )
        for value in full:
            body.append(
                f'<line x1="{left}" y1="{y_of(value):.1f}" x2="{left + width}" y2="{y_of(value):.1f}" stroke="#444"/>'
            )
        for row, x, y in zip(mine, across, up, strict=True):
            color = "#2166ac" if row["fit"] == "calibrated" else "#b35806"
            at = f'cx="{left + width * x / most:.1f}" cy="{y_of(y):.1f}"'
            fill = "none" if row["terms"] == 0 else color
            body.append(f'<circle {at} r="4" fill="{fill}" stroke="{color}"/>')
        top += height + 50
    body.append(
        f'<text x="{left}" y="{top - 12}">orange: least squares; blue: calibrated; ring: T chosen; line: full precision</text>'
    )
    size = f'width="{left + width + 40}" height="{top}" font-family="sans-serif" font-size="11"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )
