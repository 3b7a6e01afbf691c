"""A compiled graph in torch alone, bit for bit as the golden network: sums in 64-bit integers, the rest in binary32.

It shares no arithmetic with :mod:`golden.network`, which multiplies limbs by float64 BLAS: each is the other's check.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from golden.codec import decode_weights
from shiftforge.activation import Activation, fp32_value
from shiftforge.errors import InputError
from shiftforge.formats import Format, TensorFormats, WeightCode
from shiftforge.graph import Concat, Conv, Graph, Input, Linear, MaxPool, Reshape, Window


def round_to(values: Tensor, fmt: Format) -> Tensor:
    """float64 values of ``fmt``, rounded once from float64, ties to even, saturating; NaN is 0 in integer formats."""
    if not fmt.is_float:
        limit = 1 << (fmt.bits - 1)
        return values.round().clamp(-limit, limit - 1).nan_to_num(0.0) + 0.0  # integers have no -0
    # The unit in the last place, from a table: no power is computed at run time.
    units = torch.tensor(
        [2.0 ** (e - fmt.fraction_bits) for e in range(fmt.min_exponent, fmt.max_exponent + 2)],
        dtype=torch.float64,
    )
    exponent = torch.frexp(values)[1].long() - 1 - fmt.min_exponent
    unit = units[exponent.clamp(0, len(units) - 1)]
    largest = fmt.max_fixed * 2.0**fmt.lsb_exponent
    rounded = ((values / unit).round() * unit).clamp(-largest, largest)
    return torch.where(values.isfinite(), rounded, values if fmt.has_inf else torch.nan)


def run_graph(graph: Graph, formats: TensorFormats, x: Tensor) -> Tensor:
    """The output's values in units of its scale, float64 (batch, *shape), saturating.

    Parameters
    ----------
    graph : Graph
        Compiled: layers, max-pools, concatenations and reshapes.
    x : float Tensor (batch, *shape of an example)

    Raises
    ------
    InputError
        Where a sum may need more than 63 bits (fp32 and bf16 activations), or where a partial result is not finite.
    """
    arranged = torch.from_numpy(graph.input.arrange(x.detach().double().cpu().numpy()))
    leaving, tensors = graph.leaving(), dict[str, Tensor]()
    for node in graph:
        fmt = formats.output if node.name in leaving else formats.activation
        inputs = [tensors[edge] for edge in node.inputs]
        if isinstance(node, Input):
            values = round_to(arranged / node.scale, formats.activation)
        elif isinstance(node, Linear | Conv):
            values = round_to(_layer(node, inputs, formats.activation).double(), fmt)
        elif isinstance(node, MaxPool):
            values = _max_pool(round_to(inputs[0], fmt), node.window)
        elif isinstance(node, Concat):
            values = torch.cat([round_to(part, fmt) for part in inputs], -1)
        elif isinstance(node, Reshape):
            values = round_to(inputs[0], fmt).reshape(len(inputs[0]), *node.shape)
        else:
            raise InputError(f"node {node.name!r} must be a compiled layer, not {type(node).__name__}")
        tensors[node.name] = values
    return tensors[graph.output.name]


def _shifted(x: Tensor, window: Window, sizes: tuple[int, ...]) -> Iterator[Tensor]:
    """For every kernel position the pixels of a padded image that it reads."""
    for position in range(window.positions):
        at = (position,) if window.axes == 1 else divmod(position, window.kernel[1])
        part = x
        for axis, (i, size) in enumerate(zip(at, sizes, strict=True)):
            picked = torch.arange(size) * window.stride[axis] + i * window.dilation[axis]
            part = part.index_select(1 + axis, picked)
        yield part


def _edges(window: Window) -> list[int]:
    """As ``functional.pad`` wants them: the last axis, channels, first."""
    return [0, 0, *(side for pair in reversed(window.padding) for side in pair)]


def _sums(layer: Linear | Conv, x: Tensor, weight: Tensor) -> Tensor:
    """64-bit sums of whole numbers x with weights (K, N)."""
    if isinstance(layer, Linear):
        return x @ weight
    window, groups = layer.window, layer.groups
    sizes = window.sizes(layer.name, tuple(x.shape[1:-1]))
    total = torch.zeros((len(x), *sizes, layer.features), dtype=torch.int64)
    inputs, outputs = layer.channels // groups, layer.features // groups
    padded = functional.pad(x, _edges(window))
    for pixels, part in zip(_shifted(padded, window, sizes), weight.reshape(-1, inputs, layer.features), strict=True):
        for group in range(groups):
            channels = slice(group * outputs, (group + 1) * outputs)
            total[..., channels] += pixels[..., group * inputs : (group + 1) * inputs] @ part[:, channels]
    return total


def _layer(layer: Linear | Conv, inputs: list[Tensor], fmt: Format) -> Tensor:
    """The layer's result in binary32, before it is rounded to its format."""
    weight = torch.from_numpy(decode_weights(layer.codes, layer.weight_bits)).long()
    if layer.mask is not None:
        weight = weight * torch.from_numpy(layer.mask)
    by_index = layer.exponents()
    exponents = torch.zeros(1, dtype=torch.int64) if by_index is None else torch.from_numpy(by_index)
    low, high = int(exponents.min()), int(exponents.max())
    bits = fmt.fixed_bits + WeightCode(layer.weight_bits).max_exponent + len(weight).bit_length() + high - low
    unit = fmt.lsb_exponent + layer.exponent_bias + low
    if bits > 63 or unit < -126 or unit + 63 > 127:
        raise InputError(
            f"sums of layer {layer.name!r} must fit 63 bits and fp32 for the torch backend, not {bits} bits of 2**{unit}; "
            "use the golden backend"
        )
    if not all(bool(values.isfinite().all()) for values in inputs):
        raise InputError(f"inputs of layer {layer.name!r} must be finite for the torch backend; use the golden backend")
    integers = (inputs[0] * 2.0**-fmt.lsb_exponent).long()
    shifted = weight.reshape(layer.terms, -1, layer.features) << (exponents - low)
    sums = _sums(layer, integers, shifted.sum(0))
    # One rounding, from integer to binary32; a product with a power of two within the normal numbers has none.
    wide = sums.float() * 2.0**unit
    wide = wide * torch.from_numpy(layer.scale.copy())
    wide = wide + torch.from_numpy(layer.bias.copy())
    if layer.residual:
        wide = wide + inputs[1].float() * torch.tensor(layer.residual_scale, dtype=torch.float32)
    return _activated(wide, layer.activation)


