"""What a phase does: its machine layers in order, and the tensors between them as views of buffers on chip."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from shiftforge.config import Config
from shiftforge.geometry import Geometry
from shiftforge.graph import Concat, Layer, MaxPool, Unfold
from sw_driver import layout
from sw_driver.compiler.reading import Reading, image_of
from sw_driver.compiler.shares import Share, shares_of
from sw_driver.compiler.units import NotPlaced, Unit, Units


@dataclass(frozen=True)
class Buffer:
    """Pixels of whole words on chip, each pixel's channels side by side; named after the node whose tensor it holds whole."""

    name: str
    pixels: int
    channels: int

    def pixel_words(self, config: Config) -> int:
        """Words of a pixel."""
        return layout.k_words(config, self.channels)

    def words(self, config: Config) -> int:
        """Words of one example."""
        return self.pixels * self.pixel_words(config)


@dataclass(frozen=True)
class View:
    """A tensor on chip: some consecutive channels of every pixel of a buffer, from `first` on."""

    buffer: Buffer
    channels: int
    first: int = 0

    def part(self, first: int, channels: int) -> "View":
        """Some of its channels."""
        return View(self.buffer, channels, self.first + first)

    def aligned(self, config: Config) -> bool:
        """Whether its pixels begin at words, so that a layer can read it."""
        return self.first % config.rows == 0

    def whole(self, config: Config) -> bool:
        """Whether its words hold nothing else, so that they can be written whole."""
        end = self.first + self.channels
        return self.aligned(config) and (end % config.rows == 0 or end == self.buffer.channels)


