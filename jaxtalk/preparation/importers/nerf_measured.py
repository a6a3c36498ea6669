"""What no folder of a NeRF system holds and a clip needs: measured in its pictures by the stages of `jaxtalk prepare`.

MediaPipe gives blendshapes and gaze (and landmarks, where there are none). Our face model, fitted to the landmarks in
the folder's own camera, tells where in the folder's space the head is and how long its unit is, and stands in for
coefficients and masks that are missing.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxtalk import progress, weights
from jaxtalk.errors import JaxtalkError
from jaxtalk.faces.landmarks import from_mediapipe
from jaxtalk.faces.model import FaceModel, load_face_model
from jaxtalk.preparation import gaps, landmarks, masks
from jaxtalk.preparation.importers import nerf_files
from jaxtalk.preparation.importers.nerf_folder import NerfFolder
from jaxtalk.preparation.importers.similarity import Similarity, similarity
from jaxtalk.preparation.job import PrepareOptions
from jaxtalk.preparation.silhouette import PosedHead
from jaxtalk.preparation.stages import Arrays, Stage, StageStore

_LEAST_FOUND = 0.5  # share of the pictures in which the landmarker must find the face
_FITTED = ("identity", "expression", "rotation", "translation", "projected")


class Measured:
    """What is measured in the pictures of a folder; made when first asked for, and kept in `store` until the clip is
    whole. What is missing, and what stands in for it, is told to `say`."""

    def __init__(
        self, folder: NerfFolder, options: PrepareOptions, store: Callable[[], StageStore], say: nerf_files.Say
    ) -> None:
        self.folder, self.options, self._store, self._say = folder, options, store, say
        self._landmarker_file = _weights("face_landmarker", options.landmarker)
        procedural = options.face_model == "procedural"
        self._model_file = None if procedural else _weights("ict_facekit", options.face_model_file)
        self.stages = self._stages()

    def _stages(self) -> dict[str, Stage]:
        source = Stage("folder", 1, {
            "layout": self.folder.layout.name,
            "fingerprint": self.folder.fingerprint,
            "fps": float(self.options.fps),
        })  # fmt: skip
        points = Stage("landmarks", 1, {"landmarker": _sha256(self._landmarker_file)}, (source,))
        fit = Stage("fit", 1, {
            "face_model": self.options.face_model,
            "face_model_file": None if self._model_file is None else _sha256(self._model_file),
        }, (points,))  # fmt: skip
        stages = (source, points, fit, Stage("masks", 1, {}, (fit,)))
        return {stage.name: stage for stage in stages}

    def records(self) -> dict[str, Any]:
        """What clip.json keeps of the stages."""
        return {name: stage.record() for name, stage in self.stages.items()}

    def _stage(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        return self._store().run(self.stages[name], make)

    @property
    def count(self) -> int:
        return len(self.folder.transforms)

    @property
    def time(self) -> np.ndarray:
        """[F] seconds on the axis of the sound."""
        return self.folder.transforms.aud_id / self.options.fps

    @cached_property
    def model(self) -> FaceModel:
        return load_face_model(self.options.face_model, self._model_file)

    @cached_property
    def face(self) -> landmarks.FaceTrack:
        """What MediaPipe sees in the pictures, interpolated where it finds no face."""
        seen = landmarks.FaceTrack(**self._stage("landmarks", self._detect))
        missed = int(self.count - seen.found.sum())
        if seen.found.mean() < _LEAST_FOUND:
            raise JaxtalkError(
                f"{self.folder.pictures[0].parent}: MediaPipe finds a face in {seen.found.sum()} of {self.count} "
                "pictures, so blendshapes and gaze cannot be measured; give pictures of a person who faces the camera"
            )
        if missed:
            self._say(f"a face for MediaPipe in {missed} pictures: their blendshapes and gaze are interpolated")
        everything = gaps.Selection(np.arange(self.count), seen.found, np.flatnonzero(~seen.found).tolist(), [])
        return gaps.bridge(seen, everything, self.time)

    def _detect(self) -> Arrays:
        pairs = ((float(self.time[i] - self.time[0]), self.folder.picture(i)) for i in range(self.count))
        with landmarks.Landmarker(self._landmarker_file, video=True) as landmarker:
            seen = landmarks.follow(progress.track(pairs, "landmarks", self.count), landmarker)
        return {field.name: getattr(seen, field.name) for field in dataclasses.fields(seen)}

    @cached_property
    def landmarks68(self) -> tuple[np.ndarray, np.ndarray]:
        """Points [F, 68, 2] in our pixels, and where they were measured [F] bool."""
        own = nerf_files.landmarks(self.folder, self._say)
        if own is None:
            return from_mediapipe(self.face.points)[..., :2], self.face.found
        points, found = own
        flat = points.reshape(self.count, -1)
        filled = np.stack([np.interp(self.time, self.time[found], column[found]) for column in flat.T], axis=-1)
        return filled.reshape(points.shape), found

    @cached_property
    def fit(self) -> Arrays:
        """Our face model in the folder's camera: identity, and expression, rotation, translation of every frame."""

        def make() -> Arrays:
            from jaxtalk.preparation.fit import fit_face

            points, found = self.landmarks68
            fitted = fit_face(self.model, points, found, self.folder.camera)
            return {name: np.asarray(getattr(fitted, name)) for name in _FITTED}

        return self._stage("fit", make)

    @cached_property
    def similarity(self) -> Similarity:
        """Where the fitted head is in the folder's space."""
        fitted = self.fit["rotation"], self.fit["translation"]
        return similarity(fitted, self.folder.transforms.pose, self.landmarks68[1])

    def head(self, rotation: np.ndarray, translation: np.ndarray) -> PosedHead:
        """The fitted head in these poses [F, 3, 3], [F, 3]."""
        return PosedHead.of(
            self.model, self.fit["identity"], self.fit["expression"], rotation, translation, self.folder.camera
        )

    @property
    def fitted_head(self) -> PosedHead:
        """The fitted head where the fit has it."""
        return self.head(self.fit["rotation"], self.fit["translation"])

    @cached_property
    def shares(self) -> np.ndarray:
        """[F, 2, L, L] uint8 shares of head and torso (`masks.segment`), made from colours."""

        def make() -> Arrays:
            height, width = self.folder.size
            if height != width:
                raise JaxtalkError(
                    f"{self.folder.path / nerf_files.PARSING}: missing, and without parsing maps pictures must be "
                    f"square, not {width} x {height}; restore the maps"
                )
            head, size = self.fitted_head, masks.WORKING_SIZE
            frames = progress.track(range(self.count), "silhouettes", self.count)
            parts = np.stack([head.draw(i, size / height, size) for i in frames])
            small = np.stack([masks.shrink(self.folder.picture(i)) for i in range(self.count)])
            return {"shares": masks.segment(small, parts)}

        return self._stage("masks", make)["shares"]


def _weights(name: str, file: str | Path | None) -> Path:
    """The user's file where one is given, else the cached one, downloaded if need be."""
    return weights.get(name) if file is None else weights.find(name, file)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
