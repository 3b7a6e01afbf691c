"""Exported torch models to programs: values against torch in float64, bits against the golden network on the emulator."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from golden import network as golden_network
from golden.emulator import EmulatorTransport
from golden.train.convert import convert, freeze
from golden.train.layers import DenseShiftLinear
from golden.train.runner import export, save, train
from shiftforge.arrays import load_npz
from shiftforge.errors import InputError
from shiftforge.graph import Affine, Linear
from shiftforge.graph.build import Builder, Place
from shiftforge.graph.views import stored
from shiftforge.passes.reference import evaluate
from sw_driver.accelerator import Accelerator
from sw_driver.compiler.check import check_passes
from sw_driver.compiler.pipeline import compile_graph
from sw_driver.importers.pt2 import import_program, read_pt2
from tests.sw_driver.networks import config_of


def shift_linear(k, n, seed=0, bias=False, low=0, high=3) -> nn.Linear:
    """A plain Linear whose weights are random powers of two."""
    rng = np.random.default_rng(seed)
    layer = nn.Linear(k, n, bias=bias)
    weight = rng.choice([-1.0, 1.0], (n, k)) * 2.0 ** rng.integers(low, high + 1, (n, k))
    layer.weight.data = torch.from_numpy(weight.astype(np.float32))
    return layer


def batch_norm(n, seed=0) -> nn.BatchNorm1d:
    """BatchNorm with statistics as after training."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.BatchNorm1d(n)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    for tensor in (layer.weight.data, layer.bias.data, layer.running_mean):
        tensor.copy_(torch.randn(n, generator=generator))
    layer.running_var.copy_(torch.rand(n, generator=generator) * 20 + 0.1)
    return layer


def exported(model: nn.Module, *shape: int):
    return export(model.eval(), torch.zeros(2, *shape))


