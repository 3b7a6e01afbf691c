"""The task ``digits-mlp``: scikit-learn's handwritten digits, and a multilayer perceptron of shift layers alone.

The data are 1797 real scans of 8x8 pixels with values 0..16 (Alpaydin and Kaynak, "Optical Recognition of Handwritten
Digits", UCI Machine Learning Repository, 1998; its test set), which scikit-learn ships: nothing is downloaded.
"""

from itertools import pairwise

import numpy as np
from torch import nn

from golden.train.task import Recipe, Split, Task
from shiftforge.errors import ToolError

TEST_IMAGES = 360
SPLIT_SEED = 0
WIDTHS = (64, 64, 10)


def load() -> tuple[Split, Split]:
    """1437 training and 360 test images, float32 of shape (N, 64) in 0..1: one fixed split, stratified by digit."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise ToolError(
            "scikit-learn must be installed for the task digits-mlp: pip install 'shiftforge[train]'"
        ) from None
    pixels, digits = load_digits(return_X_y=True)
    # Sixteenths are exact in every float format of the table, down to fp8 e4m3 (values 0..16 need 4 significant bits).
    x = np.asarray(pixels, dtype=np.float32) / np.float32(16)
    y = np.asarray(digits, dtype=np.int64)
    parts = train_test_split(np.arange(len(y)), test_size=TEST_IMAGES, stratify=y, random_state=SPLIT_SEED)
    train, test = (np.asarray(part, dtype=np.int64) for part in parts)
    return Split(x[train], y[train]), Split(x[test], y[test])


def build() -> nn.Module:
    """64 - 64 - 10: each Linear is followed by a BatchNorm, which absorbs the scale of the shift weights."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(WIDTHS):
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


DIGITS_MLP = Task(
    name="digits-mlp",
    description="handwritten digits, 8x8 scans, perceptron 64-64-10",
    load=load,
    build=build,
    recipe=Recipe(epochs=40, batch=64, learning_rate=1e-2, weight_decay=1e-4),
)
