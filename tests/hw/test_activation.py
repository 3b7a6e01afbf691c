"""The activation unit against the golden model: its result is exact, and rounds as the binary32 one does."""

import numpy as np
import pytest

from golden.rounding import round_float64, round_fp32
from hw.activation import EXPONENT_BITS, Activate
from shiftforge import timing
from shiftforge.activation import ACTIVATION_KINDS, Activation
from shiftforge.binary32 import apply_activation, canonical
from shiftforge.formats import FORMATS
from tests.hw.pipeline import stream
from tests.hw.test_fp32 import EDGES, patterns


@pytest.mark.parametrize(
    "activation",
    [
        Activation.none(),
        Activation.relu(),
        Activation.clamp(0.0, 6.0),
        Activation.clamp(-1.5, -0.0),
        Activation.clamp(-0.0, float("inf")),
        *(Activation.leaky(n) for n in (0, 1, 2, 7, 14, 15)),
    ],
    ids=str,
)
def test_the_activation_rounds_to_the_same_as_in_binary32(activation):
    """Its exact result, rounded by the model to fp16, is the model's result in binary32, rounded to fp16; inexact or not too."""
    rng = np.random.default_rng(6)
    tiny = np.concatenate([(1 << np.arange(16)) + d for d in (-1, 0, 1)]).astype(np.uint32)
    x = np.concatenate([EDGES, tiny, tiny | np.uint32(1 << 31), patterns(rng, 300)])
    x = canonical(x.view(np.float32)).view(np.uint32)
    constants = {
        "kind": ACTIVATION_KINDS.index(activation.kind),
        "shift": activation.shift,
        "lo": activation.lo,
        "hi": activation.hi,
    }
    results = stream(Activate(), [{"x": int(bits), **constants} for bits in x], timing.ACTIVATION)
    expected = apply_activation(x.view(np.float32), activation)
    for bits, value, found in zip(x, expected, results, strict=True):
        if np.isnan(value):
            assert found["nan"]
            continue
        assert not found["nan"]
        assert found["sign"] == np.signbit(value), hex(bits)
        assert found["inf"] == np.isinf(value), hex(bits)
        if np.isfinite(value):
            assert abs(found["exponent"]) < 1 << (EXPONENT_BITS - 1)
            exact = np.ldexp(np.float64(found["significand"]), found["exponent"] - 25) * (-1) ** found["sign"]
            if abs(value) >= 2.0**-126:
                assert exact == np.float64(value), hex(bits)
            else:
                assert (exact == 0) == (value == 0), hex(bits)
                assert abs(exact) < 2.0**-125, hex(bits)
            once, flags = round_fp32(np.array([value]).view(np.uint32), FORMATS["fp16"])
            same, exact_flags = round_float64(np.array([exact]), FORMATS["fp16"])
            assert (same, exact_flags) == (once, flags), hex(bits)
