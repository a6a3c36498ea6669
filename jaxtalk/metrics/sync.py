"""Lip sync as SyncNet hears and sees it: LSE-C (also called Sync or confidence), LSE-D, and the offset (card, 4).

One computation serves all of them, that of syncnet_python (SyncNetInstance.py) and of Wav2Lip's LSE scripts: five
frames of the face against 0.2 s of speech, at 31 offsets of up to 15 frames either way. A system that was trained
against a sync network may score above the truth: more is not always better.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import cast

import numpy as np
import scipy.signal

from jaxtalk.audio.psf import mfcc_psf
from jaxtalk.audio.spectrum import SAMPLE_RATE, resampled
from jaxtalk.errors import JaxtalkError
from jaxtalk.metrics.batches import Batched
from jaxtalk.metrics.sync_crop import face_crops, face_span
from jaxtalk.nn.pretrained.syncnet import CEPSTRA, FRAMES, ROWS, SyncNet

FPS = 25  # what the network was trained at
SHIFT = 15  # frames, the largest offset
_SAMPLES = SAMPLE_RATE // FPS  # a frame
_ROWS = 100 // FPS  # rows of cepstra a frame
_EPSILON = 1e-6  # added to every coordinate's difference, as torch's pairwise distance does
_SMOOTHING = 9  # frames, of the confidence over time
_BATCH = 16  # windows at once


@dataclasses.dataclass(frozen=True)
class SyncScores:
    """Agreement of a face and a voice.

    `offset` counts frames of 1/25 s; negative: the voice is late. Below some 100 windows the silence around the clip
    weighs in `means` (syncnet_python leaves such clips out).
    """

    confidence: float  # median of `means` less their least: LSE-C; higher is better
    distance: float  # the least of `means`: LSE-D; lower is better
    offset: int
    means: np.ndarray  # [31] mean distance when the voice is taken j - 15 frames later
    by_window: np.ndarray  # [windows] confidence over time at the best offset, smoothed by a median of 9

    @property
    def windows(self) -> int:
        return len(self.by_window)


def sync_scores(
    frames: np.ndarray, boxes: np.ndarray, audio: np.ndarray, sample_rate: int, fps: float, network: SyncNet
) -> SyncScores:
    """Scores of a talking face.

    Frames at another rate than 25 a second are taken at the nearest times, sound of another rate than 16 kHz is
    resampled; both as SyncNet's pipeline does. What comes before the first frame with a face and after the last is
    left out, of the sound, too; faces missing in between are interpolated.

    Args:
        frames: [F, H, W, 3] uint8 RGB, one after the other at `fps`.
        boxes: [F, 4] (x0, y0, x1, y1) of the face as a detector gives it (`sync_crop.face_boxes`), pixels; NaN in
            frames without a face.
        audio: [N] in [-1, 1], mono; begins with the first frame.
        network: SyncNet with its published weights (`load`).

    Raises:
        JaxtalkError: shapes that do not belong together, no face, or less than six frames or 0.24 s.
    """
    _check(frames, boxes, audio, fps)
    at_25 = _frames_at_25(len(frames), fps)
    first, end = face_span(boxes[at_25])
    index = at_25[first:end]
    samples = resampled(audio, sample_rate)[first * _SAMPLES : end * _SAMPLES]
    windows = min(len(index), len(samples) // _SAMPLES) - FRAMES
    if windows < 1:
        raise JaxtalkError(
            f"sync: {len(index)} frames with a face and {len(samples) / SAMPLE_RATE:.2f} s of sound are too short; "
            f"give a clip of at least {FRAMES + 1} frames at 25 a second"
        )
    crops = face_crops(frames[index], boxes[index])[: windows + FRAMES - 1]
    return scores_from_embeddings(video_embeddings(crops, network), audio_embeddings(samples, windows, network))


def scores_from_embeddings(video: np.ndarray, audio: np.ndarray) -> SyncScores:
    """Scores of embeddings [n, D] of n windows, number i of both from the time i / 25 s on.

    Distance (i, j) is |video[i] - audio[i + j - 15] + 1e-6| for j = 0 .. 30, with zeros around `audio`. Raises
    `JaxtalkError` for shapes that differ.
    """
    if video.ndim != 2 or video.shape != audio.shape or not len(video):
        raise JaxtalkError(f"sync: embeddings of video {video.shape} and of audio {audio.shape}; give [n, D] of both")
    count, video = len(video), np.asarray(video, np.float64)
    padded = np.pad(np.asarray(audio, np.float64), ((SHIFT, SHIFT), (0, 0)))
    distances = np.stack(
        [np.linalg.norm(video - padded[j : j + count] + _EPSILON, axis=1) for j in range(2 * SHIFT + 1)]
    )
    means = distances.mean(axis=1)
    best, median = int(np.argmin(means)), float(np.median(means))
    return SyncScores(
        confidence=median - float(means[best]),
        distance=float(means[best]),
        offset=SHIFT - best,
        means=means,
        by_window=_smoothed(median - distances[best]),
    )


def load() -> SyncNet:
    """SyncNet with its published weights. Raises `WeightsAbsent` where they are not on this machine."""
    from jaxtalk import weights

    return cast(SyncNet, weights.load("syncnet"))


def video_embeddings(crops: np.ndarray, network: SyncNet) -> np.ndarray:
    """Embeddings [F - 4, D] of the windows of faces [F, 224, 224, 3], uint8 RGB (`sync_crop.face_crops`)."""
    windows = np.lib.stride_tricks.sliding_window_view(crops[..., ::-1], FRAMES, axis=0)  # a view: nothing is copied
    return _lips(network)(np.moveaxis(windows, -1, 1))


def audio_embeddings(samples: np.ndarray, windows: int, network: SyncNet) -> np.ndarray:
    """Embeddings [windows, D] of sound [N] in [-1, 1] at 16 kHz, which is at least five frames longer."""
    words = np.clip(np.rint(np.asarray(samples, np.float64) * 32768), -32768, 32767)  # the 16 bits of a sound file
    rows = np.lib.stride_tricks.sliding_window_view(mfcc_psf(words, SAMPLE_RATE, num_cepstra=CEPSTRA), ROWS, axis=0)
    return _ear(network)(rows[::_ROWS][:windows].astype(np.float32))


@functools.lru_cache(maxsize=2)
def _lips(network: SyncNet) -> Batched:
    """Windows [B, 5, 224, 224, 3] through the network as it is now, on all devices of this process; compiled once."""
    return Batched(network, lambda network, windows: network.lips(windows)[:, 0], _BATCH, raw=True)


@functools.lru_cache(maxsize=2)
def _ear(network: SyncNet) -> Batched:
    """Windows [B, 13, 20] of cepstra, likewise."""
    return Batched(network, lambda network, cepstra: network.audio(cepstra), _BATCH, raw=True)


def _frames_at_25(count: int, fps: float) -> np.ndarray:
    """Which of `count` frames is nearest to each time k / 25 s within the clip."""
    times = np.arange(int(count * FPS / fps + 1e-6)) / FPS
    return np.minimum(np.floor(times * fps + 0.5 + 1e-6).astype(int), count - 1)


def _smoothed(values: np.ndarray) -> np.ndarray:
    return scipy.signal.medfilt(values, _SMOOTHING) if len(values) >= _SMOOTHING else values


def _check(frames: np.ndarray, boxes: np.ndarray, audio: np.ndarray, fps: float) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise JaxtalkError(f"sync: frames are {frames.dtype} {frames.shape}; give uint8 [F, H, W, 3]")
    if boxes.shape != (len(frames), 4):
        raise JaxtalkError(f"sync: {len(frames)} frames but boxes {boxes.shape}; give one (x0, y0, x1, y1) a frame")
    if audio.ndim != 1:
        raise JaxtalkError(f"sync: sound of shape {audio.shape}; give mono samples [N]")
    if not fps > 0:
        raise JaxtalkError(f"sync: {fps} frames a second; give the rate of the frames")
