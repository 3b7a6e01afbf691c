"""Every task: its data, its network, one batch through it; and everything that the table refuses."""

import dataclasses

import numpy as np
import pytest
import torch

from golden.train import chars, digits, runner
from golden.train.geometry import ShiftLayer
from golden.train.networks import ResNet
from golden.train.single import epochs_of, phases_of, with_epochs
from golden.train.task import Split, Task
from golden.train.tasks import FOLDER_TASKS, NAMES, TASKS, task_named
from shiftforge.errors import InputError


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("cifar10",), "the folder of the data of cifar10 must be named with --data FOLDER, and is not"),
        (
            ("cifar10", "/no/such"),
            "the data of cifar10 must be in a folder that exists, not '/no/such'; name it with --data",
        ),
        (("chars", "."), "a folder of data must be left out for the task chars, which has its own, not '.'"),
        (("chars", None, 3), "classes must be left out without a folder of data, not 3"),
        (("imagenet", ".", 1), "classes must be an integer of 2 or more, not 1"),
        (("mnist",), f"task must be one of {', '.join(NAMES)}, not 'mnist'"),
    ],
)
def test_what_the_table_refuses(arguments, message):
    with pytest.raises(InputError) as caught:
        task_named(*arguments)
    assert str(caught.value) == message


def test_folder_tasks_have_the_paper_recipe(tmp_path):
    assert set(FOLDER_TASKS) == {"keywords", "cifar10", "imagenet"}
    for name in ("cifar10", "imagenet"):
        recipe = task_named(name, tmp_path).recipe
        assert (recipe.epochs, recipe.batch, recipe.learning_rate, recipe.weight_decay) == (200, 256, 0.1, 1e-4)
        assert recipe.optimizer == "sgd"


@pytest.mark.parametrize("name", ["digits-cnn", "digits-transfer"])
@pytest.mark.parametrize("method", ["denseshift", "inq"])
def test_a_short_run_of_every_task(name, method):
    task = with_epochs(TASKS[name], 1)
    steps = []
    result = runner.train(task, epochs=1, method=method, progress=steps.append)
    assert len(steps) == epochs_of(task, "full") + epochs_of(task, method)
    assert np.isfinite(result.losses).all()
    plain = [m for m in result.model.modules() if type(m) in (torch.nn.Linear, torch.nn.Conv2d)]
    assert not plain
    assert any(isinstance(m, ShiftLayer) for m in result.model.modules())


def test_transfer_learns_other_digits_than_it_is_tested_on():
    old, (new, test) = digits.load_old(), digits.load_new()
    assert np.bincount(new.y).tolist() == [digits.TRANSFER_PER_DIGIT] * 5
    assert sorted(np.unique(test.y)) == [0, 1, 2, 3, 4]
    train, whole_test = digits.load_images()
    assert len(old) == (train.y < 5).sum()
    assert len(test) == (whole_test.y >= 5).sum()
    rows = {x.tobytes() for x in train.x[train.y >= 5]}
    assert all(x.tobytes() in rows for x in new.x)
    assert not {x.tobytes() for x in old.x} & rows


def test_a_transferred_network_starts_from_the_pretrained_one():
    task = TASKS["digits-transfer"]
    assert phases_of(task, "denseshift") == ("pretraining", "training")
    assert phases_of(task, "inq") == ("training",)
    assert task.pretraining is not None
    old = digits.load_old()
    # With a rate of nothing, what is left of the training is the start: the pretrained layers, but for the fresh head.
    still = dataclasses.replace(task.recipe, learning_rate=1e-30, weight_decay=0.0, epochs=1)
    before = dataclasses.replace(task.pretraining.recipe, epochs=2)
    pretrained = Task("old", "", lambda: (old, old), task.build, before)
    transfer = dataclasses.replace(task, recipe=still, pretraining=dataclasses.replace(task.pretraining, recipe=before))
    first, second = runner.train(pretrained), runner.train(transfer)
    assert second.losses[:2] == first.losses
    assert (len(second.losses), len(second.unchanged), len(second.frozen)) == (3, 1, 1)
    assert second.unchanged == (1.0,)
    for one, other in ((first.model, second.model), (first.float32_model, second.float32_model)):
        states = dict(other.named_parameters())
        for name, parameter in one.named_parameters():
            assert torch.equal(parameter, states[name]) != (name.split(".")[0] in task.pretraining.fresh), name


def test_the_character_task_trains():
    train, test = chars.load()
    few = Split(train.x[:64], train.y[:64]), Split(test.x[:8], test.y[:8])
    result = runner.train(dataclasses.replace(TASKS["chars"], load=lambda: few), epochs=2)
    assert result.losses[1] < result.losses[0] < 2 * np.log(chars.CHARACTERS)
    assert sum(isinstance(m, ShiftLayer) for m in result.model.modules()) == 12
    assert 0 < result.torch_accuracy < 1
    assert result.test_rows == 8


def test_characters_have_codes_and_windows_follow_the_text():
    text = "ab\n~\té"
    assert chars.encode_text(text).tolist() == [67, 68, 1, 96, 0, 0]
    assert max(chars.encode_text(text)) < chars.CHARACTERS
    codes = np.arange(200)
    split = chars.windows(codes, 3)
    assert split.x[:, 0].tolist() == [0, 67, 135]
    assert (split.y == split.x + 1).all()
    train, test = chars.texts()
    assert test[:2000] not in train
    assert len(train) > 4 * len(test)


def test_a_character_is_predicted_from_those_before_it_alone():
    torch.manual_seed(0)
    model = chars.build().eval()
    x = torch.randint(0, chars.CHARACTERS, (2, chars.POSITIONS))
    other = x.clone()
    other[:, 40] = (other[:, 40] + 1) % chars.CHARACTERS
    with torch.no_grad():
        a, b = model(x), model(other)
    assert torch.equal(a[..., :40], b[..., :40])
    assert not torch.equal(a[..., 40], b[..., 40])


def test_bits_per_character_of_an_even_guess():
    _, test = chars.load()

    class Even(torch.nn.Module):
        def forward(self, x):
            return torch.zeros(len(x), chars.CHARACTERS, chars.POSITIONS)

    assert chars.bits_per_character(Even(), test) == pytest.approx(np.log2(chars.CHARACTERS))


@pytest.mark.parametrize("name, side, parameters", [("cifar10", 32, 272_474), ("imagenet", 224, 11_689_512)])
def test_residual_networks_have_the_published_sizes(name, side, parameters, tmp_path):
    # torchvision's resnet18; ResNet-20 with 1x1 shortcuts (He et al., 2016, option B).
    task = task_named(name, tmp_path)
    model = task.build()
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model.eval()(torch.zeros(1, 3, side, side)).shape == (1, 1000 if name == "imagenet" else 10)
    assert task.keep == ResNet.KEPT
    assert all(type(model.get_submodule(layer)) in (torch.nn.Conv2d, torch.nn.Linear) for layer in task.keep)
