"""Progress for work that takes longer than a breath: what runs, how far it is, and about how long it still takes.

Everything goes to standard error, so that results on standard output can be piped. On a terminal one line is rewritten;
elsewhere (a log, CI) a line is printed at most every ten seconds. Pure Python, so that every layer may take a `Progress`.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

_REDRAW_S = 0.1  # on a terminal
_LINE_S = 10.0  # in a log


def duration(seconds: float) -> str:
    """A span of time as people write it: ``8.4 s``, ``3 min 05 s``, ``1 h 02 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
    return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60:02d} min"


class Progress:
    """Prints progress to `stream`.

    Parameters
    ----------
    stream : TextIO or None
        Where to print; standard error when None. It is looked up at each use, so that tests can capture it.
    clock : Callable[[], float]
        Seconds from any origin; tests pass their own.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock

    @property
    def stream(self) -> TextIO:
        return sys.stderr if self._stream is None else self._stream

    def say(self, text: str) -> None:
        """Print one whole line."""
        print(text, file=self.stream, flush=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Announce a step, and say how long it took when it has succeeded."""
        self.say(f"{text} ...")
        start = self._clock()
        yield
        self.say(f"{text}: {duration(self._clock() - start)}")

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[[int], None]]:
        """Count towards `total`; yields ``advance(n)``. Shows the share done and the time left, measured so far."""
        start = shown = self._clock()
        done = 0
        terminal = self.stream.isatty()

        def advance(n: int = 1) -> None:
            nonlocal done, shown
            done += n
            now = self._clock()
            if now - shown < (_REDRAW_S if terminal else _LINE_S) or done >= total:
                return
            shown = now
            left = duration((now - start) / done * (total - done)) if done else "unknown"
            line = f"{text}: {100 * done // total} %, {left} left"
            if terminal:
                print(f"\r\x1b[2K{line}", end="", file=self.stream, flush=True)
            else:
                self.say(line)

        try:
            yield advance
        finally:
            if terminal:
                print("\r\x1b[2K", end="", file=self.stream, flush=True)
        self.say(f"{text}: {duration(self._clock() - start)}")


class Silent(Progress):
    """Progress that prints nothing: for library use and tests."""

    def say(self, text: str) -> None:
        pass

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[[int], None]]:
        yield lambda n=1: None


SILENT = Silent()
