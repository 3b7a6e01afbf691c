"""Power-of-two weights without training: each weight becomes a sum of T zero-free powers of two times its channel's scale.

A weight matrix W (N, K) becomes ``scale[n] * (P_1 + ... + P_T)[n, k]`` with every ``P_t`` made of the codes ``±2**e``. The array
runs that as one layer of T times the K: ``[P_1 P_2 ...] . [x; x; ...]``, exactly; T is what it costs. Sums of two terms or
more hold zero (1 - 1), so networks with sparse weights need ``T >= 2``.

Sources: sums of powers of two, Gudovskiy and Rigazio (arXiv 1706.02393) and Ding et al., LightNN (GLSVLSI 2017); calibration by
output error, Frantar et al., GPTQ (ICLR 2023, arXiv 2210.17323), as You et al., ShiftAddLLM (NeurIPS 2024), apply it to shifts.
"""

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from golden.codec import decode_weights, encode_weights
from golden.train.calibration import layer_inputs
from golden.train.convert import replaced
from shiftforge.errors import InputError
from shiftforge.formats import WeightCode
from shiftforge.terms import decompositions

Float64Array = NDArray[np.float64]
Fit = Literal["optimal", "greedy"]

MAX_TERMS = 4
_BLOCK = 1 << 22  # breakpoints at a time: bounds the memory of the optimal fit


def magnitudes(bits: int, terms: int) -> Float64Array:
    """All magnitudes that a sum of ``terms`` codes of ``bits`` bits has, rising; 0 is one of them for two terms or more."""
    WeightCode(bits)
    if isinstance(terms, bool) or not isinstance(terms, int) or not 1 <= terms <= MAX_TERMS:
        raise InputError(f"terms must be an integer from 1 to {MAX_TERMS}, not {terms!r}")
    return np.array(list(decompositions(bits, terms)), np.float64)


@dataclass(frozen=True, eq=False)
class TermSum:
    """One weight matrix as sums of powers of two.

    Members
    -------
    codes : uint8 array (T, N, K)
        Weight codes of ``bits`` bits.
    scale : float32 array (N,)
        0 or more; 0 for a channel without weights.
    """

    codes: NDArray[np.uint8]
    scale: NDArray[np.float32]
    bits: int

    @property
    def terms(self) -> int:
        return len(self.codes)

    def integers(self) -> Float64Array:
        """The sums (N, K), whole numbers, exact."""
        return decode_weights(self.codes, self.bits).sum(0)

    def weights(self) -> Float64Array:
        """The weights (N, K) in float64, where the products with the scale are exact."""
        return self.integers() * self.scale[:, None].astype(np.float64)

    def concatenated(self) -> NDArray[np.uint8]:
        """The codes (T * K, N) of the layer that reads its input T times over."""
        terms, outputs, k = self.codes.shape
        return np.ascontiguousarray(self.codes.transpose(0, 2, 1).reshape(terms * k, outputs))

    def error(self, weight: Float64Array) -> float:
        """Squared error by squared norm: 0 for equality, 1 for a weight of zeros."""
        norm = float(np.square(weight).sum())
        return float(np.square(self.weights() - weight).sum()) / norm if norm else 0.0


def as_matrix(weight: NDArray[np.floating]) -> Float64Array:
    """A weight matrix in float64; ``InputError`` unless it has two axes, elements, and these are finite."""
    matrix = np.asarray(weight, np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise InputError(f"the weight must be a matrix (N, K), not of shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(matrix))[0])
        raise InputError(f"every weight must be finite, not {float(matrix[index])!r} at index {index}")
    return matrix


def nearest_level(weight: Float64Array, scale: Float64Array, levels: Float64Array) -> Float64Array:
    """The signed level nearest to each weight by its channel's scale; the smaller of two that are equally near."""
    units = np.abs(weight) / np.where(scale > 0, scale, 1.0)[:, None]
    chosen = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, units)]
    return np.where(weight < 0, -chosen, chosen)


def _coded(integers: Float64Array, scale: Float64Array, bits: int, terms: int) -> TermSum:
    table = decompositions(bits, terms)
    levels = np.array(list(table), np.float64)
    parts = np.array([table[int(level)] for level in levels], np.float64)[np.searchsorted(levels, np.abs(integers))]
    signed = parts * np.where(integers < 0, -1.0, 1.0)[..., None]
    return TermSum(encode_weights(np.moveaxis(signed, -1, 0), bits), scale.astype(np.float32), bits)


