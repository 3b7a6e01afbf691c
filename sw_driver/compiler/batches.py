"""Cutting a network for a batch: later layers are smaller, so that more of their examples fit on chip at once.

A layer's pixels run on from one example to the next, so more examples at once leave fewer rows of the array idle, and weights that
are streamed are streamed less often. Against that stands the tensor that leaves the chip and comes back.
"""

from collections.abc import Mapping

from shiftforge.config import Config
from shiftforge.graph import Layer
from sw_driver.compiler.cost import cycles
from sw_driver.compiler.parts import InStrips, OnHost, Part, Together, parts_between, parts_of
from sw_driver.compiler.reading import Reading
from sw_driver.compiler.units import NotPlaced, Units


def parts_for(config: Config, units: Units, readings: Mapping[str, Reading], batch: int) -> list[Part]:
    """The parts that take the fewest cycles for batches of that many examples, by the estimate of `cost`.

    `NotPlaced` as `parts_of`.
    """
    whole = list(parts_of(config, units, readings))
    if batch == 1 or all(isinstance(part, OnHost) or _at_once(part) >= batch for part in whole):
        return whole
    ends = [0, *_waists(units), len(units.nodes)]
    best: dict[int, tuple[int, list[Part]]] = {0: (0, [])}
    for stop_at, stop in enumerate(ends[1:], 1):
        for start_at, start in enumerate(ends[:stop_at]):
            if start not in best:
                continue
            try:
                parts = list(parts_between(config, units, readings, start, stop))
            except NotPlaced:
                continue
            if sum(not isinstance(part, OnHost) for part in parts) > 1 and start_at < stop_at - 1:
                continue  # a cut at a waist does no worse
            total = best[start][0] + _total(config, parts, batch)
            if stop not in best or total < best[stop][0]:
                best[stop] = total, [*best[start][1], *parts]
    found = best.get(len(units.nodes))
    return whole if found is None or found[0] >= _total(config, whole, batch) else found[1]


def _at_once(part: Together | InStrips) -> int:
    return part.pages.chunk if isinstance(part, Together) else 1


def _total(config: Config, parts: list[Part], batch: int) -> int:
    return sum(cycles(config, part, batch) for part in parts if not isinstance(part, OnHost))


def _waists(units: Units) -> list[int]:
    """Places between nodes across which one tensor lives, a layer's, which nothing before reads."""
    found = []
    for index in range(1, len(units.nodes)):
        crossing = [node for node in units.nodes[:index] if units.readers[node.name][-1] >= index]
        entry = units.readers[units.graph.input.name][-1] >= index
        if len(crossing) != 1 or entry or not isinstance(crossing[0], Layer):
            continue
        if units.readers[crossing[0].name][0] >= index:
            found.append(index)
    return found
