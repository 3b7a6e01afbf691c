"""Plots as inline SVG, without a library: bars that stack, bars that stand alone, and the roofline."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH = 920
_LABEL = 215
"""Width left of the bars, for names."""
_ROW = 24
_BAR = 15
_CHARACTER = 6.4
"""Width of a character of the plots' text, about."""


@dataclass(frozen=True)
class Series:
    """One color of a stacked bar: its name, and its CSS class (`sim.page`)."""

    name: str
    css: str


def number(value: float) -> str:
    """Short: 7.25, 1,234, 12.3 k, 4.56 M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * limit or (abs(value) >= limit and unit != "k"):
            return f"{value / limit:.3g} {unit}" if abs(value) < 1000 * limit else f"{value / limit:,.0f} {unit}"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.3g}"


def _svg(height: float, parts: Sequence[str], title: str) -> str:
    head = f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(title, quote=True)}">'
    return head + "".join(parts) + "</svg>"


def _text(x: float, y: float, text: str, css: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(text)}</text>'


def _short(name: str) -> str:
    most = int(_LABEL / _CHARACTER) - 2
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most - most // 2 - 1) :]}"


def stacked(title: str, names: Sequence[str], series: Sequence[Series], values: Sequence[Sequence[float]]) -> str:
    """A horizontal bar per name, the series side by side in it, its sum behind it.

    Parameters
    ----------
    values : per name, per series
    """
    room = _WIDTH - _LABEL - 90
    most = max((sum(line) for line in values), default=0) or 1
    parts, x = [], 4.0
    for one in series:
        parts.append(f'<rect x="{x:.1f}" y="2" width="10" height="10" rx="2" class="{one.css}"/>')
        parts.append(_text(x + 15, 11, one.name, "legend"))
        x += 32 + _CHARACTER * len(one.name)
    for row, (name, line) in enumerate(zip(names, values, strict=True)):
        y = 24 + row * _ROW
        parts.append(_text(_LABEL - 8, y + 12, _short(name), "name", "end"))
        x = float(_LABEL)
        for one, value in zip(series, line, strict=True):
            width = value / most * room
            if width > 0:
                tip = f"<title>{escape(name)}, {escape(one.name)}: {value:,.0f}</title>"
                parts.append(
                    f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{_BAR}" class="{one.css}">{tip}</rect>'
                )
            x += width
        parts.append(_text(x + 6, y + 12, number(sum(line)), "value"))
    return _svg(28 + _ROW * len(names), parts, title)


def shares(title: str, names: Sequence[str], values: Sequence[float], notes: Sequence[str], css: str) -> str:
    """A horizontal bar per name on a track that stands for 1; its note behind it."""
    room = _WIDTH - _LABEL - 190
    parts = []
    for row, (name, value, note) in enumerate(zip(names, values, notes, strict=True)):
        y = 4 + row * _ROW
        parts.append(_text(_LABEL - 8, y + 12, _short(name), "name", "end"))
        parts.append(f'<rect x="{_LABEL}" y="{y}" width="{room}" height="{_BAR}" class="track"/>')
        width = min(max(value, 0), 1) * room
        parts.append(f'<rect x="{_LABEL}" y="{y}" width="{width:.2f}" height="{_BAR}" class="{css}"/>')
        parts.append(_text(_LABEL + room + 8, y + 12, note, "value"))
    return _svg(8 + _ROW * len(names), parts, title)


@dataclass(frozen=True)
class Point:
    """A layer in the roofline: products per stream byte, and products per cycle."""

    name: str
    intensity: float
    rate: float


def roofline(title: str, points: Sequence[Point], peak: float, bandwidth: float) -> str:
    """Products per cycle against products per stream byte, both axes logarithmic, under the array's and the stream's roof.

    Parameters
    ----------
    peak : float
        Products per cycle of the array.
    bandwidth : float
        Bytes per cycle of the stream.
    """
    shown = [point for point in points if point.intensity > 0 and point.rate > 0]
    left, right, top, bottom = 60.0, _WIDTH - 60.0, 16.0, 330.0
    ridge = peak / bandwidth
    xs, ys = [ridge, *(point.intensity for point in shown)], [peak, *(point.rate for point in shown)]
    x_low, x_high = _decades(min(xs) / 2, max(xs) * 2)
    y_low, y_high = _decades(min(ys) / 1.5, peak * 1.2)

    def x_of(value: float) -> float:
        return left + (math.log10(value) - x_low) / (x_high - x_low) * (right - left)

    def y_of(value: float) -> float:
        return bottom - (math.log10(value) - y_low) / (y_high - y_low) * (bottom - top)

    parts = []
    for exponent in range(x_low, x_high + 1):
        x = x_of(10.0**exponent)
        parts.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" class="grid"/>')
        parts.append(_text(x, bottom + 16, _power(exponent), "axis", "middle"))
    for exponent in range(y_low, y_high + 1):
        y = y_of(10.0**exponent)
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" class="grid"/>')
        parts.append(_text(left - 6, y + 4, _power(exponent), "axis", "end"))
    start = max(10.0**x_low, 10.0**y_low / bandwidth)
    corner, flat = (x_of(start), y_of(start * bandwidth)), (x_of(ridge), y_of(peak))
    path = f"M{corner[0]:.1f} {corner[1]:.1f} L{flat[0]:.1f} {flat[1]:.1f} L{right:.1f} {flat[1]:.1f}"
    parts.append(f'<path d="{path}" class="roof"/>')
    parts.append(_text(right, flat[1] - 8, f"array: {number(peak)} per cycle", "roof-name", "end"))
    parts.append(_text(left + 8, top + 12, f"stream: {number(bandwidth)} bytes per cycle and way", "roof-name"))
    clusters: list[tuple[float, float, list[str]]] = []
    for point in sorted(shown, key=lambda one: -one.rate):
        x, y = x_of(point.intensity), y_of(point.rate)
        tip = f"<title>{escape(point.name)}: {point.rate:.3g} per cycle, {point.intensity:.3g} per byte</title>"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" class="point">{tip}</circle>')
        near = next((names for at, height, names in clusters if abs(x - at) < 14 and abs(y - height) < 12), None)
        if near is None:
            clusters.append((x, y, [point.name]))
        else:
            near.append(point.name)
    parts += _labels(clusters, bottom)
    parts.append(_text((left + right) / 2, bottom + 34, "products per byte of the busier stream", "axis", "middle"))
    parts.append(
        f'<text transform="translate(14 {(top + bottom) / 2:.0f}) rotate(-90)" class="axis" text-anchor="middle">'
        "products per cycle</text>"
    )
    return _svg(bottom + 44, parts, title)


def _labels(clusters: Sequence[tuple[float, float, list[str]]], bottom: float) -> list[str]:
    """A name under each cluster of points, a little lower where another stands; the pointer tells the others."""
    parts, taken = [], list[tuple[float, float, float]]()
    for x, y, names in clusters:
        text = _short(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        start, end = x - 4, x - 4 + _CHARACTER * len(text)
        label = y + 17
        for _ in range(5):
            if all(abs(label - other) >= 12 or end < first or start > last for first, last, other in taken):
                break
            label += 12
        else:
            continue
        if label < bottom - 2:
            taken.append((start, end, label))
            parts.append(_text(start, label, text, "point-name"))
    return parts


def _decades(low: float, high: float) -> tuple[int, int]:
    """Powers of ten that enclose a range, at least one apart."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return first, max(last, first + 1)


def _power(exponent: int) -> str:
    return f"{10**exponent:,}" if 0 <= exponent <= 4 else f"1e{exponent}"
