"""What a system must beat: answers that need no learning, made from the training frames alone."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from jaxtalk.clip import ClipView, Track

HEAD_RADIUS = 0.1  # metres: turns a shift of the head into an angle that moves its surface as far


def mean_frame(view: ClipView) -> np.ndarray:
    """The mean of all frames of a view, [H, W, 3] float32 in [0, 1]."""
    total = np.zeros((*view.meta.size, 3), np.float64)
    for index in range(view.track.num_frames):
        total += view.frame(index)
    return (total / (255.0 * view.track.num_frames)).astype(np.float32)


def pose_distance(first: Track, second: Track) -> np.ndarray:
    """How far apart two heads are, [F1, F2] radians: geodesic angle between rotations plus |shift| / 0.1 m.

    A rotation by an angle moves the surface of a head of radius 0.1 m by that angle times 0.1 m, so both parts count
    how far the surface moves, in head radii.
    """
    rotation = (track.rotation.astype(np.float64).reshape(-1, 9) for track in (first, second))
    chord = cdist(*rotation)  # |R1 - R2| = sqrt(8) sin(angle / 2): exactly 0 for equal rotations, unlike their trace
    angle = 2 * np.arcsin(np.clip(chord / np.sqrt(8.0), 0.0, 1.0))
    shift = cdist(first.translation.astype(np.float64), second.translation.astype(np.float64))
    return angle + shift / HEAD_RADIUS


def nearest_frames(train: Track, test: Track) -> np.ndarray:
    """Index of the training frame whose pose is nearest to each test frame's, [F]; the earliest where several are."""
    return np.argmin(pose_distance(test, train), axis=1)
