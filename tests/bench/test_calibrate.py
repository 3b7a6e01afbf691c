"""The fit of the area model: exact where cells follow the features, never negative, and its errors are counted."""

import numpy as np
import pytest

from bench import samples
from bench.calibrate import Sample, fit
from shiftforge.config import Config


def test_cells_that_follow_the_features_are_found_exactly() -> None:
    rng = np.random.default_rng(1)
    widths = rng.integers(1, 60, (12, 2)).tolist()
    found = [Sample({"one": 1, "a": a, "b": b}, 25 + 3 * a + 2 * b, 40 + a) for a, b in widths]
    lut, ff = fit(found, "lut"), fit(found, "ff")
    assert lut.coefficients == pytest.approx({"one": 25, "a": 3, "b": 2})
    assert ff.coefficients == pytest.approx({"one": 40, "a": 1, "b": 0}, abs=1e-6)
    assert max(lut.largest, lut.left_out_largest, ff.largest) < 1e-6


def test_no_coefficient_is_negative() -> None:
    found = [Sample({"one": 1, "a": a}, 100 - 2 * a, 100) for a in range(1, 20)]
    done = fit(found, "lut")
    assert done.coefficients["a"] == 0
    assert 60 < done.coefficients["one"] < 100
    assert 0 < done.mean < done.largest <= done.left_out_largest


def test_a_sample_that_stands_alone_shows_when_it_is_left_out() -> None:
    found = [Sample({"one": 1, "odd": 0}, 100, 0) for _ in range(5)] + [Sample({"one": 1, "odd": 1}, 200, 0)]
    done = fit(found, "lut")
    assert done.largest < 1e-6
    assert done.left_out_largest == pytest.approx(50)


def test_no_whole_machine_is_among_those_that_are_fitted() -> None:
    def key(config: Config) -> str:
        return repr(config.to_dict())

    fitted = {key(config) for config in [*samples.units(), *samples.cores()]}
    wholes = [key(config) for config in samples.wholes()]
    assert len(set(wholes)) == len(wholes) >= 8
    assert not fitted & set(wholes)
