"""Networks with weights of zero on a machine with masks: the methods that train them, pruned and block-diagonal layers."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from golden.train.baselines import advance
from golden.train.convert import convert, freeze
from golden.train.methods import METHODS
from shiftforge.errors import InputError
from shiftforge.graph import Graph, Input, Layer, Linear
from shiftforge.graph.weights import shift_weights
from shiftforge.passes.reference import evaluate
from sw_driver.compiler.pipeline import assemble, compile_graph
from sw_driver.importers.pt2 import import_program
from tests.sw_driver.importers.test_pt2 import check, exported, shift_linear
from tests.sw_driver.networks import config_of


def trained(method: str, bits: int) -> nn.Sequential:
    """A small network of a method, from a network with some weights of zero; every weight is fixed."""
    torch.manual_seed(bits)
    layers = nn.Linear(14, 9, bias=False), nn.Linear(9, 5)
    for layer in layers:
        layer.weight.data[::2, ::3] = 0
    plain = nn.Sequential(layers[0], nn.ReLU(), layers[1])
    model = convert(plain, bits, method=method)
    if method == "s3":
        for name, latent in model.named_parameters():
            if "weight_" in name:
                nn.init.normal_(latent)
    advance(model, 1.0)
    frozen = freeze(model)
    assert isinstance(frozen, nn.Sequential)
    return frozen.eval()


def layers_of(graph: Graph) -> list[Layer]:
    return [node for node in graph if isinstance(node, Layer)]


def zero_methods() -> list[tuple[str, int]]:
    """The methods whose sets have a zero, but 4-bit APoT: those are sums of two powers, not powers."""
    return [
        (name, bits)
        for name, method in METHODS.items()
        for bits in (2, 3, 4)
        if method.has_zero and method.linear is not None and (name, bits) != ("apot", 4)
    ]


@pytest.mark.parametrize("method, bits", zero_methods())
def test_the_methods_with_a_zero_run(method, bits):
    """The weights come back exactly, one code and one slot each, and the machine gives the golden network's bits."""
    config = config_of(4, 3, bits=bits, max_k=64, mask=True)
    model = trained(method, bits)
    weights = [layer.weight.detach().double().numpy() for layer in model if isinstance(layer, nn.Linear)]
    graph = import_program(exported(model, 14), bits, mask=True)
    layers = layers_of(graph)
    for layer, weight in zip(layers, weights, strict=True):
        assert layer.terms == 1
        np.testing.assert_array_equal((layer.weights() * layer.scale).T, weight)
    assert any(layer.mask is not None for layer in layers)
    assert check(model, (14,), config, graph).recipe is not None


def test_sums_of_powers_are_left_to_terms():
    """4-bit APoT has levels such as 3/10: two powers of two, so masks do not help."""
    graph = import_program(exported(trained("apot", 4), 14), 4, mask=True)
    assert {layer.terms for layer in layers_of(graph)} == {2}


class MaskedLinear(nn.Module):
    """A Linear whose weight is multiplied by a constant mask, as pruning leaves it."""

    mask: torch.Tensor

    def __init__(self, layer: nn.Linear, mask: torch.Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("mask", mask)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.layer.weight * self.mask, self.layer.bias)


def test_a_block_diagonal_layer():
    """Three groups of four inputs and two outputs, behind a dense layer."""
    blocks = torch.block_diag(*[torch.ones(2, 4) for _ in range(3)])
    model = nn.Sequential(shift_linear(7, 12), nn.ReLU(), MaskedLinear(shift_linear(12, 6, 1, bias=True), blocks))
    config = config_of(4, 3, max_k=64, mask=True)
    graph = import_program(exported(model, 7), 3, mask=True)
    layer = layers_of(graph)[1]
    assert layer.mask is not None
    np.testing.assert_array_equal(layer.mask.T, blocks.numpy() != 0)
    assert layers_of(graph)[0].mask is None
    check(model, (7,), config, graph)


def test_masks_follow_a_permuted_input():
    """Channels last in memory, channels first in the model: the mask's rows are permuted as the codes' are."""
    layer = shift_linear(24, 5)
    layer.weight.data[:, ::3] = 0
    layer.weight.data[2, 5:20] = 0
    model = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.Flatten(), layer)
    assert isinstance(model[0], nn.Conv2d)
    model[0].weight.data = torch.tensor([[1.0, 0.0], [-2.0, 4.0], [0.0, 8.0]])[:, :, None, None]
    graph = import_program(exported(model, 2, 2, 4), 3, mask=True)
    x = torch.randn(6, 2, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want = model.double()(x).numpy()
    np.testing.assert_allclose(evaluate(graph, x.numpy())[graph.output.name], want, rtol=1e-12, atol=1e-12)
    assert all(layer.mask is not None for layer in layers_of(graph))


def test_an_output_without_any_weight_and_offsets_of_channels():
    weights = np.array([[0, 0, 0], [0, 4, -8], [2.0**30, 0, -(2.0**31)], [0.75, 0, -1.5]])
    shifts = shift_weights("fc", weights, 2, mask=True)
    assert shifts.mask is not None
    np.testing.assert_array_equal(shifts.mask, (weights != 0).T)
    exponent = (shifts.codes & 1).astype(np.int64) + shifts.exponent_bias
    values = np.ldexp(np.where(shifts.codes & 2, -1.0, 1.0), exponent) * shifts.mask * shifts.scale
    np.testing.assert_array_equal(values, weights.T)


def test_nothing_but_zeros():
    shifts = shift_weights("fc", np.zeros((2, 3)), 3, mask=True)
    assert shifts.mask is not None
    assert not shifts.mask.any()
    assert (shifts.exponent_bias, shifts.scale.tolist(), shifts.codes.tolist()) == (0, [1.0, 1.0], [[0, 0]] * 3)


def test_a_dense_layer_has_no_mask():
    weights = np.array([[1.0, -2.0], [8.0, 4.0]])
    masked, plain = (shift_weights("fc", weights, 3, mask=mask) for mask in (True, False))
    assert masked.mask is None
    assert masked.codes.tolist() == plain.codes.tolist()
    assert (masked.exponent_bias, masked.terms) == (plain.exponent_bias, 1)


@pytest.mark.parametrize("value", [0.37, np.nan, np.inf])
def test_what_is_no_power_is_named_beside_zeros(value):
    weights = np.array([[0.0, 1.0], [0.0, value], [1.0, np.pi]])
    with pytest.raises(InputError, match=rf"weight of layer 'fc' at index \(({'2, 1' if value == 0.37 else '1, 1'})\)"):
        shift_weights("fc", weights, 3, mask=True)


def test_a_machine_without_masks_refuses():
    codes, ones = np.array([[0, 1], [2, 3]], np.uint8), np.ones(2, np.float32)
    layer = Linear("fc", "x", codes, 3, 0, ones, ones, mask=np.array([[True, False], [True, True]]))
    graph = Graph((Input("x", (2,)), layer))
    message = "weights of layer 'fc' must not be zero without masks; set array.mask = true in the configuration"
    for build in (assemble, compile_graph):
        with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
            build(graph, config_of(2, 2))
        assert build(graph, config_of(2, 2, mask=True)).recipe is not None
