"""NumPy files: read without trusting them, written whole or not at all."""

import io
from pathlib import Path

import numpy as np

from shiftforge.errors import InputError
from shiftforge.files import read_bytes, write_atomically


def load_npy(path: Path | str, what: str = "array") -> np.ndarray:
    """The one array of a `.npy` file.

    Parameters
    ----------
    path : Path or str
        The file. Pickled objects are refused, because loading them runs code.
    what : str
        What the array is for, as the error should name it ("acts", "weights").

    Raises
    ------
    InputError
        When the file is missing, truncated, holds objects, or is no `.npy` file.
    """
    loaded = _load(path, what, ".npy")
    if not isinstance(loaded, np.ndarray):
        raise InputError(f"{what} must be a .npy file with one array, not the archive {str(path)!r}")
    return loaded


def load_npz(path: Path | str, names: tuple[str, ...], what: str = "data") -> dict[str, np.ndarray]:
    """The named arrays of a `.npz` archive; errors as `load_npy`, and when a name is missing."""
    loaded = _load(path, what, ".npz")
    if isinstance(loaded, np.ndarray):
        raise InputError(f"{what} must be a .npz archive with {', '.join(names)}, not one array in {str(path)!r}")
    missing = [name for name in names if name not in loaded]
    if missing:
        raise InputError(f"{what} must hold the array {missing[0]!r}, which {str(path)!r} does not")
    return {name: loaded[name] for name in names}


def save_npy(path: Path | str, array: np.ndarray) -> None:
    """Write a `.npy` file whole or not at all (`InputError` when the place is not writable)."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_atomically(path, buffer.getvalue())


def save_npz(path: Path | str, arrays: dict[str, np.ndarray]) -> None:
    """Write an uncompressed `.npz` archive whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_atomically(path, buffer.getvalue())


def _load(path: Path | str, what: str, suffix: str) -> np.ndarray | dict[str, np.ndarray]:
    contents = io.BytesIO(read_bytes(path, what))
    try:
        loaded = np.load(contents, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    # NumPy and zipfile raise a dozen kinds for a damaged file (ValueError, EOFError, BadZipFile, UnpicklingError,
    # SyntaxError from the header, ...): all mean the same to the user.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(f"{what} must be a whole {suffix} file, not {str(path)!r} ({reason})") from None
