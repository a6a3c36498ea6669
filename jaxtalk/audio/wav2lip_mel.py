"""Wav2Lip's mel spectrogram: what lips are compared with (card s3d_nerf, section 2.9). numpy and SciPy only.

Column c is centred at sample 200 c, c / 80 s. Values are decibels mapped to [-4, 4]; silence is -4.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
import scipy.signal

from jaxtalk.audio.spectrum import SAMPLE_RATE, resampled

BANDS, COLUMNS = 80, 16  # of the window of 5 frames at 25 a second
RATE = 80.0  # columns a second
SILENCE = -4.0
_LENGTH, _HOP = 800, 200  # samples of one analysis frame, and from one to the next
_PREEMPHASIS = 0.97
_LOW, _HIGH = 55.0, 7600.0  # Hz
_KNEE, _KNEE_MEL, _LOG_STEP = 1000.0, 15.0, np.log(6.4) / 27  # Slaney's mel: linear below 1 kHz, logarithmic above


def mel_spectrogram(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Mel magnitudes [80, columns] float32 of mono sound [N], which is preceded and followed by silence.

    The columns are those whose centre lies in the sound: 1 + N // 200 at 16 kHz.
    """
    samples = resampled(samples, sample_rate)
    samples = scipy.signal.lfilter([1, -_PREEMPHASIS], [1], samples).astype(np.float32)
    padded = np.pad(samples, _LENGTH // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _LENGTH)[::_HOP]
    window = scipy.signal.get_window("hann", _LENGTH).astype(np.float32)
    magnitude = np.abs(scipy.fft.rfft(frames * window, axis=-1))
    level = 20 * np.log10(np.maximum(1e-5, _filters() @ magnitude.T)) - 20
    return np.clip(8 * (level + 100) / 100 - 4, -4, 4).astype(np.float32)


def mel_windows(samples: np.ndarray, sample_rate: int, times: np.ndarray, columns: int = COLUMNS) -> np.ndarray:
    """Windows [F, 80, columns] float32 of the frames that begin at `times`; sound outside is silence.

    Args:
        samples: [N] mono sound in [-1, 1]; sound of another rate than 16 kHz is resampled.
        sample_rate: of `samples`, Hz.
        times: [F] seconds on the axis of the sound: of the first of the frames that a window belongs to. A window
            begins at column int(80 time).
        columns: 3.2 for each frame at 25 a second.
    """
    mel = mel_spectrogram(samples, sample_rate)
    starts = np.floor(RATE * np.asarray(times, np.float64) + 1e-6).astype(np.int64)
    index = starts[:, None] + np.arange(columns)
    inside = (index >= 0) & (index < mel.shape[1])
    windows = mel.T[np.clip(index, 0, mel.shape[1] - 1)]
    return np.ascontiguousarray(np.where(inside[..., None], windows, np.float32(SILENCE)).transpose(0, 2, 1))


def _filters() -> np.ndarray:
    """Triangles [80, 401] that are equally spaced in Slaney's mel, each of area 1 in Hz."""
    edges = _hertz(np.linspace(_mel(_LOW), _mel(_HIGH), BANDS + 2))
    bins = np.fft.rfftfreq(_LENGTH, 1 / SAMPLE_RATE)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.clip(np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)), 0, None)
    return (2 / (high - low) * triangles).astype(np.float32)


def _mel(hertz: float) -> float:
    return _KNEE_MEL * hertz / _KNEE if hertz < _KNEE else _KNEE_MEL + float(np.log(hertz / _KNEE)) / _LOG_STEP


def _hertz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < _KNEE_MEL, mel * _KNEE / _KNEE_MEL, _KNEE * np.exp(_LOG_STEP * (mel - _KNEE_MEL)))