def check(model: nn.Module, shape: tuple[int, ...], config=None, graph=None):
    """The graph has torch's values, every pass holds, and the emulator gives the golden network's bits."""
    config = config or config_of(4, 3, max_k=64)
    graph = graph or import_program(exported(model, *shape), config.weights.bits)
    x = np.random.default_rng(1).normal(0, 1, (9, *shape)).astype(np.float32)
    flat = x.reshape(len(x), -1).astype(np.float64)
    with torch.no_grad():
        want = model.double()(torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(evaluate(graph, flat)[graph.output.name], want, rtol=1e-6, atol=1e-6)
    program = compile_graph(graph, config)

    def execute(compiled, codes):
        return golden_network.run(compiled, config, codes).output

    check_passes(graph, program, flat, execute, EmulatorTransport(config))
    values = Accelerator(EmulatorTransport(config), config).run_values(program, x)
    np.testing.assert_allclose(values, want, rtol=0.02, atol=0.02 * np.abs(want).max())
    return program


def dense_shift(bits=3) -> nn.Sequential:
    torch.manual_seed(3)
    model = nn.Sequential(
        DenseShiftLinear(20, 16, bits),
        batch_norm(16, 1),
        nn.ReLU(),
        nn.Dropout(),
        DenseShiftLinear(16, 12, bits, bias=True),
        nn.LeakyReLU(0.125),
        DenseShiftLinear(12, 5, bits),
        batch_norm(5, 2),
    )
    for module in model.modules():
        if isinstance(module, DenseShiftLinear):
            # Far from the initial spread of 1e-3, so that a fold in the wrong order shows.
            nn.init.normal_(module.weight_scale, std=1.0)
            if module.bias is not None:
                nn.init.normal_(module.bias)
    return model.eval()


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_dense_shift_models_frozen_and_not(bits):
    config = config_of(4, 3, bits=bits, max_k=64)
    model = dense_shift(bits)
    program = check(model, (20,), config)
    assert [layer.name for layer in program.graph.layers()] == ["0", "4", "6"]
    first = model[0]
    assert isinstance(first, DenseShiftLinear)
    weight = first.weight.detach().double().numpy()
    np.testing.assert_array_equal(program.graph.layers()[0].weights().T, weight)
    assert program.to_bytes() == check(freeze(dense_shift(bits)), (20,), config).to_bytes()


def test_a_batch_norm_folds_to_its_formula():
    """scale = gamma / sqrt(var + eps) and bias = beta - mean * scale in float64, each rounded once to fp32."""
    norm = batch_norm(6)
    graph = import_program(exported(nn.Sequential(shift_linear(8, 6), norm), 8), 3)
    layer = compile_graph(graph, config_of()).graph.layers()[0]
    assert norm.running_var is not None
    assert norm.running_mean is not None
    gamma, beta, mean, variance = (
        t.detach().double().numpy() for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    scale = gamma / np.sqrt(variance + norm.eps)
    np.testing.assert_allclose(layer.scale, scale, rtol=1e-7)
    np.testing.assert_allclose(layer.bias, beta - mean * scale, rtol=1e-6)
    assert layer.scale.dtype == layer.bias.dtype == np.float32


@pytest.mark.parametrize(
    "activation, kind",
    [
        (nn.ReLU(), "relu"),
        (nn.ReLU6(), "clamp"),
        (nn.Hardtanh(-2.0, 3.0), "clamp"),
        (nn.LeakyReLU(2**-4), "leaky"),
        (nn.LeakyReLU(1.0), "leaky"),
        (nn.Identity(), "none"),
    ],
)
def test_activations(activation, kind):
    program = check(nn.Sequential(shift_linear(8, 6), batch_norm(6), activation, shift_linear(6, 3)), (8,))
    assert program.graph.layers()[0].activation.kind == kind


class Functional(nn.Module):
    """Functional forms: matmul with a transposed constant, clamps of one side, arithmetic with constants on both sides."""

    def __init__(self):
        super().__init__()
        self.first, self.second = shift_linear(8, 6, bias=True), shift_linear(6, 4, 1)
        self.gain = nn.Buffer(torch.linspace(0.5, 2, 6))
        self.scale = nn.Parameter(torch.linspace(-1, 1, 4) + 0.1)

    def forward(self, x):
        x = (x.flatten(1) - 0.5) / 0.25
        x = functional.linear(x, self.first.weight * 2.0, self.first.bias)
        x = torch.clamp(x * self.gain + 1.0, min=0.0).view(x.shape[0], -1)
        x = x @ self.second.weight.T
        return 1.5 - functional.dropout(x, training=self.training) * self.scale[None] / 2


def test_functional_forms_and_a_constant_graph():
    check(Functional().eval(), (2, 4))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own, from run_decompositions
def test_decomposed_programs():
    """`run_decompositions` turns Linear into addmm of a permuted constant and BatchNorm into a tuple."""
    model = nn.Sequential(shift_linear(8, 6, bias=True), batch_norm(6), nn.ReLU(), shift_linear(6, 3, bias=False))
    graph = import_program(exported(model, 8).run_decompositions(), 3)
    check(model, (8,), graph=graph)


def test_a_static_batch_and_a_shared_layer():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = shift_linear(6, 6)

        def forward(self, x):
            return self.fc(torch.relu(self.fc(x)) * 0.125)

    model = Twice().eval()
    program = torch.export.export(model, (torch.zeros(3, 6),))
    with pytest.raises(InputError, match="^'mul' must follow a layer directly"):
        compile_graph(import_program(program, 3), config_of())

    class Shared(Twice):
        def forward(self, x):
            return self.fc(torch.relu(self.fc(x)))

    model = Shared().eval()
    graph = import_program(torch.export.export(model, (torch.zeros(3, 6),)), 3)
    assert [n.name for n in graph if isinstance(n, Linear)] == ["fc", "fc#2"]
    check(model, (6,), graph=graph)


def test_channel_scales_and_exponent_windows():
    """Weights that are powers of two times a number per channel, and windows that differ between channels, are exact."""
    layer = shift_linear(8, 6, low=-2, high=1)
    assert import_program(exported(nn.Sequential(layer), 8), 3)["0"].exponent_bias == -2  # type: ignore[union-attr]
    check(nn.Sequential(layer), (8,))
    layer.weight.data *= torch.tensor([0.3, 1.0, 0.7, 3.0, 5.0, 2.0**-9])[:, None]
    program = check(nn.Sequential(layer), (8,))
    weights = program.graph.layers()[0].weights() * program.graph.layers()[0].scale
    np.testing.assert_array_equal(weights.T, layer.weight.detach().numpy())


def test_the_input_may_be_scaled():
    graph = import_program(exported(Functional(), 2, 4), 3)
    assert [n.name for n in graph if isinstance(n, Affine)][:2] == ["sub", "div"]


def test_a_trained_model_from_its_file(tmp_path):
    path, arrays = save(train("digits-mlp", epochs=1, seed=1), tmp_path / "digits.pt2")
    data = load_npz(arrays, ("x", "y"))
    config = config_of(8, 8, max_k=64, weight_words=1024)
    program = compile_graph(read_pt2(path, 3), config, name="digits")
    accelerator = Accelerator(EmulatorTransport(config), config)
    codes = accelerator.run(program, data["x"])
    golden = golden_network.run(program.graph, config, accelerator.encode_input(program, data["x"]))
    np.testing.assert_array_equal(codes, golden.output)
    hits = accelerator.values(program, codes).argmax(1) == data["y"]
    assert hits.mean() > 0.6
    assert program.recipe.phases[0].constants  # 64-64-10 stays on chip


# ---- refusals


def line_of(text: str) -> str:
    """`file:line` of the line of this file that holds the text."""
    with open(__file__, encoding="utf-8") as file:  # noqa: PTH123
        return next(f"test_pt2.py:{n}" for n, line in enumerate(file, 1) if text in line)


def weights_with(index, value) -> nn.Module:
    layer = shift_linear(8, 6)
    layer.weight.data[index[0], 1:3] = torch.tensor([1.0, 8.0])
    layer.weight.data[index] = value
    return nn.Sequential(layer)


class Net(nn.Module):
    """One operation between two layers, on a line of its own."""

    def __init__(self, operation):
        super().__init__()
        self.fc, self.operation = shift_linear(8, 6), operation

    def forward(self, x):
        return self.operation(self.fc(x))  # the source line of refusals


MEND = (
    f"train it as a DenseShift layer or turn it into sums ({'golden.train'}: convert, convert_pretrained), "
    "or let the host compute it (compile --host)"
)
RULE = "must be a power of two with a sign or a sum of up to 4 (times one number per channel)"


@pytest.mark.parametrize(
    "model, message",
    [
        (
            weights_with((2, 3), 0.3),
            f"weight of layer '0' at index (2, 3) {RULE}, not 0.30000001192092896; {MEND}",
        ),
        (
            weights_with((0, 5), 35.0),
            f"weight of layer '0' at index (0, 5) {RULE}, not 35.0; {MEND}",
        ),
        (
            weights_with((5, 0), float("nan")),
            f"weight of layer '0' at index (5, 0) {RULE}, not nan; {MEND}",
        ),
        (
            weights_with((4, 0), 0.25),
            (
                "exponents of layer '0' must span at most 4 values for 3-bit weights, not the 6 of 2**-2..2**3 in output "
                "channel 4; generate the accelerator with array.weight_bits = 4"
            ),
        ),
        (
            weights_with((4, 0), 2.0**40),
            (
                "exponents of layer '0' must span at most 4 values for 3-bit weights, not the 41 of 2**0..2**40 in output "
                "channel 4; train it with fewer exponents"
            ),
        ),
        (
            Net(nn.LeakyReLU()),
            (
                "node 'leaky_relu' (layer 'operation', {here}) must have a slope of 2**-n with n in 0..15, not 0.01; "
                "the nearest is LeakyReLU(2**-7)"
            ),
        ),
        (
            Net(nn.Softmax(1)),
            (
                "node 'softmax' (layer 'operation', {here}) must be an operation that the accelerator runs, not aten.softmax.int; "
                "leave softmax at the end to the host: the largest logit is the largest probability"
            ),
        ),
        (
            Net(nn.GELU()),
            (
                "node 'gelu' (layer 'operation', {here}) must be an operation that the accelerator runs, not aten.gelu.default; "
                "use ReLU or LeakyReLU with a power-of-two slope"
            ),
        ),
        (
            Net(nn.LayerNorm(6)),
            (
                "node 'layer_norm' (layer 'operation', {here}) must be an operation that the accelerator runs, not "
                "aten.layer_norm.default; use BatchNorm, which folds into the layer before it"
            ),
        ),
        (
            Net(lambda x: x - x.relu()),
            (
                "node 'sub' ({here}) must be an operation that the accelerator runs, not aten.sub.Tensor; "
                "add the negated tensor: a residual addition is supported, a difference is not"
            ),
        ),
        (
            Net(lambda x: x.cumsum(1)),
            (
                "node 'cumsum' ({here}) must be an operation that the accelerator runs, not aten.cumsum.default; "
                "docs/support.md lists what is supported"
            ),
        ),
        (
            Net(lambda x: x.view(-1, 3)),
            "node 'view' ({here}) must keep axis 0 as the batch; write it as flatten(x, 1)",
        ),
        (nn.Sequential(nn.ReLU()), "the network must have at least one Linear or convolution layer, and it has none"),
    ],
)
def test_models_that_cannot_run_are_refused(model, message):
    here = line_of("# the source line of refusals")
    with pytest.raises(InputError) as caught:
        import_program(exported(model, 8), 3)
    got = str(caught.value)
    assert got == message.replace("{here}", here)


class Conv(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv3d(1, 2, (1, 3, 3)), shift_linear(2 * 6 * 6, 4)

    def forward(self, x):
        x = self.conv(x.unsqueeze(2))  # a convolution
        return self.fc(x.flatten(1))


def test_a_convolution_is_refused_with_its_line():
    with pytest.raises(InputError) as caught:
        import_program(exported(Conv(), 1, 8, 8), 3)
    assert str(caught.value) == (
        f"node 'conv3d' (layer 'conv', {line_of('# a convolution')}) must be an operation that the accelerator runs, not "
        "aten.conv3d.default; use conv1d or conv2d"
    )


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_training_mode_is_refused():
    class Training(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.rate = shift_linear(8, 6), 0.5

        def forward(self, x):
            return functional.dropout(self.fc(x), self.rate, training=True)

    with pytest.raises(
        InputError, match=r"must be in evaluation mode, not in training mode; call model\.eval\(\) before"
    ):
        import_program(exported(Training(), 8), 3)
    model = nn.Sequential(shift_linear(8, 6), nn.BatchNorm1d(6)).train()
    program = torch.export.export(model, (torch.zeros(4, 8),))
    with pytest.raises(
        InputError, match=r"^node 'batch_norm' \(layer '1'\) must be in evaluation mode, not in training mode;"
    ):
        import_program(program, 3)

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = shift_linear(8, 6)
            self.calls = nn.Buffer(torch.zeros(()))

        def forward(self, x):
            self.calls.add_(1)
            return self.fc(x)

    program = torch.export.export(Counting(), (torch.zeros(4, 8),)).run_decompositions({})
    message = r"^the network must not change its buffers, and changes 'calls'; call model\.eval\(\) before the export$"
    with pytest.raises(InputError, match=message):
        import_program(program, 3)


def test_inputs_and_outputs_that_do_not_fit_are_refused():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = shift_linear(8, 6)

        def forward(self, x, y):
            return self.fc(x), self.fc(y)

    with pytest.raises(InputError, match=r"^the network must have one input, not 2 \('x', 'y'\)$"):
        import_program(torch.export.export(Two(), (torch.zeros(2, 8), torch.zeros(2, 8))), 3)

    class Outputs(Two):
        def forward(self, x):  # type: ignore[override]
            return self.fc(x), x

    with pytest.raises(InputError, match="^the network must have one output, not 2$"):
        import_program(torch.export.export(Outputs(), (torch.zeros(2, 8),)), 3)

    class Row(Two):
        def forward(self, x):  # type: ignore[override]
            return self.fc(x)

    with pytest.raises(
        InputError, match=r"^the input 'x' must be a float tensor with the batch as axis 0, \(batch, features\)"
    ):
        import_program(torch.export.export(Row(), (torch.zeros(8),)), 3)
    with pytest.raises(InputError, match=r"must read 8 features, not examples of shape \(3, 7\)$"):
        Builder("x", (3, 7), 3).linear(stored("x", (3, 7)), np.ones((6, 8)), None, Place("fc"))


def test_files_that_are_no_programs_are_refused(tmp_path):
    path = tmp_path / "model.pt2"
    torch.export.save(exported(nn.Sequential(shift_linear(8, 6)), 8), path)
    data = path.read_bytes()
    assert isinstance(read_pt2(path, 3)["0"], Linear)
    for name, contents, reason in [
        ("cut.pt2", data[: len(data) // 2], "File is not a zip file"),
        ("empty.pt2", b"", "File is not a zip file"),
        ("text.pt2", b"not a program", "File is not a zip file"),
    ]:
        wrong = tmp_path / name
        wrong.write_bytes(contents)
        with pytest.raises(InputError) as caught:
            read_pt2(wrong, 3)
        assert str(caught.value) == (
            f"model must be a whole torch.export program (.pt2), not {str(wrong)!r} ({reason}); write it with torch.export.save"
        )
    middle = data.index(b"\x00\x00\x80\x40") if b"\x00\x00\x80\x40" in data else len(data) // 2
    path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    with pytest.raises(InputError, match="^model must be a whole torch.export program"):
        read_pt2(path, 3)
    with pytest.raises(
        InputError, match=r"^model must be a readable file, not 'nowhere\.pt2' \(no such file or directory\)$"
    ):
        read_pt2("nowhere.pt2", 3)


def test_a_float_network_is_pointed_to_convert():
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    with pytest.raises(InputError, match=r"golden\.train: convert"):
        import_program(exported(model, 8), 3)
    import_program(exported(convert(model, 3), 8), 3)
