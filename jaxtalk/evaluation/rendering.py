"""Frames of an avatar for chosen moments of a clip, as 8-bit pictures of the clip's size."""

from __future__ import annotations

import numpy as np

from jaxtalk.clip import ClipView
from jaxtalk.errors import JaxtalkError
from jaxtalk.methods.api import Avatar, Drive
from jaxtalk.metrics import quantised
from jaxtalk.progress import Bar
from jaxtalk.synthesis.pipeline import chunk_frames


def drive_of(view: ClipView, index: np.ndarray, windows: np.ndarray) -> Drive:
    """The drive of frames `index` [F] with their tracked pose and eyes, hearing `windows` [F, ...]."""
    track = view.track.take(index)
    return Drive(windows, track.rotation, track.translation, track.eye_openness)


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
