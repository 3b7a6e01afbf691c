"""The task ``keywords``: twelve classes of one second of speech, made here by eSpeak NG or read from Google Speech Commands.

The classes are those of Warden, "Speech Commands" (arXiv 1804.03209): ten words, "unknown" for other words, "silence" for noise
alone. What is made here has other voices in the test set than in the training set; each word is said at a random speed and pitch,
begins at a random time, and is mixed with noise (white, pink, brown, or other people talking) 5 to 25 dB below it.
"""

import wave
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from golden.train import espeak, speech
from golden.train.checkpoint import digest
from golden.train.images import check_classes, existing_folder
from golden.train.networks import DepthwiseSeparable
from golden.train.task import Recipe, Split, Task
from shiftforge.errors import InputError
from shiftforge.files import write_atomically
from shiftforge.progress import Progress

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
# fmt: off
OTHERS = (
    "bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow", "zero", "one", "two", "three",
    "four", "five", "six", "seven", "eight", "nine",
)
# fmt: on
UNKNOWN, SILENCE = len(WORDS), len(WORDS) + 1
CLASSES = len(WORDS) + 2

TRAIN_PER_CLASS, TEST_PER_CLASS = 480, 100

_ACCENTS = ("en-us", "en-gb-x-rp", "en-gb-x-gbclan", "en-us-nyc")
# fmt: off
_TRAIN_VOICES = (
    "m1", "m2", "m3", "m4", "m5", "m6", "f1", "f2", "f3", "Alex", "Andy", "Annie", "Denis", "Diogo", "Gene", "Henrique",
    "Hugo", "Jacky", "Lee", "Michael", "Mike", "Nguyen", "Reed", "adam", "anika", "aunty", "belinda", "benjamin", "boris",
    "caleb", "david", "ed", "edward", "grandma", "iven", "john", "klatt", "klatt2", "max", "pablo",
)
# fmt: on
# fmt: off
_TEST_VOICES = (
    "m7", "m8", "f4", "f5", "Alicia", "Andrea", "Gene2", "Marco", "Mario", "edward2", "grandpa", "gustave", "ian",
    "Tweaky", "klatt3", "linda", "paul", "rob", "steph", "zac",
)
# fmt: on
_SEED = 2026
_VERSION = 2  # of what this module makes; part of the name of the kept file


def utterances(voices: tuple[str, ...], per_class: int, rng: np.random.Generator) -> list[tuple[espeak.Utterance, int]]:
    """What is said, with its class: ``per_class`` of every class but silence."""
    found = []
    for label in range(CLASSES - 1):
        for i in range(per_class):
            word = WORDS[label] if label < len(WORDS) else OTHERS[i % len(OTHERS)]
            voice = f"{rng.choice(_ACCENTS)}+{voices[int(rng.integers(len(voices)))]}"
            speed, pitch, span = int(rng.integers(130, 221)), int(rng.integers(30, 71)), int(rng.integers(30, 71))
            found.append((espeak.Utterance(word, voice, speed, pitch, span), label))
    return found


def _heard(word: speech.Sound | None, words: list[speech.Sound], rng: np.random.Generator) -> speech.Sound:
    """One second of a word, or of silence, under noise."""
    kind = int(rng.integers(4))
    if kind < 3:
        noise = speech.colored_noise(rng, float(kind))
    else:
        talk = [words[int(rng.integers(len(words)))] for _ in range(6)]
        noise = np.stack([speech.placed(t, int(rng.integers(-4000, speech.RATE))) for t in talk]).sum(0)
    ratio, peak = float(rng.uniform(5.0, 25.0)), float(rng.uniform(0.1, 0.9))
    if word is None:
        return speech.mixed(np.zeros(speech.RATE, np.float32), noise, 0.0, peak * 10 ** (-ratio / 20))
    start = int(rng.integers(0, max(1, speech.RATE - len(word)) + 1600)) - 800
    return speech.mixed(speech.placed(word, start), noise, ratio, peak)


