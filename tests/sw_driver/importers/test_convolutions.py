"""Exported convolutional networks: values against torch in float64, every pass against the golden network."""

import numpy as np
import pytest
import torch
from torch import nn

from golden import network as golden_network
from golden.emulator import EmulatorTransport
from golden.train.post_training import TermSumLayer, convert_pretrained
from golden.train.runner import export
from shiftforge.errors import InputError, NotBuiltError
from shiftforge.graph import Add, AveragePool, Concat, Conv, Linear, MaxPool
from shiftforge.passes.reference import evaluate
from shiftforge.program import from_bytes
from sw_driver.accelerator import Accelerator
from sw_driver.compiler.check import check_passes
from sw_driver.compiler.pipeline import compile_graph
from sw_driver.importers.pt2 import import_program
from tests.sw_driver.importers.models import MODELS, inputs, powers
from tests.sw_driver.networks import config_of


def exported(model: nn.Module, *shape: int):
    return export(model.eval(), torch.zeros(2, *shape))


def float64_of(model: nn.Module, x) -> np.ndarray:
    with torch.no_grad():
        return model.double()(torch.from_numpy(x).double()).numpy()


def check(model: nn.Module, shape: tuple[int, ...], config=None, calibrate=False, tolerance: float = 0.02):
    """The graph has torch's values, every pass holds, and the golden network comes close to torch."""
    config = config or config_of(4, 3, max_k=64)
    graph = import_program(exported(model, *shape), config.weights.bits, mask=config.weights.mask)
    x = inputs(shape)
    want = float64_of(model, x)
    got = evaluate(graph, x.astype(np.float64))[graph.output.name]
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=1e-6, atol=1e-6 * np.abs(want).max())
    calibration = x.astype(np.float64) if calibrate else None
    program = compile_graph(graph, config, calibration=calibration)

    def execute(compiled, codes):
        return golden_network.run(compiled, config, codes, "saturate").output

    done = check_passes(graph, program, x.astype(np.float64), execute, EmulatorTransport(config), calibration)
    placed = [] if program.placed is None else ["place and emit"]
    assert [c.name for c in done if c.rule == "=="] == ["fuse", "the program's graph", *placed]
    again = from_bytes(program.to_bytes())
    codes = golden_network.encode_input(again.graph, config, x)
    np.testing.assert_array_equal(
        Accelerator(EmulatorTransport(config), config).encode_input(again, x), codes.reshape(5, -1)
    )
    result = golden_network.run(again.graph, config, codes)
    np.testing.assert_array_equal(result.output, execute(program.graph, codes))
    values = golden_network.output_values(again.graph, config, result.output)
    np.testing.assert_allclose(values.reshape(want.shape), want, rtol=0, atol=tolerance * np.abs(want).max())
    assert again.to_bytes() == program.to_bytes()
    return graph, program


WHOLE = {"residual": True, "max_pool": True, "mask": True, "max_k": 256, "activation_pages": 4}


@pytest.mark.parametrize("name", MODELS)
def test_networks(name):
    build, shape = MODELS[name]
    _, program = check(build(), shape, config_of(4, 3, **WHOLE))
    assert program.placed is not None
    assert len(program.placed.phases) == 1


def test_full_precision_layers_run_on_the_host():
    """A first and a last layer that are no powers of two: named, they stay as they are; not named, they are refused."""
    torch.manual_seed(2)
    first, last = nn.Conv2d(3, 4, 3, 2, 1), nn.Linear(4 * 9, 5)
    middle = powers(nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4)))
    model = nn.Sequential(first, nn.BatchNorm2d(4), nn.ReLU(), middle, nn.ReLU(), nn.Flatten(), last).eval()
    config, program = config_of(4, 3, max_k=64), exported(model, 3, 5, 6)
    with pytest.raises(InputError, match="^weight of layer '0' at index .*compile --host"):
        import_program(program, 3)
    with pytest.raises(
        InputError, match="^a layer that the host keeps must be one of the network's, 0, 3.0, 6, not 'stem'$"
    ):
        import_program(program, 3, host=["0", "6", "stem"])
    graph = import_program(program, 3, host=["0", "6"])
    x = inputs((3, 5, 6))
    compiled = compile_graph(graph, config)
    assert [line.place for line in compiled.report] == ["host", "chip", "host"]
    done = check_passes(
        graph,
        compiled,
        x.astype(np.float64),
        lambda one, codes: golden_network.run(one, config, codes, "saturate").output,
        EmulatorTransport(config),
    )
    assert done[-1].name == "place and emit"
    values = Accelerator(EmulatorTransport(config), config).run_values(compiled, x)
    want = float64_of(model, x)
    np.testing.assert_allclose(values, want, rtol=0, atol=0.01 * np.abs(want).max())


