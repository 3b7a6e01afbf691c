"""Sliding windows over images: convolution as an exact matrix product of patches, and max-pooling on codes.

Images are (batch, length, channels) or (batch, height, width, channels). The K order of a patch is that of the graph's codes:
kernel position by position, the channels of one pixel side by side (:mod:`shiftforge.graph`).
"""

import operator
from collections.abc import Iterator
from functools import reduce

import numpy as np
import numpy.typing as npt

from golden.codec import decode
from golden.gemm import Conditions, FloatArray, exact_product, exact_type, limb_sums
from golden.pool import codes_of_keys, order_keys
from golden.rounding import Codes
from golden.sums import BoolArray, Float64Array, Int64Array, Sums
from shiftforge.formats import Format
from shiftforge.graph import Conv, Layer, Window

_PATCHES = 1 << 20  # elements of patches at a time: a few MB, which stay in the outer caches


def _padded(x: npt.NDArray[np.generic], window: Window, fill: int | float) -> npt.NDArray[np.generic]:
    if not window.padded:
        return x
    return np.pad(x, ((0, 0), *window.padding, (0, 0)), constant_values=fill)


def _shifted(x: npt.NDArray[np.generic], window: Window, sizes: tuple[int, ...]) -> Iterator[npt.NDArray[np.generic]]:
    """For every kernel position the pixels (batch, *sizes, channels) of a padded image that it reads."""
    for position in np.ndindex(*window.kernel):
        cut = tuple(
            slice(i * d, i * d + (n - 1) * s + 1, s)
            for i, d, s, n in zip(position, window.dilation, window.stride, sizes, strict=True)
        )
        yield x[(slice(None), *cut, slice(None))]


def _patches(x: FloatArray, window: Window, sizes: tuple[int, ...]) -> FloatArray:
    """A view (batch, *sizes, *kernel, channels) of a padded image."""
    pixels = x.strides[1:-1]
    strides = (
        x.strides[0],
        *(step * s for step, s in zip(pixels, window.stride, strict=True)),
        *(step * d for step, d in zip(pixels, window.dilation, strict=True)),
        x.strides[-1],
    )
    shape = (x.shape[0], *sizes, *window.kernel, x.shape[-1])
    return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)


def unfold(x_codes: Codes, window: Window) -> Codes:
    """Codes (batch, *pixels, positions * channels): those that each window position reads, the code 0 for padding."""
    sizes = window.sizes("unfold", x_codes.shape[1:-1])
    parts = [np.asarray(part, x_codes.dtype) for part in _shifted(_padded(x_codes, window, 0), window, sizes)]
    return np.concatenate(parts, axis=-1)


