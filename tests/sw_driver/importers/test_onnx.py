"""ONNX models, made by hand and by our own export: values and predictions against onnxruntime, codes against the .pt2 importer."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from golden import network as golden_network
from golden.emulator import EmulatorTransport
from golden.train.convert import convert
from golden.train.interchange import save_onnx, to_graph, to_onnx
from golden.train.post_training import convert_pretrained
from golden.train.runner import export
from shiftforge.errors import InputError
from shiftforge.graph import Conv, Linear
from shiftforge.passes.reference import evaluate
from sw_driver.compiler.check import check_passes
from sw_driver.compiler.pipeline import compile_graph
from sw_driver.importers.onnx import import_model, read_onnx
from sw_driver.importers.pt2 import import_program
from tests.sw_driver.importers.models import MODELS, inputs
from tests.sw_driver.networks import config_of

RNG = np.random.default_rng(0)


def powers(*shape: int) -> np.ndarray:
    """Random ±1, ±2, ±4, ±8, float32."""
    return (RNG.choice([-1.0, 1.0], shape) * 2.0 ** RNG.integers(0, 4, shape)).astype(np.float32)


def model_of(nodes, constants=None, shape=("n", 2, 6, 7), outputs=1, opset=17, inputs=("x",)) -> onnx.ModelProto:
    """A model of these nodes, whose last output is its own."""
    made = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in inputs],
        [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None) for node in nodes[-outputs:]],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """By onnxruntime."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {model.graph.input[0].name: x})[0])


def same_values(model: onnx.ModelProto, shape=(2, 6, 7)):
    """The graph has onnxruntime's values, and every pass holds."""
    x = inputs(shape)
    want, graph = run(model, x), import_model(model, 3)
    got = evaluate(graph, x.astype(np.float64))[graph.output.name]
    if want.ndim > 2 and got.shape != want.shape:
        got = np.moveaxis(got, -1, 1)
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
    config = config_of(4, 3, max_k=200)
    program = compile_graph(graph, config)

    def execute(compiled, codes):
        return golden_network.run(compiled, config, codes).output

    check_passes(graph, program, x.astype(np.float64), execute, EmulatorTransport(config))
    return graph


def norm(n: int) -> dict[str, np.ndarray]:
    return {
        "gamma": RNG.normal(0, 1, n).astype(np.float32),
        "beta": RNG.normal(0, 1, n).astype(np.float32),
        "mean": RNG.normal(0, 1, n).astype(np.float32),
        "var": (RNG.random(n) * 9 + 1).astype(np.float32),
    }


def node(op, inputs, output, **attributes) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], name=attributes.pop("name", output), **attributes)


NORM = ["gamma", "beta", "mean", "var"]


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
def test_a_convolutional_network(auto_pad):
    """Conv with groups, BatchNormalization, every activation, pools, a residual, Concat, and Gemm behind a dynamic Reshape."""
    pads = {"pads": [0, 1, 2, 0]} if auto_pad == "NOTSET" else {}
    nodes = [
        node("Conv", ["x", "w0", "b0"], "c0", auto_pad=auto_pad, strides=[1, 2], **pads),
        node("BatchNormalization", ["c0", *NORM], "n0", epsilon=1e-3),
        node("Clip", ["n0", "zero", "six"], "a0"),
        node("Conv", ["a0", "w1"], "c1", group=2, pads=[1, 1, 1, 1]),
        node("Mul", ["c1", "gain"], "m1"),
        node("Add", ["m1", "a0"], "s1"),
        node("LeakyRelu", ["s1"], "a1", alpha=0.125),
        node("MaxPool", ["a1"], "p1", kernel_shape=[2, 2], pads=[0, 0, 1, 1]),
        node("AveragePool", ["a1"], "p2", kernel_shape=[2, 2], pads=[0, 0, 1, 1], count_include_pad=1),
        node("Concat", ["p1", "p2"], "j", axis=1),
        node("GlobalAveragePool", ["j"], "g"),
        node("Shape", ["g"], "shape"),
        node("Gather", ["shape", "first"], "batch"),
        node("Concat", ["batch", "rest"], "target", axis=0),
        node("Reshape", ["g", "target"], "f"),
        node("Gemm", ["f", "w2", "b2"], "y", transB=1),
    ]
    constants = {
        "w0": powers(4, 2, 3, 3), "b0": norm(4)["beta"], **norm(4), "zero": np.float32(0), "six": np.float32(6),
        "w1": powers(4, 2, 3, 3), "gain": np.float32(0.01), "first": np.array([0]), "rest": np.array([-1]),
        "w2": powers(3, 8), "b2": norm(3)["beta"],
    }  # fmt: skip
    graph = same_values(model_of(nodes, constants))
    assert [n.name for n in graph if isinstance(n, Conv | Linear)] == ["c0", "c1", "y"]


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
def test_the_odd_row_of_an_even_kernel_is_above_or_below(auto_pad):
    nodes = [
        node("Conv", ["x", "w0"], "c", auto_pad=auto_pad),
        node("Flatten", ["c"], "f"),
        node("Gemm", ["f", "w1"], "y"),
    ]
    same_values(model_of(nodes, {"w0": powers(3, 2, 2, 4), "w1": powers(3 * 6 * 7, 4)}))


