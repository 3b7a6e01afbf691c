"""Loaders of image folders, on folders made here: values, augmentation, and what they refuse."""

import numpy as np
import pytest
import torch
from PIL import Image

from golden.train import images, runner
from golden.train.task import Recipe
from golden.train.tasks import task_named
from shiftforge.errors import InputError


@pytest.fixture
def cifar(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in (*images._CIFAR_TRAIN, images._CIFAR_TEST):
        rows = rng.integers(0, 256, (20, 3073), dtype=np.uint8)
        rows[:, 0] = np.arange(20) % 10
        (folder / name).write_bytes(rows.tobytes())
    return tmp_path


def test_cifar_rows_are_label_and_planes(cifar):
    train, test = images.load_cifar10(cifar)
    assert (train.x.shape, test.x.shape) == ((100, 3, 32, 32), (20, 3, 32, 32))
    raw = np.frombuffer((cifar / "cifar-10-batches-bin" / "data_batch_2.bin").read_bytes(), np.uint8).reshape(20, 3073)
    assert train.y[20:40].tolist() == raw[:, 0].tolist()
    for plane in range(3):
        pixels = raw[3, 1 + 1024 * plane : 1025 + 1024 * plane].reshape(32, 32) / 255
        np.testing.assert_allclose(train.x[23, plane] * images.STD[plane] + images.MEAN[plane], pixels, atol=1e-6)
    assert test.augment is None


def test_augmentation_mirrors_and_moves_by_at_most_four_pixels(cifar):
    train, _ = images.load_cifar10(cifar)
    rows = torch.arange(40)
    plain, _ = train.batch(rows, None)
    moved, _ = train.batch(rows, torch.Generator().manual_seed(1))
    assert torch.equal(moved, train.batch(rows, torch.Generator().manual_seed(1))[0])
    seen = set()
    for before, after in zip(plain, moved, strict=True):
        padded = torch.nn.functional.pad(torch.stack([before, before.flip(2)]), (4, 4, 4, 4))
        found = [
            (m, dy, dx)
            for m in range(2)
            for dy in range(9)
            for dx in range(9)
            if torch.equal(padded[m, :, dy : dy + 32, dx : dx + 32], after)
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert {m for m, _, _ in seen} == {0, 1}
    assert len({dy for _, dy, _ in seen}) > 4


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda f: (f / "test_batch.bin").unlink(),
            r"must hold test_batch.bin, and .* does not; unpack cifar-10-binary.tar.gz there",
        ),
        (
            lambda f: (f / "data_batch_3.bin").write_bytes(b"12"),
            r"rows of 3073 bytes, not .*data_batch_3.bin' of 2 bytes; unpack the archive",
        ),
    ],
)
def test_spoilt_cifar(cifar, spoil, message):
    spoil(cifar / "cifar-10-batches-bin")
    with pytest.raises(InputError, match=message):
        images.load_cifar10(cifar)


def test_a_wrong_number_of_classes(cifar):
    with pytest.raises(
        InputError, match=r"must hold 7 classes, not 10; give the number that it has with --classes 10$"
    ):
        task_named("cifar10", cifar, 7).load()


@pytest.fixture
def imagenet(tmp_path):
    rng = np.random.default_rng(1)
    for part, count in (("train", 4), ("val", 2)):
        for name in ("n01", "n02"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{i}.png")
    return tmp_path


def test_images_are_read_when_they_are_needed(imagenet):
    train, test = images.load_imagenet(imagenet, 2)
    assert (len(train), len(test)) == (8, 4)
    x, y = test.batch(torch.tensor([3, 0]), None)
    assert x.shape == (2, 3, 224, 224)
    assert y.tolist() == [1, 0]
    # The shorter side becomes 256, and the middle 224x224 of that is taken: with Pillow's own two steps.
    image = Image.open(imagenet / "val" / "n02" / "1.png")
    box = (400 / 2 - 131.25, 300 / 2 - 131.25, 400 / 2 + 131.25, 300 / 2 + 131.25)
    expected = np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR, box=box)) / 255
    np.testing.assert_allclose(x[0].permute(1, 2, 0).numpy() * images.STD + images.MEAN, expected, atol=1e-5)
    a = train.batch(torch.tensor([0, 0]), torch.Generator().manual_seed(0))[0]
    assert torch.equal(a, train.batch(torch.tensor([0, 0]), torch.Generator().manual_seed(0))[0])
    assert not torch.equal(a[0], a[1])


def test_crops_lie_within_the_image():
    generator = torch.Generator().manual_seed(0)
    areas = []
    for _ in range(500):
        left, top, w, h = images._random_crop(400, 300, generator)
        assert left >= 0
        assert top >= 0
        assert left + w <= 400 + 1e-9
        assert top + h <= 300 + 1e-9
        assert 3 / 4 - 1e-9 <= w / h <= 4 / 3 + 1e-9
        areas.append(w * h / 120000)
    assert 0.08 <= min(areas) < 0.12
    assert 0.9 < max(areas) <= 1.0
    assert images._random_crop(1000, 10, torch.Generator().manual_seed(0))[2:] == (10.0, 10.0)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda f: (f / "val").rename(f / "test"), "must hold a folder 'val' with one folder per class"),
        (
            lambda f: (f / "train" / "n03").mkdir(),
            "must hold 2 classes, not 3; give the number that it has with --classes 3",
        ),
        (lambda f: (f / "val" / "n02").rename(f / "val" / "n09"), "must be those of 'train', and are not"),
        (lambda f: [p.unlink() for p in (f / "val" / "n01").iterdir()], "every class must have images .* has none"),
    ],
)
def test_spoilt_imagenet(imagenet, spoil, message):
    spoil(imagenet)
    with pytest.raises(InputError, match=message):
        images.load_imagenet(imagenet, 2)


def test_a_broken_image_is_one_sentence(imagenet):
    (imagenet / "val" / "n01" / "0.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"an image must be readable, not .*0.png"):
        images.load_imagenet(imagenet, 2)[1].batch(torch.tensor([0]), None)


def test_a_small_network_trains_on_files(imagenet):
    import dataclasses

    from torch import nn

    def build():
        return nn.Sequential(
            nn.Conv2d(3, 4, 16, stride=16), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(784, 2)
        )

    task = dataclasses.replace(
        task_named("imagenet", imagenet, 2), build=build, keep=(), recipe=Recipe(1, 4, 0.01, 1e-4, "sgd")
    )
    result = runner.train(task)
    assert np.isfinite(result.losses).all()
    assert result.test_rows == 4
    assert result.test.x.shape == (4, 3, 224, 224)
