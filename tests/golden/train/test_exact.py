"""The exact mode in torch, the golden model and the compiled network: the same bits."""

import numpy as np
import pytest
import torch
from torch import nn

from golden import network as golden_network
from golden.codec import encode
from golden.rounding import round_float64
from golden.train import runner
from golden.train.baselines import advance
from golden.train.convert import convert, freeze
from golden.train.digits import load, load_images
from golden.train.exact import evaluate, exact_network, run_golden, run_torch
from golden.train.geometry import ShiftLayer
from golden.train.integer import round_to
from golden.train.loop import accuracy
from golden.train.methods import METHODS
from golden.train.post_training import convert_pretrained
from golden.train.task import Split
from shiftforge.errors import InputError
from shiftforge.formats import FORMATS
from shiftforge.program import from_bytes
from sim.golden_run import run_golden_network
from sw_driver.compiler.pipeline import assemble, compile_graph
from sw_driver.importers.pt2 import import_program
from tests.sw_driver.importers.models import MODELS, Residual, inputs
from tests.sw_driver.networks import config_of

FORMATS_OF_TORCH = ("fp16", "int8", "int16", "fp8_e5m2", "fp8_e4m3")


@pytest.fixture(scope="module")
def digits():
    return runner.train("digits-mlp", epochs=12)


@pytest.fixture(scope="module")
def training_images():
    return load()[0].x


def bits_of(values):
    return np.ascontiguousarray(values).view(np.uint32)


@pytest.mark.parametrize("output", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("activation", FORMATS_OF_TORCH)
def test_torch_and_golden_agree_on_the_whole_test_split(digits, training_images, activation, output):
    by_torch = evaluate(digits.model, digits.test, "torch", activation, training_images, output)
    by_golden = evaluate(digits.model, digits.test, "golden", activation, training_images, output)
    assert by_torch.logits.dtype == by_golden.logits.dtype == np.float32
    assert np.array_equal(bits_of(by_torch.logits), bits_of(by_golden.logits))
    assert by_torch.accuracy == by_golden.accuracy > (0.85 if "int8" in (activation, output) else 0.9)
    if activation in ("fp16", "int16") and output == "fp32":
        assert abs(by_torch.accuracy - accuracy(digits.model, digits.test)) <= 0.01


@pytest.mark.parametrize("terms", [1, 2, 3])
def test_sums_of_terms_agree_too(digits, terms):
    model = convert_pretrained(digits.float32_model, 3, terms)
    by_torch, by_golden = (evaluate(model, digits.test, backend) for backend in ("torch", "golden"))
    assert np.array_equal(bits_of(by_torch.logits), bits_of(by_golden.logits))
    if terms > 1:
        assert by_golden.accuracy >= accuracy(digits.float32_model, digits.test) - 0.01


def trained(method, bits):
    """A network of the method, with zeros among its weights where the method has them."""
    torch.manual_seed(bits)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(24, 17), nn.ReLU(), nn.Dropout(0.5), nn.Sequential(nn.Linear(17, 5)))
    model = convert(plain, bits, method=method).eval()
    advance(model, 1.0)  # INQ: all weights fixed
    for layer in model.modules():
        if isinstance(layer, ShiftLayer) and METHODS[method].has_zero:
            with torch.no_grad():
                for latent in (p for p in layer.parameters() if p.ndim):  # not APoT's scale
                    latent[..., ::3] = -latent[..., ::3].abs() if method == "s3" else 0.0
    return model


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "full"])
def test_every_method_runs(method, bits, mask):
    rng = np.random.default_rng(bits)
    model = trained(method, bits)
    data = Split(rng.standard_normal((50, 2, 12)).astype(np.float32), np.zeros(50, np.int64))
    by_torch, by_golden = (evaluate(model, data, backend, mask=mask) for backend in ("torch", "golden"))
    assert np.array_equal(bits_of(by_torch.logits), bits_of(by_golden.logits))
    by_float = evaluate(model, data, "float")
    largest = np.abs(by_float.logits).max()
    np.testing.assert_allclose(by_torch.logits, by_float.logits, rtol=0, atol=2e-3 * largest)
    frozen = evaluate(freeze(model), data, "torch", mask=mask)
    assert np.array_equal(bits_of(frozen.logits), bits_of(by_torch.logits))
    # A zero is a masked weight or 1 - 1: the same bits.
    other = evaluate(model, data, "torch", mask=not mask)
    assert np.array_equal(bits_of(other.logits), bits_of(by_torch.logits))
    zeros = METHODS[method].has_zero
    for layer in exact_network(model, mask=mask).graph.layers():
        assert zeros == bool((layer.weights() == 0).any())
        if (method, bits) != ("apot", 4):
            assert (layer.terms, layer.mask is not None) == ((1, zeros) if mask or not zeros else (2, False))


