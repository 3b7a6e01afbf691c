# amaranth: UnusedElaboratable=no
"""Baselines as they are measured: arrays in their shells, in ECP5 cells as yosys models them, simulated by Verilator."""

import json
from pathlib import Path

import numpy as np
import pytest

from bench.baselines.catalogue import BASELINES, Baseline
from bench.baselines.floats import FloatEdge
from bench.baselines.shell import ARRAY, shell_of_baseline, write
from shiftforge import timing
from shiftforge.tools import run
from sim.runner import build_design
from tests.bench.baselines import elements

ROWS, COLS, DEPTHS = 3, 2, (3, 21, 5, 9)
BLOCKS = (ROWS,) * 5
"""What is read of a baseline whose accumulator holds no more than a block."""


def flattened(baseline: Baseline, folder: Path) -> Path:
    """The array's Verilog with yosys' own models of the carry cells."""
    config = elements.a_config(baseline, rows=ROWS, cols=COLS)
    sources = write(shell_of_baseline(baseline, config, cells=True).units, "ecp5", folder)
    script = [f"read_verilog {path.name}" for path in sources]
    script += ["read_verilog +/ecp5/common_sim.vh +/ecp5/ccu2c_sim.vh", f"hierarchy -check -top {ARRAY}", "proc"]
    script += ["flatten", "opt_clean", "write_verilog -noattr flat.v"]
    (folder / "flat.ys").write_text("\n".join(script) + "\n")
    run("yosys", ["-q", "-s", "flat.ys"], cwd=folder, log=folder / "flat.log", timeout_s=200)
    return folder / "flat.v"


def simulate(baseline: Baseline, folder: Path) -> None:
    rng = np.random.default_rng(11)
    element = baseline.make(elements.a_config(baseline, rows=ROWS), False)
    depths = BLOCKS if baseline.blocks else DEPTHS
    x_late = (
        FloatEdge.latency if baseline.row_edge(elements.a_config(baseline)).__class__ is FloatEdge else timing.ROW_EDGE
    )
    w_late = FloatEdge.latency if baseline.weight_edge else 0
    x_bits = 8 if baseline.activation == "int8" else 16
    w_bits = elements.weight_code_bits(baseline)

    def a_weight() -> int:
        code = int(rng.integers(1 << w_bits))
        return code & 0xBFFF if w_bits == 16 and code & 0x7C00 == 0x7C00 else code

    tiles = [
        (
            [[int(code) for code in rng.integers(1 << x_bits, size=k)] for _ in range(ROWS)],
            [[a_weight() for _ in range(k)] for _ in range(COLS)],
        )
        for k in depths
    ]
    length = sum(depths) + 50
    drive = {"token": [0] * length, "w": [0] * length, **{f"code_{r}": [0] * length for r in range(ROWS)}}
    t = 4 + max(x_late, w_late)  # not in the cycles of the reset
    for x, w in tiles:
        for k in range(len(x[0])):
            drive["token"][t] = 1 | (k == 0) << 1 | (k == len(x[0]) - 1) << 2
            drive["w"][t - w_late] = sum(w[c][k] << (w_bits * c) for c in range(COLS))
            for r in range(ROWS):
                drive[f"code_{r}"][t + r - x_late] = x[r][k]
            t += 1
    (folder / "drive.json").write_text(json.dumps(drive))
    design = build_design([flattened(baseline, folder)], ARRAY, folder / "build")
    design.run(
        "tests.bench.baselines.array_bench",
        parameters={"drive": str(folder / "drive.json"), "out": str(folder / "seen.json"), "cols": COLS},
        name="bench",
    )
    seen = json.loads((folder / "seen.json").read_text())

    flag_bits = element.config.activation.flag_bits
    for c in range(COLS):
        captured = [row[c] for row in seen if row[c] & 1]
        assert len(captured) == ROWS * len(depths)
        for r in range(ROWS):
            pairs = [
                [
                    (
                        elements.activation(baseline, xk, behind_edge=False),
                        elements.weight(baseline, wk, behind_edge=False),
                    )
                    for xk, wk in zip(x[r], w[c], strict=True)
                ]
                for x, w in tiles
            ]
            words = captured[r::ROWS]
            readings = [word >> (1 + flag_bits) for word in words]
            assert elements.differences(baseline, element, readings) == elements.expected(baseline, element, pairs)
            if flag_bits:
                flags = [tuple(bool(word >> bit & 1) for bit in (1, 2, 3)) for word in words]
                assert flags == [elements.marks_of(tile) for tile in pairs]


def test_tree_in_carry_cells(tmp_path):
    simulate(BASELINES["int8 x int8 tree"], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BASELINES if name != "int8 x int8 tree"])
def test_array(name, tmp_path):
    simulate(BASELINES[name], tmp_path)
