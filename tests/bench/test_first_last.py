"""What full precision at both ends costs and brings, as the docs say."""

import pytest

from bench.first_last import measure


@pytest.mark.slow
def test_more_terms_come_closer_and_take_longer():
    host, *sums = measure()
    assert host["error"] == 0.0
    assert float(host["host_seconds"]) > 0
    errors, cycles = [float(one["error"]) for one in sums], [int(one["cycles"]) for one in sums]
    assert errors == sorted(errors, reverse=True)
    assert 0 < errors[-1] < 0.05
    assert int(host["cycles"]) < cycles[0] <= cycles[1] < cycles[2] < cycles[3]
