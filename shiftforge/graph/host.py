"""Full-precision layers, which the host computes: one definition for golden model and driver, the same bits on every machine.

Every product of an activation and an fp32 weight is exact in float64; the sum is kept in float64, in the order of K, and rounded
once to fp32. From there on it is a layer like any other (`shiftforge.binary32.post`).
"""

import numpy as np
from numpy.typing import NDArray

from shiftforge.binary32 import Float32Array, canonical, post
from shiftforge.errors import InputError
from shiftforge.graph.layers import Conv, Layer


def host_layer(layer: Layer, x: Float32Array, residual: Float32Array | None) -> Float32Array:
    """The layer's values in fp32, not yet rounded to the format of its tensor.

    Parameters
    ----------
    layer : Layer
        With full-precision weights, and scale and bias rounded to fp32.
    x : float32 array (batch, *pixels, channels)
        Widened exactly.
    residual : float32 array of the result's shape, or None
    """
    if layer.real is None:
        raise InputError(f"layer {layer.name!r} must have full-precision weights to be computed by the host")
    with np.errstate(all="ignore"):  # infinities and NaN are what IEEE 754 makes of them
        sums = _sums(layer, layer.real, x.astype(np.float64))
        values = canonical(sums.astype(np.float32))
    scale, bias = layer.scale.astype(np.float32), layer.bias.astype(np.float32)
    return post(values, scale, bias, layer.activation, residual, layer.residual_scale)


def _sums(layer: Layer, real: Float32Array, x: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = real.astype(np.float64)
    if not isinstance(layer, Conv):
        total = np.zeros((*x.shape[:-1], layer.features))
        for k, row in enumerate(weights):  # no matrix product: its order of summation is the library's own
            total += x[..., k : k + 1] * row
        return total
    window = layer.window
    sizes = window.sizes(layer.name, x.shape[1:-1])
    padded = np.pad(x, ((0, 0), *window.padding, (0, 0)))
    groups, inputs, outputs = layer.groups, layer.channels // layer.groups, layer.features // layer.groups
    rows = weights.reshape(*window.kernel, inputs, groups, outputs)
    total = np.zeros((len(x), *sizes, groups, outputs))
    for place in np.ndindex(*window.kernel):
        cut = tuple(
            slice(i * d, i * d + (n - 1) * s + 1, s)
            for i, d, s, n in zip(place, window.dilation, window.stride, sizes, strict=True)
        )
        pixels = padded[(slice(None), *cut)].reshape(len(x), *sizes, groups, inputs)
        for channel in range(inputs):
            total += pixels[..., channel, None] * rows[place][channel]
    return total.reshape(len(x), *sizes, layer.features)
