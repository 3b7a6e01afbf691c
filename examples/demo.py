"""From a network in torch to bit-exact hardware, step by step: ``python -m examples.demo`` (or ``make demo``).

Trains a DenseShift network on handwritten digits, compiles it, generates the accelerator's Verilog, runs the whole test
split on the golden model and on the simulated Verilog, compares every bit and every cycle, and places and routes the design
for an ECP5.
Exit code 1 when anything differs.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from golden import network
from golden.emulator import EmulatorTransport
from shiftforge.commands.frame import print_table
from shiftforge.config import Config, load
from shiftforge.errors import ShiftForgeError, ToolError
from shiftforge.files import replace_directory
from shiftforge.manifest import MANIFEST
from shiftforge.program import Program
from shiftforge.progress import Progress, duration
from sim.backends import open_transport
from sim.compare import Recorder
from sim.design import write_design
from sim.synth import SynthResult, synthesize
from sw_driver.accelerator import Accelerator
from sw_driver.compiler.check import check_passes
from sw_driver.compiler.pipeline import compile_graph
from sw_driver.importers.pt2 import read_pt2
from sw_driver.layout import Codes

STALL_SEEDS = (1, 2)
TOP = "shiftforge_top"


class Steps:
    """Numbers the steps and says how long each took."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.number = 0

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        self.number += 1
        print(f"[{self.number}/{self.count}] {text} ...", flush=True)
        start = perf_counter()
        yield
        print(f"[{self.number}/{self.count}] {text}: {duration(perf_counter() - start)}", flush=True)


@dataclass(frozen=True)
class Run:
    """One run of the whole test split on both sides."""

    streams: str
    golden: Codes
    rtl: Codes
    predicted: int
    counted: int
    same_beats: bool
    same_counters: bool

    @property
    def same(self) -> bool:
        timing = self.predicted == self.counted and self.same_beats and self.same_counters
        return bool(np.array_equal(self.golden, self.rtl)) and timing


def run_both(program: Program, x: NDArray[np.float32], rtl_dir: Path, stalls: int | None) -> Run:
    """The test split through the golden model and through the Verilog that lies in `rtl_dir`."""
    devices, codes, recorders = [], [], []
    for backend in ("golden", "rtl"):
        folder = rtl_dir if backend == "rtl" else None
        with open_transport(backend, program.config, rtl_dir=folder, stalls=stalls) as transport:
            recorders.append(Recorder(transport))
            devices.append(Accelerator(recorders[-1], program.config))
            codes.append(devices[-1].run(program, x))
    pairs = list(zip(recorders[0].results, recorders[1].results, strict=True))
    return Run(
        streams="always ready" if stalls is None else f"random stalls {stalls}",
        golden=codes[0],
        rtl=codes[1],
        predicted=devices[0].last_cycles,
        counted=devices[1].last_cycles,
        same_beats=all(
            np.array_equal(a.input_beats, b.input_beats) and np.array_equal(a.output_beats, b.output_beats)
            for a, b in pairs
        ),
        same_counters=devices[0].last_status == devices[1].last_status,
    )


def percent(values: NDArray[np.float32], labels: NDArray[np.int64]) -> str:
    return f"{100 * float((values.argmax(axis=1) == labels).mean()):.2f} %"


