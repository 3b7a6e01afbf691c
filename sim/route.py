"""Place and route for Lattice ECP5 with nextpnr: of the netlist that `sim.synth.synthesize` left in a folder.

Sources: nextpnr-ecp5 and its `--report`; what a tile can hold: its ``ecp5/arch_place.cc``.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shiftforge.config import ceil_div
from shiftforge.errors import InputError, ToolError
from shiftforge.files import read_text
from shiftforge.progress import SILENT, Progress
from shiftforge.tools import run
from sim.place.elements import BARRED, arrange
from sim.place.netlist import Netlist

DEVICES = ("25k", "45k", "85k")
"""The LFE5U devices by nextpnr's names. All in the package that has the most pins."""
DEFAULT_DEVICE = "85k"
PLACERS = ("heap", "static", "elements")
"""nextpnr's placers: analytic with legalisation (its own default), and by electrostatics. Then our own: processing elements and row
edges as blocks in a grid (`sim.place`), and the rest by nextpnr's first (docs/decisions/0009-placement.md)."""
DEFAULT_PLACER = "heap"
ROUTERS = ("router1", "router2")
"""nextpnr's routers. The first takes wires from one another until none is left (its own default): the higher clock, but no end in a
crowded device. The second lets nets share wires and raises the price of what is shared; with pins a clock may find no way."""
DEFAULT_ROUTER = "router1"
NETLIST = "netlist.json"
"""What `sim.synth.synthesize` leaves in its folder for nextpnr."""
PINS = {"25k": 197, "45k": 245, "85k": 365}
"""What a device's package has for a design's ports."""
TIMEOUT_S = 10800.0
"""Of one run of a tool: a full ECP5-85 takes nextpnr half an hour, and more where the machine is shared."""

_PACKAGES = {"25k": "CABGA381", "45k": "CABGA554", "85k": "CABGA756"}


@dataclass(frozen=True)
class Flow:
    """How nextpnr places and routes.

    Parameters
    ----------
    device, placer, router : str
        One of `DEVICES`, of `PLACERS`, and of `ROUTERS`.

    Raises
    ------
    InputError
        For another name.
    """

    device: str = DEFAULT_DEVICE
    placer: str = DEFAULT_PLACER
    router: str = DEFAULT_ROUTER

    def __post_init__(self) -> None:
        named = (("device", self.device, DEVICES), ("placer", self.placer, PLACERS), ("router", self.router, ROUTERS))
        for what, name, known in named:
            if name not in known:
                raise InputError(f"{what} must be one of {', '.join(known)}, not {name!r}")


DEFAULT_FLOW = Flow()


def route(
    work_dir: Path,
    *,
    flow: Flow = DEFAULT_FLOW,
    pins: bool,
    seed: int,
    frequency_mhz: float,
    timeout_s: float = TIMEOUT_S,
    progress: Progress = SILENT,
) -> dict:
    """Place and route the netlist that `sim.synth.synthesize` left in `work_dir`, once; returns nextpnr's report.

    Parameters
    ----------
    flow : Flow
        The device, placer and router.
    pins : bool
        Whether every port bit gets a pin with its buffer, and the clock a global net; else the design is placed out of context.
    seed : int
        Of placement, 0 or more.
    frequency_mhz : float
        What the placer aims at. A design that misses it is no error.
    timeout_s : float
        Limit of each run of nextpnr.
    progress : Progress
        Told how long each step took.

    Raises
    ------
    ToolError
        When nextpnr is missing or fails.
    """
    netlist, placer, barred = NETLIST, flow.placer, 0
    if placer == "elements":
        netlist, barred = _as_blocks(work_dir, flow.device, seed, timeout_s, progress)
        placer = DEFAULT_PLACER
    options = ["--placer", placer, "--router", flow.router, "--seed", str(seed)]
    options += ["--freq", f"{frequency_mhz:g}", "--timing-allow-fail"]
    report = _nextpnr(work_dir, str(seed), options, flow.device, pins, timeout_s, progress, netlist)
    report["utilization"]["TRELLIS_COMB"]["used"] -= barred
    return report


def _as_blocks(work_dir: Path, device: str, seed: int, timeout_s: float, progress: Progress) -> tuple[str, int]:
    """Arrange the elements of the netlist in `work_dir`; the name of what results, and how many lookups only keep a place in it."""

    def packed(netlist: Netlist, name: str) -> Netlist:
        netlist.write(work_dir / f"{name}.json")
        written = f"{name}.packed.json"
        options = ["--pack-only", "--write", written]
        _nextpnr(work_dir, name, options, device, False, timeout_s, progress, f"{name}.json")
        return Netlist.read(work_dir / written)

    result = arrange(Netlist.read(work_dir / NETLIST), packed, device, seed, progress)
    name = f"elements.{seed}.json"
    result.write(work_dir / name)
    return name, sum(cell.startswith(BARRED) for cell in result.cells)


def pack(work_dir: Path, *, device: str, pins: bool, progress: Progress = SILENT) -> dict[str, tuple[int, int]]:
    """What the netlist in `work_dir` takes, as nextpnr packs it: resource -> (used, available). Places nothing.

    More may be used than is available. `pins`, errors: as of `route`.
    """
    report = _nextpnr(work_dir, "pack", ["--pack-only"], device, pins, TIMEOUT_S, progress)
    return {name: (use["used"], use["available"]) for name, use in report["utilization"].items()}


def flip_flop_places(work_dir: Path) -> int:
    """Flip-flop sites that the netlist in `work_dir` takes or bars from others; one clock edge is assumed.

    The eight of a tile share their reset, and the two of a slice their clock enable, or nextpnr refuses the tile (its
    ``ecp5/arch_place.cc``). An array with a reset of its own in each element takes more sites than it has flip-flops.
    """
    groups: dict[str, Counter[str]] = {}
    for cell in Netlist.read(work_dir / NETLIST).cells.values():
        if cell.kind == "TRELLIS_FF":
            reset = f"{cell.net('LSR')} {cell.parameters.get('LSRMUX')}"
            groups.setdefault(reset, Counter())[f"{cell.net('CE')} {cell.parameters.get('CEMUX')}"] += 1
    return sum(8 * ceil_div(sum(ceil_div(n, 2) for n in enables.values()), 4) for enables in groups.values())


def _nextpnr(
    work_dir: Path,
    name: str,
    options: Sequence[str],
    device: str,
    pins: bool,
    timeout_s: float,
    progress: Progress,
    netlist: str = NETLIST,
) -> dict:
    report = f"report.{name}.json"
    arguments = [f"--{device}", "--package", _PACKAGES[device], "--speed", "6", "--json", netlist]
    arguments += ["--lpf-allow-unconstrained" if pins else "--out-of-context", *options]
    arguments += ["--report", report, "-q", "-l", f"nextpnr.{name}.full.log"]
    run(
        "nextpnr-ecp5",
        arguments,
        cwd=work_dir,
        log=work_dir / f"nextpnr.{name}.log",
        timeout_s=timeout_s,
        progress=progress,
    )
    return json.loads(read_text(work_dir / report))


def fmax_of(report: dict) -> float | None:
    """The frequency of the design's clock in MHz. nextpnr names a clock by its net: `clk`, or `$glbnet$clk...`."""
    clocks = {name: entry["achieved"] for name, entry in report["fmax"].items()}
    if not clocks:
        return None
    if len(clocks) > 1:
        raise ToolError(f"the routed design must have one clock, not {', '.join(sorted(clocks))}")
    return next(iter(clocks.values()))