@pytest.mark.parametrize("method", ["s3", "apot", "inq"])
def test_masked_layers_are_those_of_the_compiler(method):
    model = trained(method, 3)
    x = np.random.default_rng(1).standard_normal((30, 2, 12)).astype(np.float32)
    graph = import_program(runner.export(model, torch.from_numpy(x)), 3, mask=True)
    config = config_of(activation="fp16", output="fp32", max_k=64, mask=True)
    program = compile_graph(graph, config)
    network = exact_network(model, shape=(2, 12), mask=True)
    for mine, compiled in zip(network.graph.layers(), program.graph.layers(), strict=True):
        assert mine.mask is not None
        assert compiled.mask is not None
        assert np.array_equal(mine.mask, compiled.mask)
        assert np.array_equal(mine.codes[mine.mask], compiled.codes[mine.mask])
        assert mine.exponent_bias == compiled.exponent_bias
    codes = golden_network.encode_input(program.graph, config, x)
    result = golden_network.run(program.graph, config, codes)
    expected = golden_network.output_values(program.graph, config, result.output)
    assert np.array_equal(bits_of(run_torch(network, torch.from_numpy(x)).numpy()), bits_of(expected))


@pytest.mark.parametrize("activation, output", [("fp16", "fp32"), ("fp16", "fp16"), ("int8", "int8"), ("bf16", "bf16")])
def test_the_layers_are_those_of_the_compiler(digits, training_images, activation, output):
    graph = import_program(runner.export(digits.model, torch.from_numpy(digits.test.x)), 3)
    config = config_of(activation=activation, output=output, max_k=64)
    samples = training_images.astype(np.float64)
    program = compile_graph(graph, config, calibration=samples)
    network = exact_network(digits.model, activation, samples, output)
    assert network.graph.input.scale == program.graph.input.scale
    for mine, compiled in zip(network.graph.layers(), program.graph.layers(), strict=True):
        assert np.array_equal(mine.codes, compiled.codes)
        assert mine.exponent_bias == compiled.exponent_bias
        assert np.array_equal(bits_of(mine.scale), bits_of(compiled.scale))
        assert np.array_equal(bits_of(mine.bias), bits_of(compiled.bias))
        assert mine.output_scale == compiled.output_scale
    codes = golden_network.encode_input(program.graph, config, digits.test.x)
    result = golden_network.run(program.graph, config, codes)
    expected = golden_network.output_values(program.graph, config, result.output)
    assert np.array_equal(bits_of(run_golden(network, digits.test.x)), bits_of(expected))


@pytest.mark.parametrize("name", list(FORMATS))
def test_rounding_in_torch_is_the_golden_one(name):
    fmt = FORMATS[name]
    rng = np.random.default_rng(5)
    values = rng.standard_normal(20000) * 2.0 ** rng.integers(-160, 140, 20000)
    near = rng.integers(-(1 << 12), 1 << 12, 20000) * 2.0 ** (fmt.lsb_exponent - 2)  # ties and subnormals
    edge = [0.0, -0.0, np.inf, -np.inf, np.nan]
    for factor in (0.999, 1.0, 1.0000001, 1.01, 2.0):
        edge += [factor * fmt.max_fixed * 2.0**fmt.lsb_exponent, -factor * fmt.max_fixed * 2.0**fmt.lsb_exponent]
    values = np.concatenate([values, near, edge])
    expected, _ = round_float64(values, fmt, overflow="saturate")
    rounded = round_to(torch.from_numpy(values), fmt).numpy()
    assert np.array_equal(encode(fmt, rounded), expected)
    if name != "fp32":
        again, _ = round_float64(rounded, fmt, overflow="saturate")
        assert np.array_equal(again, expected)


