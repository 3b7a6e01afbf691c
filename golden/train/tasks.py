"""The table of training tasks."""

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

from golden.train import images, keywords
from golden.train.chars import CHARS
from golden.train.digits import DIGITS_CNN, DIGITS_MLP, DIGITS_TRANSFER
from golden.train.keywords import KEYWORDS
from golden.train.task import Task
from shiftforge.errors import InputError

TASKS = MappingProxyType({task.name: task for task in (DIGITS_MLP, DIGITS_CNN, DIGITS_TRANSFER, KEYWORDS, CHARS)})
"""Tasks that need nothing but installed packages."""

FOLDER_TASKS: MappingProxyType[str, Callable[[Path, int | None], Task]] = MappingProxyType(
    {"keywords": keywords.from_folder, "cifar10": images.cifar10, "imagenet": images.imagenet}
)
"""Tasks on data in a local folder."""

NAMES = tuple(dict.fromkeys([*TASKS, *FOLDER_TASKS]))


def task_named(name: str, folder: Path | str | None = None, classes: int | None = None) -> Task:
    """The task of that name.

    Parameters
    ----------
    folder : Path or str
        Where its data lie; for the tasks of ``FOLDER_TASKS``.
    classes : int
        The number of classes there, where it is not the usual one.

    Raises
    ------
    InputError
        For an unknown name (it lists them), a folder that is missing, or one that the task does not use.
    """
    if name not in NAMES:
        raise InputError(f"task must be one of {', '.join(NAMES)}, not {name!r}")
    if classes is not None and (isinstance(classes, bool) or not isinstance(classes, int) or classes < 2):
        raise InputError(f"classes must be an integer of 2 or more, not {classes!r}")
    if folder is None:
        if name not in TASKS:
            raise InputError(f"the folder of the data of {name} must be named with --data FOLDER, and is not")
        if classes is not None:
            raise InputError(f"classes must be left out without a folder of data, not {classes!r}")
        return TASKS[name]
    if name not in FOLDER_TASKS:
        raise InputError(
            f"a folder of data must be left out for the task {name}, which has its own, not {str(folder)!r}"
        )
    return FOLDER_TASKS[name](images.existing_folder(folder, f"the data of {name}"), classes)
