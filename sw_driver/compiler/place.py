"""Placement of weights and parameters, and into how many LAYER packets a layer is cut for them.

When all weights and parameters of a phase fit on chip at once they stay there (resident). Otherwise each piece is loaded before it
runs, into halves that alternate, so that the next piece loads while one computes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from shiftforge.config import Config
from shiftforge.errors import InputError
from sw_driver import layout


@dataclass(frozen=True)
class LayerShape:
    """What placement has to know of a layer.

    Parameters
    ----------
    k, n : int
        K, padded where a layer's taps are, and output channels.
    post : bool
        Whether it has parameters.
    """

    name: str
    k: int
    n: int
    post: bool


@dataclass(frozen=True)
class Piece:
    """Consecutive output channels of one layer that one LAYER packet computes; addresses are memory words.

    `first` is a multiple of the array's columns, so that a piece is whole tiles (the last tile of a layer may be ragged).
    """

    layer: int
    first: int
    channels: int
    weight_address: int
    parameter_address: int


@dataclass(frozen=True)
class Placement:
    """The pieces in the order in which they run.

    Parameters
    ----------
    resident : bool
        Whether everything lies on chip at once, at the pieces' addresses.
    weight_words, parameter_words : int
        The most words of each memory that are in use at once: where pieces are loaded one after the other, those of two.
    """

    pieces: tuple[Piece, ...]
    resident: bool
    weight_words: int
    parameter_words: int


def place(config: Config, layers: Sequence[LayerShape]) -> Placement:
    """Place the weights and parameters of layers that run in this order.

    Raises
    ------
    InputError
        When a layer's K is beyond `max_k`.
    """
    for layer in layers:
        if layer.k > config.max_k:
            raise InputError(
                f"K of layer {layer.name!r} must be at most max_k = {config.max_k}, not {layer.k}; "
                "generate the accelerator with a larger array.max_k"
            )
    pieces = _resident(config, layers)
    resident = pieces is not None
    found = _streamed(config, layers) if pieces is None else pieces
    weights = [layout.weight_words(config, layers[piece.layer].k, piece.channels) for piece in found]
    parameters = [layout.parameter_words(config, piece.channels) if layers[piece.layer].post else 0 for piece in found]
    return Placement(tuple(found), resident, _most(weights, resident), _most(parameters, resident))


def _most(words: Sequence[int], resident: bool) -> int:
    return sum(words) if resident else max(map(sum, zip(words, [*words[1:], 0], strict=True)))


class _Halves:
    """A cursor that fills one half of a memory after the other with runs of words that stay within a half."""

    def __init__(self, half: int) -> None:
        self.half = half
        self.at = 0

    def take(self, words: int) -> tuple[int, bool] | None:
        """Address of the next `words` words, and whether they begin a half; None when neither half has room."""
        opens = self.at % self.half == 0
        if self.at % self.half + words > self.half:
            self.at, opens = (self.at // self.half + 1) * self.half, True
        address = self.at
        self.at += words
        return (address, opens) if self.at <= 2 * self.half else None


def _resident(config: Config, layers: Sequence[LayerShape]) -> list[Piece] | None:
    """Pieces that lie on chip side by side, or None when they do not all fit."""
    weights, parameters = _Halves(config.weight_words // 2), _Halves(config.parameter_words // 2)
    pieces: list[Piece] = []
    for index, layer in enumerate(layers):
        for first in range(0, layer.n, config.cols):
            at = weights.take(layout.weight_words(config, layer.k, 1))
            parameters_at = parameters.take(config.groups) if layer.post else (0, False)
            if at is None or parameters_at is None:
                return None
            end = min(first + config.cols, layer.n)
            if first == 0 or at[1] or parameters_at[1]:
                pieces.append(Piece(index, first, end - first, at[0], parameters_at[0]))
            else:
                pieces[-1] = replace(pieces[-1], channels=end - pieces[-1].first)
    return pieces


def _streamed(config: Config, layers: Sequence[LayerShape]) -> list[Piece]:
    """Pieces that are loaded one after the other, each as large as a half, into alternating halves."""
    half_weights, half_parameters = config.weight_words // 2, config.parameter_words // 2
    pieces: list[Piece] = []
    for index, layer in enumerate(layers):
        tiles = half_weights // layout.weight_words(config, layer.k, 1)
        if layer.post:
            tiles = min(tiles, half_parameters // config.groups)
        step = tiles * config.cols
        for first in range(0, layer.n, step):
            half = len(pieces) % 2
            pieces.append(
                Piece(
                    index,
                    first,
                    min(step, layer.n - first),
                    half * half_weights,
                    half * half_parameters if layer.post else 0,
                )
            )
    return pieces
