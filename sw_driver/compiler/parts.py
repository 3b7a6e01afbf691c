"""Which nodes run together on chip, which in strips, and which on the host."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from shiftforge.config import Config
from shiftforge.graph import Layer, Unfold
from sw_driver import layout
from sw_driver.compiler.pages import Pages, place_pages
from sw_driver.compiler.reading import Reading
from sw_driver.compiler.strips import Strip, strips_of
from sw_driver.compiler.tasks import Work, work_of
from sw_driver.compiler.units import NotPlaced, Unit, Units


@dataclass(frozen=True)
class Together:
    """Nodes whose tensors stay on chip between them: one phase."""

    work: Work
    pages: Pages


@dataclass(frozen=True)
class InStrips:
    """One layer in strips: one phase."""

    layer: Layer
    strips: tuple[Strip, ...]
    residual: str
    """The host tensor that it adds; empty for none."""


@dataclass(frozen=True)
class OnHost:
    """One node that the host computes."""

    node: Unit


Part: TypeAlias = Together | InStrips | OnHost


def parts_of(config: Config, units: Units, readings: Mapping[str, Reading]) -> Iterator[Part]:
    """The parts in order, each as long as what it needs fits on chip.

    A tensor that is read by a later part leaves the chip when it is made, and is loaded again.

    Raises
    ------
    NotPlaced
        When a layer does not run even in strips, or a tensor that would have to leave could not come back as the same bits.
    """
    yield from parts_between(config, units, readings, 0, len(units.nodes))


def parts_between(
    config: Config, units: Units, readings: Mapping[str, Reading], start: int, stop: int
) -> Iterator[Part]:
    """As `parts_of`, for the nodes ``start`` .. ``stop - 1``."""
    leaving = units.graph.leaving()
    while start < stop:
        found = _longest(config, units, readings, start, stop)
        end = start + 1 if found is None else found[0]
        part = _alone(config, units, readings, start) if found is None else found[1]
        if not isinstance(part, OnHost):
            results = part.work.results if isinstance(part, Together) else (part.layer.name,)
            for name in results:
                if name not in leaving:
                    _require_spill(config, name)
        yield part
        start = end


def _longest(
    config: Config, units: Units, readings: Mapping[str, Reading], start: int, stop: int
) -> tuple[int, Together] | None:
    """The most nodes from `start` on that fit on chip together, and how; None where not even the first does."""

    def attempt(end: int) -> Together | None:
        work = work_of(config, units, readings, start, end)
        pages = place_pages(config, work)
        return None if pages is None else Together(work, pages)

    last = start + next((i for i, node in enumerate(units.nodes[start:stop]) if _on_host(node)), stop - start)
    if last == start:
        return None
    try:
        whole = attempt(last)
    except NotPlaced:
        whole = None
    if whole is not None:
        return last, whole
    best: tuple[int, Together] | None = None
    for end in range(start + 1, last):
        try:
            part = attempt(end)
        except NotPlaced:  # something would be needed both on chip and outside: perhaps not with one node more
            continue
        if part is None:
            break
        best = end, part
    return best


def _on_host(node: Unit) -> bool:
    return isinstance(node, Unfold) or (isinstance(node, Layer) and node.on_host)


def _alone(config: Config, units: Units, readings: Mapping[str, Reading], index: int) -> InStrips | OnHost:
    node = units.nodes[index]
    if not isinstance(node, Layer) or node.on_host:
        return OnHost(node)
    residual = units.roots[node.residual] if node.residual else ""
    words = layout.k_words(config, node.features) if residual else 0
    source = units.roots[node.source]
    return InStrips(node, strips_of(config, readings[node.name], source, node.name, words), residual)


def _require_spill(config: Config, name: str) -> None:
    """What leaves must be what would have stayed: the same format, or fp32, which the host then rounds as the chip would."""
    if config.output.name not in (config.activation.name, "fp32"):
        raise NotPlaced(
            f"the result of {name!r} does not stay on chip and must come back as the same bits, which needs "
            f"array.output = {config.activation.name!r} (or 'fp32'), or more memory.activation_words or memory.activation_pages"
        )
