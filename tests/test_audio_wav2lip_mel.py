"""Wav2Lip's mel: equal to librosa's, and windows that begin where the frames do."""

from __future__ import annotations

import numpy as np
import pytest

from jaxtalk.audio.wav2lip_mel import SILENCE, mel_spectrogram, mel_windows

RATE = 16000


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise and a rising tone, loud and quiet in turn."""
    time = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).normal(size=len(time))
    tone = np.sin(2 * np.pi * (200 + 900 * time) * time)
    return ((0.3 * tone + 0.02 * noise) * (0.5 + 0.5 * np.sin(9 * time)) ** 4).astype(np.float32)


def test_equals_librosa() -> None:
    librosa = pytest.importorskip("librosa")
    samples = sound(1.3)
    emphasised = np.append(samples[0], samples[1:] - 0.97 * samples[:-1])
    spectrum = librosa.stft(emphasised, n_fft=800, hop_length=200, win_length=800, pad_mode="constant")
    basis = librosa.filters.mel(sr=RATE, n_fft=800, n_mels=80, fmin=55, fmax=7600)
    level = 20 * np.log10(np.maximum(1e-5, basis @ np.abs(spectrum))) - 20
    expected = np.clip(8 * ((level + 100) / 100) - 4, -4, 4)
    ours = mel_spectrogram(samples, RATE)
    assert ours.shape == expected.shape == (80, 1 + len(samples) // 200)
    assert expected.min() < -2 and expected.max() > 0.3, "the sound is loud and quiet"
    np.testing.assert_allclose(ours, expected, atol=2e-4)


def test_windows_are_columns_of_the_spectrogram() -> None:
    samples = sound(1.0)
    mel = mel_spectrogram(samples, RATE)
    windows = mel_windows(samples, RATE, np.arange(20) / 25)
    assert windows.shape == (20, 80, 16) and windows.dtype == np.float32
    for frame in range(20):
        start = int(80 * frame / 25)
        np.testing.assert_array_equal(windows[frame], mel[:, start : start + 16])
    longer = mel_windows(samples, RATE, np.array([0.2]), columns=32)
    np.testing.assert_array_equal(longer[0], mel[:, 16:48])


def test_outside_is_silence() -> None:
    samples = sound(0.5)
    before, across, after = mel_windows(samples, RATE, np.array([-3.0, -0.1, 60.0]))
    assert (before == SILENCE).all() and (after == SILENCE).all()
    assert (across[:, :8] == SILENCE).all() and across[:, 8:].max() > -2
    np.testing.assert_array_equal(mel_windows(np.zeros(RATE, np.float32), RATE, np.array([0.3])), SILENCE)


def test_other_rates_are_brought_to_16_khz() -> None:
    time = np.arange(2 * 48000) / 48000
    tone = (0.3 * np.sin(2 * np.pi * 700 * time)).astype(np.float32)
    at = np.array([0.8])
    high, usual = mel_windows(tone, 48000, at), mel_windows(tone[::3], RATE, at)
    loud = usual > -2  # where the tone is
    assert loud.any()
    np.testing.assert_allclose(high[loud], usual[loud], atol=0.05)
