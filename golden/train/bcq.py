"""Binary-coded weights, as ShiftAddLLM has them, as sums of zero-free powers of two.

Sources: Xu et al., "Alternating Multi-bit Quantization" (ICLR 2018, arXiv 1802.00150), and You et al., ShiftAddLLM (NeurIPS 2024,
arXiv 2406.05981): ``W[n, k] = sum_i alpha[i, n] * b[i, n, k]`` with ``b = ±1`` and every alpha a sum of signed powers of two. Each
of those powers times its b is one term, so a layer of q bases and A powers per alpha runs exactly as one of ``q * A`` times the K.
"""

import itertools

import numpy as np
from numpy.typing import NDArray

from golden.codec import encode_weights
from golden.train.term_sums import Float64Array, TermSum, as_matrix, nearest_level
from shiftforge.errors import InputError
from shiftforge.formats import WeightCode

MAX_BASES = 4


def _assigned(weight: Float64Array, alpha: Float64Array) -> Float64Array:
    """The signs (q, N, K) whose sum is nearest to each weight."""
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(alpha))))
    sums = signs @ alpha  # (2**q, N)
    best = np.abs(weight[None] - sums[:, :, None]).argmin(0)
    return np.moveaxis(signs[best], -1, 0)


def fit_alternating(weight: NDArray[np.floating], bases: int, rounds: int = 15) -> tuple[Float64Array, Float64Array]:
    """Signs (q, N, K) and real factors (q, N) of small squared error: greedy, then best factors and best signs in turn.

    No round makes the error larger.
    """
    matrix = as_matrix(weight)
    if isinstance(bases, bool) or not isinstance(bases, int) or not 1 <= bases <= MAX_BASES:
        raise InputError(f"bases must be an integer from 1 to {MAX_BASES}, not {bases!r}")
    rest, parts = matrix, []
    for _ in range(bases):
        parts.append(np.where(rest >= 0, 1.0, -1.0))
        rest = rest - parts[-1] * np.abs(rest).mean(1, keepdims=True)
    signs = np.array(parts)
    alpha = _best_factors(matrix, signs)
    for _ in range(rounds):
        signs = _assigned(matrix, alpha)
        alpha = _best_factors(matrix, signs)
    return signs, alpha


def _best_factors(weight: Float64Array, signs: Float64Array) -> Float64Array:
    gram = np.einsum("ink,jnk->nij", signs, signs)
    right = np.einsum("ink,nk->ni", signs, weight)
    return np.einsum("nij,nj->in", np.linalg.pinv(gram, hermitian=True), right)


def fit_bcq(weight: NDArray[np.floating], bases: int = 3, powers: int = 2, bits: int = 4) -> TermSum:
    """A weight matrix (N, K) as binary codes whose factors are sums of powers of two: ``bases * powers`` terms.

    Parameters
    ----------
    bases : int
        1 to 4: q, the bits of the binary code.
    powers : int
        Powers of two per factor, each the nearest to what those before it left, in a window of ``2**(bits-1)`` exponents per
        channel whose top is that of the largest factor. The signs are chosen anew for the rounded factors.
    bits : int
        Width of the array's weight codes.
    """
    matrix = as_matrix(weight)
    if isinstance(powers, bool) or not isinstance(powers, int) or powers < 1:
        raise InputError(f"powers must be a positive integer, not {powers!r}")
    top = WeightCode(bits).max_exponent
    _, alpha = fit_alternating(matrix, bases)
    peak = np.abs(alpha).max(0)
    scale = np.ldexp(1.0, np.rint(np.log2(np.where(peak > 0, peak, 1.0))).astype(np.int64) - top)
    levels = np.ldexp(1.0, np.arange(top + 1))
    rest, parts = alpha, []
    for _ in range(powers):
        parts.append(np.stack([nearest_level(row[:, None], scale, levels)[:, 0] for row in rest]))
        rest = rest - parts[-1] * scale
    factors = np.array(parts)  # (powers, q, N), in units of the scale
    signs = _assigned(matrix, factors.sum(0) * scale)
    terms = (factors[..., None] * signs).reshape(-1, *matrix.shape)
    return TermSum(encode_weights(terms, bits), np.where(peak > 0, scale, 0.0).astype(np.float32), bits)
