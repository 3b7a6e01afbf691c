"""A compiled program on the golden network: what stands in for the machine where it does not run a network yet."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from golden import network
from golden.rounding import Codes
from shiftforge.program import Program
from shiftforge.registers import Flag
from shiftforge.transport import ProgressCallback


@dataclass(frozen=True, eq=False)
class GoldenRun:
    """Codes (batch, *output shape) of the output format, their float32 values, and the flags. There is no clock."""

    codes: Codes
    values: NDArray[np.float32]
    flags: Flag


def run_golden_network(program: Program, x: ArrayLike, progress: ProgressCallback | None = None) -> GoldenRun:
    """Run a batch (batch, *program.input_shape); `InputError` for another shape, or numbers that are not real."""
    config = program.config
    codes = network.encode_input(program.graph, config, x, program.overflow)
    result = network.run(program.graph, config, codes, program.overflow, progress)
    raised = result.flags
    flags = Flag(0)
    for flag, is_raised in ((Flag.NV, raised.nv), (Flag.OF, raised.of), (Flag.NX, raised.nx)):
        flags |= flag if is_raised else Flag(0)
    return GoldenRun(result.output, network.output_values(program.graph, config, result.output), flags)
