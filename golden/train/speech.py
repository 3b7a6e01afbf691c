"""Features of speech: one second of sound as 49 frames of 10 mel-cepstral coefficients.

Source: Zhang et al., "Hello Edge" (arXiv 1711.07128), section 4: 40 ms windows every 20 ms, 40 mel bands, 10 coefficients. The
log-mel energies and their cosine transform are those of Kaldi (Povey et al., ASRU 2011), by ``kaldi-native-fbank``.
"""

import numpy as np
from numpy.typing import NDArray

from shiftforge.errors import InputError, ToolError

RATE = 16000
FRAMES = 49
COEFFICIENTS = 10
BANDS = 40
WINDOW_MS, STEP_MS = 40.0, 20.0

Sound = NDArray[np.float32]


def features(sounds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Coefficients (N, 1, 49, 10) of sounds (N, 16000) in -1..1."""
    try:
        import kaldi_native_fbank as kaldi
    except ImportError:
        raise ToolError("kaldi-native-fbank must be installed for speech: pip install 'shiftforge[speech]'") from None
    if sounds.ndim != 2 or sounds.shape[1] != RATE or sounds.dtype != np.float32:
        raise InputError(f"sounds must be float32 (N, {RATE}), not {sounds.dtype.name} {sounds.shape!r}")
    options = kaldi.MfccOptions()
    frame, mel = options.frame_opts, options.mel_opts
    frame.samp_freq, frame.frame_length_ms, frame.frame_shift_ms = float(RATE), WINDOW_MS, STEP_MS
    frame.dither = 0.0  # no random numbers: the same sound gives the same features
    mel.num_bins, mel.low_freq, mel.high_freq = BANDS, 20.0, 7600.0
    options.num_ceps, options.use_energy, options.cepstral_lifter = COEFFICIENTS, False, 0.0
    found = np.empty((len(sounds), 1, FRAMES, COEFFICIENTS), np.float32)
    for row, sound in enumerate(sounds):
        stream = kaldi.OnlineMfcc(options)
        # Kaldi's sounds are whole numbers of 16 bits.
        stream.accept_waveform(float(RATE), (sound * np.float32(32768)).tolist())
        stream.input_finished()
        for i in range(FRAMES):
            found[row, 0, i] = stream.get_frame(i)
    return found


def normalised(
    train: NDArray[np.float32], test: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both sets with the mean 0 and the deviation 1 that every coefficient has over the first."""
    mean = train.mean((0, 1, 2), dtype=np.float64)
    deviation = train.std((0, 1, 2), dtype=np.float64)
    scale = np.where(deviation > 0, deviation, 1.0)
    return tuple(((each - mean) / scale).astype(np.float32) for each in (train, test))  # pyright: ignore[reportReturnType]


def resampled(sound: NDArray[np.int16] | Sound, rate: int) -> Sound:
    """A sound at 16 kHz, as float32 in -1..1."""
    from scipy.signal import resample_poly

    scale = 1 / 32768 if np.issubdtype(sound.dtype, np.integer) else 1.0
    values = sound.astype(np.float64) * scale
    common = np.gcd(rate, RATE)
    return (values if rate == RATE else resample_poly(values, RATE // common, rate // common)).astype(np.float32)


def colored_noise(rng: np.random.Generator, slope: float) -> Sound:
    """One second of noise whose power falls with the frequency to the ``slope``: 0 white, 1 pink, 2 brown; power 1."""
    spectrum = rng.standard_normal(RATE // 2 + 1) + 1j * rng.standard_normal(RATE // 2 + 1)
    spectrum[0] = 0
    spectrum[1:] /= np.arange(1, RATE // 2 + 1) ** (slope / 2)
    noise = np.fft.irfft(spectrum, RATE)
    return (noise / np.sqrt(np.square(noise).mean())).astype(np.float32)


def placed(sound: Sound, start: int) -> Sound:
    """One second that holds ``sound`` from sample ``start`` on (which may be negative), cut off at both ends."""
    second = np.zeros(RATE, np.float32)
    first, last = max(0, start), min(RATE, start + len(sound))
    if last > first:
        second[first:last] = sound[first - start : last - start]
    return second


def mixed(sound: Sound, noise: Sound, ratio_db: float, peak: float) -> Sound:
    """Sound and noise at a ratio of their powers (of the samples where there is sound), with the largest magnitude ``peak``."""
    heard = sound[np.abs(sound) > 0]
    power = float(np.square(heard, dtype=np.float64).mean()) if len(heard) else 1.0
    noise_power = float(np.square(noise, dtype=np.float64).mean())
    gain = np.sqrt(power / noise_power * 10 ** (-ratio_db / 10)) if noise_power > 0 else 0.0
    both = sound + np.float32(gain) * noise
    largest = float(np.abs(both).max())
    return (both * np.float32(peak / largest)).astype(np.float32) if largest > 0 else both.astype(np.float32)
