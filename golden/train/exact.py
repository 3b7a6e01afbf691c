"""Bit-true evaluation: a trained model in the arithmetic of the hardware, by the golden model and again by torch alone.

The number contract: inputs are rounded to the activation format; each layer's exact sum is rounded once to binary32, scaled,
biased, activated, and rounded once to the format of its tensor. Both backends start from the
same ``ExactLayer`` list; from there on they share no arithmetic: the golden one is NumPy on float64 limbs, the torch one sums
64-bit integers. Their logits are equal bit for bit, so accuracy measured in torch is accuracy on the hardware.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from golden.codec import decode, decode_weights, encode, encode_weights
from golden.gemm import exact_sums
from golden.post import post_process
from golden.train.convert import freeze
from golden.train.geometry import ShiftLinear
from golden.train.post_training import TermSumLayer
from golden.train.task import Split
from shiftforge.activation import Activation
from shiftforge.errors import InputError
from shiftforge.formats import WEIGHT_BITS, Format, WeightCode, format_named

Backend = Literal["float", "torch", "golden"]
BACKENDS = ("float", "torch", "golden")

_UNSCALED = ("fp32", "fp16", "bf16")
_SKIPPED = (nn.Flatten, nn.Identity, nn.Dropout)  # what evaluation of vectors passes through


@dataclass(frozen=True, eq=False)
class ExactLayer:
    """One fully connected layer as the hardware sees it.

    Members
    -------
    codes : uint8 array (terms * K, N)
        Codes of ``bits`` bits; the layer reads its input ``terms`` times over.
    exponent_bias : int
        A weight is ``±2**(e + exponent_bias)``.
    scale, bias : float32 array (N,)
        BatchNorm, bias and tensor scales folded in float64 and rounded once.
    relu : bool
    output_scale : float
        The value of one unit of the output's codes; a binary32 number.
    """

    codes: NDArray[np.uint8]
    bits: int
    terms: int
    exponent_bias: int
    scale: NDArray[np.float32]
    bias: NDArray[np.float32]
    relu: bool
    output_scale: float


@dataclass(frozen=True, eq=False)
class ExactNetwork:
    """Layers in order, the formats of their inputs and of the result, and the input's scale (see ``output_scale``)."""

    layers: tuple[ExactLayer, ...]
    activation: Format
    output: Format
    input_scale: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation gave: ``logits``, float32 (rows, classes), and ``accuracy``, the share of right answers, 0..1."""

    logits: NDArray[np.float32]
    accuracy: float


@dataclass(eq=False)
class _Folding:
    """A layer while the modules after it are folded into it; float64."""

    codes: NDArray[np.uint8]
    bits: int
    terms: int
    exponent_bias: int
    scale: NDArray[np.float64]
    bias: NDArray[np.float64]
    relu: bool = False


def _double(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().double().cpu().numpy()


def _window(name: str, weight: NDArray[np.float64], bits: int | None) -> tuple[int, int]:
    """Bits and exponent bias that hold the weights: the given bits, or the fewest."""
    size = np.abs(weight)
    exponent = np.frexp(size)[1] - 1
    if not size.all() or not np.isfinite(size).all() or (np.frexp(size)[0] != 0.5).any():
        raise InputError(
            f"every weight of layer {name!r} must be ±2**e to run exactly, without a zero; train it with convert(model, bits), "
            "or turn it into sums with convert_pretrained"
        )
    low, span = int(exponent.min()), int(exponent.max() - exponent.min())
    if bits is not None:
        # Where the weights fit without a bias there is none, so that all layers of a method have the same.
        return bits, 0 if low >= 0 and low + span <= WeightCode(bits).max_exponent else low
    for each in WEIGHT_BITS:
        if low >= 0 and low + span <= WeightCode(each).max_exponent:
            return each, 0
    for each in WEIGHT_BITS:
        if span <= WeightCode(each).max_exponent:
            return each, low
    raise InputError(f"exponents of layer {name!r} must span 0..7, not 0..{span}")


def _first(name: str, module: nn.Module) -> _Folding | None:
    """The start of a layer, when the module is a linear one."""
    if isinstance(module, TermSumLayer) and isinstance(module.layer, nn.Linear):
        fit = module.fit
        return _Folding(fit.concatenated(), fit.bits, fit.terms, 0, fit.scale.astype(np.float64), _double(module.bias))
    bits = module.bits if isinstance(module, ShiftLinear) else None
    plain = freeze(module) if isinstance(module, ShiftLinear) else module
    if type(plain) is not nn.Linear:
        return None
    weight = _double(plain.weight)
    bits, exponent_bias = _window(name, weight, bits)
    bias = np.zeros(len(weight)) if plain.bias is None else _double(plain.bias)
    codes = encode_weights(weight.T, bits, exponent_bias)
    return _Folding(np.ascontiguousarray(codes), bits, 1, exponent_bias, np.ones(len(weight)), bias)


def _leaves(model: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    if type(model) is not nn.Sequential:
        return [(prefix, model)]
    dot = prefix + "." if prefix else ""
    return [leaf for name, child in model.named_children() for leaf in _leaves(child, dot + name)]


def _folded(model: nn.Module) -> list[_Folding]:
    layers: list[_Folding] = []
    for name, module in _leaves(model):
        if isinstance(module, _SKIPPED):
            continue
        layer = _first(name, module)
        if layer is not None:
            layers.append(layer)
        elif type(module) is nn.ReLU and layers:
            layers[-1].relu = True
        elif type(module) is nn.BatchNorm1d and layers and not layers[-1].relu:
            if module.running_mean is None or module.running_var is None:
                raise InputError(f"BatchNorm {name!r} must track running statistics, and does not")
            factor = 1.0 / np.sqrt(_double(module.running_var) + module.eps)
            factor = _double(module.weight) * factor if module.affine else factor
            shift = (_double(module.bias) if module.affine else 0.0) - _double(module.running_mean) * factor
            layers[-1].scale, layers[-1].bias = layers[-1].scale * factor, layers[-1].bias * factor + shift
        else:
            raise InputError(
                f"module {name!r} must be a Linear, a BatchNorm1d after one or a ReLU after these to run exactly, not "
                f"{type(module).__name__}"
            )
    if not layers:
        raise InputError("the model must have a Linear layer, and has none")
    return layers


def _fp32(name: str, values: NDArray[np.float64]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    if not np.isfinite(rounded).all():
        raise InputError(f"{name} must be within the range of fp32, not {float(values[~np.isfinite(rounded)][0])!r}")
    return rounded


def _scales(
    layers: Sequence[_Folding], activation: Format, output: Format, calibration: NDArray[np.floating] | None
) -> list[float]:
    """The scale of the input and of every layer's output: the largest magnitude becomes the largest finite value."""

    def scale(fmt: Format, values: NDArray[np.float64]) -> float:
        peak = float(np.abs(values).max())
        if fmt.name in _UNSCALED or peak == 0:
            return 1.0
        return float(np.float32(peak / ((fmt.max_fixed if fmt.is_float else fmt.max_finite) * 2.0**fmt.lsb_exponent)))

    scaled = [fmt.name for fmt in (activation, output) if fmt.name not in _UNSCALED]
    if not scaled:
        return [1.0] * (len(layers) + 1)
    if calibration is None:
        raise InputError(f"calibration must be given for {scaled[0]}, whose tensors are scaled, not None")
    x = np.asarray(calibration, np.float64).reshape(len(calibration), -1)
    scales = [scale(activation, x)]
    for i, layer in enumerate(layers):
        weight = decode_weights(layer.codes, layer.bits, layer.exponent_bias)
        x = (np.tile(x, (1, layer.terms)) @ weight) * layer.scale + layer.bias
        x = np.maximum(x, 0) if layer.relu else x
        scales.append(scale(output if i == len(layers) - 1 else activation, x))
    return scales


