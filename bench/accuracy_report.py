"""Runs of ``bench.accuracy`` as a table, a page and a plot. Nothing here is measured; everything comes from the runs' file."""

import statistics
from collections.abc import Sequence
from typing import TypedDict, cast

from golden.train.methods import METHODS
from golden.train.tasks import TASKS

LEAST_SEEDS = 3
"""Below this the page compares no methods: a spread of one or two runs is none."""


class Run(TypedDict):
    """One finished training. ``bits`` is 32 for full precision, ``accuracy`` 0..1 on the test set, ``loss`` of the last epoch.

    ``frozen_at_half`` is the share of weights whose code does not change in the second half of the epochs.
    """

    task: str
    method: str
    bits: int
    seed: int
    epochs: int
    activation: str
    accuracy: float
    loss: float
    frozen_at_half: float | None
    cpu_seconds: float
    torch: str
    python: str


def checked(run: object) -> Run:
    """A run as it was read from a file; ``KeyError`` or ``TypeError`` when it is none."""
    if not isinstance(run, dict):
        raise TypeError(f"a run is a table, not {type(run).__name__}")
    for name in Run.__annotations__:
        if name not in run:
            raise KeyError(name)
    if not 0 <= run["accuracy"] <= 1 or run["method"] not in METHODS or run["task"] not in TASKS:
        raise ValueError(f"run of {run['task']!r} by {run['method']!r} with accuracy {run['accuracy']!r}")
    return cast(Run, run)


def percents(runs: Sequence[Run]) -> tuple[float, float, float]:
    """Mean, standard deviation (0 for one run) and least accuracy, in percent."""
    values = [100 * run["accuracy"] for run in runs]
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0, min(values)


def _order(run: Run) -> tuple[int, int, int]:
    return (
        list(TASKS).index(run["task"]),
        run["bits"] if run["method"] != "full" else 0,
        list(METHODS).index(run["method"]),
    )


