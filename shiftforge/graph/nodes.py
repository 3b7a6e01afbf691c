"""Every node that is no shift layer: the input, element-wise functions, additions, pooling, and what moves no number."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from shiftforge.activation import Activation
from shiftforge.errors import InputError
from shiftforge.graph.checks import Shape, check_channels, check_scale, check_shape
from shiftforge.graph.layers import Conv
from shiftforge.graph.window import Window

_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Input:
    """The network's input.

    Parameters
    ----------
    name : str
    shape : tuple of int
        Shape of one example as the user gives it, without the batch axis.
    scale : float
        Value of one unit of the codes' values: value = decoded code * scale. An fp32 number.
    image : tuple of int or None
        The shape, channels last, in which the graph reads the example's elements; None: all in one axis, as they come.
    channels_first : bool
        Whether the example's elements come in the order (channels, pixels), and are to be turned.
    """

    name: str
    shape: tuple[int, ...]
    scale: float = 1.0
    image: tuple[int, ...] | None = None
    channels_first: bool = False

    def __post_init__(self) -> None:
        if not self.shape or any(size < 1 for size in self.shape):
            raise InputError(f"the shape of input {self.name!r} must be positive sizes, not {self.shape!r}")
        check_scale(self.name, self.scale)
        if self.image is not None:
            check_shape(self.name, "image", self.image)
            if len(self.image) > 3 or int(np.prod(self.image)) != self.features:
                raise InputError(
                    f"image of {self.name!r} must be at most 3 sizes with the {self.features} elements of an example, "
                    f"not {self.image!r}"
                )
        if self.channels_first and (self.image is None or len(self.image) < 2):
            raise InputError(f"input {self.name!r} must be an image to be turned, not {self.image!r}")

    @property
    def inputs(self) -> tuple[str, ...]:
        return ()

    @property
    def features(self) -> int:
        """Elements of one example."""
        return int(np.prod(self.shape))

    def shape_from(self, shapes: list[Shape]) -> Shape:
        """The tensor that the graph reads."""
        return (self.features,) if self.image is None else self.image

    def arrange(self, x: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """A batch as the user gives it, (batch, *shape) or (batch, features), in the graph's layout: (batch, *image).

        `InputError` for another shape. This is the one place where channels first become channels last.
        """
        if x.ndim < 1 or x.shape[1:] not in (self.shape, (self.features,)):
            rule = ", ".join(map(str, self.shape))
            raise InputError(f"the input must have the shape (batch, {rule}), not {x.shape}")
        if self.image is None or not self.channels_first:
            return x.reshape(len(x), *self.shape_from([]))
        turned = x.reshape(len(x), self.image[-1], *self.image[:-1])
        return np.ascontiguousarray(np.moveaxis(turned, 1, -1))


@dataclass(frozen=True, eq=False)
class Affine:
    """``x * scale + bias`` per channel (BatchNorm in evaluation mode, or multiplications and additions by constants)."""

    name: str
    source: str
    scale: NDArray[np.float64]
    bias: NDArray[np.float64]

    def __post_init__(self) -> None:
        check_channels(self.name, "scale", self.scale, self.features)
        check_channels(self.name, "bias", self.bias, self.features)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source,)

    @property
    def features(self) -> int:
        """Channels."""
        return int(self.scale.shape[0])

    def shape_from(self, shapes: list[Shape]) -> Shape:
        """The input's shape, whose channels must be its own."""
        if shapes[0][-1] != self.features:
            raise InputError(
                f"node {self.name!r} must read {self.features} features, not the {shapes[0][-1]} of {self.source!r}"
            )
        return shapes[0]


@dataclass(frozen=True, eq=False)
class Activate:
    """An activation function that is not yet part of a layer."""

    name: str
    source: str
    activation: Activation

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source,)

    def shape_from(self, shapes: list[Shape]) -> Shape:
        """The input's shape."""
        return shapes[0]


@dataclass(frozen=True, eq=False)
class Add:
    """``source + residual`` in fp32, a residual addition that is not yet part of a layer.

    Where the source is a layer that nothing else reads, its result is added before it is rounded, as in a layer with a residual.
    """

    name: str
    source: str
    residual: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source, self.residual)

    def shape_from(self, shapes: list[Shape]) -> Shape:
        """The shape that both inputs have."""
        if shapes[0] != shapes[1]:
            raise InputError(
                f"node {self.name!r} must add tensors of one shape, not {shapes[0]} of {self.source!r} and {shapes[1]} of "
                f"{self.residual!r}"
            )
        return shapes[0]