@pytest.mark.parametrize("name", MODELS)
def test_networks_that_the_machine_does_not_run(name):
    build, shape = MODELS[name]
    _, program = check(build(), shape)
    assert program.placed is None
    assert program.unplaced
    assert {type(node) for node in program.graph.nodes[1:]} <= {
        Conv,
        Linear,
        MaxPool,
        Concat,
        type(program.graph.nodes[-2]),
    }
    with pytest.raises(
        NotBuiltError,
        match="^the program 'network' must be one that its machine runs, and (max-pool|layer)",
    ):
        Accelerator(EmulatorTransport(program.config), program.config).run(program, inputs(shape))


@pytest.mark.parametrize(
    "activation, output, tolerance", [("int8", "int16", 0.12), ("fp8_e4m3", "fp16", 0.25), ("int16", "int16", 1e-3)]
)
@pytest.mark.parametrize("name", ["resnet", "branches"])
def test_calibrated_networks(name, activation, output, tolerance):
    """Residuals in another scale, pools and concatenations in one scale with what they read."""
    build, shape = MODELS[name]
    check(build(), shape, config_of(4, 3, activation, output, **WHOLE), True, tolerance)


def test_the_residual_network_s_graph():
    build, shape = MODELS["resnet"]
    graph, program = check(build(), shape)
    assert [type(n) for n in graph if isinstance(n, Add | MaxPool | AveragePool)] == [MaxPool, Add, Add, AveragePool]
    layers = {layer.name: layer for layer in program.graph.layers()}
    assert layers["4.conv2"].residual == "3"
    assert layers["4.conv2"].activation.kind == "relu"
    # In the second block the later of two layers goes on unrounded; the other is its residual.
    assert {layers["5.down.0"].residual, layers["5.conv2"].residual} == {"", "5.conv2"}
    assert [line.kind for line in program.report][-1] == "linear"
    assert program.report[0].macs * program.report[0].pixels == 3 * 9 * 4 * 144


@pytest.mark.parametrize("terms", [2, 3])
def test_sums_of_powers(terms):
    """Post-training weights: whole numbers, each the sum of terms, times the channel's scale."""
    torch.manual_seed(1)
    plain = nn.Sequential(nn.Conv2d(2, 5, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(45, 4)).eval()
    model = convert_pretrained(plain, 3, terms)
    graph, program = check(model, (2, 6, 6), config_of(4, 3, max_k=256))
    layers = [node for node in graph if isinstance(node, Conv | Linear)]
    assert [layer.terms for layer in layers] == [terms, terms]
    assert program.placed is not None
    for layer, name in zip(layers, ("0", "3"), strict=True):
        module = model.get_submodule(name)
        assert isinstance(module, TermSumLayer)
        weights = module.fit.sums()
        if isinstance(layer, Conv):
            weights = weights.reshape(5, 2, 3, 3).transpose(0, 2, 3, 1).reshape(5, -1)
        else:
            weights = weights.reshape(4, 5, 9).transpose(0, 2, 1).reshape(4, -1)
        np.testing.assert_array_equal(layer.weights().T * layer.scale[:, None], weights)


def test_a_bias_before_padding_is_refused():
    class Shifted(nn.Module):
        def __init__(self, padding):
            super().__init__()
            self.conv = powers(nn.Conv2d(2, 3, 3, padding=padding, groups=1))

        def forward(self, x):
            return self.conv(x * 0.5 - torch.tensor([0.5, 0.25]).view(1, 2, 1, 1)).mean((2, 3))

    check(Shifted(0), (2, 5, 6))
    graph = import_program(exported(Shifted(1), 2, 5, 6), 3)
    with pytest.raises(InputError) as caught:
        compile_graph(graph, config_of())
    assert str(caught.value) == (
        "'sub' must add nothing to the input of 'conv', which pads it with zeros, and adds -0.5; apply it to the data instead"
    )


@pytest.mark.parametrize("groups", [1, 3])
def test_channels_last_models(groups):
    """A model that takes channels last and turns them itself; the graph turns nothing."""

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = powers(nn.Conv2d(3, 6, 3, groups=groups))

        def forward(self, x):
            return self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).flatten(1)

    graph, _ = check(Last(), (5, 6, 3))
    assert (graph.input.image, graph.input.channels_first) == ((5, 6, 3), False)