def exact_network(
    model: nn.Module,
    activation: str = "fp16",
    calibration: NDArray[np.floating] | None = None,
    output: str = "fp32",
) -> ExactNetwork:
    """Fold a model into layers of the hardware.

    Parameters
    ----------
    model : nn.Module
        In eval mode: a Linear, or Sequentials of Linear layers (of a zero-free method, frozen, or ``TermSumLayer``), each followed
        by any of BatchNorm1d and ReLU.
    activation, output : str
        Formats of the layers' inputs and of the result.
    calibration : float array (samples, ...)
        Inputs from which int8, int16 and fp8 tensors get their scales.

    Raises
    ------
    InputError
        For a model in training mode, other modules, weights that are not ``±2**e``, and missing calibration.
    """
    inner, last = format_named(activation), format_named(output)
    if model.training:
        raise InputError("the model must be in eval mode, not in training mode")
    layers = _folded(model)
    scales = _scales(layers, inner, last, calibration)
    compiled = []
    for i, layer in enumerate(layers):
        factor = scales[i] / scales[i + 1]
        compiled.append(
            ExactLayer(
                layer.codes,
                layer.bits,
                layer.terms,
                layer.exponent_bias,
                _fp32(f"the scale of layer {i}", layer.scale * factor),
                _fp32(f"the bias of layer {i}", layer.bias / scales[i + 1]),
                layer.relu,
                scales[i + 1],
            )
        )
    return ExactNetwork(tuple(compiled), inner, last, scales[0])