@dataclass(frozen=True)
class Task:
    """One machine layer: a share of a layer (all its pieces), a max-pool, or a copy, which is a max-pool of single pixels.

    Parameters
    ----------
    name : str
        The node's; a copy's is that of what it copies.
    pool : bool
        Whether it is a max-pool or a copy.
    share : Share
        Which channels of the layer.
    reading : Reading
    source : View
    residual : View or None
    output : View or None
        Where its results go on chip; None: they leave, to channel `channel` of the host tensor `result`.
    """

    name: str
    pool: bool
    share: Share
    reading: Reading
    source: View
    residual: View | None = None
    output: View | None = None
    result: str = ""
    channel: int = 0

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from the other tasks of a network."""
        return self.name, self.share.first

    @property
    def reads(self) -> tuple[View, ...]:
        """Everything that it reads on chip."""
        return (self.source,) if self.residual is None else (self.source, self.residual)


@dataclass(frozen=True)
class Work:
    """The tasks of a phase, the buffers that are loaded from host tensors, and the host tensors that it makes."""

    tasks: tuple[Task, ...]
    loaded: dict[str, Buffer]
    results: tuple[str, ...]


class _Views:
    """Which view every tensor of the nodes ``start`` .. ``end - 1`` gets; those in `alone` get no place in a join."""

    def __init__(self, config: Config, units: Units, start: int, end: int, alone: Collection[str]) -> None:
        self.config, self.units = config, units
        self.start, self.end, self.alone = start, end, alone
        self.inside = {node.name for node in units.nodes[start:end]}
        self.views: dict[str, View] = {}
        self.copies: dict[str, list[tuple[str, View]]] = {}  # concatenation -> sources to copy, and where to
        self.leaves: dict[str, tuple[str, int]] = {}  # layer -> host tensor and channel
        self.loaded: dict[str, Buffer] = {}

    def own(self, root: str) -> View:
        """A buffer of its own."""
        height, width, channels = self.units.image(root)
        return View(Buffer(root, height * width, channels), channels)

    def outlives(self, name: str) -> bool:
        """Whether a node after these reads it (or it is the output)."""
        return self.units.readers[name][-1] >= self.end

    def read_inside(self, name: str) -> bool:
        return any(self.start <= index < self.end for index in self.units.readers[name])

    def settle(self) -> None:
        """Later nodes first, so that a concatenation knows its place before those that it joins."""
        for index in reversed(range(self.start, self.end)):
            node = self.units.nodes[index]
            if self.outlives(node.name):
                if self.read_inside(node.name):
                    raise NotPlaced(f"{node.name!r} is read on chip and after it has left")
                self._leave(node)
            elif node.name not in self.views and node.name not in self.leaves:
                self.views[node.name] = self.own(node.name)
            if isinstance(node, Concat) and node.name in self.views:
                self._join(node)
        for node in self.units.nodes[self.start : self.end]:
            for edge in node.inputs:
                root = self.units.roots[edge]
                if root not in self.inside and not (isinstance(node, Concat) and node.name in self.leaves):
                    self.views.setdefault(root, self.own(root))
                    self.loaded[root] = self.views[root].buffer

    def _leave(self, node: Unit) -> None:
        if isinstance(node, MaxPool | Unfold):
            raise NotPlaced(f"the result of {node.name!r}, which is no layer, leaves")
        if isinstance(node, Layer):
            self.leaves.setdefault(node.name, (node.name, 0))
            return
        self.leaves[node.name] = node.name, 0
        first = 0
        for edge, (source, channels) in zip(node.sources, self._parts(node), strict=True):
            producer = self.units.graph[source]
            alone = len(self.units.readers[source]) == 1
            if not alone or source not in self.inside or not isinstance(producer, Layer):
                raise NotPlaced(f"{edge!r}, which {node.name!r} joins, does not leave by itself")
            self.leaves[source] = node.name, first
            first += channels

    def _parts(self, node: Concat) -> list[tuple[str, int]]:
        """The roots that are joined, and their channels; `NotPlaced` where pixels are not joined pixel by pixel."""
        parts = []
        for edge in node.sources:
            root = self.units.roots[edge]
            image = self.units.image(root)
            if image != image_of(self.units.graph.shapes[edge]):
                raise NotPlaced(f"{edge!r}, which {node.name!r} joins, lies on chip as {self.units.graph.shapes[root]}")
            parts.append((root, image[2]))
        return parts

    def _join(self, node: Concat) -> None:
        """Every joined tensor gets its place in the joint buffer, written in place where it can be and copied else."""
        first, joint = 0, self.views[node.name]
        for source, channels in self._parts(node):
            part = View(joint.buffer, channels, joint.first + first)
            others = [index for index in self.units.readers[source] if self.units.nodes[index] is not node]
            twice = self.units.readers[source].count(self.units.nodes.index(node)) > 1
            producer = self.units.graph[source]
            in_place = (
                source in self.inside
                and source not in self.views
                and source not in self.alone
                and not twice
                and (part.aligned(self.config) or not others)
                and (not isinstance(producer, MaxPool) or part.whole(self.config))
            )
            if in_place:
                self.views[source] = part
            elif part.whole(self.config):
                self.copies.setdefault(node.name, []).append((source, part))
            else:
                raise NotPlaced(
                    f"{source!r}, which {node.name!r} joins from channel {first} on, would have to begin and end at a whole word"
                )
            first += channels


def work_of(config: Config, units: Units, readings: Mapping[str, Reading], start: int, end: int) -> Work:
    """The tasks of the nodes ``start`` .. ``end - 1``, everything that they read from before being loaded whole.

    Raises
    ------
    NotPlaced
        When a tensor would be needed both on chip and outside, or a concatenation does not fall on words.
    """
    alone: set[str] = set()
    while True:
        work = _attempt(config, units, readings, start, end, alone)
        # No layer writes the page that it reads: what is read for another part of the same join is copied there instead.
        own = {
            task.name for task in work.tasks for view in task.reads if task.output and view.buffer == task.output.buffer
        }
        if not own:
            return work
        edges = {units.roots[edge] for name in own for edge in units.graph[name].inputs}
        if edges <= alone:
            raise NotPlaced(f"{min(own)!r} would read the tensor that it is joined to")
        alone |= edges


def _attempt(
    config: Config, units: Units, readings: Mapping[str, Reading], start: int, end: int, alone: Collection[str]
) -> Work:
    views = _Views(config, units, start, end, alone)
    views.settle()
    tasks: list[Task] = []
    for node in units.nodes[start:end]:
        if isinstance(node, Concat):
            for source, part in views.copies.get(node.name, []):
                height, width, channels = units.image(source)
                reading = Reading(height, width, channels, Geometry(width, height))
                share = Share(0, channels, 0, channels)
                tasks.append(Task(source, True, share, reading, views.views[source], output=part))
            continue
        assert not isinstance(node, Unfold), "the host's"
        source = views.views[units.roots[node.source]]
        result, channel = views.leaves.get(node.name, ("", 0))
        output = None if result else views.views[node.name]
        added = node.residual if isinstance(node, Layer) else ""
        residual = views.views[units.roots[added]] if added else None
        reading = readings[node.name]
        shares = (Share(0, source.channels, 0, source.channels),)
        if isinstance(node, Layer):
            shares = shares_of(config, node, reading)
        for share in shares:
            tasks.append(
                Task(
                    node.name,
                    isinstance(node, MaxPool),
                    share,
                    replace(reading, channels=share.high - share.low),
                    source.part(share.low, share.high - share.low),
                    residual and residual.part(share.first, share.channels),
                    output and output.part(share.first, share.channels),
                    result,
                    channel + share.first,
                )
            )
    for task in tasks:
        if not task.source.aligned(config):
            raise NotPlaced(f"what {task.name!r} reads does not begin at a whole word")
    results = tuple(dict.fromkeys(task.result for task in tasks if task.result))
    return Work(tuple(tasks), views.loaded, results)
