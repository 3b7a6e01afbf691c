"""Sums of powers of two for one weight matrix: each weight becomes a sum of T zero-free powers of two times its channel's scale.

A weight matrix W (N, K) becomes ``scale[n] * 2**k_bias[k] * (P_1 + ... + P_T)[n, k]`` with every ``P_t`` made of the codes
``±2**e``; k_bias, one exponent per K index, is 0 unless it is asked for. The array runs that as one layer of T times the K:
``[P_1 P_2 ...] . [x; x; ...]``, exactly; T is what it costs. Sums of two terms or more hold zero (1 - 1), so networks with sparse
weights need ``T >= 2``.

Sources: sums of powers of two, Gudovskiy and Rigazio (arXiv 1706.02393) and Ding et al., LightNN (GLSVLSI 2017); an exponent per
column, You et al., ShiftAddLLM (NeurIPS 2024).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from golden.codec import decode_weights, encode_weights
from shiftforge.errors import InputError
from shiftforge.formats import WeightCode
from shiftforge.terms import decompositions

Float64Array = NDArray[np.float64]

MAX_K_BIAS_BITS = 8
_ROUNDS = 20  # of scales and biases in turn; three or four are enough in practice

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
    k_bias : int8 array (G, K), or None
        An exponent per K index, for each of G equal groups of channels. None: 0 everywhere.
    """

    codes: NDArray[np.uint8]
    scale: NDArray[np.float32]
    bits: int
    k_bias: NDArray[np.int8] | None = None

    @property
    def terms(self) -> int:
        return len(self.codes)

    def sums(self) -> Float64Array:
        """The sums (N, K) with their exponent biases, exact."""
        whole = decode_weights(self.codes, self.bits).sum(0)
        if self.k_bias is None:
            return whole
        return np.ldexp(whole, np.repeat(self.k_bias.astype(np.int32), len(whole) // len(self.k_bias), 0))

    def weights(self) -> Float64Array:
        """The weights (N, K) in float64, where the products with the scale are exact."""
        return self.sums() * self.scale[:, None].astype(np.float64)

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


def coded(
    integers: Float64Array, scale: Float64Array, bits: int, terms: int, k_bias: NDArray[np.int8] | None = None
) -> TermSum:
    """The codes of signed levels (N, K)."""
    table = decompositions(bits, terms)
    levels = np.array(list(table), np.float64)
    parts = np.array([table[int(level)] for level in levels], np.float64)[np.searchsorted(levels, np.abs(integers))]
    signed = parts * np.where(integers < 0, -1.0, 1.0)[..., None]
    return TermSum(encode_weights(np.moveaxis(signed, -1, 0), bits), scale.astype(np.float32), bits, k_bias)


def _best_scale(weight: Float64Array, levels: Float64Array, factor: Float64Array) -> Float64Array:
    """The scale of least squared error of every channel, over all scales, for levels times a factor (K,) per K index.

    As the scale falls, each weight climbs from level to level at known scales. Between two of these the assignment q is
    fixed, and its best scale w.q / q.q leaves |w|**2 - (w.q)**2 / q.q; so the best of all assignments is found by one sort.
    """
    size = np.abs(weight)
    steps, squares = np.outer(factor, np.diff(levels)), np.outer(factor**2, np.diff(levels**2))
    at = (size[:, :, None] / np.outer(factor, (levels[1:] + levels[:-1]) / 2)).reshape(len(weight), -1)
    order = np.argsort(-at, axis=1, kind="stable")
    dot = np.take_along_axis((size[:, :, None] * steps).reshape(at.shape), order, 1)
    square = squares.reshape(-1)[order]
    dot = np.cumsum(np.concatenate([levels[0] * (size @ factor)[:, None], dot], 1), 1)
    start = np.full((len(weight), 1), levels[0] ** 2 * np.square(factor).sum())
    square = np.cumsum(np.concatenate([start, square], 1), 1)
    gain = np.divide(dot**2, square, out=np.zeros_like(dot), where=square > 0)
    rows, best = np.arange(len(weight)), gain.argmax(1)
    return np.divide(dot[rows, best], square[rows, best], out=np.zeros(len(weight)), where=square[rows, best] > 0)


def _scales(weight: Float64Array, levels: Float64Array, factor: Float64Array) -> Float64Array:
    """``_best_scale`` of so many channels at a time as memory should hold."""
    step = max(1, _BLOCK // (weight.shape[1] * max(1, len(levels) - 1)))
    return np.concatenate([_best_scale(weight[i : i + step], levels, factor) for i in range(0, len(weight), step)])


def check_k_bias_bits(bits: int) -> None:
    """``InputError`` for no width of an exponent bias."""
    if isinstance(bits, bool) or not isinstance(bits, int) or not 0 <= bits <= MAX_K_BIAS_BITS:
        raise InputError(f"k_bias_bits must be an integer from 0 to {MAX_K_BIAS_BITS}, not {bits!r}")


def fit_optimal(weight: NDArray[np.floating], bits: int, terms: int, k_bias_bits: int = 0) -> TermSum:
    """The sums and scales of least squared error of each channel, over all scales and all sums (the scale then in fp32).

    With ``k_bias_bits`` = k each K index also has an exponent, ``-2**(k-1) .. 2**(k-1) - 1``: scales and exponents are fitted in
    turn, each the best for the other, from no exponents and from those of the columns' sizes. Never worse than without.
    """
    matrix, levels = as_matrix(weight), magnitudes(bits, terms)
    check_k_bias_bits(k_bias_bits)
    if not k_bias_bits:
        scale = _scales(matrix, levels, np.ones(matrix.shape[1]))
        return coded(nearest_level(matrix, scale, levels), scale, bits, terms)
    low, high = -(1 << (k_bias_bits - 1)), (1 << (k_bias_bits - 1)) - 1
    sizes = np.sqrt(np.square(matrix).mean(0))
    used = sizes[sizes > 0]
    sizes = np.log2(np.where(sizes > 0, sizes, 1.0) / (np.median(used) if len(used) else 1.0))
    found: list[tuple[float, TermSum]] = []
    for start in (np.zeros(matrix.shape[1]), np.clip(np.rint(sizes), low, high)):
        bias, scale = start, np.zeros(len(matrix))
        for _ in range(_ROUNDS):
            scale = _scales(matrix, levels, np.exp2(bias))
            errors = np.array([_column_errors(matrix, scale * 2.0**b, levels) for b in range(low, high + 1)])
            now = errors[bias.astype(np.int64) - low, np.arange(len(bias))]
            better = np.where(errors.min(0) < now, errors.argmin(0) + low, bias)
            if np.array_equal(better, bias):
                break
            bias = better
        else:
            scale = _scales(matrix, levels, np.exp2(bias))
        integers = nearest_level(matrix * np.exp2(-bias), scale, levels)
        fit = coded(integers, scale, bits, terms, bias.astype(np.int8)[None])
        found.append((fit.error(matrix), fit))
    return min(found, key=lambda each: each[0])[1]


def _column_errors(weight: Float64Array, scale: Float64Array, levels: Float64Array) -> Float64Array:
    return np.square(weight - nearest_level(weight, scale, levels) * scale[:, None]).sum(0)


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


def terms_within(weight: NDArray[np.floating], bits: int, budget: float) -> int:
    """The fewest terms whose optimal fit has a relative squared error of at most ``budget``."""
    matrix = as_matrix(weight)
    errors = []
    for terms in range(1, MAX_TERMS + 1):
        errors.append(fit_optimal(matrix, bits, terms).error(matrix))
        if errors[-1] <= budget:
            return terms
    raise InputError(f"the error budget must be {errors[-1]:.3g} or more for {MAX_TERMS} terms, not {budget!r}")
