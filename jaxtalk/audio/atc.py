"""The speech feature of GDRF's audio network: 12 mel cepstra, 28 rows a frame (card gdrf 2.1).

The sound is padded with 1,920 zero samples on each side, so that row r of its cepstra (`jaxtalk.audio.psf`, coefficient
0 dropped) spans the samples 160 r - 1920 to 160 r - 1521; the frame at time t takes the rows round(100 t) to
round(100 t) + 27, which is -120 to +175 ms around it at times that are multiples of 10 ms, and 5 ms off at most.
"""

from __future__ import annotations

import numpy as np

from jaxtalk.audio.psf import mfcc_psf
from jaxtalk.audio.spectrum import SAMPLE_RATE, resampled

WINDOW, CHANNELS, RATE = 28, 12, 100
# Over 28 recordings of speech (five languages, studio to telephone) each of the 12 cepstra had a standard deviation of
# 11.5 to 17 and a mean of -12 to -1; digital silence is 0 in all of them. Divided by this, speech has a deviation near
# one, all values stay within 6, and silence is still 0.
SCALE = 15.0
_FULL_SCALE = 32768.0  # the cepstra are defined on sound in the units of 16-bit integers
_PADDING = 1920  # samples
_HOP, _LENGTH = SAMPLE_RATE // RATE, 400  # samples from row to row, and in one row
_CHUNK = 8192  # rows at a time: bounds memory for hours of speech


def atc_windows(samples: np.ndarray, sample_rate: int, times: np.ndarray) -> np.ndarray:
    """Windows [F, 28, 12], float32, of cepstra / 15 for frames at `times`; outside the sound is silence.

    Args:
        samples: [N] mono sound in [-1, 1].
        sample_rate: in Hz; sound of another rate than 16 kHz is resampled.
        times: [F] seconds on the axis of the sound, in any order, also outside it.
    """
    # A frame half-way between two rows takes the later one, whatever the last bit of its time is.
    first = np.floor(RATE * np.asarray(times, np.float64) + 0.5 + 1e-6)
    silent_before, silent_after = -WINDOW - 2, len(samples) * RATE / sample_rate + 15  # rows from here on are silent
    first = np.clip(first, silent_before, np.ceil(silent_after)).astype(np.int64)
    if not first.size:
        return np.zeros((0, WINDOW, CHANNELS), np.float32)
    start = first.min()
    rows = _rows(resampled(samples, sample_rate), start, first.max() + WINDOW)
    return rows[(first - start)[:, None] + np.arange(WINDOW)]


def _rows(samples: np.ndarray, start: int, end: int) -> np.ndarray:
    """Scaled cepstra [end - start, 12] of rows start .. end - 1."""
    parts = []
    for begin in range(start, end, _CHUNK):
        stop = min(begin + _CHUNK, end)
        # One row more at the front: pre-emphasis reads the sample before, which a signal's first row does not have.
        block = _between(samples, _HOP * (begin - 1) - _PADDING, _HOP * (stop - 1) - _PADDING + _LENGTH)
        parts.append(mfcc_psf(_FULL_SCALE * block, SAMPLE_RATE)[1:, 1:] / SCALE)
    return np.concatenate(parts).astype(np.float32)


def _between(samples: np.ndarray, start: int, end: int) -> np.ndarray:
    """Samples start .. end - 1, zeros outside the sound."""
    block = np.zeros(end - start)
    low, high = max(start, 0), min(end, len(samples))
    if low < high:
        block[low - start : high - start] = samples[low:high]
    return block
