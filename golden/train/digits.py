"""The tasks on scikit-learn's handwritten digits: a perceptron, a small convolutional network, and a transfer.

The data are 1797 real scans of 8x8 pixels with values 0..16 (Alpaydin and Kaynak, "Optical Recognition of Handwritten
Digits", UCI Machine Learning Repository, 1998; its test set), which scikit-learn ships: nothing is downloaded.
"""

from functools import partial
from itertools import pairwise

import numpy as np
from torch import nn

from golden.train.networks import conv_block, linear_block
from golden.train.task import Pretraining, Recipe, Split, Task
from shiftforge.errors import ToolError

TEST_IMAGES = 360
SPLIT_SEED = 0
WIDTHS = (64, 64, 10)
FIRST_NEW_DIGIT = 5
"""digits-transfer learns 0..4 first, then 5..9."""
TRANSFER_PER_DIGIT = 20
"""Labelled images of each new digit that digits-transfer trains on."""


def load() -> tuple[Split, Split]:
    """1437 training and 360 test images, float32 of shape (N, 64) in 0..1: one fixed split, stratified by digit."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise ToolError(
            "scikit-learn must be installed for the tasks on digits: pip install 'shiftforge[train]'"
        ) from None
    pixels, digits = load_digits(return_X_y=True)
    # Sixteenths are exact in every float format of the table, down to fp8 e4m3 (values 0..16 need 4 significant bits).
    x = np.asarray(pixels, dtype=np.float32) / np.float32(16)
    y = np.asarray(digits, dtype=np.int64)
    parts = train_test_split(np.arange(len(y)), test_size=TEST_IMAGES, stratify=y, random_state=SPLIT_SEED)
    train, test = (np.asarray(part, dtype=np.int64) for part in parts)
    return Split(x[train], y[train]), Split(x[test], y[test])


def load_images() -> tuple[Split, Split]:
    """The same images, of shape (N, 1, 8, 8)."""
    train, test = load()
    return Split(train.x.reshape(-1, 1, 8, 8), train.y), Split(test.x.reshape(-1, 1, 8, 8), test.y)


def _chosen(split: Split, new: bool, per_digit: int | None = None) -> Split:
    """The images of 0..4 or, as classes 0..4, of 5..9; the first ``per_digit`` of each."""
    rows = np.flatnonzero((split.y >= FIRST_NEW_DIGIT) == new)
    if per_digit is not None:
        rows = np.sort(np.concatenate([rows[split.y[rows] == digit][:per_digit] for digit in np.unique(split.y[rows])]))
    return Split(split.x[rows], split.y[rows] - (FIRST_NEW_DIGIT if new else 0))


def load_old() -> Split:
    """The training images of 0..4."""
    return _chosen(load_images()[0], new=False)


def load_new() -> tuple[Split, Split]:
    """``TRANSFER_PER_DIGIT`` training images of each of 5..9, and all their test images, as classes 0..4."""
    train, test = load_images()
    return _chosen(train, new=True, per_digit=TRANSFER_PER_DIGIT), _chosen(test, new=True)


def build() -> nn.Module:
    """64 - 64 - 10: each Linear is followed by a BatchNorm, which absorbs the scale of the shift weights."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(WIDTHS):
        layers += [*linear_block(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _cnn(classes: int) -> nn.Module:
    """Three 3x3 convolutions (16, 32 and 32 channels, the last two at stride 2) and a linear layer of 128 inputs."""
    return nn.Sequential(
        *conv_block(1, 16, 3),
        *conv_block(16, 32, 3, stride=2),
        *conv_block(32, 32, 3, stride=2),
        nn.Flatten(),
        *linear_block(128, classes),
    )


def _recipe(epochs: int, batch: int = 64, learning_rate: float = 1e-2) -> Recipe:
    """AdamW under a cosine, as all these tasks are trained."""
    return Recipe(epochs, batch, learning_rate, weight_decay=1e-4)


DIGITS_MLP = Task("digits-mlp", "handwritten digits, 8x8 scans, perceptron 64-64-10", load, build, _recipe(40))

DIGITS_CNN = Task(
    "digits-cnn",
    "handwritten digits, 8x8 scans, three convolutions and a linear layer",
    load_images,
    partial(_cnn, 10),
    _recipe(20),
)

DIGITS_TRANSFER = Task(
    "digits-transfer",
    "learns the digits 0..4, then 5..9 from 20 images each; the network of digits-cnn",
    load_new,
    partial(_cnn, 5),
    _recipe(40, batch=20, learning_rate=3e-3),
    pretraining=Pretraining(load_old, _recipe(15), fresh=("10", "11")),
)
