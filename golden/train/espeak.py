"""Spoken words by eSpeak NG, through its C library: many voices, speeds and pitches, and the same samples at every call.

The library comes with the package ``espeakng-loader`` or with the system (Debian: ``espeak-ng``). It keeps state between words,
so samples depend on what was said before: ``speak_all`` therefore says its list in a process of its own, from the start.
"""

import ctypes
import ctypes.util
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from shiftforge.errors import InputError, ToolError

MEND = "pip install 'shiftforge[speech]', or install espeak-ng of the system"

_RETRIEVE_SYNCHRONOUSLY = 2  # espeak_AUDIO_OUTPUT of speak_lib.h
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_UTF8 = 1
_TIMEOUT_S = 600


@dataclass(frozen=True)
class Utterance:
    """A word and how it is said.

    Parameters
    ----------
    word : str
    voice : str
        A language and a variant of eSpeak NG: ``en-us+f3``.
    speed : int
        Words per minute, 80..450.
    pitch, range : int
        0..99; 50 is the voice's own.
    """

    word: str
    voice: str
    speed: int = 170
    pitch: int = 50
    range: int = 50

    def __post_init__(self) -> None:
        if not self.word.strip() or "\t" in self.word or "\n" in self.word:
            raise InputError(f"word must be text without tabs or line ends, not {self.word!r}")
        for name, low, high in (("speed", 80, 450), ("pitch", 0, 99), ("range", 0, 99)):
            if not low <= getattr(self, name) <= high:
                raise InputError(f"{name} must be {low}..{high}, not {getattr(self, name)!r}")


def find_library() -> tuple[str, str | None]:
    """The shared library and the folder of its data (None for the library's own); ``ToolError`` when there is none."""
    try:
        import espeakng_loader
    except ImportError:
        system = ctypes.util.find_library("espeak-ng")
        if system is None:
            raise ToolError(f"espeak-ng must be installed to make spoken words: {MEND}") from None
        return system, None
    return str(espeakng_loader.get_library_path()), str(espeakng_loader.get_data_path())


class Speaker:
    """One initialised eSpeak NG. A process may have one at a time, and its samples depend on what it said before.

    Members
    -------
    rate : int
        Samples per second.
    version : str
    """

    def __init__(self) -> None:
        path, data = find_library()
        try:
            self._library = ctypes.CDLL(path)
        except OSError as error:
            raise ToolError(f"espeak-ng must be a library that loads, not {path!r} ({error}); {MEND}") from None
        lib, text = self._library, None if data is None else os.fsencode(data)
        lib.espeak_Info.restype = ctypes.c_char_p
        lib.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        self.rate = int(lib.espeak_Initialize(_RETRIEVE_SYNCHRONOUSLY, 0, text, 0))
        if self.rate <= 0:
            raise ToolError(f"espeak-ng must find its data, and does not (code {self.rate}); {MEND}")
        self.version = str(lib.espeak_Info(None).decode())
        self._parts: list[NDArray[np.int16]] = []
        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self._callback = callback(self._take)  # held here: the library keeps only the address
        lib.espeak_SetSynthCallback(self._callback)
        lib.espeak_ng_SetRandSeed(1)

    def _take(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, _: int | None) -> int:
        if samples and count > 0:
            self._parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, utterance: Utterance) -> NDArray[np.int16]:
        """The samples of one word; ``InputError`` for a voice that this version has not."""
        lib = self._library
        if lib.espeak_ng_SetVoiceByName(utterance.voice.encode()) != 0:
            raise InputError(f"voice must be one that espeak-ng {self.version} has, not {utterance.voice!r}")
        for parameter, value in ((_RATE, utterance.speed), (_PITCH, utterance.pitch), (_RANGE, utterance.range)):
            lib.espeak_SetParameter(parameter, value, 0)
        self._parts.clear()
        word = utterance.word.encode()
        lib.espeak_Synth(word, ctypes.c_size_t(len(word) + 1), 0, 1, 0, _UTF8, None, None)
        lib.espeak_Synchronize()
        if not self._parts:
            raise ToolError(f"espeak-ng must say {utterance.word!r} with voice {utterance.voice!r}, and said nothing")
        return np.concatenate(self._parts)


def version() -> str:
    """What identifies the samples: the version and the size of the library that says them."""
    path, _ = find_library()
    library = ctypes.CDLL(path)
    library.espeak_Info.restype = ctypes.c_char_p
    size = Path(path).stat().st_size if Path(path).is_file() else 0
    return f"espeak-ng {library.espeak_Info(None).decode()} of {size} bytes"


def speak_all(utterances: Sequence[Utterance]) -> tuple[list[NDArray[np.int16]], int]:
    """The samples of every utterance, in order, and the samples per second; the same at every call on one machine."""
    find_library()
    with TemporaryDirectory() as folder:
        wanted, made = Path(folder) / "wanted.tsv", Path(folder) / "made.npz"
        wanted.write_text(
            "\n".join(f"{u.word}\t{u.voice}\t{u.speed}\t{u.pitch}\t{u.range}" for u in utterances), encoding="utf-8"
        )
        command = [sys.executable, "-m", "golden.train.espeak", str(wanted), str(made)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise ToolError(f"espeak-ng must answer within {_TIMEOUT_S} s, and did not") from None
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1:] or ["no message"]
            raise ToolError(f"espeak-ng must make every word, and failed with code {done.returncode}: {reason[0]}")
        with np.load(made) as held:
            samples, ends, rate = held["samples"], held["ends"], int(held["rate"])
    return [part.copy() for part in np.split(samples, ends[:-1])], rate


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m golden.train.espeak WANTED.tsv MADE.npz``: the process of ``speak_all``."""
    wanted, made = (Path(word) for word in (sys.argv[1:] if arguments is None else arguments))
    speaker, parts = Speaker(), []
    for line in wanted.read_text(encoding="utf-8").splitlines():
        word, voice, *numbers = line.split("\t")
        parts.append(speaker.say(Utterance(word, voice, *(int(n) for n in numbers))))
    np.savez(made, samples=np.concatenate(parts), ends=np.cumsum([len(p) for p in parts]), rate=speaker.rate)


if __name__ == "__main__":
    main()
