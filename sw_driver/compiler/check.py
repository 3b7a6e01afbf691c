"""`compile --check`: what every pass leaves is compared on real inputs.

The golden network and the golden emulator are given as arguments, because the driver and the golden model do not import each other.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftforge.errors import CheckFailed
from shiftforge.graph import Graph
from shiftforge.passes import passes
from shiftforge.passes.quantise import quantise
from shiftforge.passes.reference import evaluate
from shiftforge.program import Program
from shiftforge.transport import Transport
from sw_driver.accelerator import Accelerator
from sw_driver.layout import Codes

FLOAT64_TOLERANCE = 1e-9
"""Of passes that reorder float64 operations, relative to the tensor's largest magnitude."""
FP32_TOLERANCE = 1e-5
"""Of the one pass that rounds scales and biases to fp32; the same measure."""

Execute = Callable[[Graph, Codes], Codes]
"""The golden network: a compiled graph and the input's codes to the output's codes."""


@dataclass(frozen=True)
class PassCheck:
    """One check that held: the pass, what it was compared by, and the largest difference (0 where it is `==`)."""

    name: str
    rule: str
    difference: float


def check_passes(
    graph: Graph,
    program: Program,
    x: NDArray[np.float64],
    execute: Execute,
    transport: Transport,
    calibration: NDArray[np.float64] | None = None,
) -> list[PassCheck]:
    """Compare the network after every pass, and the program on a device with the golden network.

    Every pass must keep the real values (up to float64's and fp32's rounding of the parameters); fuse, place and emit must keep
    every bit. A program without a recipe is compared as far as it goes.

    Parameters
    ----------
    graph : Graph
        As it was imported.
    program : Program
        As `compile_graph` made it, with the same `calibration`.
    x : float64 array (batch, *shape) or (batch, features)
    execute : callable
        The golden network, with the program's configuration and overflow.
    transport : Transport
        The golden emulator (or any device of the program's configuration).

    Raises
    ------
    CheckFailed
        At the first pass whose result differs; it names pass, index and both values.
    """
    done: list[PassCheck] = []
    config = program.config
    accelerator = Accelerator(transport, config)
    after = {passed.name: passed.graph for passed in passes(graph, config, config.weights.bits, calibration)}
    reference = _final(after["import"], x)
    for name in ("lower", "fold", "orient", "fuse", "quantise"):
        tolerance = FP32_TOLERANCE if name == "quantise" else FLOAT64_TOLERANCE
        done.append(_close(name, reference, _final(after[name], x), tolerance))
    # Fusing is exact in bits too, which shows when both sides round scale and bias to fp32 (tensor scales play no part in it).
    x_codes = accelerator.encode_input(program, x)
    fused = execute(quantise(after["fuse"]), x_codes)
    done.append(_equal("fuse", execute(quantise(after["orient"]), x_codes), fused))
    golden = execute(after["quantise"], x_codes)
    done.append(_equal("the program's graph", golden, execute(program.graph, x_codes)))
    if program.placed is not None:
        done.append(_equal("place and emit", golden, accelerator.run_codes(program, x_codes)))
    return done


def _final(graph: Graph, x: NDArray[np.float64]) -> NDArray[np.float64]:
    return evaluate(graph, x)[graph.output.name]


def _first(differs: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(differs)[0])


def _close(name: str, before: NDArray[np.float64], after: NDArray[np.float64], tolerance: float) -> PassCheck:
    largest = float(np.abs(before).max(initial=0.0)) or 1.0
    difference = np.abs(after - before) / largest
    wrong = ~(difference <= tolerance)
    if wrong.any():
        index = _first(wrong)
        raise CheckFailed(
            f"pass {name} must keep the network's values within {tolerance:g} of the largest, and at {index} makes "
            f"{float(after[index])!r} of {float(before[index])!r}"
        )
    return PassCheck(name, f"within {tolerance:g}", float(difference.max(initial=0.0)))


def _equal(name: str, before: Codes, after: Codes) -> PassCheck:
    if before.shape != after.shape:
        raise CheckFailed(f"{name} must keep the shape {before.shape}, not make it {after.shape}")
    if (before != after).any():
        index = _first(before != after)
        raise CheckFailed(
            f"{name} must keep every bit, and at {index} makes {int(after[index]):#x} of {int(before[index]):#x}"
        )
    return PassCheck(name, "==", 0.0)
