"""Sums of powers of two by the error of a layer's outputs, for inputs that it reads in use.

The squared error of the outputs is quadratic in the weights, with the inputs' second moments as its matrix. Columns are rounded one
after another, each corrected for what those before it did (GPTQ: Frantar et al., ICLR 2023, arXiv 2210.17323, as You et al.,
ShiftAddLLM, NeurIPS 2024, apply it to shifts); then weight after weight takes its best level and every channel its best scale, in
turn, until nothing changes. What is left of the mean goes into the bias (Nagel et al., ICCV 2019, arXiv 1906.04721).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from golden.train.term_sums import Float64Array, TermSum, as_matrix, coded, fit_optimal, magnitudes, nearest_level
from shiftforge.errors import InputError

SCALES = (0.8, 0.9, 1.0, 1.1, 1.25)
"""Tried as first scales, as multiples of the one of least squared error of the weights; the best by the outputs' error is kept."""
_SWEEPS = 10


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A fitted layer.

    Members
    -------
    fit : TermSum
    bias : float64 array (N,)
        What is to be added to each output channel, besides the layer's own bias.
    """

    fit: TermSum
    bias: Float64Array


@dataclass(frozen=True, eq=False)
class _Quadratic:
    """The outputs' squared error of weights v (N, K), up to a constant: ``v H v - 2 g v`` for every channel."""

    hessian: Float64Array
    slope: Float64Array

    def error(self, v: Float64Array) -> Float64Array:
        return ((v @ self.hessian - 2 * self.slope) * v).sum(1)


def fit_calibrated(
    weight: NDArray[np.floating],
    bits: int,
    terms: int,
    inputs: NDArray[np.floating],
    reference: NDArray[np.floating] | None = None,
    damping: float = 0.01,
    k_bias_bits: int = 0,
) -> Calibrated:
    """The sums, scales and biases of small squared error of the outputs.

    Parameters
    ----------
    inputs : float array (rows, K)
        What the layer reads in use: from layers that are converted already.
    reference : float array (rows, K)
        What it read when they were not, which with ``weight`` gives the outputs wanted; None for ``inputs``.
    damping : float
        How much the weights' own error counts besides, as a share of the mean diagonal of the inputs' second moments.
    k_bias_bits : int
        As in ``fit_optimal``, whose exponents are taken over.

    Returns
    -------
    Channel by channel no worse than the optimal fit of the weights with its best bias.
    """
    matrix, levels = as_matrix(weight), magnitudes(bits, terms)
    x = np.asarray(inputs, np.float64)
    wanted = x if reference is None else np.asarray(reference, np.float64)
    for given in (x, wanted):
        if given.ndim != 2 or given.shape[1] != matrix.shape[1] or len(given) != len(x) or not len(x):
            raise InputError(f"inputs must be of shape (rows, {matrix.shape[1]}), not {given.shape}")
    y = wanted @ matrix.T
    centre, mean = x.mean(0), y.mean(0)
    x, y = x - centre, y - mean
    plain = fit_optimal(matrix, bits, terms, k_bias_bits)
    moments = x.T @ x
    if not moments.any():
        return Calibrated(plain, mean - plain.weights() @ centre)
    share = damping * float(np.trace(moments)) / len(moments)
    error = _Quadratic(moments + share * np.eye(len(moments)), y.T @ x + share * matrix)
    target = np.asarray(np.linalg.solve(error.hessian, error.slope.T).T, np.float64)
    k_bias = plain.k_bias if plain.k_bias is None else fit_optimal(target, bits, terms, k_bias_bits).k_bias
    factor = np.ones(len(moments)) if k_bias is None else np.exp2(k_bias[0].astype(np.float64))
    first = fit_optimal(target / factor, bits, terms).scale.astype(np.float64)
    upper = np.asarray(np.linalg.cholesky(np.linalg.inv(error.hessian)).T, np.float64)
    chosen, scale, least = np.zeros_like(matrix), first, np.full(len(matrix), np.inf)
    for multiple in SCALES:
        rounded = _rounded(target, upper, first * multiple, levels, factor)
        left = error.error(rounded * factor * (first * multiple)[:, None])
        better = left < least
        chosen, scale = np.where(better[:, None], rounded, chosen), np.where(better, first * multiple, scale)
        least = np.where(better, left, least)
    chosen, scale = _descended(chosen, scale, error, levels, factor)
    made = coded(chosen, scale, bits, terms, k_bias)
    made = _better(plain, made, error)
    return Calibrated(made, mean - made.weights() @ centre)


