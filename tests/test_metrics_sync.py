"""Lip sync: the distances and their offset, the crop, and that voice and face meet at the right time."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxtalk.errors import JaxtalkError
from jaxtalk.metrics import sync
from jaxtalk.metrics.sync import scores_from_embeddings, sync_scores
from jaxtalk.metrics.sync_crop import face_boxes, face_crops
from jaxtalk.weights import WeightsAbsent

RATE = 16000


def _embeddings(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 16))


def _slow_distances(video: np.ndarray, audio: np.ndarray) -> np.ndarray:
    """Card metrics 4.4, word by word."""
    count = len(video)
    distances = np.zeros((count, 31))
    for i in range(count):
        for j in range(31):
            place = i + j - 15
            other = audio[place] if 0 <= place < count else np.zeros(audio.shape[1])
            distances[i, j] = np.sqrt(sum((v - a + 1e-6) ** 2 for v, a in zip(video[i], other, strict=True)))
    return distances


def test_scores_equal_the_slow_reference() -> None:
    video, audio = _embeddings(40), _embeddings(40, 1) + 0.3
    distances = _slow_distances(video, audio)
    means, scores = distances.mean(0), scores_from_embeddings(video, audio)
    np.testing.assert_allclose(scores.means, means)
    assert scores.distance == pytest.approx(means.min())
    assert scores.confidence == pytest.approx(np.median(means) - means.min())
    assert scores.offset == 15 - np.argmin(means)
    frame = np.median(means) - distances[:, np.argmin(means)]
    assert scores.windows == 40 and scores.by_window[20] == pytest.approx(np.median(frame[16:25]))


@pytest.mark.parametrize("rows", [-15, -4, 0, 3, 15])
def test_audio_that_is_late_has_a_negative_offset(rows: int) -> None:
    """Card: embeddings of the voice shifted by + 3 rows give offset - 3."""
    video = _embeddings(60)
    scores = scores_from_embeddings(video, np.roll(video, rows, axis=0))
    assert scores.offset == -rows
    assert scores.confidence > 0.5 * np.median(scores.means)


def test_a_perfect_match_has_no_distance() -> None:
    video = _embeddings(50)
    scores = scores_from_embeddings(video, video)
    assert scores.offset == 0 and scores.distance == pytest.approx(1e-6 * 4, rel=1e-3)  # sqrt(16) times 1e-6
    assert scores.confidence == pytest.approx(np.median(scores.means) - 4e-6)
    np.testing.assert_allclose(scores.by_window[4:-4], np.median(scores.means) - 4e-6)


def test_embeddings_of_other_shapes_are_refused() -> None:
    with pytest.raises(JaxtalkError, match=r"video \(5, 16\) and of audio \(6, 16\)"):
        scores_from_embeddings(_embeddings(5), _embeddings(6))
    with pytest.raises(JaxtalkError, match=r"video \(0, 16\)"):
        scores_from_embeddings(_embeddings(0), _embeddings(0))


class _Watcher(nnx.Module):
    """In SyncNet's place: knows the blue of the crop's middle, and the loudness of the voice, over each window."""

    def lips(self, frames: jax.Array) -> jax.Array:
        assert frames.shape[2:] == (224, 224, 3)
        blue = frames[:, :, 80:144, 80:144, 0].mean((2, 3))
        return jnp.stack([blue[:, i : i + frames.shape[1] - 4] for i in range(5)], -1) / 20

    def audio(self, cepstra: jax.Array) -> jax.Array:
        assert cepstra.shape[1:] == (13, 20)
        loudness = jnp.exp(cepstra[:, 0] / 2)  # the amplitude; row r begins 10 ms after row r - 1
        return jnp.stack([loudness[:, 4 * i : 4 * i + 2].mean(1) for i in range(5)], -1) / _FULL


SECONDS, FPS = 4.0, 25
_LEVELS = np.random.default_rng(3).uniform(0.1, 1, round(SECONDS * FPS) + 1)
_CARRIER = 0.5 * np.sign(np.sin(2 * np.pi * 1000 * np.arange(round(SECONDS * RATE)) / RATE + 0.1)).astype(np.float32)


def _amplitude(time: np.ndarray) -> np.ndarray:
    return _LEVELS[np.clip((time * FPS + 1e-6).astype(int), 0, len(_LEVELS) - 1)]


def _voice(delay: float = 0.0) -> np.ndarray:
    times = np.arange(len(_CARRIER)) / RATE
    return (np.where(times >= delay, _amplitude(times - delay), 0.05) * _CARRIER).astype(np.float32)


def _full_scale() -> float:
    """What the watcher hears at amplitude 1, in units of its blue channel over 20."""
    loudness = np.exp(sync.mfcc_psf(32768.0 * _CARRIER[:4000])[5:15, 0] / 2).mean()
    return float(loudness) / (200 / 20)


_FULL = _full_scale()


def _talking_face(fps: float = FPS, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """A face whose blue follows the voice; red and green do the opposite."""
    levels = 200 * _amplitude(np.arange(round(SECONDS * fps)) / fps)
    frames = np.zeros((len(levels), size, size, 3), np.uint8)
    frames[...] = np.stack([255 - levels, 255 - levels, levels], -1)[:, None, None]
    boxes = np.tile([20.0, 20.0, 60.0, 70.0], (len(levels), 1))
    return frames, boxes


@pytest.mark.parametrize(("delay", "offset"), [(0.0, 0), (0.2, -5), (0.4, -10)])
def test_a_delayed_voice_is_heard_late(delay: float, offset: int) -> None:
    frames, boxes = _talking_face()
    scores = sync_scores(frames, boxes, _voice(delay), RATE, FPS, _Watcher())
    assert scores.offset == offset and scores.windows == 95
    assert scores.distance < 0.35 * np.median(scores.means)


def test_a_delayed_video_has_a_positive_offset() -> None:
    frames, boxes = _talking_face()
    late = np.concatenate([frames[:7], frames[:-7]])
    assert sync_scores(late, boxes, _voice(), RATE, FPS, _Watcher()).offset == 7


@pytest.mark.parametrize(("fps", "rate"), [(50.0, 48000), (29.97, 16000)])
def test_other_rates_mean_the_same(fps: float, rate: int) -> None:
    frames, boxes = _talking_face(fps)
    voice = np.repeat(_voice(), rate // RATE)
    scores = sync_scores(frames, boxes, voice, rate, fps, _Watcher())
    assert scores.offset == 0 and abs(scores.windows - 95) <= 1
    assert scores.distance < 0.7 * np.median(scores.means)


def test_frames_before_and_after_the_face_are_left_out_with_their_sound() -> None:
    frames, boxes = _talking_face()
    whole = sync_scores(frames, boxes, _voice(), RATE, FPS, _Watcher())
    boxes[:12], boxes[-5:], boxes[40:44] = np.nan, np.nan, np.nan
    frames[:12] = 0
    scores = sync_scores(frames, boxes, _voice(), RATE, FPS, _Watcher())
    assert scores.offset == 0 and scores.windows == whole.windows - 17
    assert scores.distance < 1.2 * whole.distance


def test_short_and_faceless_clips_are_refused() -> None:
    frames, boxes = _talking_face()
    with pytest.raises(JaxtalkError, match=r"sync: 5 frames with a face and 0\.20 s .* at least 6 frames"):
        sync_scores(frames[:5], boxes[:5], _voice(), RATE, FPS, _Watcher())
    with pytest.raises(JaxtalkError, match=r"100 frames with a face and 0\.20 s"):
        sync_scores(frames, boxes, _voice()[:3200], RATE, FPS, _Watcher())
    assert sync_scores(frames[:6], boxes[:6], _voice(), RATE, FPS, _Watcher()).windows == 1
    with pytest.raises(JaxtalkError, match="no frame has a face"):
        sync_scores(frames, np.full_like(boxes, np.nan), _voice(), RATE, FPS, _Watcher())
    boxes[3, 2] = 10
    with pytest.raises(JaxtalkError, match="face box of frame 3 is empty"):
        sync_scores(frames, boxes, _voice(), RATE, FPS, _Watcher())
    with pytest.raises(JaxtalkError, match=r"boxes \(99, 4\)"):
        sync_scores(frames, boxes[1:], _voice(), RATE, FPS, _Watcher())


def test_batches_do_not_change_the_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    crops = np.random.default_rng(0).integers(0, 255, (23, 224, 224, 3), np.uint8)
    expected = [sync.video_embeddings(crops, _Watcher()), sync.audio_embeddings(_voice(), 19, _Watcher())]
    assert [len(part) for part in expected] == [19, 19]
    monkeypatch.setattr(sync, "_BATCH", 5)
    for cached in (sync._lips, sync._ear):
        cached.cache_clear()
    np.testing.assert_allclose(sync.video_embeddings(crops, _Watcher()), expected[0], rtol=1e-6)
    np.testing.assert_allclose(sync.audio_embeddings(_voice(), 19, _Watcher()), expected[1], rtol=1e-6)


def test_the_voice_comes_in_the_units_of_16_bits() -> None:
    """Card metrics 4.3: the network reads the cepstra of int16 samples, 13 of them in rows of 10 ms."""
    heard = []

    class Listener(nnx.Module):
        def audio(self, cepstra: jax.Array) -> jax.Array:
            jax.debug.callback(lambda values: heard.append(np.asarray(values)), cepstra)
            return cepstra[:, 0]

    tone = np.round(8000 * np.sin(2 * np.pi * 1000 * np.arange(8000) / RATE)) / 32768
    sync.audio_embeddings(tone.astype(np.float32), 7, Listener())
    jax.effects_barrier()
    np.testing.assert_allclose(heard[0][0, :4, 10], [20.6729, 8.1622, -24.4781, -33.6059], atol=1e-3)
    np.testing.assert_allclose(heard[0][2, :, 2], heard[0][0, :, 10])  # window 2 begins 8 rows later


def test_the_crop_has_the_stated_rows_and_columns() -> None:
    """Half-size s = 20 about (50, 45): rows 25 .. 80, columns 22 .. 77; grey 110 beyond the frame."""
    frames = np.zeros((20, 100, 60, 3), np.uint8)
    frames[..., 0], frames[..., 1] = np.arange(100)[:, None], np.arange(60)
    boxes = np.tile([35.0, 25.0, 65.0, 65.0], (20, 1))  # taller than wide
    crop = face_crops(frames, boxes)[10].astype(float)
    place = (np.arange(224) + 0.5) * 56 / 224 - 0.5
    np.testing.assert_allclose(crop[:, 20, 0], np.clip(25 + place, 25, 80), atol=0.5)
    inside = place < 59 - 22
    np.testing.assert_allclose(crop[100, inside, 1], np.clip(22 + place[inside], 22, 59), atol=0.5)
    assert np.all(crop[:, place > 60 - 22] == 110)


def test_one_wild_box_moves_nothing() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (30, 64, 64, 3), np.uint8)
    boxes = np.tile([20.0, 20.0, 44.0, 44.0], (30, 1))
    wild = boxes.copy()
    wild[15] = [0.0, 0.0, 60.0, 60.0]
    np.testing.assert_array_equal(face_crops(frames, wild), face_crops(frames, boxes))
    # A missing box is drawn between its neighbours; a short clip has one box throughout.
    wild[15] = np.nan
    np.testing.assert_array_equal(face_crops(frames, wild), face_crops(frames, boxes))
    wild = boxes[:7].copy()
    wild[2] += 5
    np.testing.assert_array_equal(face_crops(frames[:7], wild), face_crops(frames[:7], boxes[:7]))


def test_resizing_equals_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    frames = np.random.default_rng(0).integers(0, 255, (1, 300, 300, 3), np.uint8)
    box = np.array([[100.0, 100.0, 200.0, 200.0]])  # s = 50: rows 100 .. 239, columns 80 .. 219
    expected = cv2.resize(frames[0, 100:240, 80:220], (224, 224))
    assert np.abs(face_crops(frames, box)[0].astype(int) - expected).max() <= 1


def test_boxes_of_landmarks_follow_the_face() -> None:
    points = np.random.default_rng(0).uniform(0, 1, (3, 68, 2))
    boxes = face_boxes(points)
    np.testing.assert_allclose(boxes[:, [0, 2, 3]], np.stack([points.min(1)[:, 0], *points.max(1).T], 1))
    np.testing.assert_allclose((boxes[:, 3] - boxes[:, 1]) / np.ptp(points[..., 1], axis=1), 1.25)
    np.testing.assert_allclose(face_boxes(2 * points + 5), 2 * boxes + 5)
    points[1] = np.nan
    assert np.isnan(face_boxes(points)[1]).all()


def test_absent_weights_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXTALK_CACHE", str(tmp_path))
    with pytest.raises(WeightsAbsent, match="syncnet"):
        sync.load()
