"""The page of `shiftforge report`: one HTML file that needs nothing else, from what is known of programs and machines."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from shiftforge import manifest
from shiftforge.area import Area
from shiftforge.config import Config
from shiftforge.files import read_text
from shiftforge.program import LayerReport, Program
from sim import plots
from sim.plots import Point, Series, number
from sim.profile import LayerProfile, Profile

CAUSES = (
    (Series("products", "c-products"), "slots"),
    (Series("wait for the drain", "c-drain"), "stall_drain"),
    (Series("wait for a load within the layer", "c-load"), "stall_load"),
    (Series("fill, empty, read out", "c-rest"), "rest"),
    (Series("load before the layer", "c-lead"), "lead"),
)
"""What a layer's cycles are: their color, and the field of `sim.profile.LayerProfile`."""

_STYLE = Path(__file__).with_name("page.css")


@dataclass(frozen=True)
class Machine:
    """A configuration, its estimated area (None where it has no gateware: `unbuilt` says why), and what `synth` measured of it."""

    config: Config
    area: Area | None
    unbuilt: str = ""
    measured: dict[str, object] | None = None


@dataclass(frozen=True)
class Run:
    """A program and the profile of one run; `accuracy` (0..1) of so many `examples` on the golden model, where known.

    `profile` is None where its machine does not run the program.
    """

    program: Program
    profile: Profile | None
    accuracy: float | None = None
    examples: int = 0


def page(title: str, machines: Sequence[Machine], runs: Sequence[Run], *, version: str) -> str:
    """The HTML of all machines and programs."""
    body = [
        f"<h1>ShiftForge report: {escape(title)}</h1>",
        f"<p>Version {escape(version)}. Cycles are exact, not estimated.</p>",
    ]
    for run in runs:
        body += _run(run)
    for machine in machines:
        body += _machine(machine)
    style = read_text(_STYLE, "style of the page")
    head = [
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{style}</style>",
    ]
    return "\n".join(["<!doctype html>", '<html lang="en"><head>', *head, "</head><body>", *body, "</body></html>", ""])


def machine_name(config: Config) -> str:
    """One line that tells a machine from others."""
    mask = ", masked" if config.weights.mask else ""
    return (
        f"{config.rows} x {config.cols}, {config.activation.name} to {config.output.name}, "
        f"{config.weights.bits}-bit weights{mask}, {config.accumulator}"
    )


def _tiles(values: Sequence[tuple[str, str]]) -> str:
    tiles = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for name, value in values
    )
    return f'<div class="tiles">{tiles}</div>'


