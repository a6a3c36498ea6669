"""Short-time spectra at chosen instants, and mel filters. numpy and SciPy only: importing librosa takes seconds."""

from __future__ import annotations

import math

import numpy as np
import scipy.fft
import scipy.signal

SAMPLE_RATE = 16000  # all features are defined on sound of this rate
FRAME_LENGTH = 400  # samples of one analysis frame, 25 ms
FFT_LENGTH = 512
_CHUNK = 8192  # analysis frames at a time: bounds memory for hours of speech


def resampled(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Mono sound [N] at `SAMPLE_RATE`, float32; sample 0 stays at time 0."""
    samples = np.asarray(samples, np.float32)
    if sample_rate == SAMPLE_RATE:
        return samples
    divisor = math.gcd(sample_rate, SAMPLE_RATE)
    return scipy.signal.resample_poly(samples, SAMPLE_RATE // divisor, sample_rate // divisor).astype(np.float32)


def power_spectra(samples: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Power [M, FFT_LENGTH // 2 + 1] of Hann-weighted frames around given samples, zeros outside the sound.

    Frame m weighs sample centres[m] + k by w(k), k = -200..200, symmetric around k = 0 (w is 0 at both ends), so that
    a click before the centre counts as much as one after it. Scaled so that white noise of variance v has a mean of v
    in every bin.

    Args:
        samples: [N] sound at `SAMPLE_RATE`.
        centres: [M] int, any sample index, also outside the sound.
    """
    half = FRAME_LENGTH // 2
    window = scipy.signal.get_window("hann", FRAME_LENGTH + 1, fftbins=False).astype(np.float32)
    window /= np.sqrt(np.sum(window**2))
    centres = np.clip(np.asarray(centres, np.int64), -half - 1, len(samples) + half)  # farther out all is zero alike
    padded = np.pad(samples, (2 * half + 1, 2 * half + 1))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME_LENGTH + 1)
    power = np.empty((len(centres), FFT_LENGTH // 2 + 1), np.float32)
    for start in range(0, len(centres), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        spectrum = scipy.fft.rfft(frames[centres[chunk] + half + 1] * window, FFT_LENGTH, axis=-1)
        power[chunk] = np.abs(spectrum) ** 2
    return power


def mel_filters(count: int, low: float = 50.0, high: float = 8000.0) -> np.ndarray:
    """Triangular filters [count, bins], equally spaced in HTK mel, each summing to one (a weighted mean of power)."""
    edges = 700 * (10 ** (np.linspace(_mel(low), _mel(high), count + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(FFT_LENGTH, 1 / SAMPLE_RATE)
    # Narrow filters at low pitch must still reach a bin: each flank is at least one bin wide.
    centre = edges[1:-1, None]
    left = np.maximum(centre - edges[:-2, None], bins[1])
    right = np.maximum(edges[2:, None] - centre, bins[1])
    filters = np.clip(np.minimum((bins - centre) / left, (centre - bins) / right) + 1, 0, None)
    return (filters / filters.sum(axis=1, keepdims=True)).astype(np.float32)


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)