def _best_scale(weight: Float64Array, levels: Float64Array) -> Float64Array:
    """The scale of least squared error of every channel, over all scales.

    As the scale falls, each weight climbs from level to level at known scales. Between two of these the assignment q is
    fixed, and its best scale w.q / q.q leaves |w|**2 - (w.q)**2 / q.q; so the best of all assignments is found by one sort.
    """
    size = np.abs(weight)
    steps, squares = np.diff(levels), np.diff(levels**2)
    at = (size[:, :, None] / ((levels[1:] + levels[:-1]) / 2)).reshape(len(weight), -1)
    order = np.argsort(-at, axis=1, kind="stable")
    dot = np.take_along_axis((size[:, :, None] * steps).reshape(at.shape), order, 1)
    square = np.take_along_axis(np.broadcast_to(squares, (*size.shape, len(steps))).reshape(at.shape), order, 1)
    first = levels[0] * size.sum(1, keepdims=True)
    dot = np.cumsum(np.concatenate([first, dot], 1), 1)
    start = np.full((len(weight), 1), levels[0] ** 2 * size.shape[1])
    square = np.cumsum(np.concatenate([start, square], 1), 1)
    gain = np.divide(dot**2, square, out=np.zeros_like(dot), where=square > 0)
    rows, best = np.arange(len(weight)), gain.argmax(1)
    return np.divide(dot[rows, best], square[rows, best], out=np.zeros(len(weight)), where=square[rows, best] > 0)