class Net(nn.Module):
    """One operation after a convolution."""

    def __init__(self, operation):
        super().__init__()
        self.conv, self.operation = powers(nn.Conv2d(4, 4, 3, padding=1)), operation

    def forward(self, x):
        return self.operation(self.conv(x))


@pytest.mark.parametrize(
    "operation, message",
    [
        (
            lambda x: nn.functional.max_pool2d(x, 2, ceil_mode=True),
            "must have ceil_mode=False where the windows do not fit, and would make (3, 4) of (2, 3) pixels; pad the input",
        ),
        (
            lambda x: nn.functional.avg_pool2d(x, 3, padding=1, count_include_pad=False),
            "must count its padding, or have none; set count_include_pad=True",
        ),
        (
            lambda x: nn.functional.avg_pool2d(x, 2, divisor_override=3),
            "must divide by its 4 pixels; leave divisor_override out",
        ),
        (
            lambda x: nn.functional.adaptive_avg_pool2d(x, (2, 3)),
            "must make sizes that divide the input's (5, 7), not (2, 3); global pooling makes 1",
        ),
        (
            lambda x: x.mean(1),
            "must be the mean over all pixels of (batch, channels, pixels), not over axes [1]",
        ),
        (lambda x: torch.cat([x, x], 2), "must join channels, axis 1 of (batch, channels, ...), not axis 2"),
        (lambda x: torch.cat([x, x], 0), "must keep axis 0 as the batch; join along axis 1, the channels"),
        (
            lambda x: x + x.flip(1),
            "must be an operation that the accelerator runs, not aten.flip.default; docs/support.md",
        ),
        (
            lambda x: x * torch.arange(7.0),
            "must have one constant for all or one per channel, not others for other pixels",
        ),
        (
            lambda x: nn.functional.conv_transpose2d(x, torch.ones(4, 4, 2, 2)),
            "not aten.conv_transpose2d.input; use nearest upsampling on the host, or a convolution with stride 1",
        ),
        (
            lambda x: nn.functional.conv2d(x.transpose(1, 2), torch.ones(4, 5, 1, 1)),
            "must read the channels of a pixel as 'conv' makes them, not permuted",
        ),
        (
            lambda x: x.transpose(2, 3),
            "the output must have its elements as 'conv' makes them, channels first or flat, and has them permuted",
        ),
    ],
)
def test_what_cannot_run_is_refused(operation, message):
    with pytest.raises(InputError) as caught:
        import_program(exported(Net(operation), 4, 5, 7), 3)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "operation, message",
    [
        (
            lambda x: torch.relu(x) + torch.clamp(x, 0, 6),
            "'conv' must be read by 'relu' alone to be fused, not also by 'clamp'",
        ),
        (
            lambda x: torch.relu(nn.functional.max_pool2d(x, 2)),
            (
                "activation 'relu' must follow a layer without an activation, and follows 'max_pool2d'; "
                "leave one activation between two layers, and none on the input"
            ),
        ),
        (
            lambda x: torch.relu(x) + nn.functional.max_pool2d(torch.relu(x), 1),
            "'conv' must be read by 'relu' alone to be fused, not also by 'relu_1'",
        ),
    ],
)
def test_what_cannot_be_fused_is_refused(operation, message):
    graph = import_program(exported(Net(operation), 4, 5, 7), 3)
    with pytest.raises(InputError) as caught:
        compile_graph(graph, config_of())
    assert str(caught.value) == message


def test_an_addition_without_a_layer_is_refused():
    class Twice(Net):
        def forward(self, x):
            y = torch.relu(self.conv(x))
            return y + x

    with pytest.raises(InputError) as caught:
        compile_graph(import_program(exported(Twice(None), 4, 5, 7), 3), config_of())
    assert str(caught.value) == (
        "addition 'add' must have an operand that is a layer's result without an activation, read by nothing else, and adds "
        "'relu' and 'x'; put a layer (with BatchNorm) into one branch and the activation after the addition"
    )
