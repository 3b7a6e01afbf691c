"""The published relatives of DenseShift, each as the mixin that makes its latents and its weight (see ``geometry``).

Values are exact powers of two: made by doubling, never by exp2 or pow, whose last bit differs between machines. ``n`` is the
width of a weight in bits, zero and sign included. Every rounding is torch's, ties to even.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from golden.train.geometry import ShiftLayer
from golden.train.layers import INITIAL_STD
from shiftforge.errors import InputError

LN2 = math.log(2.0)


def carried(value: Tensor, latent: Tensor) -> Tensor:
    """``value`` exactly, with the gradient of ``latent`` (the straight-through estimator)."""
    return value.detach() + (latent - latent.detach())


def power_of_two(exponent: Tensor, low: int, high: int) -> Tensor:
    """``2**exponent``, exactly, for a tensor of whole exponents (or -inf), held within ``low..high``; no gradient."""
    power = torch.full_like(exponent, 2.0**low)
    for step in range(low + 1, high + 1):
        power = torch.where(exponent >= step, 2 * power, power)
    return power


def _log2_rounded(weight: Tensor) -> Tensor:
    return weight.abs().log2().round()


class _LatentWeight(ShiftLayer):
    """A method whose latent is one real weight per element, ``latent``; it starts from given weights where there are any."""

    def make_latents(self, like: Tensor) -> None:
        self.latent = nn.Parameter(like)

    def reset_latents(self) -> None:
        nn.init.kaiming_uniform_(self.latent, a=math.sqrt(5))  # what torch does for its own layers

    def take_weight(self, weight: Tensor) -> None:
        with torch.no_grad():
            self.latent.copy_(weight)


class _FittedWindow(_LatentWeight):
    """A latent weight and a window of exponents that is fitted to the weights at the start and then stays.

    Members
    -------
    unit : buffer without axes
        The smallest power of two of the window.
    """

    unit: Tensor

    def make_latents(self, like: Tensor) -> None:
        super().make_latents(like)
        self.register_buffer("unit", like.new_ones(()))

    def reset_latents(self) -> None:
        super().reset_latents()
        self.fit_window()

    def take_weight(self, weight: Tensor) -> None:
        super().take_weight(weight)
        self.fit_window()

    def lowest(self, peak: float) -> int:
        """The window's smallest exponent for weights of at most ``peak`` > 0."""
        raise NotImplementedError

    def fit_window(self) -> None:
        """Fit the window to the latent's largest magnitude."""
        peak = float(self.latent.detach().abs().amax())
        self.unit.fill_(2.0 ** self.lowest(peak) if peak > 0 else 1.0)


class DeepShiftQ(_LatentWeight):
    """DeepShift-Q: a real weight, rounded to a power of two in every forward pass.

    Source: Elhoushi et al., "DeepShift: Towards Multiplication-Less Neural Networks", CVPR Workshops 2021 (arXiv
    1905.13298), section 3.2, and the authors' code. ``w = sign(v) * 2**round(log2|v|)`` with ``sign(0) = 0`` and exponents in
    ``-(2**(n-1) - 2) .. 0``; ``dv = dw``. In training the latents are held within the window by magnitude, as the authors do.
    """

    @property
    def low(self) -> int:
        """The smallest exponent; the largest is 0."""
        return 2 - 2 ** (self.bits - 1)

    def settle(self) -> None:
        with torch.no_grad():
            self.latent.copy_(self.latent.sign() * self.latent.abs().clamp(2.0**self.low, 1.0))

    @property
    def weight(self) -> Tensor:
        value = self.latent.detach()
        return carried(value.sign() * power_of_two(_log2_rounded(value), self.low, 0), self.latent)


class DeepShiftPS(ShiftLayer):
    """DeepShift-PS: the shift and the sign of every weight are trained themselves.

    Source: as ``DeepShiftQ``, section 3.3. ``w = 2**round(p) * sign(round(s))`` with p held in ``-(2**(n-1) - 2) .. 0``, so
    ``|s| <= 0.5`` gives 0; ``dp = dw * w * ln 2`` and ``ds = dw``. Starts with p uniform over the window and s over -1..1, or
    from given weights v with ``p = round(log2|v|)``, ``s = sign(v)``.

    Members
    -------
    shift, sign : Parameter, the weight's shape
    """

    @property
    def low(self) -> int:
        """The smallest exponent; the largest is 0."""
        return 2 - 2 ** (self.bits - 1)

    def make_latents(self, like: Tensor) -> None:
        self.shift = nn.Parameter(like)
        self.sign = nn.Parameter(torch.empty_like(like))

    def reset_latents(self) -> None:
        nn.init.uniform_(self.shift, self.low, 0.0)
        nn.init.uniform_(self.sign, -1.0, 1.0)

    def take_weight(self, weight: Tensor) -> None:
        with torch.no_grad():
            self.shift.copy_(_log2_rounded(weight).clamp(self.low, 0))
            self.sign.copy_(weight.sign())

    def settle(self) -> None:
        with torch.no_grad():
            self.shift.clamp_(self.low, 0)
            self.sign.clamp_(-1, 1)

    @property
    def weight(self) -> Tensor:
        value = power_of_two(self.shift.detach().round(), self.low, 0) * self.sign.detach().round().sign()
        return value + value * LN2 * (self.shift - self.shift.detach()) + (self.sign - self.sign.detach())


