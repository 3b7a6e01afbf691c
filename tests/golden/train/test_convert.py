"""Conversion to shift layers and back."""

import warnings

import pytest
import torch
from torch import nn

from golden.train.convert import convert, freeze
from golden.train.layers import DenseShiftConv1d, DenseShiftConv2d, DenseShiftLinear
from shiftforge.errors import InputError


class Network(nn.Module):
    """A stem to keep, grouped and strided convolutions, a layer used twice under two names, and a head with a bias."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, bias=False)
        self.body = nn.Sequential(
            nn.BatchNorm2d(4), nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2), nn.ReLU(), nn.BatchNorm2d(8)
        )
        self.mix = nn.Conv2d(8, 8, 1, padding="same", bias=False)
        self.again = self.mix
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(8 * 3 * 3, 5))

    def forward(self, x):
        return self.head(self.again(self.mix(self.body(self.stem(x)))))


def images(n=2):
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_convert_replaces_all_but_the_kept_layers(bits):
    model = Network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    twin = convert(model, bits, keep=("stem",))
    assert type(twin) is Network
    assert isinstance(twin.body[1], DenseShiftConv2d)
    assert isinstance(twin.mix, DenseShiftConv2d)
    assert isinstance(twin.head[1], DenseShiftLinear)
    assert {m.bits for m in twin.modules() if isinstance(m, DenseShiftConv2d | DenseShiftLinear)} == {bits}
    assert twin.again is twin.mix
    assert type(twin.stem) is nn.Conv2d
    assert twin.stem.weight is not model.stem.weight
    assert torch.equal(twin.stem.weight, model.stem.weight)
    assert torch.equal(twin.get_parameter("head.1.bias"), model.get_parameter("head.1.bias"))
    assert twin.mix.bias is None
    assert twin(images()).shape == (2, 5)
    assert type(model.mix) is nn.Conv2d
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_freeze_gives_plain_layers_with_equal_outputs(bits):
    shift = convert(Network(), bits, keep=("stem",))
    shift(images(8))
    shift.eval()
    plain = freeze(shift)
    assert not any(isinstance(m, DenseShiftConv2d | DenseShiftLinear) for m in plain.modules())
    assert type(plain.mix) is nn.Conv2d
    assert plain.again is plain.mix
    assert isinstance(shift.mix, DenseShiftConv2d)
    assert torch.equal(plain.mix.weight, shift.mix.weight)
    assert plain.mix.weight.is_leaf
    assert torch.equal(plain(images()), shift(images()))
    assert set(plain.state_dict()) == set(Network().state_dict())
    # And the way back: the plain network converts again.
    assert convert(plain, bits, keep=("stem",))(images()).shape == (2, 5)


def test_mode_and_element_type_are_taken_over_and_a_single_layer_converts():
    single = convert(nn.Linear(3, 2, dtype=torch.float64).eval(), 3)
    assert isinstance(single, DenseShiftLinear)
    assert single.weight.dtype is torch.float64
    assert not single.training
    plain = freeze(single)
    assert type(plain) is nn.Linear
    assert not plain.training
    assert torch.equal(plain.weight, single.weight)


def test_a_layer_of_two_names_is_kept_by_either():
    assert type(convert(Network(), 3, keep=("again",)).mix) is nn.Conv2d


def test_subclasses_stay():
    attention = nn.MultiheadAttention(8, 2)
    assert type(convert(attention, 3).out_proj) is type(attention.out_proj)


def tied():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False))
    model[1].weight = model[0].weight
    return model


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [2, "same", "valid"])
@pytest.mark.parametrize("plain", [nn.Conv1d, nn.Conv2d])
def test_every_padding_mode_is_torchs(plain, padding, mode):
    original = plain(2, 3, 4, padding=padding, padding_mode=mode, dilation=1, bias=True)
    twin = convert(original, 3)
    again = freeze(twin)
    assert type(again) is plain
    assert again.padding_mode == mode
    x = torch.randn(2, 2, *[7] * (original.weight.ndim - 2))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using padding='same' with even kernel lengths")
        assert torch.equal(twin(x), again(x))
    assert torch.equal(again.get_parameter("bias"), original.bias)


def test_one_dimensional_convolutions_convert():
    plain = nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2)
    twin = convert(plain, 2)
    assert isinstance(twin, DenseShiftConv1d)
    assert repr(twin) == (
        "DenseShiftConv1d(4, 6, kernel_size=(3,), bits=2, stride=(2,), padding=(1,), dilation=(2,), groups=2, bias=True)"
    )
    x = torch.randn(2, 4, 11)
    assert twin(x).shape == plain(x).shape
    assert torch.equal(freeze(twin)(x), twin(x))


def test_full_precision_is_a_copy():
    model = Network()
    twin = convert(model, 3, method="full")
    assert twin is not model
    assert torch.equal(twin(images()), model(images()))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: convert(Network(), 5), "weight_bits must be 2, 3 or 4, not 5"),
        (lambda: convert(Network(), 3, keep=("tail",)), "every name in keep must be a layer of the model, not 'tail'"),
        (lambda: convert(Network(), 3, keep="stem"), "keep must be a collection of layer names, not 'stem'"),
        (
            lambda: convert(Network(), 3, method="ternary"),
            "method must be one of denseshift, deepshift-q, deepshift-ps, s3, inq, apot, pot, full, not 'ternary'",
        ),
        (
            lambda: freeze(convert(Network(), 3, method="inq")),
            "all weights of an INQ layer must be fixed before it is frozen, not 0 of 108; call advance(model, 1.0)",
        ),
        (
            lambda: convert(tied(), 3),
            "a weight that becomes powers of two must belong to one layer, not to both '0' and '1' (weight)",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value) == message
