"""Operands for ``shiftforge gemm``: ``python -m examples.operands DIR`` writes X.npy and W.npy.

X holds float16 values with zeros of both signs, subnormals and an infinity among them; W holds ±2^e with e in 0..3.
"""

import sys
from pathlib import Path

import numpy as np

from shiftforge.arrays import save_npy


def main(directory: Path, *, rows: int = 37, depth: int = 64, columns: int = 21) -> None:
    """Write X (rows, depth) and W (depth, columns), which fit no array size evenly."""
    rng = np.random.default_rng(2023)
    x = rng.normal(size=(rows, depth)).astype(np.float16)
    x.flat[:4] = 0.0, -0.0, np.float16(6e-8), np.float16(-6e-8)
    x[5, 5] = np.inf
    w = rng.choice([-1.0, 1.0], (depth, columns)) * 2.0 ** rng.integers(0, 4, (depth, columns))
    directory.mkdir(parents=True, exist_ok=True)
    save_npy(directory / "X.npy", x)
    save_npy(directory / "W.npy", w)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/operands"))
