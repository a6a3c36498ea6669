"""MFCC exactly as the package python_speech_features computes them by default (cards gdrf.md 2.1, metrics.md 4).

Networks trained elsewhere on those numbers (SyncNet, GDRF's audio encoder) need them to the last digit; our own
features are in `jaxtalk.audio.features`.
"""

from __future__ import annotations

import numpy as np
import scipy.fft


def mfcc_psf(
    samples: np.ndarray,
    sample_rate: int = 16000,
    *,
    num_cepstra: int = 13,
    num_filters: int = 26,
    fft_length: int = 512,
    preemphasis: float = 0.97,
    lifter: int = 22,
) -> np.ndarray:
    """Mel cepstra [T, num_cepstra], float64, of 25 ms rectangular frames every 10 ms; column 0 is the log energy.

    Frame i starts at sample 0.01 sample_rate i; the last one is filled up with zeros, and there is at least one.

    Args:
        samples: [N] sound in the units of 16-bit integers (multiply sound in [-1, 1] by 32768).
        sample_rate: in Hz.
    """
    signal = np.asarray(samples, np.float64)
    signal = np.append(signal[:1], signal[1:] - preemphasis * signal[:-1])
    length, step = round(0.025 * sample_rate), round(0.01 * sample_rate)
    count = 1 + max(0, -(-(len(signal) - length) // step))
    padded = np.pad(signal, (0, (count - 1) * step + length - min(len(signal), (count - 1) * step + length)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[::step][:count]
    power = np.abs(scipy.fft.rfft(frames, fft_length, axis=-1)) ** 2 / fft_length
    tiny = np.finfo(np.float64).eps
    energy = power.sum(axis=1)
    filtered = power @ _filters(num_filters, fft_length, sample_rate).T
    cepstra = scipy.fft.dct(np.log(np.where(filtered == 0, tiny, filtered)), type=2, axis=1, norm="ortho")
    cepstra = cepstra[:, :num_cepstra] * (1 + lifter / 2 * np.sin(np.pi * np.arange(num_cepstra) / lifter))
    cepstra[:, 0] = np.log(np.where(energy == 0, tiny, energy))
    return cepstra


def _filters(count: int, fft_length: int, sample_rate: int) -> np.ndarray:
    """Triangles [count, bins] whose corners are rounded down to bins, as the package does."""
    mels = np.linspace(0, 2595 * np.log10(1 + sample_rate / 2 / 700), count + 2)
    corners = np.floor((fft_length + 1) * 700 * (10 ** (mels / 2595) - 1) / sample_rate)
    bins = np.arange(fft_length // 2 + 1)
    left, centre, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising = (bins - left) / np.maximum(centre - left, 1)
    falling = (right - bins) / np.maximum(right - centre, 1)
    return np.where((bins >= left) & (bins < centre), rising, 0) + np.where(
        (bins >= centre) & (bins < right), falling, 0
    )