def _table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, text: int = 1, wrap: int = -1, total: bool = False
) -> str:
    """The first `text` columns are text, column `wrap` may break, and with `total` the last row is a sum."""

    def css(index: int) -> str:
        names = (["text"] if index < text or index == wrap else []) + (["wrap"] if index == wrap else [])
        return f' class="{" ".join(names)}"' if names else ""

    head = "".join(f"<th{css(index)}>{escape(name)}</th>" for index, name in enumerate(columns))
    lines = []
    for at, row in enumerate(rows):
        cells = "".join(f"<td{css(index)}>{escape(cell)}</td>" for index, cell in enumerate(row))
        kind = ' class="sum"' if total and at == len(rows) - 1 else ""
        lines.append(f"<tr{kind}>{cells}</tr>")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _note(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _run(run: Run) -> list[str]:
    program, profile = run.program, run.profile
    config = program.config
    parts = [
        f"<h2>{escape(program.name)}</h2>",
        f"<p>{escape(machine_name(config))}; hash <code>{config.hash:#010x}</code></p>",
    ]
    macs = sum(line.macs * line.pixels for line in program.report)
    tiles = [("products per example", number(macs))]
    if run.accuracy is not None:
        tiles.insert(0, (f"right of {run.examples:,}, golden model", f"{100 * run.accuracy:.2f} %"))
    if profile is None:
        parts.append(_tiles(tiles))
        parts.append(f"<p>Its machine does not run it: {escape(program.unplaced)}.</p>")
    else:
        examples = f"{profile.batch:,} example" + ("s" if profile.batch > 1 else "")
        tiles += [
            (f"cycles, {examples}", f"{profile.cycles:,}"),
            ("cycles per example", number(profile.cycles / profile.batch)),
            ("utilization, loads included", f"{100 * profile.utilization(config):.1f} %"),
            ("bytes in", number(profile.setup_bytes + sum(layer.bytes_in for layer in profile.layers))),
            ("bytes out", number(profile.status_bytes + sum(layer.bytes_out for layer in profile.layers))),
        ]
        parts.append(_tiles(tiles))
        parts += _profile(program, profile)
    parts.append("<h3>Layers as compiled</h3>")
    parts.append(_compiled(program.report))
    return parts


def _profile(program: Program, profile: Profile) -> list[str]:
    config, layers = program.config, profile.layers
    names = [layer.layer for layer in layers]
    cycles = [[float(getattr(layer, field)) for _, field in CAUSES] for layer in layers]
    shares = [layer.utilization(config) for layer in layers]
    traffic = [[float(layer.bytes_in), float(layer.bytes_out)] for layer in layers]
    bandwidth = config.stream_bits / 8
    points = [
        Point(layer.layer, layer.macs / (max(layer.bytes_in, layer.bytes_out) or 1), layer.macs / layer.cycles)
        for layer in layers
        if layer.cycles
    ]
    marks = (
        ("activations", program.marks.activation_words, config.activation_words),
        ("weights", program.marks.weight_words, config.weight_words),
        ("parameters", program.marks.parameter_words, config.parameter_words),
    )
    return [
        "<h3>Cycles</h3>",
        plots.stacked("cycles of each layer by cause", names, [series for series, _ in CAUSES], cycles),
        "<h3>Utilization</h3>",
        "<p>Useful products per cycle and processing element, from a layer's start to its last result.</p>",
        plots.shares(
            "utilization of each layer", names, shares, [f"{100 * share:.1f} %" for share in shares], "c-share"
        ),
        "<h3>Stream bytes</h3>",
        _note(
            f"Headers and padding included. {profile.setup_bytes:,} bytes more go in for the whole run "
            "(configuration, weights that stay)."
        ),
        plots.stacked("stream bytes of each layer", names, [Series("in", "c-in"), Series("out", "c-out")], traffic),
        "<h3>Roofline</h3>",
        _note(
            "A layer under the slope waits for the stream at best, one under the flat roof for the array. Layers whose operands "
            "are on chip already move little and lie far to the right."
        ),
        plots.roofline("products per cycle of each layer", points, config.rows * config.cols, bandwidth),
        "<h3>Memory marks</h3>",
        plots.shares(
            "words used of each memory",
            [name for name, _, _ in marks],
            [used / words for _, used, words in marks],
            [f"{used:,} of {words:,} words" for _, used, words in marks],
            "c-share",
        ),
        "<h3>Cycles in numbers</h3>",
        _cycle_table(config, layers),
    ]


def _cycle_table(config: Config, layers: Sequence[LayerProfile]) -> str:
    fields = ("lead", "cycles", "slots", "stall_drain", "stall_load", "rest", "macs", "bytes_in", "bytes_out")
    rows = [
        [
            layer.layer,
            f"{layer.runs:,}",
            *(f"{getattr(layer, field):,}" for field in fields),
            f"{100 * layer.utilization(config):.1f} %",
        ]
        for layer in layers
    ]
    sums = [sum(getattr(layer, field) for layer in layers) for field in fields]
    share = sums[6] / (sums[1] * config.rows * config.cols) if sums[1] else 0.0
    rows.append(
        [
            "all layers",
            f"{sum(layer.runs for layer in layers):,}",
            *(f"{value:,}" for value in sums),
            f"{100 * share:.1f} %",
        ]
    )
    columns = ["layer", "packets", "load before", "cycles", "products", "drain", "load within", "rest", "useful products",
               "bytes in", "bytes out", "utilization"]  # fmt: skip
    return _table(columns, rows, total=True)


def _compiled(report: Sequence[LayerReport]) -> str:
    rows = [
        [
            line.name,
            line.kind,
            line.place,
            line.activation,
            *(
                f"{value:,}"
                for value in (line.k, line.n, line.pixels, line.groups, line.terms, line.tiles, line.pieces)
            ),
            f"{line.macs * line.pixels:,}",
            f"{line.weight_words:,}",
        ]
        for line in report
    ]
    columns = [
        "layer",
        "kind",
        "runs on",
        "function",
        "K",
        "N",
        "pixels",
        "groups",
        "terms",
        "tiles",
        "pieces",
        "products",
        "weight words",
    ]
    return _table(columns, rows, text=4)


def _machine(machine: Machine) -> list[str]:
    config, area = machine.config, machine.area
    parts = [f"<h2>Machine {escape(machine_name(config))}</h2>", f"<p>Hash <code>{config.hash:#010x}</code></p>"]
    tiles = [("products per cycle", number(config.rows * config.cols))]
    if machine.measured is not None:
        found = machine.measured
        tiles += [
            (f"{name}, measured", f"{found[key]:,}")
            for name, key in (("LUT4", "lut"), ("flip-flops", "ff"), ("18 Kbit RAM", "ebr"))
        ]
        if found.get("fmax_mhz") is not None:
            tiles.append(("clock, routed", f"{found['fmax_mhz']:.1f} MHz"))
    elif area is not None:
        tiles += [("LUT4, estimated", f"{area.lut:,}"), ("flip-flops, estimated", f"{area.ff:,}"), ("18 Kbit RAM", f"{area.ram:,}"),
                  ("18x18 multipliers", f"{area.dsp:,}")]  # fmt: skip
    tiles.append(("K from which drains hide", f"{manifest.min_overlap_k(config):,}"))
    parts.append(_tiles(tiles))
    parts += _area(machine)
    ledger = [
        [str(row["name"]), f"{row['value']:,} {row['unit']}", str(row["rule"])] for row in manifest.widths(config)
    ]
    parts += ["<h3>Widths</h3>", _table(["what", "width", "rule"], ledger, wrap=2)]
    return parts


def _area(machine: Machine) -> list[str]:
    area = machine.area
    if area is None:
        return ["<h3>Area on ECP5</h3>", f"<p>None: {escape(machine.unbuilt)}.</p>"]
    rows = [
        [
            part.name,
            f"{part.count:,}",
            *(f"{round(part.count * value):,}" for value in (part.lut, part.ff, part.ram, part.dsp)),
        ]
        for part in area.parts
    ]
    rows.append(["in all, estimated", "", *(f"{value:,}" for value in (area.lut, area.ff, area.ram, area.dsp))])
    if machine.measured is not None:
        rows.append(["measured by synth", "", *(f"{machine.measured[key]:,}" for key in ("lut", "ff", "ebr", "dsp"))])
    beyond = f" Beyond the calibration: {', '.join(area.beyond)}." if area.beyond else ""
    names, luts = (
        [part.name for part in area.parts if part.lut > 0],
        [[round(part.count * part.lut)] for part in area.parts if part.lut > 0],
    )
    return [
        "<h3>Area on ECP5</h3>",
        _note(
            f"Summed over units, calibrated with {area.tool}; at most {area.error_percent:.1f} % off on machines that it had "
            f"not seen.{beyond}"
        ),
        plots.stacked("LUT4 of each kind of unit", names, [Series("LUT4", "c-products")], luts),
        _table(["what", "number", "LUT4", "flip-flops", "18 Kbit RAM", "18x18"], rows, total=True),
    ]