class S3(ShiftLayer):
    """S3-Shift: sign, sparsity and shift are decomposed into binary latents.

    Source: Li et al., "S3: Sign-Sparse-Shift Reparametrization for Effective Training of Low-bit Shift Networks", NeurIPS
    2021, and the authors' demo layer. ``w = sgn(weight_sign) * b(weight_sparse) * 2**S_T`` with b, sgn and the recursion of
    DenseShift over ``T = 2**(n-1) - 2`` latents (the demo's ``b(shift) * (b(shift2) + 1)`` for 3 bits, with ``shift2`` first);
    all binarisers pass gradients on unchanged, the rest is differentiated as it stands. The published loss has one more term,
    see ``sparsity_penalty``. Latents start from N(0, std 0.001); the demo leaves the start to its user.

    Members
    -------
    weight_sign, weight_sparse : Parameter, the weight's shape
    weight_shift : Parameter, ``(2**(n-1) - 2, *shape)``, or None for 2 bits
    """

    weight_shift: nn.Parameter | None

    def make_latents(self, like: Tensor) -> None:
        self.weight_sign = nn.Parameter(like)
        self.weight_sparse = nn.Parameter(torch.empty_like(like))
        steps = 2 ** (self.bits - 1) - 2
        # Not a parameter without elements: DistributedDataParallel refuses one that no gradient reaches.
        self.register_parameter("weight_shift", nn.Parameter(like.new_empty((steps, *like.shape))) if steps else None)

    def reset_latents(self) -> None:
        for latent in (self.weight_sign, self.weight_sparse, self.weight_shift):
            if latent is not None:
                nn.init.normal_(latent, std=INITIAL_STD)

    @property
    def weight(self) -> Tensor:
        sign = carried(torch.where(self.weight_sign >= 0, 1.0, -1.0).to(self.weight_sign.dtype), self.weight_sign)
        kept = carried((self.weight_sparse > 0).to(self.weight_sparse.dtype), self.weight_sparse)
        exponent = torch.zeros_like(self.weight_sign)
        shifts = () if self.weight_shift is None else self.weight_shift.unbind(0)
        for latent in shifts:
            exponent = (exponent + 1) * carried((latent > 0).to(latent.dtype), latent)
        power = power_of_two(exponent.detach(), 0, len(shifts))
        return sign * kept * (power + power * LN2 * (exponent - exponent.detach()))


def sparsity_penalty(model: nn.Module, strength: float = 1e-5) -> Tensor:
    """S3-Shift's term of the loss, ``strength * sum(max(-weight_sparse, 0))`` over all S3 layers: it pulls weights off zero."""
    terms = [(-layer.weight_sparse).clamp(min=0).sum() for layer in model.modules() if isinstance(layer, S3)]
    return strength * torch.stack(terms).sum() if terms else torch.zeros(())


class PowerOfTwo(_FittedWindow):
    """Plain powers of two with a straight-through gradient: DenseShift's code without DenseShift's training.

    Source: the logarithmic quantiser of Miyashita, Lee and Murmann, "Convolutional Neural Networks using Logarithmic Data
    Representation" (arXiv 1603.01025), section 3.1, with the straight-through estimator of Bengio et al. (arXiv 1308.3432).
    ``w = sgn(v) * 2**clip(round(log2|v|), top - (2**(n-1) - 1), top)``, ``sgn(0) = +1``, ``dv = dw``; ``top`` is
    ``round(log2 max|v|)`` at the start. Their code for zero is given to one exponent more, so the set is zero-free.
    """

    def lowest(self, peak: float) -> int:
        return round(math.log2(peak)) - (2 ** (self.bits - 1) - 1)

    @property
    def weight(self) -> Tensor:
        value = self.latent.detach()
        power = power_of_two(_log2_rounded(value / self.unit), 0, 2 ** (self.bits - 1) - 1) * self.unit
        return carried(torch.where(value >= 0, power, -power), self.latent)


