"""The training runs: accuracy, determinism, files, errors."""

import dataclasses
import io
import math

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from golden.train import digits, runner
from golden.train.convert import convert
from golden.train.digits import DIGITS_MLP
from golden.train.layers import DenseShiftLayer
from golden.train.loop import fit
from golden.train.methods import METHODS
from golden.train.single import portion
from golden.train.task import Recipe, Split, Task
from shiftforge.errors import CheckFailed, InputError
from tests.limits import files_of_at_most


@pytest.fixture(scope="module")
def short():
    return runner.train("digits-mlp", epochs=6)


def states(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def test_split_is_stratified_disjoint_and_stable():
    train, test = digits.load()
    assert train.x.shape == (1437, 64)
    assert test.x.shape == (360, 64)
    assert train.x.min() == 0.0
    assert train.x.max() == 1.0
    assert np.array_equal(train.x * 16, np.rint(train.x * 16))
    counts = np.bincount(test.y, minlength=10)
    assert counts.min() >= 34
    assert counts.max() <= 38
    # No scan of the test split is trained on (the data hold no duplicates).
    assert not {x.tobytes() for x in train.x} & {x.tobytes() for x in test.x}
    again = digits.load()
    assert np.array_equal(again[1].x, test.x)
    assert np.array_equal(again[0].y, train.y)


def test_every_layer_is_a_shift_layer_and_a_batchnorm_follows_it(short):
    assert [type(m).__name__ for m in short.model.children()] == [
        "DenseShiftLinear",
        "BatchNorm1d",
        "ReLU",
        "DenseShiftLinear",
        "BatchNorm1d",
    ]


def test_a_short_run_learns(short):
    assert short.torch_accuracy >= 0.9
    assert short.float32_accuracy >= 0.9
    assert len(short.losses) == len(short.float32_losses) == 6
    assert short.losses[-1] < short.losses[0] / 2
    assert not short.model.training
    assert sum(isinstance(m, DenseShiftLayer) for m in short.model.modules()) == 2
    assert not any(isinstance(m, DenseShiftLayer) for m in short.float32_model.modules())
    assert not any(m._forward_pre_hooks for m in short.model.modules())
    right = short.model(torch.from_numpy(short.test.x)).argmax(1).numpy() == short.test.y
    assert short.torch_accuracy == right.sum() / 360


def test_the_recipe_reaches_its_figure():
    result = runner.train("digits-mlp")
    assert result.torch_accuracy >= 0.97
    assert result.torch_accuracy >= result.float32_accuracy - 0.02


@pytest.mark.slow
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_recipe_reaches_its_figure_for_every_seed(bits):
    for seed in range(5):
        result = runner.train("digits-mlp", bits=bits, seed=seed)
        assert result.torch_accuracy >= 0.96
        assert result.torch_accuracy >= result.float32_accuracy - 0.02


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["fp32", "bf16", "fp8_e5m2", "fp8_e4m3", "int8", "int16"])
def test_the_recipe_reaches_its_figure_for_every_format(activation):
    assert runner.train("digits-mlp", activation=activation).torch_accuracy >= 0.96


def test_the_seed_alone_decides_and_torchs_state_is_left():
    def run(seed, activation="fp16"):
        return runner.train("digits-mlp", epochs=1, seed=seed, activation=activation)

    torch.manual_seed(123)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    first = run(5)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    torch.manual_seed(7)
    again, other, coarse = run(5), run(6), run(5, "fp8_e5m2")
    assert first.losses == again.losses
    assert first.float32_losses == again.float32_losses
    for key, value in states(first.model).items():
        assert torch.equal(value, states(again.model)[key])
    assert first.losses != other.losses
    assert first.losses != coarse.losses
    assert first.float32_losses == coarse.float32_losses


