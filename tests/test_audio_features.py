"""Audio features: placement in time to the sample, invariances, stored features, and the MFCC golden."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jaxtalk.audio import FeatureSpec, audio_windows, clip_windows, load_stored
from jaxtalk.audio.psf import mfcc_psf
from jaxtalk.audio.spectrum import FRAME_LENGTH, mel_filters, power_spectra
from jaxtalk.clip import Clip
from jaxtalk.errors import JaxtalkError

RATE = 16000
COMPUTED = [FeatureSpec("mfcc"), FeatureSpec("mel"), FeatureSpec("mfcc", num_channels=13, window=9, rate=100.0)]


def _noise(seconds: float, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).normal(size=round(seconds * RATE)).astype(np.float32)


def _reach(spec: FeatureSpec) -> float:
    """Seconds from a frame's time to the end of the last analysis frame with weight: read off the definition."""
    return (spec.window - 1) / 2 / spec.rate + 0.25 / spec.rate + FRAME_LENGTH / 2 / RATE


@pytest.mark.parametrize("spec", COMPUTED, ids=lambda spec: f"{spec.name}{spec.window}")
def test_a_click_changes_exactly_the_frames_around_it(spec: FeatureSpec) -> None:
    click = 1.0
    samples = np.zeros(2 * RATE, np.float32)
    samples[round(click * RATE)] = 0.5
    times = np.arange(0, 2, 0.001)
    windows = audio_windows(spec, samples, RATE, times)
    silent = audio_windows(spec, np.zeros_like(samples), RATE, times)
    changed = times[np.abs(windows - silent).max(axis=(1, 2)) > 0]
    # Symmetric about the click, and as wide as the definition says (the Hann window's outermost weight is 0).
    assert changed.min() == pytest.approx(click - _reach(spec), abs=0.0015)
    assert changed.max() == pytest.approx(click + _reach(spec), abs=0.0015)