def _activated(x: Tensor, activation: Activation) -> Tensor:
    if activation.kind == "relu":
        return torch.where((x > 0) | x.isnan(), x, torch.zeros_like(x))
    if activation.kind == "leaky":
        return torch.where((x > 0) | x.isnan(), x, x * 2.0**-activation.shift)
    if activation.kind == "clamp":
        lo, hi = (torch.tensor(fp32_value(bound), dtype=torch.float32) for bound in (activation.lo, activation.hi))
        # -0 is below +0, also where a bound is one of them.
        above = (x > hi) | ((x == hi) & hi.signbit() & ~x.signbit())
        x = torch.where(above, hi, x)
        below = (x < lo) | ((x == lo) & x.signbit() & ~lo.signbit())
        return torch.where(below, lo, x)
    return x


def _max_pool(x: Tensor, window: Window) -> Tensor:
    sizes = window.sizes("max-pool", tuple(x.shape[1:-1]))
    padded = functional.pad(x, _edges(window), value=-torch.inf)
    best: Tensor | None = None
    for pixels in _shifted(padded, window, sizes):
        if best is None:
            best = pixels
            continue
        larger = (pixels > best) | ((pixels == best) & ~pixels.signbit()) | pixels.isnan()
        best = torch.where(larger & ~best.isnan(), pixels, best)
    assert best is not None
    return best
