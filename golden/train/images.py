"""Loaders for CIFAR-10 and ImageNet in local folders, with the recipe of the DenseShift paper as their preset.

Nothing is downloaded. CIFAR-10 (Krizhevsky, 2009) is read from its "binary version", ImageNet (Russakovsky et al., 2015) from
folders of images, one per class.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from golden.train.networks import ResNet
from golden.train.task import Recipe, Split, Task
from shiftforge.errors import InputError, ToolError
from shiftforge.files import read_bytes

PAPER_RECIPE = Recipe(epochs=200, batch=256, learning_rate=0.1, weight_decay=1e-4, optimizer="sgd")
"""Li et al., ICCV 2023, for ImageNet: SGD with momentum 0.9, rate 0.1 under a cosine, decay 1e-4, batch 256, 200 epochs."""

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)

_CIFAR_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_CIFAR_TEST = "test_batch.bin"
_CIFAR_ROW = 1 + 3 * 32 * 32
_SIDE = 224
_SUFFIXES = {".jpg", ".jpeg", ".png"}


def existing_folder(path: Path | str, what: str) -> Path:
    """The folder, or ``InputError`` with what it was to be."""
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{what} must be in a folder that exists, not {str(path)!r}; name it with --data")
    return folder


def check_classes(found: int, expected: int, where: Path) -> None:
    """``InputError`` unless a folder has as many classes as the task expects."""
    if found != expected:
        raise InputError(
            f"{str(where)!r} must hold {expected} classes, not {found}; give the number that it has with --classes {found}"
        )


def _flipped_and_shifted(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image mirrored or not, and moved by up to 4 pixels over zeros (He et al., 2016, section 4.2)."""
    flip = torch.rand(len(x), generator=generator) < 0.5
    x = torch.where(flip.view(-1, 1, 1, 1), x.flip(3), x)
    side = x.shape[2]
    padded = nn.functional.pad(x, (4, 4, 4, 4))
    moves = torch.randint(0, 9, (len(x), 2), generator=generator).tolist()
    return torch.stack(
        [image[:, dy : dy + side, dx : dx + side] for image, (dy, dx) in zip(padded, moves, strict=True)]
    )