def fit_optimal(weight: NDArray[np.floating], bits: int, terms: int) -> TermSum:
    """The sums and scales of least squared error of each channel, over all scales and all sums (the scale then in fp32)."""
    matrix, levels = as_matrix(weight), magnitudes(bits, terms)
    step = max(1, _BLOCK // (matrix.shape[1] * max(1, len(levels) - 1)))
    scale = np.concatenate([_best_scale(matrix[i : i + step], levels) for i in range(0, len(matrix), step)])
    return _coded(nearest_level(matrix, scale, levels), scale, bits, terms)


def fit_greedy(weight: NDArray[np.floating], bits: int, terms: int) -> TermSum:
    """Term by term, each the power of two nearest to what the terms before it left; the scale from 64 steps of an octave grid.

    Faster than the optimal fit where K is long, and never better.
    """
    matrix = as_matrix(weight)
    magnitudes(bits, terms)
    powers = magnitudes(bits, 1)
    peak = np.abs(matrix).max(1)
    best, best_error = np.zeros_like(matrix), np.full(len(matrix), np.inf)
    best_scale = np.zeros(len(matrix))
    parts = np.ones((terms, *matrix.shape))
    for step in range(64):
        scale = peak / powers[-1] * 2.0 ** (1 - step / 16)
        rest, chosen = matrix, []
        for _ in range(terms):
            chosen.append(nearest_level(rest, scale, powers))
            rest = rest - chosen[-1] * scale[:, None]
        sums = np.sum(chosen, 0)
        square = np.square(sums).sum(1)
        fitted = np.divide((matrix * sums).sum(1), square, out=np.zeros(len(matrix)), where=square > 0)
        fitted = np.maximum(fitted, 0.0)
        error = np.square(matrix - sums * fitted[:, None]).sum(1)
        better = error < best_error
        best_error = np.where(better, error, best_error)
        best_scale = np.where(better, fitted, best_scale)
        best = np.where(better[:, None], sums, best)
        parts = np.where(better[None, :, None], np.array(chosen), parts)
    return TermSum(encode_weights(parts, bits), best_scale.astype(np.float32), bits)


def fit_calibrated(
    weight: NDArray[np.floating], bits: int, terms: int, inputs: NDArray[np.floating], damping: float = 0.01
) -> TermSum:
    """The optimal fit, then column after column corrected for the output error that the columns before it caused (GPTQ).

    Parameters
    ----------
    inputs : float array (rows, K)
        What the layer reads in use.
    damping : float
        Added to the diagonal of ``inputs.T @ inputs``, as a share of its mean.

    Returns
    -------
    The better of the two fits by the error of the outputs for ``inputs``.
    """
    matrix, levels = as_matrix(weight), magnitudes(bits, terms)
    x = np.asarray(inputs, np.float64)
    if x.ndim != 2 or x.shape[1] != matrix.shape[1] or not len(x):
        raise InputError(f"inputs must be of shape (rows, {matrix.shape[1]}), not {x.shape}")
    plain = fit_optimal(matrix, bits, terms)
    hessian = x.T @ x
    if not hessian.any():
        return plain
    hessian += np.eye(len(hessian)) * damping * float(np.trace(hessian)) / len(hessian)
    upper = np.linalg.cholesky(np.linalg.inv(hessian)).T
    rest, scale = matrix.copy(), plain.scale.astype(np.float64)
    chosen = np.empty_like(matrix)
    for k in range(matrix.shape[1]):
        chosen[:, k] = nearest_level(rest[:, k : k + 1], scale, levels)[:, 0]
        error = (rest[:, k] - chosen[:, k] * scale) / upper[k, k]
        rest[:, k + 1 :] -= error[:, None] * upper[k, k + 1 :]
    corrected = _coded(chosen, scale, bits, terms)

    def output_error(fit: TermSum) -> float:
        return float(np.square((fit.weights() - matrix) @ x.T).sum())

    return min(plain, corrected, key=output_error)


def fit_groups(weight: NDArray[np.floating], bits: int, terms: int, inputs: NDArray[np.floating]) -> TermSum:
    """``fit_calibrated`` of every group of a layer's channels by what that group reads, ``inputs`` (groups, rows, K)."""
    parts = np.split(as_matrix(weight), len(inputs))
    fits = [fit_calibrated(part, bits, terms, rows) for part, rows in zip(parts, inputs, strict=True)]
    return TermSum(np.concatenate([f.codes for f in fits], 1), np.concatenate([f.scale for f in fits]), bits)


def terms_within(weight: NDArray[np.floating], bits: int, budget: float) -> int:
    """The fewest terms whose optimal fit has a relative squared error of at most ``budget``."""
    matrix = as_matrix(weight)
    errors = []
    for terms in range(1, MAX_TERMS + 1):
        errors.append(fit_optimal(matrix, bits, terms).error(matrix))
        if errors[-1] <= budget:
            return terms
    raise InputError(f"the error budget must be {errors[-1]:.3g} or more for {MAX_TERMS} terms, not {budget!r}")


class TermSumLayer(nn.Module):
    """A plain Linear or convolution whose weight is whole numbers, the sums, and one scale per output channel after it.

    Members
    -------
    layer : nn.Linear, nn.Conv1d or nn.Conv2d, without a bias
        Its weight holds ``fit.integers()``.
    scale, bias : buffer (N,)
    """

    scale: Tensor
    bias: Tensor

    def __init__(self, layer: nn.Linear | nn.Conv1d | nn.Conv2d, fit: TermSum, bias: Tensor | None) -> None:
        super().__init__()
        self.layer, self.fit = layer, fit
        like = layer.weight.detach()
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(fit.integers()).reshape(like.shape))
        layer.weight.requires_grad_(False)
        self.register_buffer("scale", torch.from_numpy(fit.scale).to(like))
        self.register_buffer("bias", torch.zeros_like(self.scale) if bias is None else bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        axes = 0 if isinstance(self.layer, nn.Linear) else self.layer.weight.ndim - 2
        shape = (-1, *[1] * axes)
        return self.layer(x) * self.scale.view(shape) + self.bias.view(shape)

    def extra_repr(self) -> str:
        return f"terms={self.fit.terms}, bits={self.fit.bits}"


def convert_pretrained(
    model: nn.Module,
    bits: int = 3,
    terms: int | Mapping[str, int] | None = 2,
    *,
    budget: float | None = None,
    fit: Fit = "optimal",
    calibration: Tensor | None = None,
    keep: Collection[str] = (),
) -> nn.Module:
    """A copy of a trained model, in eval mode, whose Linear, Conv1d and Conv2d layers are sums of powers of two.

    Parameters
    ----------
    terms : int, or a mapping from layer name to int
        1 to 4. None to choose the fewest per layer within ``budget``.
    budget : float
        Largest squared error of a layer's weight by its squared norm.
    fit : "optimal" or "greedy"
    calibration : Tensor
        A batch for the model. Layers are then fitted by the error of their outputs (``fit_calibrated``).
    keep : collection of str
        Names of layers that stay as they are.

    Raises
    ------
    InputError
        When neither or both of terms and budget are given, for a name that is no layer, or a layer without its number.
    """
    if (terms is None) == (budget is None):
        raise InputError("either terms or budget must be given, and the other be None")
    if fit not in ("optimal", "greedy"):
        raise InputError(f"fit must be 'optimal' or 'greedy', not {fit!r}")
    if fit == "greedy" and calibration is not None:
        raise InputError("calibration must be None for the greedy fit, which does not use it")
    if isinstance(keep, str):
        raise InputError(f"keep must be a collection of layer names, not {keep!r}")
    layers = {name: m for name, m in model.named_modules() if type(m) in (nn.Linear, nn.Conv1d, nn.Conv2d)}
    for name in [*keep, *(terms if isinstance(terms, Mapping) else ())]:
        if name not in layers:
            raise InputError(f"every name must be a Linear or a convolution of the model, not {name!r}")
    names = {id(m): name for name, m in layers.items() if name not in keep}
    inputs = {} if calibration is None else layer_inputs(model, calibration)

    def twin(module: nn.Module) -> nn.Module | None:
        if id(module) not in names or not isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            return None
        name, weight = names[id(module)], module.weight.detach().double().flatten(1).cpu().numpy()
        if isinstance(terms, Mapping):
            if name not in terms:
                raise InputError(f"terms must name every layer that is not kept, also {name!r}")
            count = terms[name]
        else:
            count = terms if terms is not None else terms_within(weight, bits, budget or 0.0)
        if fit == "greedy":
            fitted = fit_greedy(weight, bits, count)
        elif name in inputs:
            fitted = fit_groups(weight, bits, count, inputs[name])
        else:
            fitted = fit_optimal(weight, bits, count)
        plain = copy.deepcopy(module)
        plain.register_parameter("bias", None)
        return TermSumLayer(plain, fitted, module.bias)

    return replaced(model, twin).eval()
