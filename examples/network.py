"""What the examples of networks share: compile, run on the golden network, the golden model and the simulated Verilog, compare."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from golden import network
from golden.train.convert import convert
from golden.train.runner import export
from shiftforge.commands.frame import print_table
from shiftforge.config import Config, load
from shiftforge.graph import Graph
from shiftforge.program import Program
from sim.backends import open_transport
from sim.compare import Recorder
from sim.profile import profile
from sw_driver.accelerator import Accelerator
from sw_driver.compiler.pipeline import compile_graph
from sw_driver.importers.pt2 import import_program
from sw_driver.layout import Codes

Values = NDArray[np.float32]


def initialised(model: nn.Module, samples: torch.Tensor, *, bits: int = 3, keep: tuple[str, ...] = ()) -> nn.Module:
    """The network with random shifts for weights, and BatchNorms that have seen the samples."""
    shifts = convert(model, bits, keep)
    for part in shifts.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.momentum = None  # the mean over all batches
    shifts.train()
    with torch.no_grad():
        for _ in range(2):  # the second pass with the statistics of layers that have theirs
            shifts(samples)
    return shifts.eval()


def imported(model: nn.Module, example: torch.Tensor, config: Config, host: tuple[str, ...] = ()) -> Graph:
    """The network as a graph; the named layers stay in full precision, on the host."""
    return import_program(export(model, example), config.weights.bits, mask=config.weights.mask, host=host)


@dataclass(frozen=True)
class Outcome:
    """A network on three sides.

    Parameters
    ----------
    program : Program
    codes : codes (batch, outputs)
        Of the golden model.
    predicted, counted : int
        Cycles of the cycle model and of the simulated Verilog; the second is 0 where that was left out.
    equal : bool
        Golden network, golden model and Verilog agree in every bit, and cycle model and Verilog in every beat.
    """

    program: Program
    codes: Codes
    predicted: int
    counted: int
    equal: bool


def compare(
    name: str,
    graph: Graph,
    config: Config,
    x: Values,
    *,
    rtl: bool = True,
    stalls: int | None = None,
    calibration: NDArray[np.float64] | None = None,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Compile an imported graph and run it on the golden network, the golden model and, with `rtl`, the Verilog."""
    start = perf_counter()
    program = compile_graph(graph, config, name=name, calibration=calibration, batch=len(x))
    recipe = program.recipe  # says what is in the way, if anything is
    with open_transport("golden", config, stalls=stalls) as transport:
        golden = Recorder(transport)
        model = Accelerator(golden, config)
        x_codes = model.encode_input(program, x)
        codes = model.run_codes(program, x_codes)
    want = network.run(program.graph, config, x_codes, program.overflow).output.reshape(len(x), -1)
    equal, counted = bool(np.array_equal(want, codes)), 0
    if rtl:
        with open_transport("rtl", config, stalls=stalls) as transport:
            verilog = Recorder(transport)
            device = Accelerator(verilog, config)
            equal &= bool(np.array_equal(device.run_codes(program, x_codes), codes))
            counted = device.last_cycles
        equal &= counted == model.last_cycles and all(
            np.array_equal(a.input_beats, b.input_beats) and np.array_equal(a.output_beats, b.output_beats)
            for a, b in zip(golden.results, verilog.results, strict=True)
        )
    macs = sum(line.macs * line.pixels for line in program.report) * len(x)
    say(
        f"{name}: {len(x)} inputs, {macs / 1e6:.1f} M products, {model.last_cycles:,} cycles predicted, "
        f"{f'{counted:,} counted' if rtl else 'not simulated'}, {'every bit and beat equal' if equal else 'DIFFERENT'}, "
        f"{perf_counter() - start:.0f} s"
    )
    places = {place: [line.name for line in program.report if line.place == place] for place in ("strips", "host")}
    for place, names in places.items():
        if names:
            say(f"  {'in strips' if place == 'strips' else 'on the host'}: {', '.join(names)}")
    say(f"  phases on chip: {len(recipe.phases)}; memory words used: {program.marks}")
    return Outcome(program, codes, model.last_cycles, counted, equal)


def print_layers(program: Program, batch: int) -> None:
    """Cycles and utilization of every layer, by the cycle model."""
    config = program.config
    found = profile(program, batch)
    rows = [
        [line.layer, f"{line.macs:,}", f"{line.cycles:,}", f"{100 * line.utilization(config):.1f} %"]
        for line in found.layers
    ]
    rows.append(["all, with loads", f"{found.macs:,}", f"{found.cycles:,}", f"{100 * found.utilization(config):.1f} %"])
    print_table(f"{program.name}, {config.rows}x{config.cols}", ["layer", "products", "cycles", "utilization"], rows)


def options(text: str | None, config: str) -> argparse.Namespace:
    """The options that every example has; the configuration lies beside it."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name(config), help="the accelerator")
    parser.add_argument("--batch", type=int, default=1, help="inputs")
    parser.add_argument("--stalls", type=int, metavar="SEED", help="random pauses on both streams")
    parser.add_argument("--no-rtl", action="store_true", help="leave the simulated Verilog out")
    parsed = parser.parse_args()
    parsed.config = load(parsed.config)
    return parsed
