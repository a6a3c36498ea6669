"""What one example of the sync network is: windows of consecutive frames with their sound, some of them one clip's."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from jaxtalk.audio.wav2lip_mel import BANDS, RATE, mel_windows
from jaxtalk.clip import ClipView
from jaxtalk.errors import JaxtalkError
from jaxtalk.few_shot.speech import consecutive_starts
from jaxtalk.input.examples import Example
from jaxtalk.methods.s3d_nerf.sync_config import SyncStageConfig

SHAPES = 3  # measures of the lips of a frame
FPS = 25.0  # of the frames that a window counts


def mel_columns(frames: int) -> int:
    """Columns of mel that so many frames last: 16 for 5."""
    return round(frames * RATE / FPS)


def check_rate(clip: ClipView) -> None:
    """Raises `JaxtalkError` for a clip that has not 25 frames a second."""
    if abs(clip.meta.fps - FPS) > 0.01:
        raise JaxtalkError(
            f"clip {clip.name}: {clip.meta.fps:g} frames a second, lip sync is judged at 25; prepare it again"
        )


def lip_shapes(clip: ClipView) -> np.ndarray:
    """Opening, height and width of the lips of each frame, [F, 3] float32, without the clip's mean and deviation."""
    points = clip.track.landmarks.astype(np.float64)
    sides = [np.linalg.norm(points[:, a] - points[:, b], axis=-1) for a, b in ((62, 66), (51, 57), (48, 54))]
    eyes = np.linalg.norm(points[:, 36:42].mean(1) - points[:, 42:48].mean(1), axis=-1)
    values = np.stack(sides, -1) / np.maximum(eyes, 1e-6)[:, None]
    deviation = np.maximum(values.std(0), 1e-6)
    return np.clip((values - values.mean(0)) / deviation, -4, 4).astype(np.float32)


def example_spec(settings: SyncStageConfig, frames: int, size: tuple[int, int]) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of one example's arrays, for clips of `size` (height, width)."""
    count = settings.windows
    return {
        "frames": jax.ShapeDtypeStruct((count, frames, *size, 3), np.uint8),
        "boxes": jax.ShapeDtypeStruct((count, frames, 4), np.float32),
        "mel": jax.ShapeDtypeStruct((count, BANDS, mel_columns(frames)), np.float32),
        "shape": jax.ShapeDtypeStruct((count, frames * SHAPES), np.float32),
        "clip": jax.ShapeDtypeStruct((count,), np.int32),
        "time": jax.ShapeDtypeStruct((count,), np.float32),
    }


class SyncExamples:
    """Makes the example of a place (clip, first frame): that window, and others to tell it from.

    A negative comes with probability `share_other` from another clip, otherwise from the same one, at least
    `min_shift` frames away; from another one where a clip is too short for that, and the other way round where there
    is one clip. Pure: the same item and generator give the same example.

    Raises:
        JaxtalkError: a clip without `frames` consecutive frames, or of another rate than 25 a second; a single clip
            that has no two windows to compare.
    """

    def __init__(self, settings: SyncStageConfig, frames: int, clips: Sequence[ClipView]) -> None:
        self.settings, self.frames, self.clips = settings, frames, clips
        for clip in clips:
            check_rate(clip)
        self.starts = [consecutive_starts(clip, frames) for clip in clips]
        self.places = np.array([(clip, start) for clip, own in enumerate(self.starts) for start in own])
        self.shapes = [lip_shapes(clip) for clip in clips]
        self.mel = [
            dict(zip(starts.tolist(), window_mel(clip, starts, frames), strict=True))
            for clip, starts in zip(clips, self.starts, strict=True)
        ]
        if len(clips) == 1 and not self._far(0, int(self.starts[0][0])).size:
            raise JaxtalkError(
                f"clip {clips[0].name}: too short to hold two windows {settings.min_shift} frames apart; add clips"
            )

    def __call__(self, item: int, rng: np.random.Generator) -> Example:
        clip, start = (int(number) for number in self.places[item])
        chosen = [(clip, start), *(self._negative(clip, start, rng) for _ in range(self.settings.windows - 1))]
        windows = [self._window(*place) for place in chosen]
        return {name: np.stack([window[name] for window in windows]) for name in windows[0]}

    def _far(self, clip: int, start: int) -> np.ndarray:
        """First frames of the clip's windows that are far enough from the one at `start`."""
        time, starts = self.clips[clip].track.time, self.starts[clip]
        return starts[np.abs(time[starts] - time[start]) * FPS > self.settings.min_shift - 0.5]

    def _negative(self, clip: int, start: int, rng: np.random.Generator) -> tuple[int, int]:
        far = self._far(clip, start)
        other = len(self.clips) > 1 and (rng.random() < self.settings.share_other or not far.size)
        if not other:
            # At the ends of a clip all windows may be near where none is near all of them.
            return clip, int(rng.choice(far if far.size else self.starts[clip]))
        elsewhere = int((clip + rng.integers(1, len(self.clips))) % len(self.clips))
        return elsewhere, int(rng.choice(self.starts[elsewhere]))

    def _window(self, clip: int, start: int) -> Example:
        part = slice(start, start + self.frames)
        return {
            **window_frames(self.clips[clip], start, self.frames),
            "mel": self.mel[clip][start],
            "shape": self.shapes[clip][part].ravel(),
            "clip": np.int32(clip),
            "time": np.float32(self.clips[clip].track.time[start]),
        }


def window_frames(clip: ClipView, start: int, frames: int) -> Example:
    """Pictures [T, H, W, 3] uint8 and face boxes [T, 4] of the consecutive frames from `start` on."""
    return {
        "frames": np.stack([clip.frame(frame) for frame in range(start, start + frames)]),
        "boxes": clip.track.face_box[start : start + frames].astype(np.float32),
    }


def window_mel(clip: ClipView, starts: np.ndarray, frames: int) -> np.ndarray:
    """The sound [N, 80, columns] of the windows of so many frames that begin at frames `starts`."""
    return mel_windows(clip.audio(), clip.meta.sample_rate, clip.track.time[starts], mel_columns(frames))