def _cifar_rows(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    contents = np.frombuffer(read_bytes(path, "CIFAR-10 batch"), np.uint8)
    if not len(contents) or len(contents) % _CIFAR_ROW:
        raise InputError(
            f"a batch of CIFAR-10 must be rows of {_CIFAR_ROW} bytes, not {str(path)!r} of {len(contents)} bytes; unpack the "
            "archive cifar-10-binary.tar.gz again"
        )
    rows = contents.reshape(-1, _CIFAR_ROW)
    pixels = rows[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / np.float32(255)
    return (pixels - MEAN[:, None, None]) / STD[:, None, None], rows[:, 0].astype(np.int64)


def load_cifar10(folder: Path, classes: int = 10) -> tuple[Split, Split]:
    """The training and the test images, float32 (N, 3, 32, 32), normalised; training mirrors and moves them."""
    where = existing_folder(folder, "CIFAR-10")
    inner = where / "cifar-10-batches-bin"
    where = inner if inner.is_dir() else where
    missing = [name for name in (*_CIFAR_TRAIN, _CIFAR_TEST) if not (where / name).is_file()]
    if missing:
        raise InputError(
            f"the folder of CIFAR-10 must hold {missing[0]}, and {str(where)!r} does not; unpack cifar-10-binary.tar.gz there"
        )
    parts = [_cifar_rows(where / name) for name in _CIFAR_TRAIN]
    x, y = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    test_x, test_y = _cifar_rows(where / _CIFAR_TEST)
    check_classes(int(max(y.max(), test_y.max())) + 1, classes, where)
    return Split(x, y, _flipped_and_shifted), Split(test_x, test_y)


@dataclass(frozen=True)
class ImageFiles:
    """Images that are read batch by batch: random crops, mirrored or not, in training; the centre of each otherwise.

    Parameters
    ----------
    paths : tuple of Path
    labels : tuple of int
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def digest(self) -> bytes:
        return repr([(path.parent.name, path.name) for path in self.paths]).encode()

    def batch(self, rows: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """float32 (rows, 3, 224, 224), normalised, and int64 (rows,)."""
        images = [self._image(self.paths[row], generator) for row in rows.tolist()]
        return torch.from_numpy(np.stack(images)), torch.tensor([self.labels[row] for row in rows.tolist()])

    def _image(self, path: Path, generator: torch.Generator | None) -> NDArray[np.float32]:
        from PIL import Image

        try:
            with Image.open(path) as file:
                image = file.convert("RGB")
        except OSError as error:
            raise InputError(f"an image must be readable, not {str(path)!r} ({error})") from None
        width, height = image.size
        if generator is None:
            # The shorter side to 256, then the centre.
            scale = 256 / min(width, height)
            w, h = _SIDE / scale, _SIDE / scale
            left, top, flip = (width - w) / 2, (height - h) / 2, False
        else:
            left, top, w, h = _random_crop(width, height, generator)
            flip = bool(torch.rand((), generator=generator) < 0.5)
        image = image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, box=(left, top, left + w, top + h))
        pixels = (np.asarray(image, np.float32) / np.float32(255) - MEAN) / STD
        return np.ascontiguousarray((pixels[:, ::-1] if flip else pixels).transpose(2, 0, 1))


def _random_crop(width: int, height: int, generator: torch.Generator) -> tuple[float, float, float, float]:
    """Left, top, width and height of a crop of 8 to 100 % of the area and of aspect 3/4 to 4/3 (Szegedy et al., 2015)."""
    for _ in range(10):
        area, aspect, x, y = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        size = width * height * (0.08 + 0.92 * area)
        ratio = float(np.exp(np.log(3 / 4) + aspect * np.log(16 / 9)))
        w, h = (size * ratio) ** 0.5, (size / ratio) ** 0.5
        if w <= width and h <= height:
            return x * (width - w), y * (height - h), w, h
    side = float(min(width, height))
    return (width - side) / 2, (height - side) / 2, side, side


def _class_folders(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))


def _image_files(folder: Path, classes: tuple[str, ...]) -> ImageFiles:
    paths, labels = [], []
    for label, name in enumerate(classes):
        found = sorted(p for p in (folder / name).iterdir() if p.suffix.lower() in _SUFFIXES)
        if not found:
            raise InputError(f"every class must have images (.jpg, .jpeg or .png), and {str(folder / name)!r} has none")
        paths += found
        labels += [label] * len(found)
    return ImageFiles(tuple(paths), tuple(labels))


def load_imagenet(folder: Path, classes: int = 1000) -> tuple[ImageFiles, ImageFiles]:
    """``FOLDER/train/CLASS/*.JPEG`` and ``FOLDER/val/CLASS/*.JPEG``, read when they are needed."""
    try:
        import PIL
    except ImportError:
        raise ToolError("pillow must be installed for the task imagenet: pip install pillow") from None
    del PIL
    where = existing_folder(folder, "ImageNet")
    for part in ("train", "val"):
        if not (where / part).is_dir():
            raise InputError(
                f"the folder of ImageNet must hold a folder {part!r} with one folder per class, and {str(where)!r} does not"
            )
    names = _class_folders(where / "train")
    check_classes(len(names), classes, where / "train")
    if _class_folders(where / "val") != names:
        raise InputError(f"the folders of classes in {str(where / 'val')!r} must be those of 'train', and are not")
    return _image_files(where / "train", names), _image_files(where / "val", names)


def cifar10(folder: Path, classes: int | None = None) -> Task:
    """ResNet-20 on CIFAR-10 with the recipe that the paper has for ImageNet."""
    count = 10 if classes is None else classes
    return Task(
        name="cifar10",
        description="CIFAR-10 from a local folder, ResNet-20",
        load=partial(load_cifar10, folder, count),
        build=partial(ResNet, (16, 32, 64), (3, 3, 3), count, large=False),
        recipe=PAPER_RECIPE,
        keep=ResNet.KEPT,
    )


def imagenet(folder: Path, classes: int | None = None) -> Task:
    """ResNet-18 on ImageNet with the paper's recipe."""
    count = 1000 if classes is None else classes
    return Task(
        name="imagenet",
        description="ImageNet from a local folder, ResNet-18",
        load=partial(load_imagenet, folder, count),
        build=partial(ResNet, (64, 128, 256, 512), (2, 2, 2, 2), count, large=True),
        recipe=PAPER_RECIPE,
        keep=ResNet.KEPT,
    )
