"""What speech is asked to predict: the expression's coefficients and the head's pose of every frame of a clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from jaxtalk.clip import ClipView
from jaxtalk.errors import JaxtalkError
from jaxtalk.losses.sequences import POSE_SIZE

_LEAST_DEVIATION = 0.1  # of a coefficient, in parts of its group's


def coefficients(clip: ClipView, centred: bool = False) -> np.ndarray:
    """[F, E + 6] float32: expression, then the inverse of the camera's pose (card gdrf 3) in raw units.

    `centred`: without the clip's mean (`mean_coefficients`). A face at rest has coefficients of its own, which no
    speech tells: a network that must predict them learns voices by heart, and errs as much on a voice it never heard.

    The inverse camera pose is head to camera, as the track has it: three numbers of rotation vector (axis times angle,
    radians; smooth while the head stays less than half a turn from facing the camera) and three of translation, metres.
    """
    rotation = Rotation.from_matrix(np.asarray(clip.track.rotation, np.float64)).as_rotvec()
    values = np.concatenate([clip.track.expression, rotation, clip.track.translation], 1).astype(np.float32)
    return values - values[clip.track.valid].mean(0) if centred and clip.track.valid.any() else values


def mean_coefficients(clip: ClipView) -> np.ndarray:
    """[E + 6] float32: what `centred` coefficients leave out."""
    return (coefficients(clip) - coefficients(clip, centred=True))[0]


def pose_of(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation [F, 3, 3] and translation [F, 3], head to camera, of the last 6 of `values` [F, E + 6] or [F, 6]."""
    pose = np.asarray(values, np.float64)[:, -POSE_SIZE:]
    rotation = Rotation.from_rotvec(pose[:, :3]).as_matrix()
    return rotation.astype(np.float32), pose[:, 3:].astype(np.float32)


def coefficient_statistics(clips: Sequence[ClipView], centred: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation [E + 6], float32, over the measured frames of all clips.

    A coefficient that hardly moves in these clips gets a tenth of the typical deviation of its group (expression,
    rotation, translation): divided by its own, another clip's would be huge, and noise would count as much as speech.
    """
    check_face_model(clips)
    values = np.concatenate([coefficients(clip, centred)[clip.track.valid] for clip in clips]).astype(np.float64)
    if not len(values):
        raise JaxtalkError("config.data.clips: no frame of any clip has a measured face; prepare other videos")
    mean, std = values.mean(0), values.std(0)
    half = POSE_SIZE // 2
    for group in (slice(0, -POSE_SIZE), slice(-POSE_SIZE, -half), slice(-half, None)):
        typical = float(np.sqrt(np.mean(std[group] ** 2))) if std[group].size else 0.0
        std[group] = np.maximum(std[group], _LEAST_DEVIATION * typical) if typical > 0 else 1.0
    return mean.astype(np.float32), std.astype(np.float32)


def check_face_model(clips: Sequence[ClipView], num_expression: int | None = None) -> None:
    """Raises `JaxtalkError` for a clip whose coefficients mean something else than the first's, or are not E."""
    for clip in clips:
        own, first = clip.meta.face_model, clips[0].meta.face_model
        if (own.name, own.num_expression) != (first.name, first.num_expression):
            raise JaxtalkError(
                f"clip {clip.name}: face model {own.name} with {own.num_expression} expressions, clip {clips[0].name} "
                f"has {first.name} with {first.num_expression}; prepare all clips with one face model"
            )
        if num_expression is not None and own.num_expression != num_expression:
            raise JaxtalkError(
                f"clip {clip.name}: {own.num_expression} expression coefficients ({own.name}), and this model has "
                f"{num_expression}; prepare the clip with the model's face model"
            )
