"""Networks from a graph to the golden emulator, bit for bit against the golden network; placement; and what passes refuse."""

from dataclasses import replace

import numpy as np
import pytest

from golden import network as golden_network
from golden.emulator import EmulatorTransport
from golden.rounding import Overflow
from shiftforge.activation import Activation
from shiftforge.errors import CheckFailed, InputError
from shiftforge.formats import FORMATS
from shiftforge.graph import Activate, Affine, Graph, Input, Linear
from shiftforge.packets import Opcode, decode_layer
from shiftforge.passes.fold import fold
from shiftforge.passes.fuse import fuse
from shiftforge.passes.quantise import quantise
from shiftforge.passes.reference import evaluate
from sw_driver import layout, stream
from sw_driver.accelerator import Accelerator
from sw_driver.compiler.check import check_passes
from sw_driver.compiler.pipeline import assemble, compile_graph
from sw_driver.compiler.place import LayerShape, place
from sw_driver.host import Host
from tests.sw_driver.networks import config_of, network


def check(config, graph, x, overflow: Overflow = "saturate"):
    """The program on the emulator gives the golden network's bits and flags."""
    program = assemble(graph, config, overflow=overflow)
    accelerator = Accelerator(EmulatorTransport(config), config)
    codes = accelerator.encode_input(program, x)
    np.testing.assert_array_equal(codes, golden_network.encode_input(graph, config, x, overflow))
    golden = golden_network.run(graph, config, codes, overflow)
    np.testing.assert_array_equal(accelerator.run(program, x), golden.output)
    flags = golden.flags
    assert (bool(accelerator.flags & 1), bool(accelerator.flags & 2), bool(accelerator.flags & 4)) == (
        flags.nv,
        flags.of,
        flags.nx,
    )
    return program


@pytest.mark.parametrize("activation", FORMATS)
@pytest.mark.parametrize("rows, cols", [(1, 1), (3, 5), (8, 8), (5, 2), (4, 16)])
def test_networks_equal_the_golden_network(rows, cols, activation):
    rng = np.random.default_rng(rows * 10 + cols)
    config = config_of(rows, cols, activation, "fp16" if activation != "fp32" else "fp32", stream_bits=32)
    for widths in ([1, 1], [7, 13, 9], [40, 40, 40, 10], [12, 5, 38, 1, 17]):
        check(config, network(rng, widths), rng.normal(0, 2, (rows + 3, widths[0])))


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_weight_bits_and_overflow(bits):
    rng = np.random.default_rng(bits)
    config = config_of(4, 3, "fp8_e4m3", "fp8_e5m2", bits)
    graph = network(rng, [20, 30, 11], bits, size=30.0)
    x = rng.normal(0, 200, (9, 20))
    check(config, graph, x, "saturate")
    check(config, graph, x, "inf")


@pytest.mark.parametrize("batch", [0, 1, 63, 64, 65, 333])
@pytest.mark.parametrize("weight_words", [128, 1024])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_any_batch_and_memory(depth, weight_words, batch):
    """Chunks of the batch, with weights that stay and weights that are loaded again; an odd and an even number of layers."""
    rng = np.random.default_rng(batch)
    config = config_of(4, 6, activation_words=128, weight_words=weight_words, parameter_words=128)
    graph = network(rng, [40, 33, 29, 40][: depth + 1])
    program = check(config, graph, rng.normal(0, 2, (batch, 40)))
    assert program.recipe.phases[0].chunk == 4
    assert bool(program.recipe.phases[0].constants) == (weight_words == 1024)


def test_runs_follow_one_another_without_a_reset():
    rng = np.random.default_rng(8)
    config = config_of(4, 6)
    accelerator = Accelerator(EmulatorTransport(config), config)
    graphs = [network(rng, widths) for widths in ([30, 20, 10], [5, 40], [17, 3, 9, 40, 2])]
    for _ in range(3):
        for graph in graphs:
            codes = rng.integers(0, 1 << 16, (int(rng.integers(1, 30)), graph.input.features)).astype(np.uint16)
            golden = golden_network.run(graph, config, codes)
            np.testing.assert_array_equal(accelerator.run_codes(assemble(graph, config), codes), golden.output)