def _dense(x: FloatArray, w: FloatArray, window: Window, sizes: tuple[int, ...], bound: int) -> Int64Array:
    """The exact sums (batch, *sizes, N) of patches of a padded image of whole numbers with weights (K, N)."""
    k, n = w.shape
    _, dtype = exact_type(bound, k)
    x, w = x.astype(dtype, copy=False), w.astype(dtype, copy=False)
    patches = _patches(x, window, sizes)
    result = np.empty((x.shape[0], *sizes, n), np.int64)
    rows = max(1, _PATCHES // (k * int(np.prod(sizes[1:]))))
    images = max(1, rows // sizes[0])
    for image in range(0, x.shape[0], images):
        for row in range(0, sizes[0], rows):
            part = (slice(image, image + images), slice(row, row + rows))
            matrix = patches[part].reshape(-1, k)
            result[part] = exact_product(matrix, w, bound).reshape(result[part].shape)
    return result


def _depthwise(x: FloatArray, w: FloatArray, window: Window, sizes: tuple[int, ...], bound: int) -> Int64Array:
    """As `_dense`, for groups of one channel: weights (positions, C * outputs of a channel)."""
    channels = x.shape[-1]
    each = w.shape[1] // channels
    exact = bound * len(w) < 1 << 53  # else the sums of exact products are 64-bit integers
    total = np.zeros((x.shape[0], *sizes, channels, each), np.float64 if exact else np.int64)
    for pixels, row in zip(_shifted(x, window, sizes), w, strict=True):
        products = pixels[..., None] * row.reshape(channels, each)
        total += products if exact else products.astype(np.int64)
    return total.reshape(x.shape[0], *sizes, w.shape[1]).astype(np.int64)


def _convolved(x: FloatArray, w: FloatArray, layer: Conv, sizes: tuple[int, ...], bound: int) -> Int64Array:
    """The exact sums of a whole layer over a padded image: group by group, each its own channels."""
    if layer.groups == 1:
        return _dense(x, w, layer.window, sizes, bound)
    if layer.groups == layer.channels:
        return _depthwise(x, w, layer.window, sizes, bound)
    inputs, outputs = layer.channels // layer.groups, layer.features // layer.groups
    parts = [
        _dense(x[..., g * inputs : (g + 1) * inputs], w[:, g * outputs : (g + 1) * outputs], layer.window, sizes, bound)
        for g in range(layer.groups)
    ]
    return np.concatenate(parts, axis=-1)


def _specials(x: Float64Array, summands: Int64Array, layer: Layer, sizes: tuple[int, ...]) -> Conditions:
    """Which sums see +inf, -inf, NaN: counts of the products that are. A weight that takes no part sees nothing."""
    plus: BoolArray = np.any(summands > 0, axis=0)
    minus: BoolArray = np.any(summands < 0, axis=0)

    def seen(pixels: BoolArray, weights: BoolArray) -> BoolArray:
        ones = weights.astype(np.float32)
        return _sums_of(pixels.astype(np.float32), ones, layer, sizes, 1) > 0

    up, down = x == np.inf, x == -np.inf
    return (
        seen(up, plus) | seen(down, minus),
        seen(up, minus) | seen(down, plus),
        seen(np.isnan(x), plus | minus),
    )


def _sums_of(x: FloatArray, w: FloatArray, layer: Layer, sizes: tuple[int, ...], bound: int) -> Int64Array:
    if isinstance(layer, Conv):
        return _convolved(x, w, layer, sizes, bound)
    return exact_product(x.reshape(-1, x.shape[-1]), w, bound).reshape(*sizes, w.shape[1])


def layer_sums(x_codes: Codes, layer: Layer, activation: Format) -> Sums:
    """The exact sums of a layer: (batch, *pixels, N) from codes (batch, *pixels, C), without the layer's exponent bias.

    Several terms per weight read the same inputs, so finite sums see their sum as one whole number; infinities and NaN see each
    term alone, as the machine does. With exponent biases per K index the sums of every bias are added up.
    """
    x = decode(activation, x_codes) * 2.0**-activation.lsb_exponent
    if isinstance(layer, Conv):
        sizes = layer.window.sizes(layer.name, x.shape[1:-1])
        x = np.asarray(_padded(x, layer.window, 0.0), np.float64)
    else:
        sizes = x.shape[:-1]
    summands, exponents = layer.summands(), layer.exponents()
    if exponents is None:
        return _sums_with(x, summands, layer, sizes, activation.lsb_exponent)
    parts = [
        _sums_with(x, np.where(exponents == bias, summands, 0), layer, sizes, activation.lsb_exponent + int(bias))
        for bias in np.unique(exponents)
    ]
    return reduce(operator.add, parts)


def _sums_with(x: Float64Array, summands: Int64Array, layer: Layer, sizes: tuple[int, ...], lsb_exponent: int) -> Sums:
    """The sums of whole numbers x (specials among them) with weights (terms, K, N), of which some may be left out."""
    shape = (x.shape[0], *sizes, layer.features) if isinstance(layer, Conv) else (*sizes, layer.features)
    none = np.broadcast_to(np.False_, shape)
    conditions = (none, none, none)
    if not np.isfinite(x).all():
        conditions = _specials(x, summands, layer, sizes)
        x = np.where(np.isfinite(x), x, 0.0)
    w = (summands[0] if layer.terms == 1 else summands.sum(0)).astype(np.float64)
    return limb_sums(
        x,
        int(np.abs(w).max(initial=0.0)),
        len(w),
        lsb_exponent,
        conditions,
        lambda part, bound: _sums_of(part, w, layer, sizes, bound),
    )


def max_pool(x_codes: Codes, window: Window, fmt: Format) -> Codes:
    """The largest code of every window and channel; NaN (the canonical one) if there is one, and +0 rather than -0.

    Padding takes no part, so a window of padding alone gives ``fmt.lowest``.
    """
    lowest = int(order_keys(fmt, np.array(fmt.lowest, x_codes.dtype)))
    keys = _padded(order_keys(fmt, x_codes), window, lowest)
    sizes = window.sizes("max-pool", x_codes.shape[1:-1])
    best = np.full((x_codes.shape[0], *sizes, x_codes.shape[-1]), lowest, np.int64)
    for pixels in _shifted(keys, window, sizes):
        np.maximum(best, pixels, out=best)
    return codes_of_keys(fmt, best)
