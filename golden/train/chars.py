"""The task ``chars``: the next character of a text, by a small causal transformer.

The text is Python's own help topics (``pydoc_data.topics``), which every CPython ships; it differs between versions of Python,
and so do results. Every tenth topic is test text, which no training window touches.
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from golden.train.networks import CharacterTransformer
from golden.train.task import Recipe, Split, Task
from shiftforge.errors import ToolError

POSITIONS = 64
TRAIN_WINDOWS = 4096
TEST_WINDOWS = 512
UNKNOWN = 0
_FIRST, _LAST = 32, 126  # the printable characters of ASCII; the line end is 1, anything else UNKNOWN
CHARACTERS = _LAST - _FIRST + 3


def encode_text(text: str) -> NDArray[np.int64]:
    """Codes of characters, 0 .. CHARACTERS - 1."""
    codes = np.array([ord(c) for c in text], dtype=np.int64)
    printable = (codes >= _FIRST) & (codes <= _LAST)
    return np.where(codes == ord("\n"), 1, np.where(printable, codes - _FIRST + 2, UNKNOWN))


@cache
def texts() -> tuple[str, str]:
    """The training and the test text."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise ToolError(
            "pydoc_data must come with Python for the task chars, and does not; install the whole standard library"
        ) from None
    names = sorted(topics)
    return (
        "\n".join(topics[name] for i, name in enumerate(names) if i % 10 != 9),
        "\n".join(topics[name] for i, name in enumerate(names) if i % 10 == 9),
    )


def windows(codes: NDArray[np.int64], count: int) -> Split:
    """``count`` windows of ``POSITIONS`` characters at even distances, each labelled with the characters one further on."""
    starts = np.linspace(0, len(codes) - POSITIONS - 1, count).astype(np.int64)
    rows = starts[:, None] + np.arange(POSITIONS)
    return Split(codes[rows], codes[rows + 1])  # pyright: ignore[reportArgumentType]  # codes of characters, not float32


def load() -> tuple[Split, Split]:
    """4096 training and 512 test windows of 64 characters; labels of shape (N, 64)."""
    train, test = texts()
    return windows(encode_text(train), TRAIN_WINDOWS), windows(encode_text(test), TEST_WINDOWS)


def build() -> nn.Module:
    """Two blocks of width 64 with four heads."""
    return CharacterTransformer(CHARACTERS, POSITIONS, width=64, heads=4, depth=2)


def bits_per_character(model: nn.Module, data: Split) -> float:
    """The mean cross entropy of the labels in bits; ``model`` must be in eval mode."""
    total = torch.zeros((), dtype=torch.float64)
    with torch.no_grad():
        for rows in torch.arange(len(data)).split(128):
            x, y = data.batch(rows, None)
            logits: Tensor = model(x)
            total += nn.functional.cross_entropy(logits.double(), y, reduction="sum")
    return float(total / data.y.size) / float(np.log(2.0))


CHARS = Task(
    name="chars",
    description="the next character of Python's help topics, causal transformer of two blocks",
    load=load,
    build=build,
    recipe=Recipe(epochs=8, batch=32, learning_rate=3e-3, weight_decay=1e-4, warmup=1),
    keep=CharacterTransformer.KEPT,
)