def test_files_hold_the_network_and_the_test_split(short, tmp_path):
    program, arrays = runner.save(short, tmp_path / "digits.v1.pt2")
    assert (program.name, arrays.name) == ("digits.v1.pt2", "digits.v1.test.npz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["digits.v1.pt2", "digits.v1.test.npz"]
    with np.load(arrays) as held:
        assert held["x"].dtype == np.float32
        assert held["y"].dtype == np.int64
        assert np.array_equal(held["x"], short.test.x)
        assert np.array_equal(held["y"], short.test.y)
        assert held["float32_accuracy"].item() == short.float32_accuracy
        assert held["torch_accuracy"].item() == short.torch_accuracy
        assert (held["bits"].item(), held["seed"].item(), held["activation"].item()) == (3, 0, "fp16")
    module = torch.export.load(program).module()
    x = torch.from_numpy(short.test.x)
    for rows in (1, 2, 7, 360):
        assert torch.equal(module(x[:rows]), short.model(x[:rows]))


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_exported_weights_depend_on_parameters_alone(bits):
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 25, 2))
    model = convert(network, bits).eval()
    x = torch.randn(3, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    program = runner.export(model, x)
    assert torch.equal(program.module()(x), model(x))
    assert set(program.state_dict) == set(model.state_dict())
    from_input = set(program.graph_signature.user_inputs)
    products = []
    for node in program.graph.nodes:
        if any(arg.name in from_input for arg in node.all_input_nodes):
            from_input.add(node.name)
        if str(node.target) in ("aten.linear.default", "aten.conv2d.default"):
            products.append(node)
    assert len(products) == 2
    assert all(node.args[0].name in from_input and node.args[1].name not in from_input for node in products)


@pytest.mark.parametrize("room", [0, 20_000, 60_000])
def test_a_failed_write_leaves_the_old_files(short, tmp_path, room):
    runner.save(short, tmp_path / "m.pt2")
    old = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    sizes = sorted(map(len, old.values()))
    assert room < sizes[1]
    with (
        files_of_at_most(room),
        pytest.raises(InputError, match=r"the model's file must be writable, not '.*m\.pt2' \(File too large\)"),
    ):
        runner.save(short, tmp_path / "m.pt2")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == old


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path):
    path = tmp_path / "c"
    runner.train("digits-mlp", epochs=1, checkpoint=path)
    old = path.read_bytes()
    with (
        files_of_at_most(1000),
        pytest.raises(
            InputError, match=r"the checkpoint '.*c' must be writable and is as it was: .*\(file too large\)"
        ),
    ):
        runner.train("digits-mlp", epochs=1, checkpoint=path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_bad_targets(short, tmp_path):
    (tmp_path / "taken.pt2").mkdir()
    for path, message in (
        (tmp_path / "m.pt", "the model's file name must end in .pt2, not 'm.pt'"),
        (tmp_path / "no" / "m.pt2", f"the folder of the model's file must exist, not '{tmp_path / 'no'}'"),
        (tmp_path / "taken.pt2", f"the file to write must not be a folder, not '{tmp_path / 'taken.pt2'}'"),
    ):
        with pytest.raises(InputError) as caught:
            runner.save(short, path)
        assert str(caught.value) == message
    assert [p.name for p in tmp_path.iterdir()] == ["taken.pt2"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"task": "digit-mlp"},
            "task must be one of digits-mlp, digits-cnn, digits-transfer, keywords, chars, cifar10, imagenet, not 'digit-mlp'",
        ),
        ({"bits": 5}, "weight_bits must be 2, 3 or 4, not 5"),
        (
            {"activation": "fp17"},
            "format must be one of fp32, fp16, bf16, fp8_e5m2, fp8_e4m3, int8, int16, not 'fp17'",
        ),
        ({"epochs": 0}, "epochs must be a positive integer, not 0"),
        ({"epochs": 2.5}, "epochs must be a positive integer, not 2.5"),
        ({"seed": -1}, "seed must be an integer from 0 to 2**32 - 1, not -1"),
        ({"seed": 1 << 32}, "seed must be an integer from 0 to 2**32 - 1, not 4294967296"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError) as caught:
        runner.train(**{"task": "digits-mlp", **arguments})
    assert str(caught.value) == message


def test_a_model_in_training_mode_is_not_exported():
    with pytest.raises(InputError, match="the model to export must be in eval mode, not in training mode"):
        runner.export(nn.Linear(2, 2), torch.zeros(1, 2))


def task_of(x, *, learning_rate=1e-2, build=lambda: nn.Linear(4, 2)):
    split = Split(x, np.arange(len(x), dtype=np.int64) % 2)
    return Task("own", "a test", lambda: (split, split), build, Recipe(2, 4, learning_rate, 0.0))


def test_a_diverging_run_stops_and_names_the_cause():
    x = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    with pytest.raises(CheckFailed) as caught:
        runner.train(task_of(x, learning_rate=math.inf))
    assert str(caught.value) == (
        "loss and parameters of the float32 network must stay finite, not nan in epoch 1 (weight is no longer finite); "
        "lower the learning rate of inf"
    )
    # Shift weights are finite whatever their latents are, so here the parameters are what gives it away.
    task = task_of(x, learning_rate=math.inf, build=lambda: nn.Sequential(nn.Linear(4, 2, bias=False)))
    shift = dataclasses.replace(task, build=lambda: convert(task.build(), 3), recipe=Recipe(1, 8, math.inf, 0.0))
    with pytest.raises(
        CheckFailed, match=r"stay finite, not \d\.\d+ in epoch 1 \(0\.weight_sign is no longer finite\)"
    ):
        runner.train(shift)


