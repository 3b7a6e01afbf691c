"""LUT4 per product against the clock, as SVG: one point per row, lines of equal area times delay."""

import math
from html import escape

WIDTH, HEIGHT, MARGIN = 760, 480, 60
_COLOURS = {"shiftforge": "#1f6f8b", "baseline": "#b4552d"}


def plot(results: list[dict[str, object]]) -> str:
    """The picture of `bench.area`'s results; rows without a clock are left out."""
    points = []
    for result in results:
        ecp5 = result.get("ecp5")
        if isinstance(ecp5, dict) and ecp5.get("fmax_mhz"):
            points.append(
                (str(result["name"]), str(result["kind"]), float(ecp5["fmax_mhz"]), float(ecp5["lut4_per_mac"]))
            )
    top_mhz = max((mhz for *_, mhz, _ in points), default=100.0) * 1.15
    low, high = (f((lut for *_, lut in points), default=d) for f, d in ((min, 10.0), (max, 1000.0)))
    first, last = math.log10(low / 1.5), math.log10(high * 1.5)

    def x(mhz: float) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * mhz / top_mhz

    def y(lut: float) -> float:
        return HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (math.log10(lut) - first) / (last - first)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<path d="M{MARGIN} {MARGIN}V{HEIGHT - MARGIN}H{WIDTH - MARGIN}" fill="none" stroke="#444"/>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 18}" text-anchor="middle">MHz, median of the seeds</text>',
        f'<text x="18" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 18 {HEIGHT / 2})">LUT4 per MAC</text>',
    ]
    for mhz in range(0, int(top_mhz) + 1, 50):
        parts.append(f'<text x="{x(mhz):.1f}" y="{HEIGHT - MARGIN + 16}" text-anchor="middle">{mhz}</text>')
    for lut in (10, 20, 50, 100, 200, 500, 1000, 2000):
        if first <= math.log10(lut) <= last:
            parts.append(f'<text x="{MARGIN - 8}" y="{y(lut) + 4:.1f}" text-anchor="end">{lut}</text>')
            parts.append(f'<path d="M{MARGIN} {y(lut):.1f}H{WIDTH - MARGIN}" stroke="#ddd"/>')
    for name, kind, mhz, lut in points:
        parts.append(f'<circle cx="{x(mhz):.1f}" cy="{y(lut):.1f}" r="4" fill="{_COLOURS[kind]}"/>')
        parts.append(f'<text x="{x(mhz) + 7:.1f}" y="{y(lut) + 4:.1f}" fill="{_COLOURS[kind]}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
