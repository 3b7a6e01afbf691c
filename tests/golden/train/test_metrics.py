"""The freezing metric against a count by hand, and the check of the initialisation."""

import pytest
import torch
from torch import nn

from golden.train.convert import convert
from golden.train.layers import DenseShiftConv2d, DenseShiftLinear
from golden.train.metrics import FreezingMeter, check_start, effective_codes
from shiftforge.errors import CheckFailed


def test_the_meter_counts_codes_and_not_latents():
    layer = DenseShiftLinear(4, 1)
    with torch.no_grad():
        layer.weight_sign.fill_(0.5)
        layer.weight_scale.fill_(-0.5)
    model = nn.Sequential(layer)
    meter = FreezingMeter(model)
    with torch.no_grad():
        layer.weight_sign.mul_(3)  # the same code
    assert meter.update(model) == 1.0
    with torch.no_grad():
        layer.weight_sign[0, 0] = -1  # a sign
        layer.weight_scale[2, 0, 1] = 1  # an exponent
    assert meter.update(model) == 0.5
    with torch.no_grad():
        layer.weight_sign[0, 0] = 1
    assert meter.update(model) == 0.75
    assert meter.update(model) == 1.0
    # Two weights never change, one last changes in epoch 2, one in epoch 3.
    assert meter.frozen() == (0.5, 0.75, 1.0, 1.0)
    other = FreezingMeter(model)
    other.load(meter.state())
    assert other.frozen() == meter.frozen()


def test_a_plain_network_has_no_codes():
    model = nn.Linear(2, 2)
    meter = FreezingMeter(model)
    assert meter.update(model) is None
    assert meter.frozen() == ()


def test_apots_learned_scale_is_no_change_of_a_code():
    model = convert(nn.Sequential(nn.Linear(8, 4, bias=False)), 3, method="apot")
    before = effective_codes(model)["0"]
    with torch.no_grad():
        model.get_parameter("0.alpha").mul_(1.0001)
    assert torch.equal(effective_codes(model)["0"], before)


@pytest.mark.parametrize("bits, expected", [(2, (0.5, 0.5)), (3, (0.5, 0.25, 0.125, 0.125))])
def test_a_fresh_network_starts_with_the_published_shares(bits, expected):
    torch.manual_seed(0)
    model = nn.Sequential(DenseShiftConv2d(8, 16, 3, bits), DenseShiftLinear(64, 64, bits))
    starts = check_start(model)
    assert [s.layer for s in starts] == ["0", "1"]
    for start in starts:
        assert start.expected == expected
        assert sum(start.shares) == 1.0
        assert start.spread == pytest.approx(1e-3, rel=0.05)


@pytest.mark.parametrize("spoil", [lambda l: l.mul_(1.2), lambda l: l.abs_()])
def test_another_start_is_found(spoil):
    torch.manual_seed(0)
    layer = DenseShiftLinear(64, 64)
    with torch.no_grad():
        spoil(layer.weight_scale)
    with pytest.raises(CheckFailed, match=r"latents of layer '0' must start from N\(0, std 0.001\), not with spread"):
        check_start(nn.Sequential(layer))