def grouped(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of each task, method and width, which differ in their seeds alone; full precision first."""
    cells: dict[tuple[int, int, int], list[Run]] = {}
    for run in sorted(runs, key=lambda r: (*_order(r), r["seed"])):
        cells.setdefault(_order(run), []).append(run)
    return list(cells.values())


def table(runs: Sequence[Run]) -> str:
    """One line per task, method and width."""
    lines = [f"{'task':16s}{'method':14s}{'bits':>5s}{'seeds':>7s}   mean ± spread    least   (% of the test set)"]
    for cell in grouped(runs):
        mean, spread, least = percents(cell)
        head = f"{cell[0]['task']:16s}{cell[0]['method']:14s}{cell[0]['bits']:5d}{len(cell):7d}"
        lines.append(f"{head}  {mean:6.2f} ± {spread:4.2f}  {least:6.2f}")
    return "\n".join(lines)


def _beside(ours: Sequence[Run], other: Sequence[Run]) -> str:
    """How far apart two cells are, by the larger of their spreads."""
    (mean, spread, _), (other_mean, other_spread, _) = percents(ours), percents(other)
    larger = max(spread, other_spread)
    if abs(mean - other_mean) <= larger:
        return f"within the larger spread, {larger:.2f}"
    return f"{'above' if mean > other_mean else 'below'} it by more than the larger spread, {larger:.2f}"


def _verdict(cells: Sequence[Sequence[Run]]) -> list[str]:
    """What the data say of DenseShift: beside full precision, and beside the best other method of equal width."""
    full = next((cell for cell in cells if cell[0]["method"] == "full"), None)
    lines: list[str] = []
    for bits in (2, 3, 4):
        ours = next((c for c in cells if c[0]["method"] == "denseshift" and c[0]["bits"] == bits), None)
        others = [c for c in cells if c[0]["method"] not in ("denseshift", "full") and c[0]["bits"] == bits]
        if ours is None:
            continue
        mean, spread, _ = percents(ours)
        text = f"- DenseShift, {bits} bits, {len(ours)} seeds: {mean:.2f} ± {spread:.2f}"
        enough = len(ours) >= LEAST_SEEDS
        if full is not None:
            text += f"; {mean - percents(full)[0]:+.2f} points from full precision"
            text += f" ({_beside(ours, full)})" if enough and len(full) >= LEAST_SEEDS else ""
        if others and not enough:
            text += f"; fewer than {LEAST_SEEDS} seeds are too few to compare it with other methods"
        elif others:
            best = max(others, key=lambda c: percents(c)[0])
            best_mean, best_spread, _ = percents(best)
            text += (
                f"; {mean - best_mean:+.2f} points from the best other method of this width, `{best[0]['method']}` with "
                f"{best_mean:.2f} ± {best_spread:.2f} ({_beside(ours, best)})"
            )
        lines.append(text + ".")
    return lines


def markdown(runs: Sequence[Run], command: str, source: str, picture: str) -> str:
    """The page: one table per task, methods by widths, and what DenseShift reaches."""
    versions = ", ".join(sorted({f"Python {run['python']}, torch {run['torch']}" for run in runs}))
    minutes = sum(run["cpu_seconds"] for run in runs) / 60
    parts = [
        "# Accuracy of the training methods",
        "",
        f"Written by `python -m bench.accuracy --report {source}` from the {len(runs)} runs in [{source}]({source}), which",
        f"`{command}` made ({minutes:.0f} minutes of one core in all; {versions}). Do not edit by hand.",
        "",
        "Accuracy on the test set in percent, by torch in float32: mean ± standard deviation over the seeds, and their number in",
        "brackets. Weights of shifts train with fp16 activations. Each method has the recipe of the task, not tuned for any",
        "of them. Other machines and versions of torch may differ by an answer or two.",
        "",
        f"![mean and spread of every task, method and width]({picture})",
    ]
    cells = grouped(runs)
    for task in TASKS:
        mine = [cell for cell in cells if cell[0]["task"] == task]
        if not mine:
            continue
        widths = sorted({cell[0]["bits"] for cell in mine if cell[0]["method"] != "full"})
        parts += ["", f"## {task}", "", f"{TASKS[task].description[0].upper()}{TASKS[task].description[1:]}.", ""]
        full = next((cell for cell in mine if cell[0]["method"] == "full"), None)
        if full is not None:
            parts += [f"Full precision: {_value(full)}", ""]
        parts += [
            "| Method | " + " | ".join(f"{bits} bits" for bits in widths) + " |",
            "|---" * (1 + len(widths)) + "|",
        ]
        for method in METHODS:
            row = {cell[0]["bits"]: cell for cell in mine if cell[0]["method"] == method}
            if method != "full" and row:
                values = [_value(row[bits]) if bits in row else "" for bits in widths]
                parts.append(f"| `{method}` | " + " | ".join(values) + " |")
        parts += ["", *_verdict(mine)]
    return "\n".join(parts) + "\n"


def _value(cell: Sequence[Run]) -> str:
    mean, spread, _ = percents(cell)
    return f"{mean:.2f} ± {spread:.2f} ({len(cell)})"


_COLORS = {2: "#b35806", 3: "#2166ac", 4: "#5aae61"}
_LEFT, _WIDTH, _ROW = 120, 460, 18


def plot(runs: Sequence[Run]) -> str:
    """An SVG: a panel per task, a row per method, a dot for each width's mean with a bar of one deviation on either side.

    Full precision is a vertical line with its deviation shaded. Each panel has its own axis, which leaves out means more than 15
    points below the best; those stand at its edge, with their value.
    """
    body: list[str] = []
    top = 20
    cells = grouped(runs)
    for task in TASKS:
        mine = [cell for cell in cells if cell[0]["task"] == task]
        if not mine:
            continue
        methods = [m for m in METHODS if m != "full" and any(cell[0]["method"] == m for cell in mine)]
        best = max(percents(cell)[0] + percents(cell)[1] for cell in mine)
        high = min(100.0, best + 0.5)
        low = max(high - 15.0, min(percents(cell)[0] - percents(cell)[1] for cell in mine) - 0.5)

        def at(value: float, low: float = low, high: float = high) -> float:
            return _LEFT + _WIDTH * (min(max(value, low), high) - low) / (high - low)

        height = _ROW * len(methods)
        body.append(f'<text x="{_LEFT}" y="{top}" font-weight="bold">{task}: % of the test set</text>')
        top += 8
        for i in range(5):
            value = low + (high - low) * i / 4
            body.append(
                f'<line x1="{at(value):.1f}" y1="{top}" x2="{at(value):.1f}" y2="{top + height}" stroke="#ddd"/>'
            )
            body.append(f'<text x="{at(value):.1f}" y="{top + height + 12}" text-anchor="middle">{value:.1f}</text>')
        for cell in mine:
            mean, spread, _ = percents(cell)
            if cell[0]["method"] == "full":
                x, y = at(mean - spread), at(mean + spread)
                body.append(
                    f'<rect x="{x:.1f}" y="{top}" width="{y - x:.1f}" height="{height}" fill="#888" opacity="0.25"/>'
                )
                body.append(
                    f'<line x1="{at(mean):.1f}" y1="{top}" x2="{at(mean):.1f}" y2="{top + height}" stroke="#444"/>'
                )
                continue
            bits = cell[0]["bits"]
            y = top + _ROW * (methods.index(cell[0]["method"]) + 0.5) + 4.5 * (bits - 3)
            ends = f'x1="{at(mean - spread):.1f}" y1="{y:.1f}" x2="{at(mean + spread):.1f}" y2="{y:.1f}"'
            body.append(f'<line {ends} stroke="{_COLORS[bits]}"/>')
            body.append(f'<circle cx="{at(mean):.1f}" cy="{y:.1f}" r="2.5" fill="{_COLORS[bits]}"/>')
            if mean < low:
                body.append(
                    f'<text x="{_LEFT + 6}" y="{y + 3:.1f}" font-size="8" fill="{_COLORS[bits]}">{mean:.1f}</text>'
                )
        for i, method in enumerate(methods):
            body.append(f'<text x="{_LEFT - 8}" y="{top + _ROW * (i + 0.5) + 4:.1f}" text-anchor="end">{method}</text>')
        top += height + 36
    for i, (bits, color) in enumerate(_COLORS.items()):
        body.append(f'<circle cx="{_LEFT + 70 * i}" cy="{top - 4}" r="3" fill="{color}"/>')
        body.append(f'<text x="{_LEFT + 70 * i + 8}" y="{top}">{bits} bits</text>')
    body.append(f'<text x="{_LEFT + 220}" y="{top}">line: full precision; bars: one deviation</text>')
    size = f'width="{_LEFT + _WIDTH + 30}" height="{top + 12}"'
    style = 'font-family="sans-serif" font-size="11"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n<rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )
