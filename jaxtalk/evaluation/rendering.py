"""Frames of an avatar for chosen moments of a clip, as 8-bit pictures of the clip's size."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxtalk.clip import ClipView
from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation.controls import Speech
from jaxtalk.methods.api import Avatar, Drive
from jaxtalk.metrics import quantised
from jaxtalk.progress import Bar
from jaxtalk.synthesis.pipeline import chunk_frames

POSES = ("gt", "predicted")


def drive_of(avatar: Avatar, view: ClipView, index: np.ndarray, speech: Speech, spec: Any, pose: str = "gt") -> Drive:
    """The drive of frames `index` [F] (increasing) of a clip: what the avatar hears there, with their tracked eyes.

    The avatar listens to the whole utterance from the first to the last of these frames, at every frame's time.
    `pose` gt takes the tracked poses; predicted those that the avatar makes of the speech.

    Raises:
        JaxtalkError: `predicted`, and the avatar predicts no pose.
    """
    track = view.track.take(index)
    times, position = every_moment(view.track.time, index)
    heard = avatar.listen(iter([speech.windows(spec, times)]))
    audio = np.concatenate([np.asarray(part) for part in heard])[position]
    if pose == "gt":
        return Drive(audio, track.rotation, track.translation, track.eye_openness)
    predict = getattr(avatar, "predicted_pose", None)
    if predict is None:
        raise JaxtalkError(f"clip {view.name}: this system's avatars predict no pose; use --pose=gt")
    rotation, translation = predict(audio)
    return Drive(audio, np.asarray(rotation), np.asarray(translation), track.eye_openness)


def every_moment(times: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The times of all frames from the first to the last of `index` [F], and where among them those of `index` are.

    Where frames of a clip are missing (a gap in `times`), the moments between are filled in, evenly: an utterance has
    no gaps.
    """
    times = np.asarray(times, np.float64)
    part = times[index[0] : index[-1] + 1]
    if len(part) < 2:
        return part, np.zeros(len(index), np.int64)
    steps = np.maximum(1, np.round(np.diff(part) / np.median(np.diff(times)))).astype(np.int64)
    place = np.concatenate([[0], np.cumsum(steps)])
    return np.interp(np.arange(place[-1] + 1), place, part), place[index - index[0]]


def render(avatar: Avatar, drive: Drive, bar: Bar | None = None) -> np.ndarray:
    """All frames of a drive, [F, H, W, 3] uint8. Chunks have one size: the last one repeats its last frame.

    Raises `JaxtalkError` when a rendered value is not finite.
    """
    count, chunks = len(drive.rotation), []
    size = chunk_frames(avatar.size)  # as synthesis does, which compiles the same program
    for start in range(0, count, size):
        index = np.minimum(np.arange(start, start + size), count - 1)
        frames = quantised(np.asarray(avatar.render(drive.take(index))), start)
        chunks.append(frames[: count - start])
        if bar is not None:
            bar.advance(len(chunks[-1]))
    return np.concatenate(chunks)


def check_size(avatar: Avatar, view: ClipView) -> None:
    """Raises `JaxtalkError` when the avatar's frames have another size than the clip's."""
    if tuple(avatar.size) != tuple(view.meta.size):
        raise JaxtalkError(
            f"clip {view.name}: the avatar renders {tuple(avatar.size)} pixels and the clip has "
            f"{tuple(view.meta.size)}; open the clip at data.size of the run"
        )