@pytest.fixture(scope="module")
def digits_cnn(digits):
    """A residual network of DenseShift convolutions for the digits as images, briefly trained."""
    torch.manual_seed(0)
    train, test = load_images()
    plain = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        Residual(8, 8, 1),
        Residual(8, 16, 2),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10, bias=False),
        nn.BatchNorm1d(10),
    )
    model = convert(plain, 3)
    optimiser = torch.optim.AdamW(model.parameters(), 0.01)
    model.train()
    for epoch in range(3):
        for rows in torch.randperm(len(train.x), generator=torch.Generator().manual_seed(epoch)).split(64):
            loss = nn.functional.cross_entropy(model(torch.from_numpy(train.x)[rows]), torch.from_numpy(train.y)[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval(), train, test


@pytest.mark.parametrize(
    "activation, output", [("fp16", "fp32"), ("fp16", "fp16"), ("int8", "int8"), ("fp8_e4m3", "fp16")]
)
def test_a_convolutional_network_on_the_whole_test_split(digits_cnn, activation, output):
    """Logits equal bit for bit, and the same network as the driver compiles from the exported model."""
    model, train, test = digits_cnn
    samples = train.x[:200]
    by_torch, by_golden = (evaluate(model, test, b, activation, samples, output) for b in ("torch", "golden"))
    assert np.array_equal(bits_of(by_torch.logits), bits_of(by_golden.logits))
    by_float = evaluate(model, test, "float")
    assert by_float.accuracy > 0.9
    assert abs(by_golden.accuracy - by_float.accuracy) <= (0.01 if activation == "fp16" else 0.05)
    graph = import_program(runner.export(model, torch.from_numpy(test.x[:2])), 3)
    config = config_of(activation=activation, output=output, max_k=64)
    program = compile_graph(graph, config, calibration=samples.astype(np.float64))
    codes = golden_network.encode_input(program.graph, config, test.x)
    result = golden_network.run(program.graph, config, codes).output
    values = golden_network.output_values(program.graph, config, result)
    assert np.array_equal(bits_of(values), bits_of(by_golden.logits))


@pytest.mark.parametrize("terms", [1, 2, 3])
def test_convolutions_of_sums_agree_too(terms):
    torch.manual_seed(terms)
    plain = nn.Sequential(nn.Conv1d(2, 6, 3, padding=1), nn.ReLU6(), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(24, 3))
    model = convert_pretrained(plain.eval(), 3, terms)
    data = Split(np.random.default_rng(0).normal(0, 1, (40, 2, 8)).astype(np.float32), np.zeros(40, np.int64))
    by_torch, by_golden = (evaluate(model, data, backend) for backend in ("torch", "golden"))
    assert np.array_equal(bits_of(by_torch.logits), bits_of(by_golden.logits))
    by_float = evaluate(model, data, "float").logits
    np.testing.assert_allclose(by_torch.logits, by_float, rtol=0, atol=2e-3 * np.abs(by_float).max())


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("terms", [1, 2])
def test_exponents_per_k_index_agree_too(terms, calibrated):
    """On both backends, and as a program, which no machine of this version runs and the golden network does."""
    torch.manual_seed(terms)
    rng = np.random.default_rng(terms)
    plain = nn.Sequential(
        nn.Conv2d(4, 8, (3, 2), padding=(1, 0), groups=2), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(60, 3)
    ).eval()
    with torch.no_grad():
        for layer in (plain[0], plain[2], plain[4]):
            weight = layer.get_parameter("weight")
            weight *= torch.from_numpy(np.exp2(rng.integers(-2, 2, weight.shape[1:]))).float()
    data = Split(rng.normal(0, 1, (40, 4, 5, 4)).astype(np.float32), np.zeros(40, np.int64))
    calibration = torch.from_numpy(data.x) if calibrated else None
    model = convert_pretrained(plain, 3, terms, k_bias_bits=3, calibration=calibration)
    by_torch, by_golden = (evaluate(model, data, backend) for backend in ("torch", "golden"))
    assert np.array_equal(bits_of(by_torch.logits), bits_of(by_golden.logits))
    by_float = evaluate(model, data, "float").logits
    np.testing.assert_allclose(by_torch.logits, by_float, rtol=0, atol=2e-3 * np.abs(by_float).max())
    network = exact_network(model, shape=(4, 5, 4))
    biases = [layer.k_bias for layer in network.graph.layers()]
    assert all(each is not None and len(np.unique(each)) > 1 for each in biases)
    program = assemble(network.graph, config_of(activation="fp16", output="fp32", bits=3, max_k=256))
    assert program.placed is None
    assert program.unplaced == "layer '0' has an exponent bias per K index, which needs array.k_bias_bits"
    back = from_bytes(program.to_bytes())
    for mine, stored in zip(program.graph.layers(), back.graph.layers(), strict=True):
        assert mine.k_bias is not None
        assert stored.k_bias is not None
        assert np.array_equal(mine.k_bias, stored.k_bias)
    assert np.array_equal(bits_of(run_golden_network(back, data.x).values), bits_of(by_golden.logits))


@pytest.mark.parametrize(
    "activation, output", [("fp16", "fp32"), ("int8", "int8"), ("fp8_e4m3", "fp16"), ("int16", "fp16")]
)
@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_network_agrees(name, activation, output):
    """Groups, dilation, pools, residuals, concatenations, permutations: torch's integers against the golden network."""
    build, shape = MODELS[name]
    x = inputs(shape, 20)
    network = exact_network(build(), activation, x, output, shape)
    by_golden = run_golden(network, x)
    assert np.array_equal(bits_of(run_torch(network, torch.from_numpy(x)).numpy()), bits_of(by_golden))
    with torch.no_grad():
        real = build()(torch.from_numpy(x)).numpy()
    loose = {"fp16": 2e-3, "int16": 2e-3, "int8": 0.1, "fp8_e4m3": 0.2}[activation]
    np.testing.assert_allclose(by_golden, real, rtol=0, atol=loose * np.abs(real).max())


def test_big_sums_round_once():
    # Sums of up to 45 bits, so that binary32 has many ties and near-ties to decide.
    rng = np.random.default_rng(6)
    layer = nn.Linear(40, 200, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(rng.choice([-1.0, 1.0], (200, 40)) * 2.0 ** rng.integers(0, 8, (200, 40))))
    x = (rng.standard_normal((300, 40)) * 2.0 ** rng.integers(-24, 14, (300, 40))).astype(np.float16).astype(np.float32)
    network = exact_network(layer.eval())
    by_torch, by_golden = run_torch(network, torch.from_numpy(x)).numpy(), run_golden(network, x)
    assert np.array_equal(bits_of(by_torch), bits_of(by_golden))
    double = (x.astype(np.float64) @ layer.weight.detach().double().numpy().T).astype(np.float32)
    assert np.array_equal(by_torch, double)


MEND = (
    "train it as a DenseShift layer or turn it into sums (golden.train: convert, convert_pretrained), "
    "or let the host compute it (compile --host)"
)


def third():
    """A layer with weights that are no sums of powers of two."""
    layer = nn.Linear(6, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 0.3, 0.7654321, 0.1234567, 0.5555, 0.9]).expand(2, 6))
    return layer


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: exact_network(nn.Linear(2, 2)), "the model must be in eval mode, not in training mode"),
        (
            lambda: exact_network(nn.Sequential(third()).eval()),
            (
                "weight of layer '0' at index (0, 1) must be a power of two with a sign or a sum of up to 4 "
                f"(times one number per channel), not 0.30000001192092896; {MEND}"
            ),
        ),
        (
            lambda: exact_network(nn.Sequential(nn.GELU(), nn.Linear(2, 2)).eval()),
            "module '0' must be a layer, BatchNorm, ReLU or its kin, pool or Flatten to run exactly, not GELU",
        ),
        (
            lambda: exact_network(nn.Sequential(nn.ReLU(), convert(nn.Linear(2, 2), 3)).eval()),
            (
                "activation '0' must follow a layer without an activation, and follows 'x'; leave one activation between two "
                "layers, and none on the input"
            ),
        ),
        (
            lambda: exact_network(nn.Sequential().eval()),
            "the network must have at least one Linear or convolution layer, and it has none",
        ),
        (
            lambda: exact_network(nn.Sequential(nn.Conv1d(2, 2, 1)).eval()),
            "the shape of an example must be given for a model with convolutions, as '0' is one",
        ),
        (
            lambda: exact_network(convert(nn.Linear(2, 2), 3).eval(), "int8"),
            "calibration must be given for int8, whose tensors are scaled, not None",
        ),
        (lambda: exact_network(nn.Linear(2, 2), "fp12"), f"format must be one of {', '.join(FORMATS)}, not 'fp12'"),
        (
            lambda: run_torch(exact_network(convert(nn.Linear(2, 2), 3).eval(), "bf16"), torch.zeros(1, 2)),
            "sums of layer '0' must fit 63 bits and fp32 for the torch backend, not 267 bits of 2**-133; use the golden backend",
        ),
        (
            lambda: run_torch(exact_network(convert(nn.Linear(2, 2), 3).eval()), torch.full((1, 2), torch.inf)),
            "inputs of layer '0' must be finite for the torch backend; use the golden backend",
        ),
        (
            lambda: evaluate(nn.Linear(2, 2).eval(), Split(np.zeros((1, 2), np.float32), np.zeros(1, np.int64)), "rtl"),  # pyright: ignore[reportArgumentType]
            "backend must be one of float, torch, golden, not 'rtl'",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value) == message