def _sounds(per_class: int, voices: tuple[str, ...], seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng((_SEED, seed))
    said = utterances(voices, per_class, rng)
    samples, rate = espeak.speak_all([u for u, _ in said])
    words = [speech.resampled(each, rate) for each in samples]
    sounds = [_heard(word, words, rng) for word in words] + [_heard(None, words, rng) for _ in range(per_class)]
    return np.stack(sounds), np.array([label for _, label in said] + [SILENCE] * per_class, np.int64)


def cache_folder() -> Path:
    """Where made features are kept."""
    from platformdirs import user_cache_path

    return user_cache_path("shiftforge") / "keywords"


def make(train_per_class: int = TRAIN_PER_CLASS, test_per_class: int = TEST_PER_CLASS) -> tuple[Split, Split]:
    """Speak, mix and analyse both sets; not normalised."""
    splits = []
    for per_class, voices, seed in ((train_per_class, _TRAIN_VOICES, 0), (test_per_class, _TEST_VOICES, 1)):
        sounds, labels = _sounds(per_class, voices, seed)
        splits.append(Split(speech.features(sounds), labels))
    return splits[0], splits[1]


@cache
def load(
    train_per_class: int = TRAIN_PER_CLASS, test_per_class: int = TEST_PER_CLASS, folder: Path | None = None
) -> tuple[Split, Split]:
    """Features (N, 1, 49, 10), normalised by the training set: 5760 and 1200 sounds, made once and then read from a file.

    The file's name holds a hash of everything that the features depend on; ``folder`` is where it lies (None: the user's cache).
    """
    what = f"{_VERSION} {_SEED} {train_per_class} {test_per_class} {_ACCENTS} {_TRAIN_VOICES} {_TEST_VOICES} {espeak.version()}"
    path = (cache_folder() if folder is None else folder) / f"{digest(what.encode())}.npz"
    if not path.is_file():
        with Progress().step(
            f"making {CLASSES * (train_per_class + test_per_class)} sounds, once, to be kept in {path.parent}"
        ):
            _keep(path, make(train_per_class, test_per_class))
    try:
        with np.load(path) as held:
            parts = [held[name] for name in ("train_x", "train_y", "test_x", "test_y")]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(f"{str(path)!r} must hold made features, and does not ({error}); delete it") from None
    train_x, test_x = speech.normalised(parts[0], parts[2])
    return Split(train_x, parts[1]), Split(test_x, parts[3])


def _keep(path: Path, made: tuple[Split, Split]) -> None:
    from io import BytesIO

    data = BytesIO()
    np.savez(data, train_x=made[0].x, train_y=made[0].y, test_x=made[1].x, test_y=made[1].y)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder of kept features must be writable, not {str(path.parent)!r} ({error})") from None
    write_atomically(path, data.getvalue())


def read_wave(path: Path) -> speech.Sound:
    """A recording as one second at 16 kHz, in -1..1: cut off or followed by zeros."""
    try:
        with wave.open(str(path)) as file:
            if file.getsampwidth() != 2 or file.getnchannels() != 1:
                raise InputError(
                    f"a recording must have one channel of 16 bits, not {file.getnchannels()} of {8 * file.getsampwidth()} "
                    f"({str(path)!r})"
                )
            rate, contents = file.getframerate(), file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise InputError(f"a recording must be a WAV file, not {str(path)!r} ({error})") from None
    return speech.placed(speech.resampled(np.frombuffer(contents, "<i2"), rate), 0)


def _listed(path: Path) -> frozenset[str]:
    if not path.is_file():
        raise InputError(
            f"the folder of Speech Commands must hold {path.name}, and {str(path.parent)!r} does not; unpack the archive there"
        )
    return frozenset(path.read_text(encoding="utf-8").split())


def load_folder(folder: Path, classes: int = CLASSES) -> tuple[Split, Split]:
    """Google Speech Commands as it is unpacked: ``WORD/*.wav``, ``_background_noise_``, and lists of the two smaller sets.

    The training set is what neither list names, the test set ``testing_list.txt``. Of the words that are not among the ten, every
    tenth recording is "unknown"; "silence" is cut from the background noise, one for every tenth recording of the ten words.
    """
    where = existing_folder(folder, "Speech Commands")
    missing = [word for word in WORDS if not (where / word).is_dir()]
    check_classes(CLASSES - len(missing), classes, where)
    if missing:
        raise InputError(
            f"the folder of Speech Commands must hold a folder for every word, and has none for {missing[0]!r}"
        )
    held_out, tested = _listed(where / "validation_list.txt"), _listed(where / "testing_list.txt")
    chosen: dict[bool, list[tuple[Path, int]]] = {False: [], True: []}
    for name in sorted(p.name for p in where.iterdir() if p.is_dir() and not p.name.startswith("_")):
        label = WORDS.index(name) if name in WORDS else UNKNOWN
        for i, path in enumerate(sorted((where / name).glob("*.wav"))):
            if label == UNKNOWN and i % 10:
                continue
            key = f"{name}/{path.name}"
            if key not in held_out:
                chosen[key in tested].append((path, label))
    noises = [_long_wave(path) for path in sorted((where / "_background_noise_").glob("*.wav"))]
    if not noises:
        raise InputError(
            f"the folder of Speech Commands must hold _background_noise_/*.wav, and {str(where)!r} does not"
        )
    splits = []
    for test in (False, True):
        rng = np.random.default_rng((_SEED, int(test)))
        sounds, labels = [read_wave(path) for path, _ in chosen[test]], [label for _, label in chosen[test]]
        for _ in range(max(1, sum(label < UNKNOWN for label in labels) // 10)):
            noise = noises[int(rng.integers(len(noises)))]
            start = int(rng.integers(max(1, len(noise) - speech.RATE)))
            sounds.append(speech.placed(noise[start : start + speech.RATE] * np.float32(rng.uniform(0, 1)), 0))
            labels.append(SILENCE)
        splits.append(Split(speech.features(np.stack(sounds)), np.array(labels, np.int64)))
    train_x, test_x = speech.normalised(splits[0].x, splits[1].x)
    return Split(train_x, splits[0].y), Split(test_x, splits[1].y)


def _long_wave(path: Path) -> speech.Sound:
    try:
        with wave.open(str(path)) as file:
            rate, contents = file.getframerate(), file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise InputError(f"a recording must be a WAV file, not {str(path)!r} ({error})") from None
    return speech.resampled(np.frombuffer(contents, "<i2"), rate)


def build() -> nn.Module:
    """A DS-CNN of 24 channels and three blocks, on maps of 25x5."""
    return DepthwiseSeparable(24, 3, CLASSES)


KEYWORDS = Task(
    name="keywords",
    description="twelve spoken words, made by eSpeak NG in 60 voices under noise; a small DS-CNN",
    load=load,
    build=build,
    recipe=Recipe(epochs=15, batch=64, learning_rate=1e-2, weight_decay=1e-4, warmup=1),
)


def from_folder(folder: Path, classes: int | None = None) -> Task:
    """The task on recordings in the layout of Google Speech Commands."""
    return Task(
        name="keywords",
        description="twelve spoken words, from a folder of Google Speech Commands; a small DS-CNN",
        load=partial(load_folder, folder, CLASSES if classes is None else classes),
        build=build,
        recipe=KEYWORDS.recipe,
    )
