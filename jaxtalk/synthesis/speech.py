"""Speech of any length as windows of features for consecutive frames, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxtalk.audio.features import STORED, FeatureSpec, audio_windows, load_stored
from jaxtalk.errors import JaxtalkError
from jaxtalk.media.audio import audio_blocks, load_audio
from jaxtalk.media.container import MediaError

RATE = 16000  # samples a second, as in clips
_MARGIN = 2  # whole seconds of sound kept on either side of a segment: more than any window looks


def count_frames(path: Path, fps: float) -> tuple[int, float]:
    """Frames that the sound of a file asks for, round(seconds x fps) and at least one, and its length in seconds.

    Decodes it once, since the headers of compressed sound only estimate. Raises `MediaError` for a file without sound.
    """
    seconds = sum(len(block) for block in audio_blocks(path, RATE, channels=1)) / RATE
    if not seconds:
        raise MediaError(f"{path}: the sound stream holds no sample")
    return max(1, round(seconds * fps)), seconds


def speech_windows(
    path: Path, spec: FeatureSpec, times: np.ndarray, features: Path | None = None, segment: int = 512
) -> Iterator[np.ndarray]:
    """Windows [n, ...] of the speech at increasing `times` (seconds), at most `segment` frames at once.

    The same numbers as `audio_windows` over the whole file, which looks at nothing but the sound around a frame.
    `features` is a file that the user made, for a spec that is stored and not computed. Raises `JaxtalkError` when it
    is missing there, or given elsewhere.
    """
    if features is None and not spec.local:  # a network that reads all of the recording
        yield audio_windows(spec, load_audio(path, RATE), RATE, times)
        return
    computed = features is None and spec.name != "deepspeech"
    if features is not None and spec.name not in STORED:
        raise JaxtalkError(f"{features}: this run computes its {spec.name} features itself; leave --features out")
    if features is None and spec.name == "deepspeech":
        raise JaxtalkError(f"this run reads {spec.name} features: give those of {path} with --features FILE.npy")
    stored = None if features is None else load_stored(features, spec)
    sound = _Rolling(path)
    for first in range(0, len(times), segment):
        part = times[first : first + segment]
        start = max(0, int(part[0]) - _MARGIN)  # whole seconds, so that rounding to samples stays the same
        samples = sound.between(start * RATE, (int(part[-1]) + 1 + _MARGIN) * RATE) if computed else np.zeros(0)
        yield audio_windows(spec, samples, RATE, part - start if computed else part, stored)


class _Rolling:
    """The samples of a file, read forwards; what lies before the last interval asked for is forgotten."""

    def __init__(self, path: Path) -> None:
        self._blocks = audio_blocks(path, RATE, channels=1)
        self._kept, self._start = np.zeros(0, np.float32), 0

    def between(self, start: int, end: int) -> np.ndarray:
        """Samples start .. end - 1, fewer where the sound ends. `start` may not go back."""
        parts, held = [self._kept], self._start + len(self._kept)
        while held < end and (block := next(self._blocks, None)) is not None:
            parts.append(block[:, 0])
            held += len(block)
        self._kept = np.concatenate(parts)[start - self._start :]
        self._start = start
        return self._kept[: end - start]
