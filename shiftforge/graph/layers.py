"""Shift layers: fully connected, and convolutions over one or two axes with any groups."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shiftforge.activation import Activation
from shiftforge.errors import InputError
from shiftforge.formats import WeightCode
from shiftforge.graph.checks import FloatArray, Shape, check_channels, check_scale
from shiftforge.graph.window import Window

MIN_EXPONENT_BIAS, MAX_EXPONENT_BIAS = -128, 127
MAX_TERMS = 16
"""Powers of two that one weight may be the sum of; a bound on nonsense, not on the machine."""


@dataclass(frozen=True, eq=False)
class Layer:
    """What every shift layer has; see :class:`Linear` and :class:`Conv`.

    Parameters
    ----------
    name, source : str
        Its own name, and the node that it reads.
    codes : uint8 array (terms * K, N)
        Weight codes of `weight_bits` bits; rows in the order that the package's docstring gives.
    weight_bits, exponent_bias : int
        A weight is the sum over the terms of ``(-1)**sign * 2**(e + exponent_bias)``; the bias is -128..127.
    scale, bias : float array (N,)
        float64 in a graph that is still being compiled, float32 in one that is compiled.
    activation : Activation
    output_scale : float
        The scale of the output tensor, see `Input.scale`; it is already divided out of `scale`, `bias` and `activation`.
    terms : int
        How often the input is read over.
    mask : bool array (terms * K, N), or None
        Which weights take part; the others are zeros, for which nothing is added (not even a NaN). None: all.
    residual : str
        The node whose tensor, times `residual_scale`, is added before the activation; empty for none.
    residual_scale : float
        A positive binary32 number.
    k_bias : int8 array (terms * K of all groups,), or None
        An exponent per K index, added to those of its products: term by term, kernel position by position, input channel by
        channel. None: 0. The golden model runs it, no machine of this version does.
    real : float32 array (K, N), or None
        Full-precision weights, with which the host computes the layer (`shiftforge.graph.host`); its codes mean nothing then.

    Raises
    ------
    InputError
        For anything else; the message names the layer.
    """

    name: str
    source: str
    codes: NDArray[np.uint8]
    weight_bits: int
    exponent_bias: int
    scale: FloatArray
    bias: FloatArray
    activation: Activation = field(default_factory=Activation.none)
    output_scale: float = 1.0
    terms: int = 1
    mask: NDArray[np.bool_] | None = None
    residual: str = ""
    residual_scale: float = 1.0
    k_bias: NDArray[np.int8] | None = None
    real: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        WeightCode(self.weight_bits)
        if self.codes.ndim != 2 or self.codes.dtype != np.uint8 or 0 in self.codes.shape:
            raise InputError(
                f"weight codes of {self.name!r} must be a uint8 matrix (K, N), not {self.codes.dtype} of shape {self.codes.shape}"
            )
        if int(self.codes.max()) >> self.weight_bits:
            raise InputError(
                f"weight codes of {self.name!r} must have {self.weight_bits} bits, not the value {int(self.codes.max())}"
            )
        if not MIN_EXPONENT_BIAS <= self.exponent_bias <= MAX_EXPONENT_BIAS:
            raise InputError(
                f"exponent bias of {self.name!r} must be {MIN_EXPONENT_BIAS}..{MAX_EXPONENT_BIAS}, not {self.exponent_bias}"
            )
        if not 1 <= self.terms <= MAX_TERMS or self.codes.shape[0] % self.terms:
            raise InputError(
                f"terms of {self.name!r} must be 1..{MAX_TERMS} and divide its {self.codes.shape[0]} rows of codes, "
                f"not {self.terms!r}"
            )
        if self.mask is not None and (self.mask.shape != self.codes.shape or self.mask.dtype != np.bool_):
            raise InputError(
                f"mask of {self.name!r} must be bool of the codes' shape {self.codes.shape}, not {self.mask.dtype} of "
                f"shape {self.mask.shape}"
            )
        if self.real is not None and (
            self.real.shape != self.codes.shape
            or self.real.dtype != np.float32
            or self.terms != 1
            or self.mask is not None
        ):
            raise InputError(
                f"full-precision weights of {self.name!r} must be float32 of its shape {self.codes.shape}, of one term and without "
                f"a mask, not {self.real.dtype} of shape {self.real.shape}"
            )
        check_channels(self.name, "scale", self.scale, self.features)
        check_channels(self.name, "bias", self.bias, self.features)
        check_scale(self.name, self.output_scale)
        check_scale(self.name, self.residual_scale, "residual scale")
        if self.k_bias is not None and (self.k_bias.shape != (self.k_indices,) or self.k_bias.dtype != np.int8):
            raise InputError(
                f"k_bias of {self.name!r} must be {self.k_indices} int8 numbers, not {self.k_bias.dtype} of shape "
                f"{self.k_bias.shape}"
            )
        if not self.residual and self.residual_scale != 1.0:
            raise InputError(
                f"the residual scale of {self.name!r} must be 1 without a residual, not {self.residual_scale!r}"
            )

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source, self.residual) if self.residual else (self.source,)

    @property
    def k(self) -> int:
        """Products of one output element, all terms together."""
        return int(self.codes.shape[0])

    @property
    def k_indices(self) -> int:
        """K of the whole layer as one matrix: all terms, and the input channels of all groups."""
        return self.k

    @property
    def features(self) -> int:
        """Output channels, N."""
        return int(self.codes.shape[1])

    @property
    def compiled(self) -> bool:
        """Whether scale and bias are rounded to fp32, so that the layer means bits."""
        return self.scale.dtype == np.float32 and self.bias.dtype == np.float32

    @property
    def on_host(self) -> bool:
        """Whether the host computes it, in full precision."""
        return self.real is not None

    def summands(self) -> NDArray[np.int64]:
        """The weights (terms, K / terms, N) as whole numbers in units of ``2**exponent_bias``, 0 where masked."""
        code = WeightCode(self.weight_bits)
        every = np.arange(1 << self.weight_bits)
        table = np.where(every & code.sign_bit, -1, 1) << (every & code.max_exponent)
        signed = table[self.codes]
        if self.mask is not None:
            signed = np.where(self.mask, signed, 0)
        return signed.reshape(self.terms, -1, self.features)

    def exponents(self) -> NDArray[np.int64] | None:
        """`k_bias` by weight, of a shape that broadcasts to that of `summands`; None where it is."""
        return None if self.k_bias is None else self.k_bias.astype(np.int64).reshape(self.terms, -1, 1)

    def weights(self) -> NDArray[np.float64]:
        """The weights (K / terms, N) in float64; exact where the exponents of `k_bias` are less than 40 apart."""
        if self.real is not None:
            return self.real.astype(np.float64)
        values, exponents = self.summands().astype(np.float64), self.exponents()
        return np.ldexp((values if exponents is None else np.ldexp(values, exponents)).sum(0), self.exponent_bias)

    def shape_from(self, shapes: list[Shape]) -> Shape:
        """Shape of the output for inputs of these shapes; `InputError` names the node that does not fit."""
        raise NotImplementedError

    def macs(self, shapes: list[Shape]) -> int:
        """Products of one example, all terms together."""
        shape = self.shape_from(shapes)
        return int(np.prod(shape)) * self.k

    def _check_residual(self, shapes: list[Shape], own: Shape) -> Shape:
        if self.residual and shapes[1] != own:
            raise InputError(
                f"the residual of {self.name!r} must have its output's shape {own}, not the {shapes[1]} of {self.residual!r}"
            )
        return own


@dataclass(frozen=True, eq=False)
class Linear(Layer):
    """A fully connected layer over the last axis: ``(..., K) -> (..., N)``. Parameters as :class:`Layer`."""

    def shape_from(self, shapes: list[Shape]) -> Shape:
        k = self.k // self.terms
        if shapes[0][-1] != k:
            raise InputError(f"node {self.name!r} must read {k} features, not the {shapes[0][-1]} of {self.source!r}")
        return self._check_residual(shapes, (*shapes[0][:-1], self.features))


@dataclass(frozen=True, eq=False)
class Conv(Layer):
    """A convolution, ``(length, C) -> (length', N)`` or ``(height, width, C) -> (height', width', N)``; padding is zeros.

    Parameters
    ----------
    window : Window
    groups : int
        Output channels ``g * N / groups ..`` read input channels ``g * C / groups ..`` alone; N and C are multiples of it.

    The others as :class:`Layer`, with ``K = kernel positions * C / groups``.
    """

    window: Window = field(kw_only=True)
    groups: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.groups, bool) or not isinstance(self.groups, int) or self.groups < 1:
            raise InputError(f"groups of {self.name!r} must be a positive integer, not {self.groups!r}")
        super().__post_init__()
        if self.features % self.groups:
            raise InputError(
                f"output channels of {self.name!r} must be a multiple of groups = {self.groups}, not {self.features}"
            )
        if self.k % (self.terms * self.window.positions):
            raise InputError(
                f"rows of codes of {self.name!r} must be a multiple of {self.terms} terms x {self.window.positions} kernel "
                f"positions, not {self.k}"
            )

    @property
    def k_indices(self) -> int:
        return self.k * self.groups

    def exponents(self) -> NDArray[np.int64] | None:
        if self.k_bias is None:
            return None
        by_group = self.k_bias.astype(np.int64).reshape(self.terms, self.window.positions, self.groups, -1)
        rows = np.moveaxis(by_group, 2, 3).reshape(self.terms, -1, self.groups)
        return np.repeat(rows, self.features // self.groups, axis=2)

    @property
    def channels(self) -> int:
        """Input channels, C."""
        return self.k // (self.terms * self.window.positions) * self.groups

    def shape_from(self, shapes: list[Shape]) -> Shape:
        source = shapes[0]
        if len(source) != self.window.axes + 1 or source[-1] != self.channels:
            axes = "length" if self.window.axes == 1 else "height, width"
            raise InputError(
                f"node {self.name!r} must read ({axes}, {self.channels} channels), not the {source} of {self.source!r}"
            )
        return self._check_residual(shapes, (*self.window.sizes(self.name, source[:-1]), self.features))
