"""What the fitted head covers in each frame: the seeds of the masks, and the mesh for the preview."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np

from jaxtalk.clip import Camera
from jaxtalk.faces.model import FaceModel
from jaxtalk.faces.rasterizer import rasterize

NOTHING, FACE, SCALP, NECK = 0, 1, 2, 3


@dataclasses.dataclass(frozen=True)
class PosedHead:
    """The skin of head and neck of one speaker, posed frame by frame."""

    model: FaceModel  # skin only
    neutral: np.ndarray  # [V, 3] metres, head space, with the speaker's identity
    expression: np.ndarray  # [F, E]
    rotation: np.ndarray  # [F, 3, 3]
    translation: np.ndarray  # [F, 3]
    camera: Camera

    @classmethod
    def of(cls, model: FaceModel, identity: np.ndarray, expression: np.ndarray, rotation: np.ndarray,
           translation: np.ndarray, camera: Camera) -> PosedHead:  # fmt: skip
        """Cuts the model down to skin; the rest is as in `clip.Track`."""
        skin = model.subset(np.union1d(model.regions["head"], model.regions["neck"]))
        # A cut through the middle axis is not contiguous, and each product with it would copy it.
        skin = dataclasses.replace(skin, expression_basis=np.ascontiguousarray(skin.expression_basis))
        neutral = skin.vertices(identity, np.zeros(model.num_expression, np.float32))
        return cls(skin, np.asarray(neutral), expression, rotation, translation, camera)

    @cached_property
    def parts(self) -> np.ndarray:
        """[T] uint8: FACE, SCALP (with ears) or NECK for every triangle."""
        part = np.full(len(self.neutral), SCALP, np.uint8)
        part[self.model.regions["face"]] = FACE
        part[self.model.regions["neck"]] = NECK
        return part[self.model.triangles].max(axis=1)

    def vertices(self, index: int) -> np.ndarray:
        """[V, 3] in camera space at frame `index`."""
        coefficients = self.expression[index].astype(np.float32)  # float64 would convert the whole basis every time
        moved = np.tensordot(coefficients, self.model.expression_basis, axes=1)
        return (self.neutral + moved) @ self.rotation[index].T + self.translation[index]

    def draw(self, index: int, scale: float, size: int) -> np.ndarray:
        """[size, size] uint8 labels of frame `index`, the clip's camera scaled by `scale`."""
        raster = rasterize(self.vertices(index), self.model.triangles, self.camera.scaled(scale), (size, size))
        return np.where(raster.triangle >= 0, self.parts[raster.triangle], NOTHING).astype(np.uint8)


def spread_points(points: np.ndarray, count: int) -> np.ndarray:
    """`count` of `points` [N, 3] that cover them evenly: each one the farthest from those before it (Gonzalez 1985)."""
    chosen = np.zeros(min(count, len(points)), int)
    distance = np.full(len(points), np.inf)
    for i in range(1, len(chosen)):
        distance = np.minimum(distance, np.sum((points - points[chosen[i - 1]]) ** 2, axis=1))
        chosen[i] = np.argmax(distance)
    return points[chosen]
