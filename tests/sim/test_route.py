"""Place and route: nextpnr by either router, and names that it does not know. Blocks have `tests/sim/place/` of their own."""

import pytest

from shiftforge.errors import InputError
from sim.route import Flow, fmax_of, route
from sim.synth import synthesize


def test_the_other_router(design, work):
    synthesize([design], "known", place=False, work_dir=work)
    mhz = fmax_of(route(work, flow=Flow(router="router2"), pins=False, seed=1, frequency_mhz=100.0))
    assert mhz is not None
    assert 50 < mhz < 400
    assert "Running router2" in (work / "nextpnr.1.full.log").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "12k"}, "device must be one of 25k, 45k, 85k, not '12k'"),
        ({"placer": "sa"}, "placer must be one of heap, static, elements, not 'sa'"),
        ({"router": "router3"}, "router must be one of router1, router2, not 'router3'"),
    ],
)
def test_unknown_flows(arguments, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        Flow(**arguments)