def _better(plain: TermSum, made: TermSum, error: _Quadratic) -> TermSum:
    """Channel by channel the one of less error; of fits with unlike exponents of K one for all."""
    errors = error.error(plain.weights()), error.error(made.weights())
    if made.k_bias is not None and plain.k_bias is not None and not np.array_equal(made.k_bias, plain.k_bias):
        return made if errors[1].sum() <= errors[0].sum() else plain
    keep = errors[0] < errors[1]
    codes = np.where(keep[None, :, None], plain.codes, made.codes)
    return TermSum(codes, np.where(keep, plain.scale, made.scale), made.bits, made.k_bias)


def _rounded(
    target: Float64Array, upper: Float64Array, scale: Float64Array, levels: Float64Array, factor: Float64Array
) -> Float64Array:
    """Levels (N, K), column after column; the later ones make up for the error of the earlier ones."""
    rest, chosen = target.copy(), np.empty_like(target)
    for k in range(target.shape[1]):
        chosen[:, k] = nearest_level(rest[:, k : k + 1], scale * factor[k], levels)[:, 0]
        left = (rest[:, k] - chosen[:, k] * scale * factor[k]) / upper[k, k]
        rest[:, k + 1 :] -= left[:, None] * upper[k, k + 1 :]
    return chosen


def _descended(
    chosen: Float64Array, scale: Float64Array, error: _Quadratic, levels: Float64Array, factor: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Levels and scales, each the best for all others, in turn; no step makes the error larger."""
    chosen = chosen.copy()
    for _ in range(_SWEEPS):
        before = chosen.copy()
        half_gradient = (chosen * factor * scale[:, None]) @ error.hessian - error.slope
        for k in range(chosen.shape[1]):
            unit = scale * factor[k]
            best = chosen[:, k] * unit - half_gradient[:, k] / error.hessian[k, k]
            new = nearest_level(best[:, None], unit, levels)[:, 0]
            half_gradient += ((new - chosen[:, k]) * unit)[:, None] * error.hessian[k]
            chosen[:, k] = new
        sums = chosen * factor
        along, square = (sums * error.slope).sum(1), ((sums @ error.hessian) * sums).sum(1)
        scale = np.divide(along, square, out=scale.copy(), where=(along > 0) & (square > 0))
        if np.array_equal(chosen, before):
            break
    return chosen, scale


def fit_groups(
    weight: NDArray[np.floating],
    bits: int,
    terms: int,
    inputs: NDArray[np.floating],
    reference: NDArray[np.floating] | None = None,
    k_bias_bits: int = 0,
) -> Calibrated:
    """``fit_calibrated`` of every group of a layer's channels by what that group reads, ``inputs`` (groups, rows, K)."""
    parts = np.split(as_matrix(weight), len(inputs))
    wanted = inputs if reference is None else reference
    made = [
        fit_calibrated(part, bits, terms, x, other, k_bias_bits=k_bias_bits)
        for part, x, other in zip(parts, inputs, wanted, strict=True)
    ]
    biases = [each.fit.k_bias for each in made if each.fit.k_bias is not None]
    fit = TermSum(
        np.concatenate([each.fit.codes for each in made], 1),
        np.concatenate([each.fit.scale for each in made]),
        bits,
        np.concatenate(biases) if biases else None,
    )
    return Calibrated(fit, np.concatenate([each.bias for each in made]))
