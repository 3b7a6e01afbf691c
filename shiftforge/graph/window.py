"""The geometry of a convolution or a pooling: which pixels of the input an output pixel reads."""

from dataclasses import dataclass

from shiftforge.errors import InputError
from shiftforge.graph.checks import Shape


def _spread(what: str, value: int | Shape, axes: int, least: int) -> Shape:
    sizes = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(sizes) != axes or any(isinstance(v, bool) or not isinstance(v, int) or v < least for v in sizes):
        raise InputError(f"{what} of a window must be {axes} integers of {least} or more, not {value!r}")
    return sizes


@dataclass(frozen=True)
class Window:
    """A sliding window over one or two axes; build it with :meth:`of`.

    Output pixel ``o`` of an axis reads the input pixels ``o * stride + i * dilation - before`` for i in 0..kernel-1; those outside
    of the input are padding.

    Parameters
    ----------
    kernel, stride, dilation : tuple of int
        One number per axis, 1 or more.
    padding : tuple of (int, int)
        Pixels before and after each axis, 0 or more.
    """

    kernel: Shape
    stride: Shape
    padding: tuple[tuple[int, int], ...]
    dilation: Shape

    def __post_init__(self) -> None:
        axes = len(self.kernel)
        if axes not in (1, 2):
            raise InputError(f"a window must have 1 or 2 axes, not {axes}")
        _spread("kernel", self.kernel, axes, 1)
        _spread("stride", self.stride, axes, 1)
        _spread("dilation", self.dilation, axes, 1)
        if len(self.padding) != axes or any(len(pair) != 2 for pair in self.padding):
            raise InputError(f"padding of a window must be {axes} pairs, not {self.padding!r}")
        for pair in self.padding:
            _spread("padding", pair, 2, 0)

    @classmethod
    def of(
        cls,
        kernel: Shape,
        stride: int | Shape = 1,
        padding: int | Shape | tuple[tuple[int, int], ...] = 0,
        dilation: int | Shape = 1,
    ) -> "Window":
        """A window; one number stands for every axis, and one number of padding for both sides of its axis."""
        axes = len(kernel)
        sides = (padding,) * axes if isinstance(padding, int) else padding
        pairs = tuple((side, side) if isinstance(side, int) else (side[0], side[1]) for side in sides)
        return cls(tuple(kernel), _spread("stride", stride, axes, 1), pairs, _spread("dilation", dilation, axes, 1))

    @property
    def axes(self) -> int:
        return len(self.kernel)

    @property
    def positions(self) -> int:
        """Pixels that one output pixel reads."""
        return self.kernel[0] * (self.kernel[1] if self.axes == 2 else 1)

    @property
    def reach(self) -> Shape:
        """Pixels from the first to the last that one output pixel reads, per axis."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def padded(self) -> bool:
        return any(before or after for before, after in self.padding)

    def sizes(self, owner: str, sizes: Shape) -> Shape:
        """Output pixels per axis for an input of these sizes; `InputError` names the owner when the window does not fit."""
        result = []
        for size, reach, stride, (before, after) in zip(sizes, self.reach, self.stride, self.padding, strict=True):
            if size + before + after < reach:
                raise InputError(
                    f"the window of {owner!r} must fit its padded input, and reaches over {reach} of "
                    f"{size + before + after} pixels; pad the input or take a smaller kernel"
                )
            result.append((size + before + after - reach) // stride + 1)
        return tuple(result)