def test_vectors():
    """MatMul, arithmetic with constants on both sides, a factor of the weights that is computed once, Flatten and Transpose."""
    nodes = [
        node("Sub", ["x", "half"], "s"),
        node("Transpose", ["s"], "t", perm=[0, 2, 3, 1]),
        node("Flatten", ["t"], "f"),
        node("Mul", ["w0", "two"], "w"),
        node("MatMul", ["f", "w"], "m"),
        node("Add", ["b0", "m"], "a"),
        node("Relu", ["a"], "r"),
        node("Gemm", ["r", "w1", "b1"], "g", alpha=0.5, beta=2.0),
        node("Sub", ["one", "g"], "d"),
        node("Div", ["d", "ten"], "y"),
    ]
    constants = {
        "half": np.float32(0.5), "w0": powers(84, 6), "two": np.float32(2), "b0": norm(6)["beta"], "w1": powers(6, 5),
        "b1": norm(5)["beta"], "one": np.float32(1), "ten": np.float32(10),
    }  # fmt: skip
    same_values(model_of(nodes, constants))


def test_a_sequence_of_channels_last():
    """Conv1d over time, the mean over it, Squeeze and Unsqueeze, in an older operator set with axes as attributes."""
    nodes = [
        node("Unsqueeze", ["x"], "u", axes=[2]),
        node("Squeeze", ["u"], "q", axes=[2]),
        node("Conv", ["q", "w0"], "c", kernel_shape=[3], dilations=[2], pads=[2, 2]),
        node("ReduceMean", ["c"], "m", axes=[2], keepdims=0),
        node("Gemm", ["m", "w1"], "y"),
    ]
    same_values(model_of(nodes, {"w0": powers(4, 3, 3), "w1": powers(4, 2)}, ("n", 3, 9), opset=11), (3, 9))


@pytest.mark.parametrize("terms", [1, 2, 3])
def test_sums_times_a_scale_are_found_exactly(terms):
    """Initialisers of sums of powers times a number per channel, which fp32 had to round."""
    rng = np.random.default_rng(terms)
    parts = rng.choice([-1.0, 1.0], (terms, 5, 3, 3, 3)) * 2.0 ** rng.integers(0, 4, (terms, 5, 3, 3, 3))
    scale = rng.random(5).astype(np.float32)[:, None, None, None] + np.float32(0.1)
    weight = (parts.sum(0) * scale).astype(np.float32)
    nodes = [node("Conv", ["x", "w"], "c"), node("GlobalAveragePool", ["c"], "y")]
    graph = import_model(model_of(nodes, {"w": weight}, ("n", 3, 6, 6)), 3)
    layer = graph["c"]
    assert isinstance(layer, Conv)
    assert layer.terms == terms
    again = (layer.weights() * layer.scale).astype(np.float32)
    np.testing.assert_array_equal(again.T.reshape(5, 3, 3, 3).transpose(0, 3, 1, 2), weight)
    same_values(model_of(nodes, {"w": weight}, ("n", 3, 6, 6)), (3, 6, 6))


@pytest.mark.parametrize("name", MODELS)
def test_our_export_gives_the_same_program(name, tmp_path):
    """onnxruntime's predictions are torch's, and the import has the codes, scales and biases of the .pt2 importer, bit for bit."""
    build, shape = MODELS[name]
    x = inputs(shape, 30)
    path = tmp_path / "net.onnx"
    save_onnx(build(), path, shape)
    with torch.no_grad():
        want = build()(torch.from_numpy(x)).numpy()
    got = run(onnx.load(path), x)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
    np.testing.assert_array_equal(got.argmax(1), want.argmax(1))
    config = config_of(4, 3, max_k=64)
    mine = compile_graph(read_onnx(path, 3), config)
    theirs = compile_graph(import_program(export(build(), torch.zeros(2, *shape)), 3), config)
    for one, two in zip(mine.graph.layers(), theirs.graph.layers(), strict=True):
        assert (one.name, one.exponent_bias, one.terms, one.activation) == (
            two.name,
            two.exponent_bias,
            two.terms,
            two.activation,
        )
        for part in ("codes", "scale", "bias"):
            np.testing.assert_array_equal(getattr(one, part), getattr(two, part))
    codes = golden_network.encode_input(mine.graph, config, x)
    np.testing.assert_array_equal(
        golden_network.run(mine.graph, config, codes).output, golden_network.run(theirs.graph, config, codes).output
    )


@pytest.mark.parametrize("terms", [2, 3])
def test_our_export_of_sums_and_of_dense_shift(terms):
    torch.manual_seed(2)
    plain = nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(160, 6)).eval()
    for model in (convert_pretrained(plain, 3, terms), convert(plain, 3).eval()):
        graph = to_graph(model, (2, 6, 7))
        back = import_model(to_onnx(graph), 3)
        for layer in graph.layers():
            other = back[layer.name]
            assert isinstance(other, Conv | Linear)
            assert (other.terms, other.exponent_bias) == (layer.terms, layer.exponent_bias)
            np.testing.assert_array_equal(other.codes, layer.codes)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", MODELS)
