"""From the first difference between golden model and RTL to waves of the few cycles around it."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from shiftforge import timing
from shiftforge.config import Config
from shiftforge.errors import CheckFailed
from shiftforge.files import read_bytes, write_atomically
from shiftforge.program import Program
from shiftforge.progress import SILENT, Progress
from sim.backends import open_golden, open_transport
from sim.compare import LayerComparison, compare_program
from sw_driver.layout import Codes

LONGEST_WINDOW = 2000
"""Cycles. A result may wait long for its beat; then the cycles before the beat are drawn."""
AFTER = 8
"""Cycles drawn after the one in question."""
_FIRST = 16
"""The first cycle that can be drawn: before, the simulation has read the configuration hash and begun again."""


@dataclass(frozen=True)
class Window:
    """Cycles ``first`` .. ``end - 1``."""

    first: int
    end: int


def window_of(config: Config, found: LayerComparison) -> Window:
    """The cycles that show how the first difference of a layer came about.

    Of a wrong result: from the last products of its tile, as they leave the activation memory, to its beat. Of a beat in the wrong
    cycle: the cycles around the earlier of the two. The last ones at most, `LONGEST_WINDOW`.
    """
    place = None if found.first is None else found.first.place
    if found.first is not None and place is not None:
        last = place.summed if found.first.cycle is None else found.first.cycle
        before = timing.last_slot_to_first_write(config) + config.rows + config.cols
        first = place.summed - before - config.rows
    else:
        cycles = [] if found.beat is None else [found.beat.predicted, found.beat.cycle]
        last = min((cycle for cycle in cycles if cycle is not None), default=found.cycles)
        first = last - 8 * AFTER
    return Window(max(first, last - LONGEST_WINDOW, _FIRST), max(last, _FIRST) + AFTER + 1)


def draw(
    program: Program,
    x_codes: Codes,
    found: LayerComparison,
    path: Path,
    *,
    rtl_dir: Path | None = None,
    stalls: int | None = None,
    progress: Progress = SILENT,
) -> Window:
    """Write the waves of a layer's first difference as VCD: the comparison is run again, with the same cycles, up to that layer.

    Cycle n begins at n ns. `rtl_dir` and `stalls` are those of the comparison.

    Raises
    ------
    CheckFailed
        When the second run does not differ as the first one did.
    InputError
        When `path` cannot be written.
    """
    config = program.config
    window = window_of(config, found)
    with tempfile.TemporaryDirectory(prefix="shiftforge-waves-") as folder:
        drawn = Path(folder) / "waves.vcd"
        waves = (drawn, window.first, window.end)
        with open_transport("rtl", config, rtl_dir=rtl_dir, stalls=stalls, progress=progress, waves=waves) as rtl:
            again = compare_program(program, x_codes, open_golden(config, stalls), rtl)
        if again[-1] != found:
            raise CheckFailed(
                f"layer {found.layer!r} must differ again as it did when waves are drawn, and now: {again[-1].sentence()}"
            )
        write_atomically(path, read_bytes(drawn, "waves"))
    return window
