"""What stays the same over a clip."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxtalk.clip import ClipView
from jaxtalk.rays.bounds import HeadGeometry, geometry_of


class Scene(NamedTuple):
    """One person before one camera. Arrays only, so that it passes through `jax.jit`."""

    camera: np.ndarray  # [3] focal, cx, cy
    depth_range: np.ndarray  # [2] near, far of the clip
    plate: np.ndarray  # [H, W, 3] float32, the scene without the person
    proxy_points: np.ndarray  # [P, 3]
    torso_rotation: np.ndarray  # [3, 3] pose of the first frame: all rays of the torso come from it
    torso_translation: np.ndarray  # [3]

    @property
    def geometry(self) -> HeadGeometry:
        return HeadGeometry(self.camera, self.depth_range, self.proxy_points)


def scene_of(clip: ClipView) -> Scene:
    """The scene of a prepared clip at its size."""
    track = clip.track
    return Scene(
        **geometry_of(clip)._asdict(),
        plate=clip.background() / np.float32(255),
        torso_rotation=track.rotation[0].astype(np.float32),
        torso_translation=track.translation[0].astype(np.float32),
    )