def demo(config_path: Path, out: Path, *, synth: bool) -> int:
    """All steps; the exit code."""
    try:
        from golden.train import runner
    except ImportError as error:
        raise ToolError(f"{error.name} must be installed to train: pip install 'shiftforge[train]'") from None
    begin = perf_counter()
    steps, config = Steps(7 if synth else 6), load(config_path)
    out.mkdir(parents=True, exist_ok=True)
    model = out / "digits.pt2"

    with steps.step(f"train digits-mlp, {config.weights.bits}-bit weights, and its float32 twin"):
        trained = runner.train("digits-mlp", bits=config.weights.bits, activation=config.activation.name)
        runner.save(trained, model)
    x, y = trained.test.x, trained.test.y
    with steps.step("compile, every pass checked on the test split"):
        graph = read_pt2(model, config.weights.bits, mask=config.weights.mask)
        program = compile_graph(graph, config, name="digits")
        checks = check_passes(
            graph,
            program,
            x.astype(np.float64),
            lambda g, codes: network.run(g, config, codes, program.overflow).output,
            EmulatorTransport(config),
        )
        program.save(out / "digits.sfp")
    with (
        steps.step(f"generate the Verilog, {config.rows}x{config.cols}"),
        replace_directory(out / "rtl", MANIFEST) as folder,
    ):
        names = [path.name for path in write_design(config, folder)]
    rtl_dir = out / "rtl"
    with steps.step("build the simulation"), open_transport("rtl", config, rtl_dir=rtl_dir):
        pass
    with steps.step(f"run {len(x)} images on the golden model and on the Verilog, {1 + len(STALL_SEEDS)} times"):
        runs = [run_both(program, x, rtl_dir, stalls) for stalls in (None, *STALL_SEEDS)]
    with steps.step("compare with the golden network, which knows no tiles and no packets"):
        x_codes = network.encode_input(program.graph, config, x, program.overflow)
        reference = network.run(program.graph, config, x_codes, program.overflow).output
        same_network = bool(np.array_equal(reference, runs[0].golden))
    routed = None
    if synth:
        with steps.step("synthesize, place and route for ECP5"):
            routed = _synthesize([rtl_dir / name for name in names], out / "ecp5")

    golden_values, rtl_values = (
        network.output_values(program.graph, config, codes) for codes in (runs[0].golden, runs[0].rtl)
    )
    rows = [
        ["accuracy, float32 twin (torch)", f"{100 * trained.float32_accuracy:.2f} %"],
        [f"accuracy, {config.weights.bits}-bit (torch)", f"{100 * trained.torch_accuracy:.2f} %"],
        ["accuracy, golden model", percent(golden_values, y)],
        ["accuracy, RTL", percent(rtl_values, y)],
        ["compiler's checks that hold", str(len(checks))],
        ["golden model, golden network", "every bit equal" if same_network else "DIFFERENT"],
    ]
    for run in runs:
        equal = f"all {run.rtl.size:,} equal, bit for bit" if np.array_equal(run.golden, run.rtl) else "DIFFERENT"
        rows.append([f"logits, {run.streams}", equal])
        exact = run.predicted == run.counted and run.same_beats and run.same_counters
        cycles = f"{run.predicted:,} and {run.counted:,}, {'every beat equal' if exact else 'DIFFERENT'}"
        rows.append(["cycles predicted and counted", cycles])
    rows.append(["cycles per image, always ready", f"{runs[0].counted / len(x):.1f}"])
    rows += _synth_rows(routed)
    rows.append(["time in all", duration(perf_counter() - begin)])
    good = same_network and all(run.same for run in runs)
    rows.append(["result", "golden model and RTL are equal" if good else "DIFFERENT"])
    print_table(f"ShiftForge demo: {_machine(config)}", ["what", "value"], rows)
    return 0 if good else 1


def _machine(config: Config) -> str:
    return f"{config.rows}x{config.cols}, {config.activation.name} activations, {config.weights.bits}-bit weights"


def _synthesize(sources: list[Path], work: Path) -> SynthResult:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    return synthesize(sources, TOP, work_dir=work, progress=Progress())


def _synth_rows(result: SynthResult | None) -> list[list[str]]:
    if result is None:
        return []
    rows = [
        [f"ECP5-{result.device}: LUT4", f"{result.lut:,}"],
        [f"ECP5-{result.device}: flip-flops", f"{result.ff:,}"],
        [f"ECP5-{result.device}: 18 Kbit memories", str(result.ebr)],
        [f"ECP5-{result.device}: 18x18 multipliers", str(result.dsp)],
    ]
    fmax = None if result.routed is None else result.routed.fmax_mhz
    return [*rows, [f"ECP5-{result.device}: fmax, speed grade 6", "none" if fmax is None else f"{fmax:.1f} MHz"]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("demo.toml"), help="the accelerator")
    parser.add_argument(
        "--out", type=Path, default=Path("out/demo"), help="folder for model, program, Verilog, netlist"
    )
    parser.add_argument("--no-synth", action="store_true", help="leave synthesis, place and route out")
    options = parser.parse_args()
    try:
        return demo(options.config, options.out, synth=not options.no_synth)
    except ShiftForgeError as error:
        print(f"demo: error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
