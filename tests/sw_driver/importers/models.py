"""Torch networks of shift convolutions for tests: every kind of layer, edge and merge that the importers know."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional


def powers(module: nn.Module, seed: int = 0, low: int = 0, high: int = 3) -> nn.Module:
    """The module with all weights of its linear layers and convolutions random ±2**e, and its BatchNorms as after training."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor: torch.Tensor, spread: float = 1.0) -> None:
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * spread)

    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d):
                exponent = torch.randint(low, high + 1, part.weight.shape, generator=generator)
                sign = torch.randint(0, 2, part.weight.shape, generator=generator) * 2 - 1
                part.weight.copy_(sign * 2.0**exponent)
                if part.bias is not None:
                    normal(part.bias)
            elif isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                assert part.running_mean is not None
                assert part.running_var is not None
                normal(part.weight, 0.3)
                normal(part.bias)
                normal(part.running_mean)
                part.running_var.copy_(torch.rand(part.running_var.shape, generator=generator) * 200 + 10)
    return module.eval()


class Residual(nn.Module):
    """Two convolutions and a shortcut, which is a convolution where the size changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.down = None
        if stride != 1 or inputs != outputs:
            self.down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        y += x if self.down is None else self.down(x)
        return functional.relu(y)


class Branches(nn.Module):
    """Pools of both kinds, grouped and dilated convolutions, a concatenation, and a clamp."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding="same", bias=True)
        self.left = nn.Conv2d(6, 4, 3, dilation=2, padding=2, groups=2)
        self.right = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), nn.BatchNorm2d(6), nn.ReLU6())
        self.head = nn.Linear(10 * 2 * 3, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.leaky_relu(self.stem(x * 0.5), 0.125)
        x = functional.max_pool2d(x, 3, 2, 1)
        x = torch.cat([self.left(x), self.right(x)], 1)
        x = functional.avg_pool2d(x, 2, (2, 1), (0, 1))
        return self.head(functional.adaptive_avg_pool2d(x, (2, 3)).flatten(1))


def resnet() -> nn.Module:
    """A small ResNet for (3, 12, 12)."""
    return powers(
        nn.Sequential(
            nn.Conv2d(3, 4, 3, 1, 1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            Residual(4, 4, 1),
            Residual(4, 8, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 5),
        )
    )


def blocks() -> nn.Module:
    """Residual blocks one after the other, so that an activation is both an input and a residual; for (3, 6, 5)."""
    stem, head = nn.Conv2d(3, 4, 3, 1, 1, bias=False), (nn.Flatten(), nn.Linear(4 * 30, 3))
    return powers(nn.Sequential(stem, nn.BatchNorm2d(4), nn.ReLU(), Residual(4, 4, 1), Residual(4, 4, 1), *head), 4)


def branches() -> nn.Module:
    """`Branches`, for (2, 8, 9)."""
    return powers(Branches(), 1)


class Spots(nn.Module):
    """Features (time, bands) as an image of one channel, depthwise separable convolutions, the mean over all pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, (5, 3), (2, 2), (2, 1), bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.deep = nn.Conv2d(4, 4, 3, 1, 1, groups=4, bias=False)
        self.wide = nn.Conv2d(4, 8, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem((x - 0.0).unsqueeze(1) / 4)))
        x = torch.relu(self.wide(torch.relu(self.deep(x))))
        return self.head(x.mean((2, 3)))


def spots() -> nn.Module:
    """A keyword network in small, for (11, 8)."""
    return powers(Spots(), 2)


class Sequence(nn.Module):
    """Convolutions over time, a permutation before a linear layer over the channels, a flattening after it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(3, 6, 5, stride=2, padding=2)
        self.conv2 = nn.Conv1d(6, 4, 3, groups=2)
        self.each = nn.Linear(4, 7)
        self.head = nn.Linear(14, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool1d(functional.relu(self.conv1(x)), 2)
        x = functional.avg_pool1d(functional.relu(self.conv2(x)), 2)
        x = functional.relu(self.each(x.transpose(1, 2)))
        return self.head(x.permute(0, 2, 1).reshape(x.shape[0], -1))


def sequence() -> nn.Module:
    """`Sequence`, for (3, 24)."""
    return powers(Sequence(), 3)


MODELS = {
    "resnet": (resnet, (3, 12, 12)),
    "blocks": (blocks, (3, 6, 5)),
    "branches": (branches, (2, 8, 9)),
    "spots": (spots, (11, 8)),
    "sequence": (sequence, (3, 24)),
}
"""Each network, and the shape of one example."""


def inputs(shape: tuple[int, ...], batch: int = 5, seed: int = 0) -> np.ndarray:
    """A float32 batch."""
    return np.random.default_rng(seed).normal(0, 1, (batch, *shape)).astype(np.float32)
