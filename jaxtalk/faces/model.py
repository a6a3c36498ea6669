"""The parametric face: a template mesh, linear identity and expression bases, landmarks and regions.

Every model (procedural, ICT-FaceKit, one that the user brings) is a `FaceModel`; whatever fits, draws or bounds a face
needs nothing else. Coordinates are canonical head space (see `jaxtalk.clip`): metres, origin at the head's centre, x to
the image's right for a frontal face (so the subject's left is +x), y up, z out of the face.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxtalk.clip import FaceModelInfo
from jaxtalk.errors import JaxtalkError

MODEL_NAMES = ("ict", "procedural")


@dataclasses.dataclass(frozen=True, eq=False)
class FaceModel:
    """A linear face: vertices = template + identity @ identity_basis + expression @ expression_basis.

    `regions` name sets of vertices; 'head' (skin of face, ears and scalp), 'face' and 'neck' always exist.
    `expression_range` bounds every expression coefficient (blendshapes live in [0, 1]); None: unbounded, unit variance.
    """

    name: str
    template: np.ndarray  # [V, 3] float32, metres
    identity_basis: np.ndarray  # [I, V, 3] per unit coefficient; the population's coefficients have unit variance
    expression_basis: np.ndarray  # [E, V, 3]
    triangles: np.ndarray  # [T, 3] int32, counter-clockwise seen from outside
    landmark_vertices: np.ndarray  # [68] int, iBUG order
    expression_names: tuple[str, ...]
    regions: Mapping[str, np.ndarray]  # name -> sorted vertex indices
    expression_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        count = len(self.template)
        shapes = {
            "template": (self.template.shape, (count, 3)),
            "identity_basis": (self.identity_basis.shape[1:], (count, 3)),
            "expression_basis": (self.expression_basis.shape, (len(self.expression_names), count, 3)),
            "triangles": (self.triangles.shape[1:], (3,)),
            "landmark_vertices": (self.landmark_vertices.shape, (68,)),
        }
        for what, (shape, expected) in shapes.items():
            if shape != expected:
                raise JaxtalkError(f"face model {self.name!r}: {what} has shape {shape}, expected {expected}")
        missing = {"head", "face", "neck"} - set(self.regions)
        if missing:
            raise JaxtalkError(f"face model {self.name!r}: region {sorted(missing)[0]!r} is missing")

    @property
    def num_identity(self) -> int:
        return len(self.identity_basis)

    @property
    def num_expression(self) -> int:
        return len(self.expression_basis)

    @property
    def info(self) -> FaceModelInfo:
        """What a clip records of the model."""
        return FaceModelInfo(self.name, self.num_identity, self.num_expression)

    def vertices(self, identity: Any, expression: Any) -> Any:
        """Vertices [..., V, 3] in head space from coefficients [..., I] and [..., E]; numpy in, numpy out, or JAX."""
        shape = _blend(identity, self.identity_basis) + _blend(expression, self.expression_basis)
        return self.template + shape

    def subset(self, index: np.ndarray) -> FaceModel:
        """The same face with the vertices `index` only; triangles with a vertex left out go. Must hold the landmarks.

        Raises:
          JaxtalkError: a landmark's vertex is left out.
        """
        new = np.full(len(self.template), -1, np.int32)
        new[index] = np.arange(len(index), dtype=np.int32)
        landmarks = new[self.landmark_vertices]
        if np.any(landmarks < 0):
            raise JaxtalkError(f"face model {self.name!r}: this subset leaves out landmark {np.argmin(landmarks)}")
        triangles = new[self.triangles]
        regions = {name: new[vertices] for name, vertices in self.regions.items()}
        return dataclasses.replace(
            self,
            template=self.template[index],
            identity_basis=self.identity_basis[:, index],
            expression_basis=self.expression_basis[:, index],
            triangles=triangles[np.all(triangles >= 0, axis=1)],
            landmark_vertices=landmarks,
            regions={name: np.sort(vertices[vertices >= 0]) for name, vertices in regions.items()},
        )

    def region_triangles(self, *names: str) -> np.ndarray:
        """Triangles [T', 3] whose three vertices lie in the union of the named regions."""
        inside = np.zeros(len(self.template), bool)
        for name in names:
            inside[self.regions[name]] = True
        return self.triangles[np.all(inside[self.triangles], axis=1)]


def _blend(coefficients: Any, basis: np.ndarray) -> Any:
    """coefficients [..., K] @ basis [K, V, 3] -> [..., V, 3]."""
    flat = coefficients @ basis.reshape(len(basis), -1)
    return flat.reshape((*flat.shape[:-1], *basis.shape[1:]))


def load_face_model(name: str, path: str | Path | None = None) -> FaceModel:
    """The face model called `name`: 'ict' (file at `path`, else from the cache) or 'procedural' (needs no file).

    Raises:
      JaxtalkError: there is no such model, or its file is missing or unreadable.
    """
    if name == "procedural":
        from jaxtalk.faces.procedural import procedural_face_model

        return procedural_face_model()
    if name == "ict":
        from jaxtalk.faces.ict import load_ict

        return load_ict(path)
    raise JaxtalkError(f"face model {name!r}: no such model; known are {', '.join(MODEL_NAMES)}")
