"""GDRF's speech feature: placed to the sample, equal to the card's recipe, the same however it is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from jaxtalk.audio import FeatureSpec, atc, audio_windows, clip_windows
from jaxtalk.audio.psf import mfcc_psf
from jaxtalk.clip import Clip
from jaxtalk.errors import JaxtalkError
from jaxtalk.media.audio import load_audio
from jaxtalk.synthesis.speech import speech_windows

RATE = 16000
SPEC = FeatureSpec("atc")


def _noise(seconds: float, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).normal(size=round(seconds * RATE)).astype(np.float32)


def test_an_impulse_at_one_second_changes_exactly_frames_21_to_28() -> None:
    """Card gdrf 5.8."""
    sound = _noise(2.0)
    click = sound.copy()
    click[RATE] += 0.5
    times = np.arange(50) / 25
    changed = (audio_windows(SPEC, click, RATE, times) != audio_windows(SPEC, sound, RATE, times)).any((1, 2))
    assert np.flatnonzero(changed).tolist() == list(range(21, 29))


def test_windows_are_those_of_the_recipe() -> None:
    """1,920 zeros on each side, rows 4 f to 4 f + 27 of the package's cepstra at 25 fps, the first column dropped."""
    sound = _noise(1.0)
    rows = mfcc_psf(np.pad(32768.0 * sound, 1920))[:, 1:] / 15
    windows = audio_windows(SPEC, sound, RATE, np.arange(23) / 25)
    assert windows.shape == (23, 28, 12) and windows.dtype == np.float32
    for frame in range(23):  # the recipe's last row is filled up with zeros, as here
        np.testing.assert_allclose(windows[frame], rows[4 * frame : 4 * frame + 28], atol=1e-4)


def test_frame_0_sees_padding_alone_before_the_sound() -> None:
    windows = audio_windows(SPEC, _noise(1.0), RATE, np.array([0.0]))
    # Row 9 ends at sample -80, row 10 at sample 80.
    assert np.abs(windows[0, :10]).max() < 1e-6 and np.all(np.abs(windows[0, 10:]).max(1) > 0)


def test_silence_is_zero_before_within_and_after_the_sound() -> None:
    sound = _noise(3.0)
    sound[RATE : 2 * RATE] = 0
    windows = audio_windows(SPEC, sound, RATE, np.array([-1e6, -5.0, 1.5, 3.13, 1e6]))
    assert np.abs(windows).max() < 1e-6
    assert np.all(np.abs(audio_windows(SPEC, sound, RATE, np.array([3.11]))[0, 0]) > 0)
    assert audio_windows(SPEC, sound, RATE, np.zeros(0)).shape == (0, 28, 12)


def test_any_times_take_the_nearest_rows() -> None:
    sound = _noise(2.0)
    every_row = audio_windows(SPEC, sound, RATE, np.arange(200) / 100)
    times = np.array([0.8, 0.0334, 0.5049, 0.5051, 1.234])
    np.testing.assert_array_equal(audio_windows(SPEC, sound, RATE, times), every_row[[80, 3, 50, 51, 123]])
    # Half-way, whatever the last bits are: synthesis moves times by whole seconds.
    halves = np.array([0.025, 5.025 - 5, 1000.025 - 1000])
    np.testing.assert_array_equal(audio_windows(SPEC, sound, RATE, halves), every_row[[3, 3, 3]])


def test_long_sound_is_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    sound, times = _noise(2.0), np.arange(50) / 25
    whole = audio_windows(SPEC, sound, RATE, times)
    monkeypatch.setattr(atc, "_CHUNK", 17)
    np.testing.assert_allclose(audio_windows(SPEC, sound, RATE, times), whole, atol=1e-6)


def test_other_sample_rates_mean_the_same() -> None:
    times = np.array([0.4, 0.43, 0.5])

    def voice(rate: int) -> np.ndarray:
        time = np.arange(rate) / rate
        return sum(0.05 * np.sin(2 * np.pi * 150 * k * time * (1 + 0.3 * time)) for k in range(1, 40)).astype(
            np.float32
        )

    low, high = (audio_windows(SPEC, voice(rate), rate, times) for rate in (RATE, 48000))
    assert np.abs(high - low).mean() < 0.1 * np.abs(low).mean()


def test_windows_in_segments_are_those_of_the_whole_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "noise.wav", _noise(6.0), RATE, "FLOAT")
    times = np.arange(round(6 * 29.97)) / 29.97
    parts = list(speech_windows(tmp_path / "noise.wav", SPEC, times, segment=40))
    assert max(map(len, parts)) == 40
    expected = audio_windows(SPEC, load_audio(tmp_path / "noise.wav"), RATE, times)
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-5)


def test_the_feature_has_one_size(fake_clip: Clip) -> None:
    assert FeatureSpec("atc", 12, 28, 100.0) == SPEC and (SPEC.num_channels, SPEC.window, SPEC.rate) == (12, 28, 100)
    assert FeatureSpec() == FeatureSpec("mfcc", 29, 16, 50.0) and FeatureSpec("mel", num_channels=20).window == 16
    assert clip_windows(SPEC, fake_clip).shape == (50, 28, 12)
    with pytest.raises(JaxtalkError, match="12 channels in windows of 28 rows at 100 a second, not 29 in 32"):
        FeatureSpec("atc", num_channels=29, window=32)


def test_speech_has_a_deviation_near_one(real_data: Path) -> None:
    for path in sorted((real_data / "audio").glob("*.wav"))[:3]:
        rows = audio_windows(SPEC, load_audio(path), RATE, np.arange(0.2, 4.8, 0.28))
        deviation = rows.reshape(-1, 12).std(0)
        assert np.all((deviation > 0.4) & (deviation < 1.6)) and np.abs(rows).max() < 8, path.name