@pytest.mark.parametrize("spec", COMPUTED, ids=lambda spec: f"{spec.name}{spec.window}")
def test_rows_are_centred_around_the_frame(spec: FeatureSpec) -> None:
    """A click at the frame's own time gives a window that reads the same backwards; off by one row it would not."""
    samples = np.zeros(RATE, np.float32)
    samples[RATE // 2] = 0.5
    window = audio_windows(spec, samples, RATE, np.array([0.5]))[0]
    np.testing.assert_allclose(window, window[::-1], atol=1e-4)
    assert np.abs(window - window[0]).max() > 0.1


@pytest.mark.parametrize("spec", COMPUTED, ids=lambda spec: f"{spec.name}{spec.window}")
def test_moving_sound_and_frames_together_changes_nothing(spec: FeatureSpec) -> None:
    samples, shift = _noise(1.0), 777
    times = np.array([0.013, 0.3, 0.31, 0.9])
    moved = audio_windows(spec, np.concatenate([np.zeros(shift, np.float32), samples]), RATE, times + shift / RATE)
    np.testing.assert_allclose(audio_windows(spec, samples, RATE, times), moved, atol=1e-4)


def test_rows_of_neighbouring_frames_are_shared() -> None:
    """At 25 fps and 50 rows a second, window i + 1 is window i moved on by two rows."""
    windows = audio_windows(FeatureSpec(), _noise(1.0), RATE, np.arange(25) / 25)
    np.testing.assert_array_equal(windows[1:, :-2], windows[:-1, 2:])


def test_outside_the_recording_is_silence() -> None:
    spec, samples = FeatureSpec(), _noise(0.5)
    windows = audio_windows(spec, samples, RATE, np.array([-3.0, 0.0, 0.5, 1e6]))
    silence = audio_windows(spec, np.zeros(RATE, np.float32), RATE, np.array([0.5]))[0]
    np.testing.assert_array_equal(windows[0], silence)
    np.testing.assert_array_equal(windows[3], silence)
    # Rows 0 to 6 of the frame at 0 end before the sound begins: row 6 reaches -30 + 5 + 12.5 ms.
    np.testing.assert_array_equal(windows[1, :7], silence[:7])
    assert np.abs(windows[1, 8:] - silence[8:]).max(axis=1).min() > 0.1
    np.testing.assert_array_equal(windows[2, 9:], silence[9:])
    assert np.abs(windows[2, :7] - silence[:7]).max(axis=1).min() > 0.1


def test_order_and_spacing_of_times_do_not_matter() -> None:
    spec, samples = FeatureSpec("mel", num_channels=40), _noise(1.0)
    times = np.sort(np.random.default_rng(1).uniform(0, 1, 20))
    order = np.random.default_rng(2).permutation(20)
    windows = audio_windows(spec, samples, RATE, times)
    np.testing.assert_array_equal(audio_windows(spec, samples, RATE, times[order]), windows[order])
    np.testing.assert_array_equal(audio_windows(spec, samples, RATE, times[7:8]), windows[7:8])


def test_other_sample_rates_mean_the_same() -> None:
    """Two tones sampled at 48 kHz and at 16 kHz look alike, also in time."""
    spec, times = FeatureSpec(), np.array([0.4, 0.43, 0.5])

    def tones(rate: int) -> np.ndarray:
        time = np.arange(rate) / rate
        return (0.2 * np.sin(2 * np.pi * 440 * time * (1 + time)) + 0.05 * np.sin(2 * np.pi * 2500 * time)).astype(
            np.float32
        )

    low = audio_windows(spec, tones(RATE), RATE, times)
    high = audio_windows(spec, tones(48000), 48000, times)
    assert np.abs(high - low)[..., :8].max() < 0.05


def test_levels_are_decibels() -> None:
    """Full-scale white noise of variance v has power v in every bin, and 20 dB less moves the level by a half."""
    noise = np.random.default_rng(0).normal(size=20 * RATE).astype(np.float32)
    power = power_spectra(noise, np.arange(1000, 19 * RATE, 400))
    assert power[:, 5:-5].mean() == pytest.approx(1.0, rel=0.02)
    loud = audio_windows(FeatureSpec("mel"), 0.1 * noise[:RATE], RATE, np.array([0.5]))
    quiet = audio_windows(FeatureSpec("mel"), 0.01 * noise[:RATE], RATE, np.array([0.5]))
    np.testing.assert_allclose(loud - quiet, 0.5, atol=1e-3)
    mfcc = [audio_windows(FeatureSpec(), g * noise[:RATE], RATE, np.array([0.5])) for g in (0.1, 0.01)]
    np.testing.assert_allclose((mfcc[0] - mfcc[1])[..., 0], 0.5, atol=1e-3)
    np.testing.assert_allclose((mfcc[0] - mfcc[1])[..., 1:], 0.0, atol=1e-3)  # cepstra do not see loudness


@pytest.mark.parametrize("count", [13, 29, 40, 80])
def test_mel_filters(count: int) -> None:
    filters = mel_filters(count)
    np.testing.assert_allclose(filters.sum(axis=1), 1, rtol=1e-5)
    centres = filters @ np.arange(filters.shape[1])
    assert np.all(np.diff(centres) > 0), "each band lies above the one before"
    # A 1 kHz tone is strongest in the band that holds 1 kHz.
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
    strongest = np.argmax(power_spectra(tone, np.array([8000])) @ filters.T)
    assert abs(centres[strongest] * RATE / 512 - 1000) < 0.6 * np.gradient(centres)[strongest] * RATE / 512 + 20


def test_mfcc_psf_golden() -> None:
    """Numbers of python_speech_features (card metrics.md, section 4)."""
    tone = np.round(8000 * np.sin(2 * np.pi * 1000 * np.arange(8000) / 16000))
    cepstra = mfcc_psf(tone)
    assert cepstra.shape == (49, 13)
    np.testing.assert_allclose(cepstra[10, :4], [20.6729, 8.1622, -24.4781, -33.6059], atol=1e-4)


def test_mfcc_psf_pads_the_last_frame() -> None:
    signal = np.random.default_rng(0).normal(size=1000) * 1000
    padded = np.concatenate([signal, np.zeros(40)])  # 400 + 4 * 160
    assert mfcc_psf(signal).shape == (5, 13)
    # Pre-emphasis leaves one sample behind the end of a signal; here the filling begins before it.
    assert np.abs(mfcc_psf(signal)[:4] - mfcc_psf(padded)[:4]).max() < 1e-9
    assert mfcc_psf(signal[:100]).shape == (1, 13)
    assert np.isfinite(mfcc_psf(np.zeros(800))).all()


STORED = FeatureSpec("deepspeech")


def _deepspeech(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows at 50 Hz, and the windows [frames, 16, 29] that AD-NeRF's recipe cuts: zeros around, stride two."""
    rows = np.random.default_rng(0).normal(size=(2 * frames, 29)).astype(np.float32)
    padded = np.pad(rows, ((8, 8), (0, 0)))
    return rows, np.stack([padded[2 * i : 2 * i + 16] for i in range(frames)])


def test_stored_windows_are_taken_by_time() -> None:
    _, stored = _deepspeech(50)
    nothing = np.zeros(0, np.float32)
    times = np.array([0.0, 0.04, 0.081, 1.0, 1.96, 2.04, -0.5])
    taken = audio_windows(STORED, nothing, RATE, times, stored)
    np.testing.assert_array_equal(taken, stored[[0, 1, 2, 25, 49, 49, 0]])
    with pytest.raises(JaxtalkError, match=r"50 windows.*too few.*2\.60 s"):
        audio_windows(STORED, nothing, RATE, np.array([2.6]), stored)


@pytest.mark.parametrize("window", [8, 18, 32])
def test_stored_windows_of_other_lengths_come_from_the_neighbours(window: int) -> None:
    rows, stored = _deepspeech(50)
    spec = FeatureSpec("deepspeech", window=window)
    taken = audio_windows(spec, np.zeros(0, np.float32), RATE, np.arange(50) / 25, stored)
    padded = np.pad(rows, ((window // 2, window), (0, 0)))
    # What lies beyond the last stored window is not known, and zero.
    known = 2 * 50 + 6
    for i in (0, 1, 20, 48, 49):
        expected = padded[2 * i : 2 * i + window].copy()
        expected[np.arange(window) - window // 2 + 2 * i >= known] = 0
        np.testing.assert_array_equal(taken[i], expected)


def test_stored_windows_that_do_not_overlap_cannot_be_joined() -> None:
    stored = np.random.default_rng(0).normal(size=(50, 16, 29))
    with pytest.raises(JaxtalkError, match="do not overlap"):
        audio_windows(FeatureSpec("deepspeech", window=32), np.zeros(0), RATE, np.array([0.0]), stored)


def test_stored_file_errors_name_the_file_and_the_shape(tmp_path: Path) -> None:
    path = tmp_path / "aud.npy"
    np.save(path, np.zeros((10, 29, 16)))
    with pytest.raises(JaxtalkError, match=r"aud\.npy: shape \(10, 29, 16\), expected \(frames, 16, 29\)"):
        load_stored(path, STORED)
    path.write_bytes(b"no array")
    with pytest.raises(JaxtalkError, match=r"aud\.npy: not a readable"):
        load_stored(path, STORED)
    np.save(path, np.full((10, 16, 29), np.nan))
    with pytest.raises(JaxtalkError, match="not finite"):
        load_stored(path, STORED)
    np.save(path, np.ones((10, 16, 29)))
    assert load_stored(path, STORED).shape == (10, 16, 29)


def test_clip_windows(fake_clip: Clip) -> None:
    windows = clip_windows(FeatureSpec(), fake_clip)
    assert windows.shape == (fake_clip.meta.num_frames, 16, 29) and windows.dtype == np.float32
    # The ball's mouth opens with the amplitude, and so does the level around the frame, undone from decibels.
    amplitude = 10 ** ((40 * windows[:, 7:9, 0].mean(1) - 40) / 20)
    assert np.corrcoef(amplitude[1:-1], fake_clip.track.expression[1:-1, 0])[0, 1] > 0.99
    with pytest.raises(JaxtalkError, match=r"clip ball: features/deepspeech\.npy is missing"):
        clip_windows(STORED, fake_clip)


def test_unknown_feature_lists_the_known() -> None:
    with pytest.raises(JaxtalkError, match="mfcc, mel, deepspeech"):
        FeatureSpec("mfccs")