def test_torch_s_own_export(name, tmp_path):
    build, shape = MODELS[name]
    path = tmp_path / "net.onnx"
    torch.onnx.export(
        build(), (torch.zeros(2, *shape),), path, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "n"}}
    )
    same_values(onnx.load(path), shape)


# ---- refusals


@pytest.mark.parametrize(
    "nodes, message",
    [
        (
            [node("Softmax", ["x"], "y")],
            (
                "node 'y' (Softmax) must be an operator that the accelerator runs, not Softmax; "
                "leave softmax at the end to the host: the largest logit is the largest probability"
            ),
        ),
        (
            [node("Erf", ["x"], "y")],
            "node 'y' (Erf) must be an operator that the accelerator runs, not Erf; docs/support.md",
        ),
        ([node("Mul", ["x", "x"], "y")], "not Mul; a factor must be constant"),
        ([node("Div", ["one", "x"], "y")], "node 'y' (Div) must be an operator that the accelerator runs, not Div"),
        (
            [node("LeakyRelu", ["x"], "y")],
            "must have a slope of 2**-n with n in 0..15, not 0.01; the nearest is LeakyReLU(2**-7)",
        ),
        (
            [node("AveragePool", ["x"], "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
            "node 'y' (AveragePool) must count its padding, or have none; set count_include_pad=1",
        ),
        (
            [node("MaxPool", ["x"], "y", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)],
            "must have ceil_mode=0 where the windows do not fit, and would make (3, 4) of (3, 3) pixels; pad the input",
        ),
        (
            [node("Flatten", ["x"], "y", axis=2)],
            "node 'y' (Flatten) must keep axis 0 as the batch; flatten from axis 1",
        ),
        (
            [node("Reshape", ["x", "shape"], "y")],
            "must keep axis 0 as the batch, and makes (-1, 7) of (batch, 2, 6, 7)",
        ),
        ([node("Transpose", ["x"], "y", perm=[1, 0, 2, 3])], "node 'y' (Transpose) must keep axis 0 as the batch"),
        ([node("Concat", ["x", "x"], "y", axis=0)], "must keep axis 0 as the batch; join along axis 1, the channels"),
        (
            [node("ReduceMean", ["x"], "y", axes=[1])],
            "must be the mean over all pixels of (batch, channels, pixels), not over",
        ),
        (
            [node("Conv", ["x", "third"], "y")],
            "weight of layer 'y' at index (0, 0, 0, 1) must be a power of two with a sign or a sum of up to 4",
        ),
        ([node("Identity", ["one"], "y")], "the output 'y' must depend on the input, and it is constant"),
        ([node("Relu", ["x"], "y")], "the network must have at least one Linear or convolution layer, and it has none"),
    ],
)
def test_what_cannot_run_is_refused(nodes, message):
    third = np.array([1.0, 0.3, 0.7654321, 0.1234567, 0.5555, 0.9], np.float32).reshape(1, 2, 1, 3)
    constants = {"one": np.float32(1), "shape": np.array([-1, 7]), "third": third}
    with pytest.raises(InputError) as caught:
        import_model(model_of(nodes, constants), 3)
    assert message in str(caught.value)


def test_inputs_outputs_and_files(tmp_path):
    relu = [node("Relu", ["x"], "y"), node("Relu", ["x"], "z")]
    for model, message in [
        (model_of(relu, outputs=2), "the network must have one output, not 2"),
        (model_of(relu, inputs=("x", "other")), "the network must have one input, not 2 ('x', 'other')"),
        (
            model_of(relu, shape=("n", "c", 6)),
            (
                "the input 'x' must be a float tensor with the batch as axis 0 and the other axes fixed, not of shape "
                "('?', '?', 6)"
            ),
        ),
    ]:
        with pytest.raises(InputError) as caught:
            import_model(model, 3)
        assert str(caught.value) == message
    path = tmp_path / "net.onnx"
    for contents in (b"no model", model_of(relu).SerializeToString()[:-9]):
        path.write_bytes(contents)
        with pytest.raises(
            InputError, match=r"^model must be a whole ONNX model with its weights inside, not '.*net\.onnx' \("
        ):
            read_onnx(path, 3)
    with pytest.raises(InputError, match=r"^model must be a readable file, not 'nowhere\.onnx'"):
        read_onnx("nowhere.onnx", 3)


def test_tensor_scales_are_not_exported():
    build, shape = MODELS["resnet"]
    config = config_of(4, 3, "int8", "int16", max_k=64)
    program = compile_graph(
        import_program(export(build(), torch.zeros(2, *shape)), 3), config, calibration=inputs(shape).astype(np.float64)
    )
    with pytest.raises(
        InputError,
        match=r"^a model for ONNX must have no tensor scales, and 'input' has one; leave the calibration out$",
    ):
        to_onnx(program.graph)
