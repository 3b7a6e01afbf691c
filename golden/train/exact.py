"""Bit-true evaluation: a trained model in the arithmetic of the hardware, by the golden model and again by torch alone.

The number contract: inputs are rounded to the activation format; each layer's exact sum is rounded once to binary32, scaled,
biased, added to its residual, activated, and rounded once to the format of its tensor. Both backends start from the same
compiled graph; from there on they share no arithmetic: :mod:`golden.network` multiplies float64 limbs,
:mod:`golden.train.integer` sums 64-bit integers. Their logits are equal bit for bit, so accuracy measured in torch is
accuracy on the hardware.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from golden import network as golden_network
from golden.train.geometry import ShiftConv
from golden.train.integer import run_graph
from golden.train.task import Split
from golden.train.trace import trace
from shiftforge.errors import InputError
from shiftforge.formats import Format, format_named
from shiftforge.graph import Graph
from shiftforge.passes import compiled
from shiftforge.passes.quantise import UNSCALED

Backend = Literal["float", "torch", "golden"]
BACKENDS = ("float", "torch", "golden")

_BATCH = 256  # examples at a time: 64-bit sums of convolutions take memory
_AVERAGE_BITS = 2  # of the weights +1 of average pools


@dataclass(frozen=True, eq=False)
class ExactNetwork:
    """A compiled graph, the format of every inner tensor, and that of the result."""

    graph: Graph
    activation: Format
    output: Format


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation gave: ``logits``, float32 (rows, classes), and ``accuracy``, the share of right answers, 0..1."""

    logits: NDArray[np.float32]
    accuracy: float


def exact_network(
    model: nn.Module,
    activation: str = "fp16",
    calibration: NDArray[np.floating] | None = None,
    output: str = "fp32",
    shape: tuple[int, ...] | None = None,
    *,
    mask: bool = False,
) -> ExactNetwork:
    """Fold a model into layers of the hardware.

    Parameters
    ----------
    model : nn.Module
        In eval mode; see :func:`golden.train.trace.trace`.
    activation, output : str
        Formats of the layers' inputs and of the result.
    calibration : float array (samples, ...)
        Inputs from which int8, int16 and fp8 tensors get their scales.
    shape : tuple of int
        Of one example; may be left out for a model of Linear layers that begins with a vector.
    mask : bool
        Whether the machine has mask bits, so that a weight may be zero. Without, zeros are sums such as 1 - 1: the same values.

    Raises
    ------
    InputError
        For a model in training mode, modules that do not run, weights that are no sums of ``±2**e``, and missing calibration.
    """
    inner, last = format_named(activation), format_named(output)
    scaled = [fmt.name for fmt in (inner, last) if fmt.name not in UNSCALED]
    graph = trace(model, _vector(model) if shape is None else shape, mask=mask)
    if scaled and calibration is None:
        raise InputError(f"calibration must be given for {scaled[0]}, whose tensors are scaled, not None")
    samples = None if calibration is None or not scaled else np.asarray(calibration, np.float64)
    if samples is not None and samples.shape[1:] != graph.input.shape:
        samples = samples.reshape(len(samples), -1)
    formats = ExactNetwork(graph, inner, last)
    return ExactNetwork(compiled(graph, formats, _AVERAGE_BITS, samples), inner, last)


def _vector(model: nn.Module) -> tuple[int]:
    """The features of the first Linear, where no convolution needs to know more."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | ShiftConv):
            raise InputError(f"the shape of an example must be given for a model with convolutions, as {name!r} is one")
        features = getattr(module, "in_features", None)
        if isinstance(features, int):
            return (features,)
    raise InputError("the network must have at least one Linear or convolution layer, and it has none")


def run_golden(network: ExactNetwork, x: NDArray[np.floating]) -> NDArray[np.float32]:
    """The logits, float32 (rows, classes), by the golden model."""
    codes = golden_network.encode_input(network.graph, network, _given(network, np.asarray(x, np.float64)))
    result = golden_network.run(network.graph, network, codes, "saturate")
    return golden_network.output_values(network.graph, network, result.output)


def run_torch(network: ExactNetwork, x: Tensor) -> Tensor:
    """The logits, float32 (rows, classes), by torch on the CPU: equal to ``run_golden`` bit for bit.

    Raises
    ------
    InputError
        As :func:`golden.train.integer.run_graph`.
    """
    scale, given = network.graph.output_scale, torch.from_numpy(_given(network, x.detach().double().cpu().numpy()))
    parts = [run_graph(network.graph, network, part) for part in given.split(_BATCH)]
    return (torch.cat(parts) * scale).float()


def _given(network: ExactNetwork, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Examples in the input's shape, or as vectors."""
    return x if x.shape[1:] == network.graph.input.shape else x.reshape(len(x), -1)


def evaluate(
    model: nn.Module,
    data: Split,
    backend: Backend = "torch",
    activation: str = "fp16",
    calibration: NDArray[np.floating] | None = None,
    output: str = "fp32",
    *,
    mask: bool = False,
) -> Evaluation:
    """The logits and the accuracy of a model in eval mode on a split.

    Parameters
    ----------
    backend : "torch", "golden" or "float"
        The hardware's arithmetic in torch or by the golden model, equal bit for bit; or the model as it stands, in float32.
    activation, calibration, output, mask
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
        network = exact_network(model, activation, calibration, output, data.x.shape[1:], mask=mask)
        logits = run_golden(network, data.x) if backend == "golden" else run_torch(network, x).numpy()
    return Evaluation(logits, float((logits.argmax(1) == data.y).mean()))
