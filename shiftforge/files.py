"""Reading and writing files so that a failure is one sentence and leaves nothing half-written.

Pure Python: the gateware may use it. NumPy files are read in `shiftforge.arrays`.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shiftforge.errors import InputError


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def read_bytes(path: Path | str, what: str = "file") -> bytes:
    """The contents of a file; `InputError` names `what` it was to be and why it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{what} must be a readable file, not {str(path)!r} ({_reason(error)})") from None


def read_text(path: Path | str, what: str = "file") -> str:
    """The contents of a UTF-8 file; errors as `read_bytes`."""
    try:
        return read_bytes(path, what).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{what} must be UTF-8 text, not {str(path)!r} (byte {error.start} is not)") from None


def write_atomically(path: Path | str, data: bytes | str) -> None:
    """Write a whole file or none of it.

    The data goes to a temporary file beside `path`, which then takes its name, so that readers see the old contents or
    the new ones. An existing file keeps its permissions, and a symbolic link stays one: the file that it names is written.

    Raises
    ------
    InputError
        When the folder does not exist or cannot be written, or the disk is full.
    """
    target = Path(os.path.realpath(path))
    contents = data.encode("utf-8") if isinstance(data, str) else data
    temporary: str | None = None
    try:
        if target.is_dir():
            raise IsADirectoryError(0, "is a folder")
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(contents)
        Path(temporary).chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        Path(temporary).replace(target)
    except OSError as error:
        raise InputError(f"output file must be writable, not {str(path)!r} ({_reason(error)})") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


@contextmanager
def replace_directory(path: Path | str, marker: str) -> Iterator[Path]:
    """Build a folder beside `path`, and give it that name when the block has succeeded.

    Yields the temporary folder to write into. If the block raises, it is removed and `path` is as it was.

    Parameters
    ----------
    path : Path or str
        The folder to make. Its parents are made when they are missing.
    marker : str
        Name of a file that every folder written this way holds. An existing folder is replaced only when it is empty
        or holds the marker, so that a mistyped `--out ~` deletes nothing.

    Raises
    ------
    InputError
        When the folder holds something else, or the place cannot be written.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_dir():
            raise InputError(f"output folder must be a folder, not the file {str(path)!r}")
        if target.is_dir() and any(target.iterdir()) and not (target / marker).is_file():
            raise InputError(f"output folder must be new, empty or written by shiftforge, not {str(path)!r}")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        yield temporary
        if not (temporary / marker).is_file():
            raise FileNotFoundError(f"replace_directory: the block must write {marker!r}")  # the caller's mistake
        try:
            temporary.chmod(0o777 & ~_umask())
            _swap(temporary, target)
        except OSError as error:
            raise _unwritable(path, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unwritable(path: Path | str, error: OSError) -> InputError:
    return InputError(f"output folder must be writable, not {str(path)!r} ({_reason(error)})")


def _swap(new: Path, target: Path) -> None:
    """Give `new` the name `target`; the old folder is put back when that fails."""
    if not target.exists():
        new.rename(target)
        return
    old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.old."))
    target.replace(old)  # replaces the empty folder
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