def test_overflowing_outputs_stop_the_run():
    x = np.full((8, 4), 3e38, dtype=np.float32)
    with pytest.raises(CheckFailed, match=r"must stay finite, not (nan|inf) in epoch 1 \(the outputs overflowed\)"):
        runner.train(task_of(x))


def test_data_that_are_not_finite_are_refused():
    x = np.zeros((8, 4), dtype=np.float32)
    x[2, 1] = np.nan
    with pytest.raises(InputError, match=r"every input must be finite, not nan at index \(2, 1\)"):
        task_of(x)


def test_bad_splits_and_recipes():
    with pytest.raises(InputError, match="x and y must be float32 and int64, not 'float64' and 'int64'"):
        Split(np.zeros((2, 2)), np.zeros(2, dtype=np.int64))  # pyright: ignore[reportArgumentType] (what the test is about)
    with pytest.raises(
        InputError, match=r"x and y must have the shapes \(N, \.\.\.\) and \(N,\), not \(2, 2\) and \(3,\)"
    ):
        Split(np.zeros((2, 2), dtype=np.float32), np.zeros(3, dtype=np.int64))
    with pytest.raises(InputError, match="every class number must be 0 or more, not -1"):
        Split(np.zeros((2, 2), dtype=np.float32), np.array([0, -1]))
    with pytest.raises(InputError, match="learning_rate must be positive, not 0"):
        Recipe(1, 1, 0, 0)
    with pytest.raises(InputError, match="weight_decay must be 0 or more, not -1"):
        Recipe(1, 1, 1, -1)
    with pytest.raises(InputError, match="the training split must hold a batch of 4 or more, not 3"):
        runner.train(task_of(np.zeros((3, 4), dtype=np.float32)))


def test_progress_counts_every_epoch_of_both_networks():
    steps = []
    result = runner.train("digits-mlp", epochs=2, bits=2, progress=steps.append)
    assert [(s.network, s.epoch, s.done, s.total) for s in steps] == [
        ("float32", 1, 1, 4),
        ("float32", 2, 2, 4),
        ("2-bit", 1, 3, 4),
        ("2-bit", 2, 4, 4),
    ]
    assert tuple(s.loss for s in steps[2:]) == result.losses
    out = io.StringIO()
    with runner.rich_progress(Console(file=out, force_terminal=True, width=120)) as show:
        for step in steps:
            show(step)
    assert "training 2-bit" in out.getvalue()
    assert f"epoch 2, loss {steps[-1].loss:.4f}" in out.getvalue()
    assert "left" in out.getvalue()


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("denseshift", "full")])
def test_every_method_trains_beside_the_same_twin(short, method):
    steps = []
    result = runner.train("digits-mlp", epochs=6, method=method, progress=steps.append)
    assert result.method == method
    assert steps[-1].network == f"{method} 3-bit"
    assert result.float32_losses == short.float32_losses
    assert result.torch_accuracy >= 0.75  # DeepShift-PS is slow to start
    assert result.losses != short.losses
    linear = METHODS[method].linear
    assert linear is not None
    layers = [m for m in result.model.modules() if isinstance(m, linear)]
    assert len(layers) == 2
    assert len(layers[0].weight.unique()) <= 8
    assert all(not m.training for m in (*result.model.modules(), *result.float32_model.modules()))


def test_a_penalty_is_part_of_the_loss():
    data, _ = digits.load()
    recipe = Recipe(1, 64, 1e-3, 0.0)
    losses = []
    for penalty in (None, lambda model: torch.tensor(2.5)):
        torch.manual_seed(0)
        losses += list(fit(DIGITS_MLP.build(), "float32", data, recipe, 0, penalty))
    assert losses[1] == pytest.approx(losses[0] + 2.5, rel=1e-6)


def test_inq_fixes_its_portions_quarter_by_quarter():
    assert [portion(done, 40) for done in (0, 9, 10, 20, 29, 30, 39, 40)] == [
        0.5,
        0.5,
        0.75,
        0.875,
        0.875,
        1,
        1,
        1,
    ]
    assert [portion(done, 1) for done in (0, 1)] == [0.5, 1]


def test_the_method_is_checked_before_anything_is_trained():
    with pytest.raises(InputError, match=r"^method must be one of denseshift, .* beside the float32 twin, not 'full'$"):
        runner.train("digits-mlp", method="full")
    with pytest.raises(InputError, match=r"^method must be one of denseshift, .*, full, not 'ternary'$"):
        runner.train("digits-mlp", method="ternary")