def _pooled(owner: str, source: str, window: Window, shape: Shape) -> Shape:
    if len(shape) != window.axes + 1:
        axes = "(length, channels)" if window.axes == 1 else "(height, width, channels)"
        raise InputError(f"node {owner!r} must read {axes}, not the {shape} of {source!r}")
    return (*window.sizes(owner, shape[:-1]), shape[-1])


@dataclass(frozen=True, eq=False)
class MaxPool:
    """The largest of a window's pixels, per channel; padding never wins. NaN if there is one, and max(-0, +0) = +0."""

    name: str
    source: str
    window: Window

    def __post_init__(self) -> None:
        for (before, after), reach in zip(self.window.padding, self.window.reach, strict=True):
            if max(before, after) >= reach:
                raise InputError(
                    f"padding of {self.name!r} must be less than its window of {reach} pixels, so that each holds a pixel of the "
                    f"input, not {max(before, after)}"
                )

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source,)

    def shape_from(self, shapes: list[Shape]) -> Shape:
        """The pooled pixels."""
        return _pooled(self.name, self.source, self.window, shapes[0])


@dataclass(frozen=True, eq=False)
class AveragePool:
    """The mean of a window's pixels, per channel; padding counts as zeros."""

    name: str
    source: str
    window: Window

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source,)

    def shape_from(self, shapes: list[Shape]) -> Shape:
        """The pooled pixels."""
        return _pooled(self.name, self.source, self.window, shapes[0])

    def layer(self, channels: int, weight_bits: int) -> Conv:
        """What it is for the machine: a depthwise convolution with weights +1 and a scale."""
        return Conv(
            self.name,
            self.source,
            np.zeros((self.window.positions, channels), np.uint8),
            weight_bits,
            0,
            np.full(channels, 1 / self.window.positions),
            np.zeros(channels),
            window=self.window,
            groups=channels,
        )


@dataclass(frozen=True, eq=False)
class Concat:
    """Tensors of one scale and of the same pixels, side by side along the channels."""

    name: str
    sources: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.sources:
            raise InputError(f"node {self.name!r} must join one tensor or more, not none")

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.sources

    def shape_from(self, shapes: list[Shape]) -> Shape:
        """The pixels, and all channels."""
        for source, shape in zip(self.sources, shapes, strict=True):
            if shape[:-1] != shapes[0][:-1]:
                raise InputError(
                    f"node {self.name!r} must join tensors of the same pixels, not {shapes[0]} of {self.sources[0]!r} and "
                    f"{shape} of {source!r}"
                )
        return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))


@dataclass(frozen=True, eq=False)
class Unfold:
    """The pixels of every window position, side by side along the channels, zeros for padding.

    A convolution over its result has a kernel of one pixel and the same sums. The compiler has the host do this to an input of few
    channels, whose pixels would leave most of each activation word empty (`sw_driver.compiler.unfold`).
    """

    name: str
    source: str
    window: Window

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source,)

    def shape_from(self, shapes: list[Shape]) -> Shape:
        """The window's output pixels, with ``positions * channels`` channels in the order of a convolution's K."""
        *pixels, channels = _pooled(self.name, self.source, self.window, shapes[0])
        return (*pixels, self.window.positions * channels)


@dataclass(frozen=True, eq=False)
class Reshape:
    """The same elements in the same order (channels last) in another shape; moves nothing."""

    name: str
    source: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        check_shape(self.name, "the shape", self.shape)
        if len(self.shape) > 3:
            raise InputError(f"the shape of {self.name!r} must have at most 3 axes, not {self.shape!r}")

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source,)

    def shape_from(self, shapes: list[Shape]) -> Shape:
        """Its shape, of as many elements as the input's."""
        if int(np.prod(self.shape)) != int(np.prod(shapes[0])):
            raise InputError(
                f"node {self.name!r} must keep the {int(np.prod(shapes[0]))} elements of {self.source!r}, not {self.shape!r}"
            )
        return self.shape
