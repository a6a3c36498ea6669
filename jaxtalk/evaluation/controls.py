"""What an avatar hears in a test: its own speech, the same speech at another time, or somebody else's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxtalk.clip import ClipView

SHIFT_SECONDS = 1.0
_VOICE_SEED = 20_000  # a speaker and words that no synthetic clip of a run has


@dataclasses.dataclass(frozen=True)
class Speech:
    """A recording with its name. `start` is its time that plays at the first test frame; None: the frame's own time."""

    samples: np.ndarray  # [N] float32, mono
    sample_rate: int
    label: str
    stored: np.ndarray | None = None  # feature made elsewhere, one row a frame of its clip
    start: float | None = None
    shift: float = 0.0  # seconds by which it is heard late

    def times(self, frame_times: np.ndarray) -> np.ndarray:
        """The time of the recording that is heard at each frame, [F] seconds."""
        moved = np.asarray(frame_times, np.float64) - self.shift
        return moved if self.start is None else moved - frame_times[0] + self.start

    def heard(self, frame_times: np.ndarray, fps: float) -> tuple[np.ndarray, int]:
        """What is heard in a video of these frames [F]: samples from the first frame to the end of the last, and their
        rate; silence before the recording and after it."""
        times = self.times(frame_times)
        first = round(float(times[0]) * self.sample_rate)
        place = np.arange(first, round((float(times[-1]) + 1 / fps) * self.sample_rate))
        inside = (place >= 0) & (place < len(self.samples))
        return np.where(inside, self.samples[np.where(inside, place, 0)], 0).astype(np.float32), self.sample_rate

    def windows(self, spec: Any, frame_times: np.ndarray) -> np.ndarray:
        """The audio feature's window at each frame, [F, ...]."""
        from jaxtalk.audio.features import audio_windows

        return audio_windows(spec, self.samples, self.sample_rate, self.times(frame_times), stored=self.stored)


def true_speech(view: ClipView, spec: Any) -> Speech:
    """The clip's own sound, in time."""
    return Speech(view.audio(), view.meta.sample_rate, "its own", view.feature(spec.name))


def shifted_speech(view: ClipView, spec: Any) -> Speech:
    """The clip's own sound, heard one second late: frame t hears what was said at t - 1 s."""
    return dataclasses.replace(true_speech(view, spec), label="its own, one second late", shift=SHIFT_SECONDS)


def other_speech(view: ClipView, clips: Sequence[ClipView], spec: Any, seconds: float) -> Speech | None:
    """Another speaker's sound: the end of another person's clip in the run, else a synthetic voice.

    A clip of the run is taken when it is long enough to cover `seconds`. None where the run reads features that
    cannot be computed from sound (a file of the user's) and no other clip has them.
    """
    stored = view.feature(spec.name) is not None
    for other in clips:
        length = float(other.track.time[-1] - other.track.time[0])
        readable = not stored or other.feature(spec.name) is not None
        if other.meta.identity != view.meta.identity and length >= seconds and readable:
            label = f"{other.meta.identity} (clip {other.name})"
            start = float(other.track.time[-1]) - seconds
            return dataclasses.replace(true_speech(other, spec), label=label, start=start)
    if stored:
        return None
    return synthetic_speech(seconds)


def recording(path: Path, sample_rate: int) -> Speech:
    """A sound file of the user's, from its start."""
    from jaxtalk.media.audio import load_audio

    return Speech(load_audio(path, sample_rate), sample_rate, path.name, start=0.0)


def synthetic_speech(seconds: float) -> Speech:
    """A synthetic voice that no synthetic clip of a run has."""
    from jaxtalk.synthetic.voice import speak

    voice = speak(utterance_seed=_VOICE_SEED, speaker_seed=_VOICE_SEED, seconds=seconds + 1.0)
    return Speech(voice.samples, int(voice.rate), f"synthetic voice, seed {_VOICE_SEED}", start=0.5)
