"""A transformer block: ``python -m examples.transformer``.

The projections of the attention and the feed-forward block are shift layers and run on the machine, the residual additions with
them. What is no shift layer runs on the host, in NumPy float32: scores, softmax and mixing of the attention.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from examples.network import Outcome, compare, imported, initialised, options
from golden.network import output_values
from shiftforge.config import Config

WIDTH, HEADS, POSITIONS = 64, 4, 32


class Project(nn.Module):
    """Linear and BatchNorm over every position."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.linear(x).transpose(1, 2)).transpose(1, 2)


class FeedForward(nn.Module):
    """``x + narrow(relu(wide(x)))``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.wide, self.narrow = Project(width, 4 * width), Project(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.narrow(torch.relu(self.wide(x)))


def attend(mixed: NDArray[np.float32]) -> NDArray[np.float32]:
    """Causal attention of queries, keys and values (batch, positions, 3 * width), on the host."""
    batch, positions, _ = mixed.shape
    queries, keys, values = np.moveaxis(mixed.reshape(batch, positions, 3, HEADS, -1), (2, 3), (0, 2))
    scores = queries @ np.swapaxes(keys, -1, -2) / np.float32(np.sqrt(WIDTH / HEADS))
    scores = np.where(np.tri(positions, dtype=np.bool_), scores, np.float32(-np.inf))
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    return np.moveaxis(shares @ values, 1, 2).reshape(batch, positions, WIDTH)


def values_of(found: Outcome, config: Config, features: int) -> NDArray[np.float32]:
    """The results as values (batch, positions, features)."""
    values = output_values(found.program.graph, config, found.codes)
    return values.reshape(len(values), POSITIONS, features)


def main() -> int:
    """Exit code 0 when golden network, golden model and Verilog are equal in every part."""
    given = options(__doc__, "transformer.toml")
    config: Config = given.config
    torch.manual_seed(0)
    samples = torch.randn(64, POSITIONS, WIDTH)
    parts = {
        "queries, keys, values": Project(WIDTH, 3 * WIDTH),
        "out": Project(WIDTH, WIDTH),
        "feed-forward": FeedForward(WIDTH),
    }
    x = shortcut = samples[: given.batch].numpy()
    equal = True
    for name, part in parts.items():
        graph = imported(initialised(part, samples), samples, config)
        found = compare(name, graph, config, x, rtl=not given.no_rtl, stalls=given.stalls)
        equal &= found.equal
        x = values_of(found, config, 3 * WIDTH if name == "queries, keys, values" else WIDTH)
        if name == "queries, keys, values":
            x = attend(x)
            print("on the host: scores, softmax and mixing of the attention, and its residual addition")
        elif name == "out":
            x = x + shortcut
    print("every part equal" if equal else "DIFFERENT")
    return 0 if equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
