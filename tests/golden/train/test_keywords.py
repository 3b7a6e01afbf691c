"""Spoken words: the same samples at every call, kept by hash, other voices in the test; recordings in a folder."""

import ctypes.util
import sys
import wave

import numpy as np
import pytest

from golden.train import espeak, keywords
from golden.train.espeak import Utterance
from shiftforge.errors import InputError, ToolError

needs_espeak = pytest.mark.skipif(
    not (ctypes.util.find_library("espeak-ng") or __import__("importlib.util").util.find_spec("espeakng_loader")),
    reason="espeak-ng is not installed",
)
needs_kaldi = pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("kaldi_native_fbank") is None,
    reason="kaldi-native-fbank is not installed",
)


@needs_espeak
def test_the_same_words_are_the_same_samples_and_others_are_not():
    said = [Utterance("yes", "en-us+f3", 180, 40), Utterance("stop", "en-us"), Utterance("yes", "en-us+m2")]
    first, rate = espeak.speak_all(said)
    again, _ = espeak.speak_all(said)
    assert rate >= 16000
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(0.1 * rate < len(part) < 2 * rate and np.abs(part).max() > 1000 for part in first)
    assert len(first[0]) != len(first[2]) or not np.array_equal(first[0], first[2])
    slow, _ = espeak.speak_all([Utterance("yes", "en-us", 90)])
    fast, _ = espeak.speak_all([Utterance("yes", "en-us", 250)])
    assert len(slow[0]) > 1.3 * len(fast[0])


@needs_espeak
def test_every_voice_of_the_task_is_there():
    voices = sorted({f"{a}+{v}" for a in keywords._ACCENTS for v in keywords._TRAIN_VOICES + keywords._TEST_VOICES})
    assert len(espeak.speak_all([Utterance("go", voice) for voice in voices])[0]) == len(voices) == 4 * 60
    assert not set(keywords._TRAIN_VOICES) & set(keywords._TEST_VOICES)


@needs_espeak
def test_an_unknown_voice_is_one_sentence():
    with pytest.raises(
        ToolError, match=r"espeak-ng must make every word, .*voice must be one that espeak-ng .* has, not 'xx-nobody'"
    ):
        espeak.speak_all([Utterance("yes", "xx-nobody")])


@pytest.mark.parametrize(
    "values, message",
    [
        ({"word": " "}, "word must be text"),
        ({"speed": 20}, "speed must be 80..450, not 20"),
        ({"pitch": 100}, "pitch must be 0..99, not 100"),
    ],
)
def test_bad_utterances(values, message):
    with pytest.raises(InputError, match=message):
        Utterance(**{"word": "yes", "voice": "en-us", **values})


def test_without_espeak_the_mend_is_named(monkeypatch, shiftforge_train, tmp_path):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    monkeypatch.setattr(ctypes.util, "find_library", lambda _: None)
    keywords.load.cache_clear()
    code, message = shiftforge_train("keywords", "--out", str(tmp_path / "k.pt2"))
    assert code == 3
    assert message == (
        "shiftforge: error: espeak-ng must be installed to make spoken words: pip install 'shiftforge[speech]', or install "
        "espeak-ng of the system\n"
    )


@pytest.fixture
def shiftforge_train(capsys):
    from shiftforge import cli

    def run(*words):
        code = cli.main(["train", *words])
        return code, capsys.readouterr().err

    return run


@needs_espeak
@needs_kaldi
def test_features_are_made_once_and_then_read(tmp_path, monkeypatch):
    keywords.load.cache_clear()
    train, test = keywords.load(3, 2, tmp_path)
    assert train.x.shape == (36, 1, 49, 10)
    assert test.x.shape == (24, 1, 49, 10)
    assert np.bincount(train.y).tolist() == [3] * 12
    assert np.bincount(test.y).tolist() == [2] * 12
    (path,) = tmp_path.iterdir()
    again = keywords.make(3, 2)
    with np.load(path) as held:
        assert np.array_equal(held["train_x"], again[0].x)
        assert np.array_equal(held["test_x"], again[1].x)
    monkeypatch.setattr(keywords, "make", None)
    keywords.load.cache_clear()
    assert np.array_equal(keywords.load(3, 2, tmp_path)[0].x, train.x)
    path.write_bytes(b"spoilt")
    keywords.load.cache_clear()
    with pytest.raises(InputError, match=r"\.npz' must hold made features, and does not .*; delete it$"):
        keywords.load(3, 2, tmp_path)


def recording(path, seconds=1.0, channels=1, rate=16000, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = (np.random.default_rng(seed).standard_normal(int(seconds * rate) * channels) * 3000).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return samples


@pytest.fixture
def folder(tmp_path):
    for seed, word in enumerate((*keywords.WORDS, "bed", "cat")):
        for i in range(4):
            recording(tmp_path / word / f"{i}.wav", seed=10 * seed + i)
    recording(tmp_path / "_background_noise_" / "hum.wav", 2.5)
    (tmp_path / "validation_list.txt").write_text("yes/0.wav\n")
    (tmp_path / "testing_list.txt").write_text("".join(f"{word}/1.wav\n" for word in keywords.WORDS) + "bed/0.wav\n")
    return tmp_path


@needs_kaldi
def test_a_folder_of_recordings(folder):
    train, test = keywords.load_folder(folder)
    assert np.bincount(train.y, minlength=12).tolist() == [2] + [3] * 9 + [1, 2]  # yes/0 is held out; cat/0 is unknown
    assert np.bincount(test.y, minlength=12).tolist() == [1] * 10 + [1, 1]
    sound = keywords.read_wave(folder / "no" / "1.wav")
    assert np.array_equal(sound * 32768, recording(folder / "again.wav", seed=11).astype(np.float32))


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda f: [p.unlink() for p in (f / "go").iterdir()] and (f / "go").rmdir(),
            "must hold 12 classes, not 11; give the number",
        ),
        (lambda f: (f / "testing_list.txt").unlink(), "must hold testing_list.txt, and"),
        (lambda f: (f / "_background_noise_" / "hum.wav").unlink(), r"must hold _background_noise_/\*.wav, and"),
        (lambda f: (f / "no" / "2.wav").write_bytes(b"x"), "a recording must be a WAV file, not"),
        (
            lambda f: recording(f / "no" / "2.wav", channels=2),
            "a recording must have one channel of 16 bits, not 2 of 16",
        ),
    ],
)
def test_spoilt_folders(folder, spoil, message):
    spoil(folder)
    with pytest.raises(InputError, match=message):
        keywords.load_folder(folder)
