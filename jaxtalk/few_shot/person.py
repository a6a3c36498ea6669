"""What an avatar keeps of a person: reference frames, identity, camera, and what stands behind the head."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxtalk.clip import ClipView, FaceModelInfo
from jaxtalk.errors import JaxtalkError
from jaxtalk.few_shot.coefficients import coefficients, mean_coefficients
from jaxtalk.few_shot.config import ModelConfig
from jaxtalk.few_shot.torso import behind_head
from jaxtalk.rays.bounds import HeadGeometry, geometry_of


class Person(NamedTuple):
    """One person before one camera. Arrays only, so that it passes through `jax.jit`."""

    camera: Any  # [3] focal, cx, cy
    depth_range: Any  # [2] near, far of the clip
    proxy_points: Any  # [P, 3]
    identity: Any  # [I] coefficients of the face model
    reference_images: Any  # [N, H, W, 3] uint8
    reference_rotation: Any  # [N, 3, 3]
    reference_translation: Any  # [N, 3]
    reference_coefficients: Any  # [N, E + 6] raw
    mean_coefficients: Any  # [E + 6] left out of all others where they are centred; zeros where not
    plate: Any  # [H, W, 3] uint8, the scene without the person
    torso_images: Any  # [K, H, W, 3] uint8, frames without the head
    torso_known: Any  # [K, H, W] uint8: 1 where the frame shows what is behind the head
    torso_rotation: Any  # [K, 3, 3]
    torso_translation: Any  # [K, 3]

    @property
    def geometry(self) -> HeadGeometry:
        return HeadGeometry(self.camera, self.depth_range, self.proxy_points)

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.plate.shape[:2]
        return height, width


def person_of(clip: ClipView, model: ModelConfig) -> Person:
    """The person of a clip: N evenly spaced frames are the references (card gdrf 5.11), K the torsos.

    Raises `JaxtalkError` for a clip of another face model, or with fewer frames than references.
    """
    if model.listens:
        check_face_model(clip, model.face)
    track, count = clip.track, model.references.count
    if track.num_frames < count:
        raise JaxtalkError(f"clip {clip.name}: {track.num_frames} frames are too few for {count} references; "
                           "lower model.references.count, or give a longer clip")  # fmt: skip
    chosen = evenly_spaced(track.num_frames, count)
    torsos = evenly_spaced(track.num_frames, min(model.torso_frames, track.num_frames))
    plate = clip.background()
    behind = [behind_head(clip.frame(int(i)), clip.mask(int(i)), plate, model.neck) for i in torsos]
    return Person(
        **geometry_of(clip)._asdict(),
        identity=track.identity.astype(np.float32),
        reference_images=np.stack([clip.frame(int(i)) for i in chosen]),
        reference_rotation=track.rotation[chosen].astype(np.float32),
        reference_translation=track.translation[chosen].astype(np.float32),
        reference_coefficients=coefficients(clip, model.speech.centred)[chosen].astype(np.float32),
        mean_coefficients=mean_coefficients(clip) * np.float32(model.speech.centred),
        plate=plate,
        torso_images=np.stack([image for image, _ in behind]),
        torso_known=np.stack([known for _, known in behind]).astype(np.uint8),
        torso_rotation=track.rotation[torsos].astype(np.float32),
        torso_translation=track.translation[torsos].astype(np.float32),
    )


def evenly_spaced(total: int, count: int) -> np.ndarray:
    """`count` of `total` frames: the middles of as many equal parts, so that none stands at the very edge."""
    return np.floor((np.arange(count) + 0.5) * total / count).astype(int)


def check_face_model(clip: ClipView, expected: FaceModelInfo) -> None:
    """Raises `JaxtalkError` for a clip whose coefficients are another face model's."""
    found = clip.meta.face_model
    if found != expected:
        raise JaxtalkError(
            f"clip {clip.name}: its coefficients are of {found.name} ({found.num_identity} identity, "
            f"{found.num_expression} expression), and the networks read {expected.name} ({expected.num_identity}, "
            f"{expected.num_expression}); prepare the clip with that face model, or train with "
            f"face_model={found.name}:{found.num_identity}:{found.num_expression}"
        )


def check_size(clip: ClipView, size: int) -> None:
    """Raises `JaxtalkError` for a clip that is no square of `size` pixels."""
    if clip.meta.size != (size, size):
        raise JaxtalkError(
            f"clip {clip.name}: {clip.meta.size} pixels, and references are squares of {size}; "
            "prepare it as a square (the default of `jaxtalk prepare`)"
        )