def test_inner_layers_can_be_brought_out():
    """`Graph.up_to` gives each layer's tensor, in the output format."""
    rng = np.random.default_rng(4)
    config = config_of(4, 6)
    graph = network(rng, [30, 20, 10, 7])
    accelerator = Accelerator(EmulatorTransport(config), config)
    x = rng.normal(0, 1, (5, 30))
    whole = golden_network.run(graph, config, golden_network.encode_input(graph, config, x))
    for name in ("fc0", "fc1", "fc2"):
        codes = accelerator.run(assemble(graph.up_to(name), config), x)
        np.testing.assert_array_equal(codes, whole.tensors[name])


# ---- placement


def test_pieces_cover_every_channel_and_stay_within_halves():
    rng = np.random.default_rng(1)
    for _ in range(60):
        config = config_of(
            int(rng.integers(1, 7)),
            int(rng.integers(1, 9)),
            weight_words=int(2 ** rng.integers(7, 11)),
            parameter_words=int(2 ** rng.integers(5, 9)),
        )
        layers = [
            LayerShape(f"l{i}", int(rng.integers(1, 41)), int(rng.integers(1, 60)), True)
            for i in range(int(rng.integers(1, 5)))
        ]
        placement = place(config, layers)
        half_weights, half_parameters = config.weight_words // 2, config.parameter_words // 2
        used: list[set[int]] = [set(), set()]
        for index, layer in enumerate(layers):
            channels = [c for p in placement.pieces if p.layer == index for c in range(p.first, p.first + p.channels)]
            assert channels == list(range(layer.n))
        for piece in placement.pieces:
            assert piece.first % config.cols == 0
            weights = layout.weight_words(config, layers[piece.layer].k, piece.channels)
            parameters = layout.parameter_words(config, piece.channels)
            assert piece.weight_address % half_weights + weights <= half_weights
            assert piece.parameter_address % half_parameters + parameters <= half_parameters
            if placement.resident:
                for words, at, count in zip(
                    used, (piece.weight_address, piece.parameter_address), (weights, parameters), strict=True
                ):
                    assert words.isdisjoint(range(at, at + count))
                    words.update(range(at, at + count))


def test_weights_that_fit_exactly_stay_on_chip():
    """Both halves full to the last word, with a layer cut where the halves meet."""
    config = config_of(4, 4, max_k=8, weight_words=64, parameter_words=64)
    assert (config.weight_words, config.parameter_words, config.groups) == (64, 64, 4)
    fits = place(config, [LayerShape("a", 8, 12, True), LayerShape("b", 8, 20, True)])
    assert fits.resident
    assert [(p.layer, p.first, p.channels, p.weight_address) for p in fits.pieces] == [
        (0, 0, 12, 0),
        (1, 0, 4, 24),
        (1, 4, 16, 32),
    ]
    assert not place(config, [LayerShape("a", 8, 12, True), LayerShape("b", 8, 21, True)]).resident
    check(config, network(np.random.default_rng(0), [8, 8, 24]), np.ones((9, 8)))


