"""The table of training methods: what each is called, where it comes from, which weights it has, and its layers."""

from dataclasses import dataclass
from types import MappingProxyType

from golden.train import baselines
from golden.train.geometry import ShiftConv1d, ShiftConv2d, ShiftLinear
from golden.train.layers import DenseShiftConv1d, DenseShiftConv2d, DenseShiftLinear
from shiftforge.errors import InputError


class DeepShiftQLinear(baselines.DeepShiftQ, ShiftLinear):
    """``nn.Linear`` with DeepShift-Q weights; see ``baselines.DeepShiftQ``."""


class DeepShiftQConv1d(baselines.DeepShiftQ, ShiftConv1d):
    """``nn.Conv1d`` with DeepShift-Q weights; see ``baselines.DeepShiftQ``."""


class DeepShiftQConv2d(baselines.DeepShiftQ, ShiftConv2d):
    """``nn.Conv2d`` with DeepShift-Q weights; see ``baselines.DeepShiftQ``."""


class DeepShiftPSLinear(baselines.DeepShiftPS, ShiftLinear):
    """``nn.Linear`` with DeepShift-PS weights; see ``baselines.DeepShiftPS``."""


class DeepShiftPSConv1d(baselines.DeepShiftPS, ShiftConv1d):
    """``nn.Conv1d`` with DeepShift-PS weights; see ``baselines.DeepShiftPS``."""


class DeepShiftPSConv2d(baselines.DeepShiftPS, ShiftConv2d):
    """``nn.Conv2d`` with DeepShift-PS weights; see ``baselines.DeepShiftPS``."""


class S3Linear(baselines.S3, ShiftLinear):
    """``nn.Linear`` with S3-Shift weights; see ``baselines.S3``."""


class S3Conv1d(baselines.S3, ShiftConv1d):
    """``nn.Conv1d`` with S3-Shift weights; see ``baselines.S3``."""


class S3Conv2d(baselines.S3, ShiftConv2d):
    """``nn.Conv2d`` with S3-Shift weights; see ``baselines.S3``."""


class InqLinear(baselines.IncrementalPowerOfTwo, ShiftLinear):
    """``nn.Linear`` with INQ weights; see ``baselines.IncrementalPowerOfTwo``."""


class InqConv1d(baselines.IncrementalPowerOfTwo, ShiftConv1d):
    """``nn.Conv1d`` with INQ weights; see ``baselines.IncrementalPowerOfTwo``."""


class InqConv2d(baselines.IncrementalPowerOfTwo, ShiftConv2d):
    """``nn.Conv2d`` with INQ weights; see ``baselines.IncrementalPowerOfTwo``."""


class APoTLinear(baselines.APoT, ShiftLinear):
    """``nn.Linear`` with APoT weights; see ``baselines.APoT``."""


class APoTConv1d(baselines.APoT, ShiftConv1d):
    """``nn.Conv1d`` with APoT weights; see ``baselines.APoT``."""


class APoTConv2d(baselines.APoT, ShiftConv2d):
    """``nn.Conv2d`` with APoT weights; see ``baselines.APoT``."""


class PowerOfTwoLinear(baselines.PowerOfTwo, ShiftLinear):
    """``nn.Linear`` with plain power-of-two weights; see ``baselines.PowerOfTwo``."""


class PowerOfTwoConv1d(baselines.PowerOfTwo, ShiftConv1d):
    """``nn.Conv1d`` with plain power-of-two weights; see ``baselines.PowerOfTwo``."""


class PowerOfTwoConv2d(baselines.PowerOfTwo, ShiftConv2d):
    """``nn.Conv2d`` with plain power-of-two weights; see ``baselines.PowerOfTwo``."""


@dataclass(frozen=True)
class Method:
    """One way to train weights.

    Members
    -------
    source : str
        The publication.
    weights : str
        The set of weights of n bits.
    has_zero : bool
        Whether that set has a zero. One without runs on the array as it is, a scale per layer aside.
    from_weights : bool
        Whether training starts from the given network's weights; otherwise from latents that are drawn anew.
    linear, conv1d, conv2d : class, or None
        Its layers; None where plain layers stay.
    """

    name: str
    source: str
    weights: str
    has_zero: bool
    from_weights: bool
    linear: type[ShiftLinear] | None
    conv1d: type[ShiftConv1d] | None
    conv2d: type[ShiftConv2d] | None


METHODS = MappingProxyType(
    {
        method.name: method
        for method in (
            Method(
                "denseshift",
                "Li et al., ICCV 2023, arXiv 2208.09708",
                "±2**e, e in 0 .. 2**(n-1) - 1",
                False,
                False,
                DenseShiftLinear,
                DenseShiftConv1d,
                DenseShiftConv2d,
            ),
            Method(
                "deepshift-q",
                "Elhoushi et al., CVPR Workshops 2021, arXiv 1905.13298, section 3.2",
                "0, ±2**-e, e in 0 .. 2**(n-1) - 2",
                True,
                True,
                DeepShiftQLinear,
                DeepShiftQConv1d,
                DeepShiftQConv2d,
            ),
            Method(
                "deepshift-ps",
                "Elhoushi et al., CVPR Workshops 2021, arXiv 1905.13298, section 3.3",
                "0, ±2**-e, e in 0 .. 2**(n-1) - 2",
                True,
                True,
                DeepShiftPSLinear,
                DeepShiftPSConv1d,
                DeepShiftPSConv2d,
            ),
            Method(
                "s3",
                "Li et al., NeurIPS 2021, Sign-Sparse-Shift Reparametrization",
                "0, ±2**e, e in 0 .. 2**(n-1) - 2",
                True,
                False,
                S3Linear,
                S3Conv1d,
                S3Conv2d,
            ),
            Method(
                "inq",
                "Zhou et al., ICLR 2017, arXiv 1702.03044",
                "0, ±2**(n2+e), e in 0 .. 2**(n-2) - 1, n2 fitted per layer at the start",
                True,
                True,
                InqLinear,
                InqConv1d,
                InqConv2d,
            ),
            Method(
                "apot",
                "Li, Dong and Wang, ICLR 2020, arXiv 1909.13144",
                "a learned scale per layer times 0, ±1 (n = 2), with ±1/2, ±1/4 (3), 0, ±{1, 2, 3, 4, 6, 8, 10}/10 (4)",
                True,
                True,
                APoTLinear,
                APoTConv1d,
                APoTConv2d,
            ),
            Method(
                "pot",
                "Miyashita et al., arXiv 1603.01025, with the straight-through estimator of Bengio et al., arXiv 1308.3432",
                "±2**(top-e), e in 0 .. 2**(n-1) - 1, top fitted per layer at the start",
                False,
                True,
                PowerOfTwoLinear,
                PowerOfTwoConv1d,
                PowerOfTwoConv2d,
            ),
            Method("full", "the plain network", "any real number", True, True, None, None, None),
        )
    }
)
"""Every method by its name."""


def method_named(name: str) -> Method:
    """The method of that name; ``InputError`` lists the names otherwise."""
    try:
        return METHODS[name]
    except KeyError:
        raise InputError(f"method must be one of {', '.join(METHODS)}, not {name!r}") from None