def run_golden(network: ExactNetwork, x: NDArray[np.floating]) -> NDArray[np.float32]:
    """The logits, float32 (rows, classes), by the golden model."""
    codes = encode(network.activation, np.asarray(x, np.float64).reshape(len(x), -1) / network.input_scale, "saturate")
    for i, layer in enumerate(network.layers):
        sums = exact_sums(np.tile(codes, (1, layer.terms)), layer.codes, network.activation, WeightCode(layer.bits))
        codes, _ = post_process(
            sums,
            layer.scale,
            layer.bias,
            exponent_bias=layer.exponent_bias,
            activation=Activation.relu() if layer.relu else Activation.none(),
            output=network.output if i == len(network.layers) - 1 else network.activation,
            overflow="saturate",
        )
    return (decode(network.output, codes) * network.layers[-1].output_scale).astype(np.float32)


def _round(values: Tensor, fmt: Format) -> Tensor:
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


def run_torch(network: ExactNetwork, x: Tensor) -> Tensor:
    """The logits, float32 (rows, classes), by torch on the CPU: 64-bit integer sums, equal to ``run_golden`` bit for bit.

    Raises
    ------
    InputError
        Where a sum may need more than 63 bits (fp32 and bf16 activations), or where a partial result is not finite.
    """
    fmt = network.activation
    values = _round(x.detach().double().cpu().flatten(1) / network.input_scale, fmt)
    for i, layer in enumerate(network.layers):
        weight = torch.from_numpy(decode_weights(layer.codes, layer.bits)).long()
        bits = fmt.fixed_bits + WeightCode(layer.bits).max_exponent + len(weight).bit_length()
        unit = fmt.lsb_exponent + layer.exponent_bias
        if bits > 63 or unit < -126 or unit + 63 > 127:
            raise InputError(
                f"sums of layer {i} must fit 63 bits and fp32 for the torch backend, not {bits} bits of 2**{unit}; "
                "use the golden backend"
            )
        if not bool(values.isfinite().all()):
            raise InputError(f"inputs of layer {i} must be finite for the torch backend; use the golden backend")
        integers = (values * 2.0**-fmt.lsb_exponent).long()
        sums = integers.repeat(1, layer.terms) @ weight
        # One rounding, from integer to binary32; a product with a power of two within the normal numbers has none.
        wide = sums.float() * 2.0**unit
        wide = wide * torch.from_numpy(layer.scale)
        wide = wide + torch.from_numpy(layer.bias)
        if layer.relu:
            wide = torch.where((wide > 0) | wide.isnan(), wide, torch.zeros_like(wide))
        values = _round(wide.double(), network.output if i == len(network.layers) - 1 else fmt)
    return (values * network.layers[-1].output_scale).float()


def evaluate(
    model: nn.Module,
    data: Split,
    backend: Backend = "torch",
    activation: str = "fp16",
    calibration: NDArray[np.floating] | None = None,
    output: str = "fp32",
) -> Evaluation:
    """The logits and the accuracy of a model in eval mode on a split.

    Parameters
    ----------
    backend : "torch", "golden" or "float"
        The hardware's arithmetic in torch or by the golden model, equal bit for bit; or the model as it stands, in float32.
    activation, calibration, output
        As in ``exact_network``; "float" does not use them.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    x = torch.from_numpy(data.x)
    if backend == "float":
        if model.training:
            raise InputError("the model must be in eval mode, not in training mode")
        with torch.no_grad():
            logits = model(x).float().cpu().numpy()
    else:
        network = exact_network(model, activation, calibration, output)
        logits = run_golden(network, data.x) if backend == "golden" else run_torch(network, x).numpy()
    return Evaluation(logits, float((logits.argmax(1) == data.y).mean()))
