"""What one example is: a source frame of a clip, and consecutive targets at least a second away (card 4, 5.16)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from jaxtalk.audio import clip_windows
from jaxtalk.clip import ClipView
from jaxtalk.errors import JaxtalkError
from jaxtalk.few_shot.speech import consecutive_starts
from jaxtalk.input.examples import Example
from jaxtalk.input.inner_face import inner_face
from jaxtalk.methods.s3d_nerf.config import ModelConfig, S3DConfig
from jaxtalk.methods.s3d_nerf.sync_examples import SHAPES, check_rate, lip_shapes, mel_columns, window_mel
from jaxtalk.rays.bounds import all_bounds, bounds_at, camera_vector, geometry_of

MIRROR = np.diag([-1.0, 1.0, 1.0]).astype(np.float32)
# Largest changes in augmentation: of a colour's brightness, relative; of the sound's level and of its tilt from the
# lowest to the highest band, in the feature's own units (8 dB and 6 dB of mel bands).
GAIN, LEVEL, TILT = 0.15, 0.2, 0.15


def example_spec(config: S3DConfig) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of one example's arrays; T targets, pictures of S pixels, coarse ones of h."""
    frames, size, side = config.stages.field.frames, config.size, config.model.coarse_size
    feature = config.feature
    shapes: dict[str, tuple[tuple[int, ...], type]] = {
        "source": ((size, size, 3), np.uint8),
        "source_face": ((size, size), np.uint8),
        "source_rotation": ((3, 3), np.float32),
        "source_translation": ((3,), np.float32),
        "camera": ((3,), np.float32),
        "frames": ((frames, size, size, 3), np.uint8),
        "faces": ((frames, size, size), np.uint8),
        "rotation": ((frames, 3, 3), np.float32),
        "translation": ((frames, 3), np.float32),
        "bounds": ((frames, side, side, 2), np.float32),
        "windows": ((frames, feature.window, feature.num_channels), np.float32),
        "mouth_box": ((frames, 4), np.float32),
    }
    if config.stages.field.w_shape:
        count = config.stages.field.shape_windows
        shapes["told_windows"] = ((count, feature.window, feature.num_channels), np.float32)
        shapes["told_shapes"] = ((count, SHAPES), np.float32)
        shapes["shapes"] = ((frames, SHAPES), np.float32)
    if config.syncs:
        shapes |= {"mel": ((80, mel_columns(frames)), np.float32), "face_box": ((frames, 4), np.float32)}
    return {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in shapes.items()}


def coarse_bounds(
    model: ModelConfig, clip: ClipView, size: int, rotation: np.ndarray, translation: np.ndarray
) -> np.ndarray:
    """Near and far [F, h, h, 2] of the coarse pixels for frames of a clip's head."""
    grid = all_bounds(geometry_of(clip), model.sampling, (size, size), rotation, translation)
    step = size / model.coarse_size
    centres = (np.arange(model.coarse_size) + 0.5) * step - 0.5
    pixels = np.stack(np.meshgrid(centres, centres), -1).reshape(-1, 2)
    found = [bounds_at(frame, pixels, (size, size)) for frame in grid]
    return np.stack(found).reshape(len(grid), model.coarse_size, model.coarse_size, 2)


