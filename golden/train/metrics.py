"""What training does to the codes: their distribution at the start, and how many have stopped changing."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from golden.train.baselines import APoT
from golden.train.geometry import ShiftLayer
from golden.train.layers import INITIAL_STD, DenseShiftLayer
from shiftforge.errors import CheckFailed, InputError

TrainingState = dict[str, object]


def effective_codes(model: nn.Module) -> dict[str, Tensor]:
    """The weights of every trained layer as they are quantised, without a learned scale, by layer name."""
    codes: dict[str, Tensor] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, ShiftLayer):
            weight = layer.weight.detach().cpu()
            # APoT's weights share one learned factor, which moves without any code moving.
            codes[name] = (
                torch.round(weight / layer.alpha.detach().cpu(), decimals=3) if isinstance(layer, APoT) else weight
            )
    return codes


class FreezingMeter:
    """Follows the codes of a network over the epochs: which of them still change.

    Call ``update`` once before training and once after each epoch.
    """

    def __init__(self, model: nn.Module) -> None:
        self._codes = effective_codes(model)
        self._changed = {name: torch.zeros(code.shape, dtype=torch.int32) for name, code in self._codes.items()}
        self._epoch = 0

    def update(self, model: nn.Module) -> float | None:
        """The share, 0..1, of weights whose code is that of the epoch before; None for a network without trained layers."""
        self._epoch += 1
        now = effective_codes(model)
        same = total = 0
        for name, code in now.items():
            moved = code != self._codes[name]
            self._changed[name][moved] = self._epoch
            total += moved.numel()
            same += moved.numel() - int(moved.sum())
        self._codes = now
        return same / total if total else None

    def frozen(self) -> tuple[float, ...]:
        """For every epoch, the share of weights whose code changes in no later one; known when training has ended.

        The last entry is 1. The paper's "weight freezing" is that this rises early: signs and exponents that no longer move.
        """
        if not self._changed:
            return ()
        last = torch.cat([each.flatten() for each in self._changed.values()])
        return tuple(float((last <= epoch).double().mean()) for epoch in range(1, self._epoch + 1))

    def state(self) -> TrainingState:
        """For a checkpoint."""
        return {"codes": self._codes, "changed": self._changed, "epoch": self._epoch}

    def load(self, state: TrainingState) -> None:
        """Go on from a state."""
        codes, changed, epoch = state["codes"], state["changed"], state["epoch"]
        if not isinstance(codes, dict) or not isinstance(changed, dict) or not isinstance(epoch, int):
            raise InputError("the checkpoint's codes must be those of the network, and are not")
        self._codes, self._changed, self._epoch = dict(codes), dict(changed), epoch


@dataclass(frozen=True)
class Start:
    """The latents of one DenseShift layer: their spread, and the share of each exponent beside the expected one."""

    layer: str
    spread: float
    shares: tuple[float, ...]
    expected: tuple[float, ...]


def check_start(model: nn.Module) -> tuple[Start, ...]:
    """The start of every DenseShift layer; ``CheckFailed`` unless it is the paper's low-variance initialisation.

    Latents come from N(0, std 0.001), so exponent e = 0 .. T - 1 has the share ``2**-(e+1)`` and T that of ``2**-T``. The
    spread may differ by 5 standard errors, and so may every share.
    """
    found: list[Start] = []
    for name, layer in model.named_modules():
        if not isinstance(layer, DenseShiftLayer):
            continue
        latents = torch.cat([layer.weight_sign.detach().flatten(), layer.weight_scale.detach().flatten()]).double()
        exponents = layer.weight.detach().abs().log2().round().long().flatten()
        top = layer.weight_scale.shape[0]
        expected = (*(2.0 ** -(e + 1) for e in range(top)), 2.0**-top)
        shares = tuple(float((exponents == e).double().mean()) for e in range(top + 1))
        spread = float(latents.square().mean().sqrt())
        start = Start(name, spread, shares, expected)
        count = exponents.numel()
        off = any(abs(s - e) > 5 * (e * (1 - e) / count) ** 0.5 for s, e in zip(shares, expected, strict=True))
        if off or abs(spread / INITIAL_STD - 1) > 5 / (2 * latents.numel()) ** 0.5:
            raise CheckFailed(
                f"latents of layer {name!r} must start from N(0, std {INITIAL_STD}), not with spread {spread:.3g} and exponents "
                f"in the shares {', '.join(f'{s:.3f}' for s in shares)}"
            )
        found.append(start)
    return tuple(found)
