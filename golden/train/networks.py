"""The plain networks of the tasks: every layer that becomes powers of two is followed by a BatchNorm, which absorbs its scale."""

import torch
from torch import Tensor, nn


def conv_block(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution without a bias, same-size padding (at stride 1), BatchNorm and ReLU."""
    padding = kernel // 2
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


def linear_block(inputs: int, outputs: int) -> list[nn.Module]:
    """Linear without a bias and BatchNorm: the head of a classifier."""
    return [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs)]


class DepthwiseSeparable(nn.Sequential):
    """DS-CNN: a first convolution, ``blocks`` of depthwise 3x3 and pointwise convolutions, mean over the map, a linear head.

    Source: Zhang et al., "Hello Edge: Keyword Spotting on Microcontrollers" (arXiv 1711.07128), section 3, with fewer channels.
    Input ``(N, 1, frames, coefficients)``; the first convolution has 10x4 taps and stride 2, as published.

    Parameters
    ----------
    channels, blocks, classes : int
    """

    def __init__(self, channels: int, blocks: int, classes: int) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(1, channels, (10, 4), stride=2, padding=(4, 1), bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        ]
        for _ in range(blocks):
            layers += conv_block(channels, channels, 3, groups=channels) + conv_block(channels, channels, 1)
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *linear_block(channels, classes)]
        super().__init__(*layers)


class _Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv_block(inputs, outputs, 3, stride), *conv_block(outputs, outputs, 3)[:2])
        changes = stride != 1 or inputs != outputs
        self.shortcut = nn.Sequential(*conv_block(inputs, outputs, 1, stride)[:2]) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class ResNet(nn.Module):
    """A residual network of basic blocks: ResNet-18 for 224x224 images, ResNet-20 for 32x32 ones.

    Source: He et al., "Deep Residual Learning for Image Recognition" (arXiv 1512.03385), with 1x1 shortcuts everywhere.

    Parameters
    ----------
    widths, depths : tuple of int
        Channels and number of blocks of every stage; each stage but the first halves the map.
    large : bool
        The stem of ImageNet (7x7 at stride 2, then max pooling), not that of CIFAR (3x3).

    Members
    -------
    stem, classifier
        What the paper keeps in full precision; see ``KEPT``.
    """

    KEPT = ("stem.0", "classifier")

    def __init__(self, widths: tuple[int, ...], depths: tuple[int, ...], classes: int, *, large: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_block(3, widths[0], 7 if large else 3, 2 if large else 1))
        if large:
            self.stem.append(nn.MaxPool2d(3, 2, padding=1))
        blocks: list[nn.Module] = []
        before = widths[0]
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for block in range(depth):
                blocks.append(_Residual(before, width, 2 if stage and not block else 1))
                before = width
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.blocks(self.stem(x)).mean((2, 3)))


class _Normed(nn.Module):
    """Linear and BatchNorm over every position of ``(N, positions, channels)``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        return self.norm(y.flatten(0, 1)).view(y.shape)


class _Attention(nn.Module):
    """Causal self-attention whose four projections become powers of two."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries, self.keys = _Normed(width, width), _Normed(width, width)
        self.values, self.out = _Normed(width, width), _Normed(width, width)

    def forward(self, x: Tensor) -> Tensor:
        def split(y: Tensor) -> Tensor:
            return y.unflatten(2, (self.heads, -1)).transpose(1, 2)

        q, k, v = split(self.queries(x)), split(self.keys(x)), split(self.values(x))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = _Attention(width, heads)
        self.wide, self.narrow = _Normed(width, 4 * width), _Normed(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.narrow(torch.relu(self.wide(x)))


class CharacterTransformer(nn.Module):
    """A causal transformer over characters, with BatchNorm after every linear layer in place of LayerNorm before it.

    A BatchNorm folds into the scale and the bias that the hardware has per output channel; a LayerNorm would not.
    Input: codes ``(N, positions)``, int64; output ``(N, characters, positions)``, for the character after each.

    Parameters
    ----------
    characters, positions, width, heads, depth : int
    """

    KEPT = ("head.linear",)

    def __init__(self, characters: int, positions: int, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(characters, width)
        self.positions = nn.Parameter(torch.randn(positions, width) * 0.02)
        self.blocks = nn.Sequential(*(_Block(width, heads) for _ in range(depth)))
        self.head = _Normed(width, characters)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.characters(x) + self.positions)).transpose(1, 2)
