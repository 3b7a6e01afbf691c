"""Placement of a phase's tensors on the pages of the activation memory, by the time in which each is needed."""

from dataclasses import dataclass, field

from shiftforge.config import Config
from sw_driver import layout
from sw_driver.compiler.tasks import Buffer, Task, Work

MAX_PIXELS = (1 << 24) - 1
"""The descriptor's field."""


@dataclass(frozen=True)
class Pages:
    """Where a phase's buffers lie.

    Parameters
    ----------
    chunk : int
        Examples that are on chip at once, one after the other in every buffer.
    addresses : dict of str to int
        First word of each buffer.
    before : dict of str to int
        For each buffer that is loaded, the task before which it is.
    flip : int
        What every other chunk's addresses are XORed with.
    words : int
        The most words that lie on chip at once.
    """

    chunk: int
    addresses: dict[str, int]
    before: dict[str, int]
    flip: int
    words: int


@dataclass
class _Life:
    """A buffer's first and last task, and the buffers that must be on other pages."""

    buffer: Buffer
    begin: int
    end: int
    apart: set[str] = field(default_factory=set)

    def meets(self, other: "_Life") -> bool:
        return self.begin <= other.end and other.begin <= self.end


def _lives(work: Work) -> dict[str, _Life]:
    """In the order in which the buffers are filled. What the first task reads is there from the start."""
    lives: dict[str, _Life] = {}

    def live(buffer: Buffer, task: int) -> None:
        lives.setdefault(buffer.name, _Life(buffer, task, task)).end = task

    for index, task in enumerate(work.tasks):
        for view in task.reads:
            live(view.buffer, index)
        if task.output is not None:
            live(task.output.buffer, index)
            for view in task.reads:
                lives[view.buffer.name].apart.add(task.output.buffer.name)
                lives[task.output.buffer.name].apart.add(view.buffer.name)
    return lives


def _fit(config: Config, lives: dict[str, _Life], chunk: int) -> dict[str, int] | None:
    """Addresses of all buffers for so many examples: each on the first page, and there in the first gap, where it can lie."""
    size = layout.page_words(config)
    placed: dict[str, int] = {}
    for name, life in lives.items():
        words = chunk * life.buffer.words(config)
        forbidden = {placed[other] // size for other in life.apart if other in placed and life.meets(lives[other])}
        for page in range(layout.pages(config)):
            if page in forbidden:
                continue
            taken = sorted(
                (at % size, at % size + chunk * lives[other].buffer.words(config))
                for other, at in placed.items()
                if at // size == page and life.meets(lives[other])
            )
            at = 0
            for low, high in taken:
                if at + words <= low:
                    break
                at = max(at, high)
            if at + words <= size:
                placed[name] = page * size + at
                break
        else:
            return None
    return placed


def place_pages(config: Config, work: Work) -> Pages | None:
    """The placement with the most examples at once; None where not even one fits."""
    lives, size = _lives(work), layout.page_words(config)
    widest = max(life.buffer.words(config) for life in lives.values())
    pixels = max(max(task.reading.pixels, task.reading.output_pixels) for task in work.tasks)
    low, high = 0, min(size // widest, MAX_PIXELS // pixels)
    while low < high:  # a larger chunk never fits where a smaller one does not
        middle = (low + high + 1) // 2
        if _fit(config, lives, middle) is None:
            high = middle - 1
        else:
            low = middle
    if low == 0:
        return None
    chunk = low - (low % config.rows if low > config.rows and pixels == 1 else 0)
    addresses = _fit(config, lives, chunk)
    if addresses is None:
        return None
    before = {name: lives[name].begin for name in work.loaded}
    return Pages(chunk, addresses, before, _flip(config, work, lives, addresses), _most(config, lives, chunk))


def _flip(config: Config, work: Work, lives: dict[str, _Life], addresses: dict[str, int]) -> int:
    """The mask under which the first loads go to pages that the last task does not read."""
    size = layout.page_words(config)
    last: Task = work.tasks[-1]
    busy = {addresses[view.buffer.name] // size for view in last.reads}
    first = {addresses[name] // size for name in work.loaded if lives[name].begin == 0}
    for mask in range(layout.pages(config)):
        if not busy & {page ^ mask for page in first}:
            return mask * size
    return 0


def _most(config: Config, lives: dict[str, _Life], chunk: int) -> int:
    tasks = range(max(life.end for life in lives.values()) + 1)
    return max(
        chunk * sum(life.buffer.words(config) for life in lives.values() if life.begin <= task <= life.end)
        for task in tasks
    )
