"""What the compiler refuses, each kind with its one sentence: the thing, the rule, the value and, where there is one, the mend."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from shiftforge.activation import Activation
from shiftforge.errors import InputError
from shiftforge.graph import Activate, Add, Affine, Graph, Input, Layer, Linear, Reshape
from shiftforge.graph.weights import shift_weights
from sw_driver.compiler.pipeline import assemble, compile_graph
from tests.sw_driver.dags import Dag
from tests.sw_driver.networks import config_of

SMALL = {"activation_words": 512, "max_k": 120}


def refused(make: Callable[[], object]) -> str:
    """The sentence: of an error, or of a program that the machine does not run."""
    try:
        return str(getattr(make(), "unplaced", "nothing"))
    except InputError as error:
        return str(error)


def compiled(dag: Dag, last: str, **machine: object):
    return assemble(dag.graph(last), config_of(4, 3, **{"max_k": 700, **machine}))  # pyright: ignore[reportArgumentType]


def image(*, size: tuple[int, int] = (6, 6)) -> tuple[Dag, str]:
    dag = Dag(*size, 4)
    return dag, dag.conv("x", 4)


def max_pool():
    dag, x = image()
    return compiled(dag, dag.conv(dag.pool(x), 4))


def residual():
    dag, x = image()
    return compiled(dag, dag.conv(x, 4, residual=x))


def groups():
    dag, x = image()
    return compiled(dag, dag.conv(x, 4, groups=2))


def long_product():
    dag, x = image()
    return compiled(dag, dag.linear(dag.flat(x), 3), max_k=100)


def masked_weights():
    dag, x = image()
    graph = dag.graph(x)
    layer = graph.layers()[0]
    masked = replace(layer, mask=np.zeros(layer.codes.shape, np.bool_))
    return assemble(Graph((graph.input, masked)), config_of(4, 3, max_k=100))


def weight_bits():
    dag, x = image()
    return compiled(dag, x, bits=2)


def large_kernel():
    dag = Dag(300, 1, 4)
    return compiled(dag, dag.conv("x", 4, (257, 1)), max_k=1100)


def _reshaped(dag: Dag, x: str, *shape: int) -> str:
    dag.nodes.append(Reshape("reshaped", x, shape))
    dag.shapes["reshaped"] = shape
    return "reshaped"


def reshaped_image():
    dag, x = image()
    return compiled(dag, dag.conv(_reshaped(dag, x, 4, 9, 4), 3))


def reshaped_pixels():
    dag, x = image()
    return compiled(dag, dag.linear(_reshaped(dag, x, 18, 8), 3))


def long_image():
    dag = Dag(300, 1, 1)
    return compiled(dag, dag.linear(dag.flat(dag.conv("x", 1, (1, 1))), 3), max_k=1300)


def residual_in_another_shape():
    dag, x = image(size=(3, 3))
    flat = dag.flat(x)
    return compiled(dag, dag.linear(flat, 36, residual=flat), residual=True)


def patch_beyond_a_page():
    dag = Dag(30, 30, 4)
    return compiled(dag, dag.conv("x", 2, (3, 3), 1, 14, dilation=14), **SMALL)


def strip_of_padding():
    dag = Dag(40, 20, 4)
    return compiled(dag, dag.conv("x", 2, (1, 1), 1, ((30, 0), (0, 0))), **SMALL)


def spill_in_another_format():
    dag = Dag(40, 20, 4)
    return compiled(dag, dag.conv(dag.conv("x", 2), 2), activation="int8", output="int16", **SMALL)


def weights(*values: float):
    return shift_weights("fc", np.array([values]), 3)


def nodes(*make: Callable[[Layer], object]):
    """A layer and what follows it, through all passes."""
    layer = Linear("fc", "x", np.zeros((4, 4), np.uint8), 3, 0, np.ones(4), np.zeros(4))
    graph = Graph((Input("x", (4,)), layer, *(one(layer) for one in make)))  # pyright: ignore[reportArgumentType]
    return compile_graph(graph, config_of(4, 3))


def _norm(source: str):
    return lambda _: Affine("norm", source, np.array([1.0, 2.0, 3.0, 4.0]), np.ones(4))


def _relu(name: str, source: str):
    return lambda _: Activate(name, source, Activation.relu())


REFUSALS: dict[str, tuple[Callable[[], object], str]] = {
    "a max-pool": (max_pool, "max-pool 'n2' needs array.max_pool = true in the configuration"),
    "a residual": (
        residual,
        "layer 'n2' adds the residual 'n1', which needs array.residual = true in the configuration",
    ),
    "groups": (
        groups,
        "layer 'n2' has 2 groups (or is an average), which needs array.mask = true in the configuration",
    ),
    "a product that is too long": (
        long_product,
        "K of layer 'n3' must be at most max_k = 100, not 144; generate the accelerator with a larger array.max_k",
    ),
    "zeros": (
        masked_weights,
        "weights of layer 'n1' must not be zero without masks; set array.mask = true in the configuration",
    ),
    "more weight bits": (weight_bits, "weights of layer 'n1' must have at most the configuration's 2 bits, not 3"),
    "a large kernel": (
        large_kernel,
        "layer 'n1' does not fit its addresses: kernel_h of a convolution must be 1..255, not 257",
    ),
    "a reshaped image": (
        reshaped_image,
        "layer 'n3' does not fit its addresses: it reads pixels of the shape (4, 9, 4), which lie on chip as (6, 6, 4)",
    ),
    "reshaped pixels": (
        reshaped_pixels,
        "layer 'n3' does not fit its addresses: it reads a tensor of the shape (18, 8), which lies on chip as (6, 6, 4)",
    ),
    "a long image": (
        long_image,
        "layer 'n3' does not fit its addresses: it reads an image of 300 x 1 pixels at once, of at most 255 x 255",
    ),
    "a residual in another shape": (
        residual_in_another_shape,
        "layer 'n3' makes pixels of the shape (1, 1, 36) and adds 'n2', which lies on chip as (3, 3, 4)",
    ),
    "a patch beyond a page": (
        patch_beyond_a_page,
        "layer 'n1' reads 841 words for one output pixel, which must fit a page of the activation memory, 256 words",
    ),
    "a strip of padding": (
        strip_of_padding,
        "a strip of a layer would read padding alone, which lies beyond its input",
    ),
    "a spill in another format": (
        spill_in_another_format,
        (
            "the result of 'n1' does not stay on chip and must come back as the same bits, which needs array.output = 'int8' (or "
            "'fp32'), or more memory.activation_words or memory.activation_pages"
        ),
    ),
    "weights of any value": (
        lambda: weights(1.0, 2.7),
        (
            "weight of layer 'fc' at index (0, 1) must be a power of two with a sign or a sum of up to 4 (times one number per "
            "channel), not 2.7; train it as a DenseShift layer or turn it into sums (golden.train: convert, convert_pretrained), "
            "or let the host compute it (compile --host)"
        ),
    ),
    "exponents far apart": (
        lambda: weights(1.0, 32.0),
        (
            "exponents of layer 'fc' must span at most 4 values for 3-bit weights, not the 6 of 2**0..2**5 in output channel 0; "
            "generate the accelerator with array.weight_bits = 4"
        ),
    ),
    "a BatchNorm after an activation": (
        lambda: nodes(_relu("relu", "fc"), _norm("relu")),
        (
            "'norm' must follow a layer directly (or scale the input of one by a single number) to be folded, and follows 'relu'; "
            "put BatchNorm, scales and additions between a layer and its activation"
        ),
    ),
    "two activations": (
        lambda: nodes(_relu("one", "fc"), _relu("two", "one")),
        (
            "activation 'two' must follow a layer without an activation, and follows 'one'; leave one activation between two "
            "layers, and none on the input"
        ),
    ),
    "an addition without a layer": (
        lambda: nodes(_relu("relu", "fc"), lambda _: Add("sum", "relu", "x")),
        (
            "addition 'sum' must have an operand that is a layer's result without an activation, read by nothing else, and adds "
            "'relu' and 'x'; put a layer (with BatchNorm) into one branch and the activation after the addition"
        ),
    ),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_every_refusal_is_one_sentence(kind):
    make, sentence = REFUSALS[kind]
    assert refused(make) == sentence


def test_there_are_as_many_as_promised():
    assert len({sentence for _, sentence in REFUSALS.values()}) >= 15