class IncrementalPowerOfTwo(_FittedWindow):
    """INQ: the largest weights are fixed to powers of two first, the others train on and follow in later steps.

    Source: Zhou et al., "Incremental Network Quantization: Towards Lossless CNNs with Low-Precision Weights", ICLR 2017
    (arXiv 1702.03044), equations 1 to 4, with the pruning-inspired partition. For ``s = max|v|`` of the start:
    ``n1 = floor(log2(4 s / 3))``, ``n2 = n1 + 1 - 2**(n-1) / 2``; a fixed weight is ``sgn(v) * 2**e`` for
    ``(a + 2**e) / 2 <= |v| < 3 * 2**e / 2`` with a the next smaller value of {0, 2**n2 .. 2**n1}, and 0 below all of these. A
    weight that has grown beyond the window becomes ``2**n1``. ``dv = dw`` where v is not fixed, else 0.

    Members
    -------
    latent : Parameter
    fixed : bool buffer, fixed_weight : buffer, the weight's shape
    """

    fixed: Tensor
    fixed_weight: Tensor

    def make_latents(self, like: Tensor) -> None:
        super().make_latents(like)
        self.register_buffer("fixed", torch.zeros_like(like, dtype=torch.bool))
        self.register_buffer("fixed_weight", torch.zeros_like(like))

    def lowest(self, peak: float) -> int:
        n1 = math.frexp(4 * peak / 3)[1] - 1
        return n1 + 1 - 2 ** (self.bits - 2)

    def fit_window(self) -> None:
        super().fit_window()
        self.fixed.zero_()
        self.fixed_weight.zero_()

    def rounded(self) -> Tensor:
        """What every latent would be fixed to now."""
        magnitude = self.latent.detach().abs() / self.unit
        power = torch.where(magnitude >= 0.5, 1.0, 0.0).to(magnitude.dtype)
        for step in range(1, 2 ** (self.bits - 2)):
            power = torch.where(magnitude >= 0.75 * 2**step, 2.0**step, power)
        return self.latent.detach().sign() * power * self.unit

    def advance(self, portion: float) -> None:
        """Fix the largest of the free weights until ``portion`` (0..1) of all are fixed. Fixed ones never change again."""
        if not 0 <= portion <= 1:
            raise InputError(f"the portion to fix must be 0..1, not {portion!r}")
        wanted = round(portion * self.fixed.numel()) - int(self.fixed.sum())
        if wanted <= 0:
            return
        order = self.latent.detach().abs().masked_fill(self.fixed, -1.0).flatten().argsort(descending=True, stable=True)
        chosen = torch.zeros_like(self.fixed).flatten()
        chosen[order[:wanted]] = True
        chosen = chosen.view_as(self.fixed)
        self.fixed_weight.copy_(torch.where(chosen, self.rounded(), self.fixed_weight))
        self.fixed |= chosen

    @property
    def weight(self) -> Tensor:
        return torch.where(self.fixed, self.fixed_weight, self.latent)


def advance(model: nn.Module, portion: float) -> None:
    """Fix ``portion`` (0..1) of the weights of every INQ layer; the paper's steps are 0.5, 0.75, 0.875 and 1."""
    for layer in model.modules():
        if isinstance(layer, IncrementalPowerOfTwo):
            layer.advance(portion)


APOT_LEVELS = {
    2: (0.0, 1.0),
    3: (0.0, 0.25, 0.5, 1.0),
    4: tuple(sorted({(a + b) / 0.625 for a in (0.0, 0.5, 0.25, 0.0625) for b in (0.0, 0.125)})),
}
"""Magnitudes for 2, 3 and 4 bits, the largest 1: sums of one power of two of each set, as in the authors' code."""


class APoT(_LatentWeight):
    """Additive powers of two with weight normalisation and a learned clipping threshold.

    Source: Li, Dong and Wang, "Additive Powers-of-Two Quantization", ICLR 2020 (arXiv 1909.13144), section 2, and the
    authors' code. ``u = (v - mean v) / std v``; ``w = alpha * sgn(u) * nearest(min(|u| / alpha, 1))`` among ``APOT_LEVELS``, the
    smaller of two that are equally near. ``du = dw`` where ``|u| <= alpha``, else 0; ``dalpha`` is the sum over dw times sgn(u)
    outside, and ``w / alpha - u / alpha`` inside. alpha starts at 3. The published network also clips activations; this does
    not.

    Members
    -------
    latent : Parameter, alpha : Parameter without axes
    """

    def make_latents(self, like: Tensor) -> None:
        if like.numel() < 2:
            raise InputError(f"an APoT layer must have two weights or more for their deviation, not {like.numel()!r}")
        super().make_latents(like)
        self.alpha = nn.Parameter(like.new_empty(()))

    def reset_latents(self) -> None:
        super().reset_latents()
        nn.init.constant_(self.alpha, 3.0)

    @property
    def weight(self) -> Tensor:
        normal = (self.latent - self.latent.mean()) / self.latent.std()
        clipped = (normal / self.alpha).clamp(-1, 1)
        size = clipped.detach().abs()
        nearest = torch.zeros_like(size)
        for below, above in pairwise(APOT_LEVELS[self.bits]):
            nearest = torch.where(size > (below + above) / 2, above, nearest)
        return self.alpha * carried(clipped.detach().sign() * nearest, clipped)
