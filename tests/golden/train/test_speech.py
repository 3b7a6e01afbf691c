"""Features against Kaldi's published formulas written out with NumPy and SciPy; mixing and resampling against their definitions."""

import numpy as np
import pytest
from scipy.fft import dct

from golden.train import speech
from shiftforge.errors import InputError, ToolError

kaldi = pytest.importorskip("kaldi_native_fbank")


def reference(sound):
    """Mel-cepstral coefficients as Kaldi defines them (feature-window, mel-computations and feature-mfcc of its manual)."""
    samples = sound.astype(np.float64) * 32768
    rows = []
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(640) / 639)) ** 0.85  # "povey"
    edges = np.linspace(1127 * np.log(1 + 20 / 700), 1127 * np.log(1 + 7600 / 700), 42)
    mel = 1127 * np.log(1 + np.arange(513) * 16000 / 1024 / 700)
    for start in range(0, 16000 - 639, 320):
        frame = samples[start : start + 640]
        frame = frame - frame.mean()
        frame = frame - 0.97 * np.concatenate([frame[:1], frame[:-1]])
        power = np.abs(np.fft.rfft(frame * window, 1024)) ** 2
        bands = []
        for low, centre, high in zip(edges[:-2], edges[1:-1], edges[2:], strict=True):
            weight = np.minimum((mel - low) / (centre - low), (high - mel) / (high - centre)).clip(0)
            bands.append(np.log(max(float(power @ weight), np.finfo(np.float32).eps)))
        rows.append(dct(np.array(bands), norm="ortho")[:10])
    return np.array(rows)


@pytest.mark.parametrize("seed", [0, 1])
def test_features_are_kaldis_formulas(seed):
    rng = np.random.default_rng(seed)
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    sound = (tone + 0.05 * rng.standard_normal(16000)).astype(np.float32)
    found = speech.features(sound[None])
    assert found.shape == (1, 1, 49, 10)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, 0], reference(sound), rtol=1e-3, atol=2e-2)
    assert np.array_equal(found, speech.features(sound[None]))


def test_normalised_has_the_first_sets_mean_and_deviation():
    rng = np.random.default_rng(2)
    train, test = (3 * rng.standard_normal((8, 1, 49, 10)).astype(np.float32) + 5 for _ in range(2))
    a, b = speech.normalised(train, test)
    np.testing.assert_allclose(a.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(a.std((0, 1, 2)), 1, atol=1e-5)
    np.testing.assert_allclose(b, (test - train.mean((0, 1, 2))) / train.std((0, 1, 2)), atol=1e-4)


def test_a_resampled_tone_is_the_tone():
    def at(rate):
        return np.sin(2 * np.pi * 500 * np.arange(rate) / rate)

    got = speech.resampled((at(22050) * 20000).astype(np.int16), 22050)
    assert len(got) == 16000
    np.testing.assert_allclose(got[500:-500], at(16000)[500:-500] * 20000 / 32768, atol=2e-3)
    assert np.array_equal(speech.resampled(np.array([-32768, 16384], np.int16), 16000), [-1, 0.5])


def test_placing_cuts_at_both_ends():
    sound = np.arange(1, 5, dtype=np.float32)
    assert speech.placed(sound, -2)[:3].tolist() == [3, 4, 0]
    assert speech.placed(sound, 15998)[-3:].tolist() == [0, 1, 2]
    assert not speech.placed(sound, 16000).any()
    assert not speech.placed(sound, -4).any()


@pytest.mark.parametrize("ratio", [0.0, 6.0, 20.0])
def test_mixing_keeps_the_ratio_of_powers(ratio):
    rng = np.random.default_rng(3)
    word = speech.placed(rng.standard_normal(4000).astype(np.float32), 100)
    noise = speech.colored_noise(rng, 1.0)
    both = speech.mixed(word, noise, ratio, 0.5)
    assert np.abs(both).max() == pytest.approx(0.5)
    heard = np.flatnonzero(word)
    # The mixture is a.word + b.noise: solve for both.
    a, b = np.linalg.lstsq(np.stack([word, noise], 1).astype(np.float64), both.astype(np.float64), rcond=None)[0]
    power = np.square(a * word[heard]).mean() / np.square(b * noise).mean()
    assert 10 * np.log10(power) == pytest.approx(ratio, abs=1e-3)


@pytest.mark.parametrize("slope, fall", [(0.0, 0.0), (1.0, 10.0), (2.0, 20.0)])
def test_noise_falls_by_its_color(slope, fall):
    rng = np.random.default_rng(4)
    spectrum = np.mean([np.abs(np.fft.rfft(speech.colored_noise(rng, slope))) ** 2 for _ in range(50)], 0)
    low, high = spectrum[90:110].mean(), spectrum[900:1100].mean()
    assert 10 * np.log10(low / high) == pytest.approx(fall, abs=0.7)  # dB per decade


def test_bad_sounds_and_a_missing_library(monkeypatch):
    with pytest.raises(InputError, match=r"sounds must be float32 \(N, 16000\), not float64 \(1, 3\)"):
        speech.features(np.zeros((1, 3)))  # pyright: ignore[reportArgumentType] (what the test is about)
    import sys

    monkeypatch.setitem(sys.modules, "kaldi_native_fbank", None)
    with pytest.raises(
        ToolError, match=r"kaldi-native-fbank must be installed for speech: pip install 'shiftforge\[speech\]'"
    ):
        speech.features(np.zeros((1, 16000), np.float32))