def test_resident_weights_are_one_packet_for_each_half():
    config = config_of(4, 4, max_k=8, weight_words=64, parameter_words=64)
    program = assemble(network(np.random.default_rng(0), [8, 8, 24]), config)
    constants = [(block.opcode, block.address) for block in program.recipe.phases[0].constants]
    assert constants == [
        (Opcode.WEIGHTS, 0),
        (Opcode.WEIGHTS, 32),
        (Opcode.PARAMETERS, 0),
    ]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_loads_never_wait_for_the_layer_before(depth):
    """What is loaded between two layers goes to halves that the layer before neither reads nor writes: double buffering."""
    rng = np.random.default_rng(depth)
    config = config_of(4, 6, activation_words=128, weight_words=128, parameter_words=128)
    program = assemble(network(rng, [40, 33, 29, 40][: depth + 1]), config)
    codes = rng.integers(0, 1 << 16, (30, 40)).astype(np.uint16)
    (phase,), host = program.recipe.phases, Host(config, program.graph, program.recipe, codes, saturate=True)
    sends = [send for chunk in stream.batch(config, phase, host.payload, len(codes)) for send in chunk]
    sizes = {Opcode.WEIGHTS: 64, Opcode.PARAMETERS: 64, Opcode.ACTIVATIONS: 64}
    used: set[tuple[Opcode, int]] = set()
    overlapping = 0
    for send in sends:
        if send.opcode == Opcode.LAYER:
            fields = decode_layer(send.payload)
            used = {
                (Opcode.WEIGHTS, fields["weight_address"] // 64),
                (Opcode.PARAMETERS, fields["parameter_address"] // 64),
                (Opcode.ACTIVATIONS, fields["input_address"] // 64),
            }
            if not fields["to_stream"]:
                used.add((Opcode.ACTIVATIONS, fields["output_address"] // 64))
        elif (send.opcode, send.address // sizes[send.opcode]) in used:
            overlapping += 1
            # Only where an odd number of pieces makes a chunk begin with the half that the one before ended with.
            assert len(program.recipe.steps) % 2 == 1
            assert send.opcode != Opcode.ACTIVATIONS
    assert (overlapping > 0) == (len(program.recipe.steps) % 2 == 1)


def test_the_report_counts():
    config = config_of(4, 6)
    program = assemble(network(np.random.default_rng(0), [30, 20, 7]), config, name="net")
    first, last = program.report
    assert (first.name, first.k, first.n, first.tiles, first.macs, first.slots) == ("fc0", 30, 20, 4, 600, 128)
    assert (first.weight_words, first.activation_words, first.activation) == (128, 5, "relu")
    assert (last.name, last.parameter_words, last.activation_words) == ("fc1", 2 * config.groups, 0)


# ---- passes


def unfolded(rng) -> Graph:
    """Input scaling, Linear, two affines, relu, Linear, affine."""
    _, first, second = network(rng, [12, 9, 4], dtype=np.float64)
    assert isinstance(first, Linear)
    assert isinstance(second, Linear)
    plain = Activation.none()
    return Graph(
        (
            Input("x", (12,)),
            Affine("normalise", "x", np.full(12, 0.25), rng.normal(0, 1, 12)),
            replace(first, source="normalise", activation=plain),
            Affine("bn", "fc0", rng.normal(0, 1, 9), rng.normal(0, 1, 9)),
            Affine("shift", "bn", np.ones(9), rng.normal(0, 1, 9)),
            Activate("relu", "shift", Activation.relu()),
            replace(second, source="relu", activation=plain),
            Affine("out", "fc1", rng.normal(0, 1, 4), np.zeros(4)),
        )
    )


def test_fold_and_fuse_keep_the_values():
    rng = np.random.default_rng(3)
    graph = unfolded(rng)
    x = rng.normal(0, 1, (20, 12))
    folded = fold(graph)
    fused = fuse(folded)
    assert [node.name for node in folded] == ["x", "fc0", "relu", "fc1"]
    assert [node.name for node in fused] == ["x", "fc0", "fc1"]
    before = evaluate(graph, x)["out"]
    np.testing.assert_allclose(evaluate(folded, x)["fc1"], before, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(evaluate(fused, x)["fc1"], before, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("activation, output", [("fp16", "fp16"), ("int8", "int16"), ("fp8_e4m3", "fp16")])
def test_every_pass_is_checked(activation, output, calibrated):
    rng = np.random.default_rng(3)
    config = config_of(4, 3, activation, output)
    graph = unfolded(rng)
    x = rng.normal(0, 1, (20, 12))
    calibration = x if calibrated else None
    program = compile_graph(graph, config, calibration=calibration)
    done = check_passes(graph, program, x, executor(config), EmulatorTransport(config), calibration)
    assert [(c.name, c.rule) for c in done if c.rule == "=="] == [
        ("fuse", "=="),
        ("the program's graph", "=="),
        ("place and emit", "=="),
    ]


def executor(config):
    return lambda graph, codes: golden_network.run(graph, config, codes).output


def test_a_wrong_program_is_found_by_the_check():
    rng = np.random.default_rng(3)
    config = config_of(4, 3)
    graph = unfolded(rng)
    x = rng.normal(0, 1, (20, 12))
    program = compile_graph(graph, config)
    (phase,) = program.recipe.phases
    block = next(b for b in phase.constants if b.opcode == Opcode.WEIGHTS)
    damaged = replace(block, payload=bytes([block.payload[0] ^ 4]) + block.payload[1:])
    phase = replace(phase, constants=tuple(damaged if b is block else b for b in phase.constants))
    recipe = replace(program.recipe, parts=(phase,))
    with pytest.raises(CheckFailed, match=r"^place and emit must keep every bit, and at \(\d+, \d+\) makes 0x"):
        check_passes(graph, replace(program, placed=recipe), x, executor(config), EmulatorTransport(config))
    first = program.graph.layers()[0]
    louder = replace(first, scale=first.scale * np.float32(1.5))
    nodes = tuple(louder if n is first else n for n in program.graph)
    with pytest.raises(CheckFailed, match="^the program's graph must keep every bit"):
        check_passes(graph, replace(program, graph=Graph(nodes)), x, executor(config), EmulatorTransport(config))


def test_calibration_uses_the_whole_range():
    """Integer networks with tensor scales come close to the real values; without they cannot."""
    rng = np.random.default_rng(6)
    config = config_of(8, 8, "int8", "int16", max_k=64)
    graph = network(rng, [64, 32, 10], dtype=np.float64, size=0.002)
    x = rng.normal(0, 0.3, (200, 64))
    real = evaluate(graph, x)["fc1"]
    errors = {}
    for name, calibration in (("calibrated", x), ("plain", None)):
        program = compile_graph(graph, config, calibration=calibration)
        values = Accelerator(EmulatorTransport(config), config).run_values(program, x)
        errors[name] = float(np.abs(values - real).max() / np.abs(real).max())
    assert errors["calibrated"] < 0.03
    assert errors["plain"] > 0.1


def test_calibration_divides_clamp_bounds():
    config = config_of(4, 4, "int8", "int8")
    rng = np.random.default_rng(2)
    base = network(rng, [8, 6, 3], dtype=np.float64)
    layer = base["fc0"]
    assert isinstance(layer, Linear)
    nodes = tuple(replace(layer, activation=Activation.clamp(0.0, 6.0)) if n is layer else n for n in base)
    x = rng.normal(0, 50, (100, 8))
    program = compile_graph(Graph(nodes), config, calibration=x)
    compiled = program.graph["fc0"]
    assert isinstance(compiled, Linear)
    assert compiled.output_scale == float(np.float32(6 / 127))
    assert compiled.activation == Activation.clamp(0.0, 6.0 / compiled.output_scale)
    codes = golden_network.run(program.graph, config, golden_network.encode_input(program.graph, config, x))
    assert int(codes.tensors["fc0"].max()) == 127


# ---- refusals


def linear(name, source, k=4, n=4, **more) -> Linear:
    return Linear(name, source, np.zeros((k, n), np.uint8), 3, 0, np.ones(n), np.zeros(n), **more)


X = Input("x", (4,))
ONES, ZEROS = np.ones(4), np.zeros(4)


@pytest.mark.parametrize(
    "nodes, message",
    [
        (
            (X, linear("a", "x"), Activate("r", "a", Activation.relu()), Affine("bn", "r", ONES, ZEROS)),
            (
                "'bn' must follow a layer directly (or scale the input of one by a single number) to be folded, and follows 'r'; "
                "put BatchNorm, scales and additions between a layer and its activation"
            ),
        ),
        (
            (X, Affine("norm", "x", np.array([1.0, 2.0, 1.0, 1.0]), ZEROS), linear("a", "norm")),
            (
                "'norm' must scale all features of 'a' by one number, not feature 0 by 1.0 and feature 1 by 2.0; "
                "apply it to the data instead"
            ),
        ),
        (
            (X, Activate("r", "x", Activation.relu()), linear("a", "r")),
            (
                "activation 'r' must follow a layer without an activation, and follows 'x'; "
                "leave one activation between two layers, and none on the input"
            ),
        ),
        (
            (X, linear("a", "x", activation=Activation.relu()), Activate("r", "a", Activation.leaky(1))),
            (
                "activation 'r' must follow a layer without an activation, and follows 'a'; "
                "leave one activation between two layers, and none on the input"
            ),
        ),
        (
            (X, replace(linear("a", "x"), bias=np.array([0, 0, 1e39, 0]))),
            "bias of layer 'a' must be within the range of fp32, not 1e+39 at channel 2",
        ),
        (
            (Input("x", (41,)), linear("a", "x", k=41)),
            "K of layer 'a' must be at most max_k = 40, not 41; generate the accelerator with a larger array.max_k",
        ),
        (
            (X, replace(linear("a", "x"), weight_bits=4)),
            "weights of layer 'a' must have at most the configuration's 3 bits, not 4",
        ),
    ],
)
def test_networks_that_do_not_fit_are_refused(nodes, message):
    with pytest.raises(InputError) as caught:
        compile_graph(Graph(nodes), config_of())
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: Graph((X,)), "a graph must begin with its input and have at least one node more"),
        (lambda: Graph((X, linear("x", "x"))), "node names must be unique, not 'x' twice"),
        (lambda: Graph((X, linear("a", "b"))), "node 'a' must read a node before it, not 'b'"),
        (lambda: Graph((X, linear("a", "x", 5))), "node 'a' must read 5 features, not the 4 of 'x'"),
        (
            lambda: Graph((X, linear("a", "x"), linear("b", "x"))),
            "every node but the last must be read, and 'a' is not",
        ),
        (
            lambda: Graph((X, linear("a", "x")))["b"],
            "the graph must have a node 'b'; its nodes are x, a",
        ),
        (lambda: Input("x", (4,), 0.0), "the tensor scale of 'x' must be a positive finite fp32 number, not 0.0"),
        (lambda: Input("x", (4,), 0.1), "the tensor scale of 'x' must be a positive finite fp32 number, not 0.1"),
        (
            lambda: replace(linear("a", "x"), exponent_bias=128),
            "exponent bias of 'a' must be -128..127, not 128",
        ),
        (
            lambda: replace(linear("a", "x"), scale=np.array([1.0, np.nan, 1.0, 1.0])),
            "scale of 'a' must be finite, not nan at channel 1",
        ),
        (
            lambda: replace(linear("a", "x"), codes=np.full((4, 4), 8, np.uint8)),
            "weight codes of 'a' must have 3 bits, not the value 8",
        ),
    ],
)
def test_wrong_graphs_are_refused(build, message):
    with pytest.raises(InputError) as caught:
        build()
    assert str(caught.value) == message


def test_wrong_inputs_are_refused():
    config = config_of()
    graph = quantise(Graph((Input("x", (2, 2)), linear("a", "x"))))
    accelerator = Accelerator(EmulatorTransport(config), config)
    program = assemble(graph, config)
    shape = r"^the input must have the shape \(batch, 2, 2\), not \(3, 5\)$"
    with pytest.raises(InputError, match=shape):
        accelerator.run(program, np.zeros((3, 5)))
    with pytest.raises(InputError, match=r"^the input must be real numbers of at most 64 bits, not complex128$"):
        accelerator.run(program, np.zeros((3, 4), complex))
    with pytest.raises(InputError, match=r"^calibration samples must have the shape \(samples, 4\), not \(0, 4\)$"):
        compile_graph(graph, config, calibration=np.zeros((0, 4)))
    with pytest.raises(InputError, match=r"^calibration samples must be finite, not inf at index \(0, 1\)$"):
        compile_graph(graph, config, calibration=np.array([[0, np.inf, 0, 0]]))
    np.testing.assert_array_equal(
        accelerator.run(program, np.ones((3, 2, 2))), accelerator.run(program, np.ones((3, 4), np.uint8))
    )


def test_a_program_for_another_configuration_is_refused():
    config, other = config_of(), config_of(rows=4)
    program = assemble(network(np.random.default_rng(0), [3, 3]), other)
    message = (
        f"^the program must be compiled for this configuration \\(hash {config.hash:#010x}\\), not for {other.hash:#010x}; "
        "compile the network again with this configuration$"
    )
    with pytest.raises(InputError, match=message):
        Accelerator(EmulatorTransport(config), config).run(program, np.zeros((1, 3)))