class FieldExamples:
    """Makes the examples of a list of clips."""

    def __init__(self, config: S3DConfig, clips: Sequence[ClipView]) -> None:
        self._config, self._clips = config, clips
        self._windows = [clip_windows(config.feature, clip) for clip in clips]
        self._bounds = [
            coarse_bounds(config.model, clip, config.size, clip.track.rotation, clip.track.translation)
            for clip in clips
        ]
        self._starts = [_starts(config, clip) for clip in clips]
        self._shapes = [lip_shapes(clip) for clip in clips] if config.stages.field.w_shape else None
        self._mel = [_mel(config, clip) for clip in clips] if config.syncs else None

    def __call__(self, item: int, rng: np.random.Generator) -> Example:
        settings, clip = self._config.stages.field, self._clips[item]
        start = int(rng.choice(self._starts[item]))
        frames = np.arange(start, start + settings.frames)
        source = int(rng.choice(_away(clip.track.time, frames, settings.gap_seconds)))
        track, size = clip.track, (self._config.size, self._config.size)
        example = {
            "source": clip.frame(source),
            "source_face": inner_face(track.landmarks[source], size),
            "source_rotation": track.rotation[source].astype(np.float32),
            "source_translation": track.translation[source].astype(np.float32),
            "camera": camera_vector(clip.meta.camera),
            "frames": np.stack([clip.frame(int(i)) for i in frames]),
            "faces": np.stack([inner_face(track.landmarks[i], size) for i in frames]),
            "rotation": track.rotation[frames].astype(np.float32),
            "translation": track.translation[frames].astype(np.float32),
            "bounds": self._bounds[item][frames],
            "windows": self._windows[item][frames],
            "mouth_box": track.mouth_box[frames].astype(np.float32),
        }
        if self._shapes is not None:
            told = rng.integers(len(track.time), size=settings.shape_windows)
            example |= {"told_windows": self._windows[item][told], "told_shapes": self._shapes[item][told]}
            example["shapes"] = self._shapes[item][frames]
        if self._mel is not None:
            example |= {"mel": self._mel[item][start], "face_box": track.face_box[frames].astype(np.float32)}
        if not settings.augment:
            return example
        if self._config.feature.name == "mel":
            for name in sorted({"windows", "told_windows"} & set(example)):
                example[name] = _varied(example[name], rng)
        return _augmented(example, rng)


def _starts(config: S3DConfig, clip: ClipView) -> np.ndarray:
    """First frames of runs of targets that have a source far enough away. Raises `JaxtalkError` where none has."""
    settings, times = config.stages.field, clip.track.time
    possible = consecutive_starts(clip, settings.frames)
    ends = possible + settings.frames - 1
    last = (times[possible] - times[0] >= settings.gap_seconds) | (times[-1] - times[ends] >= settings.gap_seconds)
    found = possible[last]
    if not found.size:
        raise JaxtalkError(
            f"clip {clip.name}: no {settings.frames} consecutive frames with one {settings.gap_seconds:g} s away "
            "(config.stages.field.gap_seconds); leave it out of config.data.clips, or lower that"
        )
    return found


def _away(times: np.ndarray, frames: np.ndarray, gap: float) -> np.ndarray:
    """Frames at least `gap` seconds from all of `frames`."""
    return np.flatnonzero((times <= times[frames[0]] - gap) | (times >= times[frames[-1]] + gap))


def _varied(windows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mel bands [T, rows, bands] as another microphone would hear them."""
    tilt = np.linspace(-0.5, 0.5, windows.shape[-1]) * rng.uniform(-TILT, TILT)
    return np.maximum(windows + rng.uniform(-LEVEL, LEVEL) + tilt, -1).astype(np.float32)


def _augmented(example: Example, rng: np.random.Generator) -> Example:
    """The same in a mirror, half of the time, and with other gains of the three colours."""
    gain = 1 + rng.uniform(-GAIN, GAIN, 3)
    for name in ("source", "frames"):
        example[name] = np.clip(example[name] * gain + 0.5, 0, 255).astype(np.uint8)
    return mirrored(example) if rng.random() < 0.5 else example


def mirrored(example: Example) -> Example:
    """The example as a mirror shows it: pictures, cameras, poses and boxes."""
    width = example["source"].shape[1]
    result = dict(example)
    axes = {"source": 1, "source_face": 1, "frames": 2, "faces": 2, "bounds": 2}
    result |= {name: np.ascontiguousarray(np.flip(example[name], axis)) for name, axis in axes.items()}
    result["camera"] = example["camera"] * [1, -1, 1] + np.array([0, width, 0], np.float32)
    for name in ("rotation", "source_rotation"):
        result[name] = MIRROR @ example[name] @ MIRROR
    for name in ("translation", "source_translation"):
        result[name] = example[name] @ MIRROR
    for name in sorted({"face_box", "mouth_box"} & set(example)):
        left, top, right, bottom = example[name].T
        result[name] = np.stack([width - right, top, width - left, bottom], -1)
    return {name: np.asarray(array, example[name].dtype) for name, array in result.items()}


def _mel(config: S3DConfig, clip: ClipView) -> np.ndarray:
    """What the lip-sync discriminator hears of the targets that begin at each frame, [F, 80, columns]."""
    check_rate(clip)
    return window_mel(clip, np.arange(clip.track.num_frames), config.stages.field.frames)
