"""Facial landmarks by MediaPipe's FaceLandmarker (tasks API), in pixels.

Every face has 478 points: 468 of the canonical mesh and 5 + 5 of the irises.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxtalk.errors import JaxtalkError
from jaxtalk.faces.landmarks import BLENDSHAPE_NAMES

NUM_POINTS = 478


@dataclasses.dataclass(frozen=True)
class Face:
    """One face in one picture."""

    points: np.ndarray  # [478, 3] pixels: x, y from the top left corner, z away from the camera
    blendshapes: np.ndarray  # [52] in [0, 1]
    rotation: np.ndarray  # [3, 3] head to camera, the detector's own: only to compare jitter with

    @property
    def box(self) -> np.ndarray:
        return np.concatenate([self.points[:468, :2].min(axis=0), self.points[:468, :2].max(axis=0)])


class Landmarker:
    """A FaceLandmarker for single pictures, or with `video=True` for consecutive frames, which it then smooths."""

    def __init__(self, model: Path, *, video: bool = False, num_faces: int = 1) -> None:
        if not model.is_file():
            raise JaxtalkError(
                f"{model}: no landmarker here; run `jaxtalk weights get face_landmarker` or pass --landmarker FILE"
            )
        self._video, self._milliseconds = video, -1
        with _hushed_start():
            self._mediapipe = _import_mediapipe()
        tasks = self._mediapipe.tasks
        options = tasks.vision.FaceLandmarkerOptions(
            base_options=tasks.BaseOptions(model_asset_path=str(model)),
            running_mode=tasks.vision.RunningMode.VIDEO if video else tasks.vision.RunningMode.IMAGE,
            num_faces=num_faces,
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
        )
        try:
            with _hushed_start():
                self._landmarker = tasks.vision.FaceLandmarker.create_from_options(options)
        except OSError as error:
            raise _library_error(error) from error
        except (RuntimeError, ValueError) as error:
            raise JaxtalkError(f"{model}: not a FaceLandmarker ({str(error).splitlines()[0]}); download it again: "
                               "`jaxtalk weights get face_landmarker`") from error  # fmt: skip

    def __enter__(self) -> Landmarker:
        return self

    def __exit__(self, *_: object) -> None:
        self._landmarker.close()

    def faces(self, image: np.ndarray, time: float = 0.0) -> list[Face]:
        """All faces of `image` [H, W, 3] uint8, the largest first; `time` in seconds counts in video mode."""
        picture = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
        if self._video:
            self._milliseconds = max(round(1000 * time), self._milliseconds + 1)  # equal stamps are refused
            result = self._landmarker.detect_for_video(picture, self._milliseconds)
        else:
            result = self._landmarker.detect(picture)
        height, width = image.shape[:2]
        found = [
            _face(points, shapes, matrix, width, height)
            for points, shapes, matrix in zip(
                result.face_landmarks, result.face_blendshapes, result.facial_transformation_matrixes, strict=True
            )
        ]
        return sorted(found, key=lambda face: -float(np.prod(face.box[2:] - face.box[:2])))


def _face(points: Any, shapes: Any, matrix: np.ndarray, width: int, height: int) -> Face:
    coordinates = np.array([(p.x * width, p.y * height, p.z * width) for p in points], np.float32)
    scores = {shape.category_name: shape.score for shape in shapes}
    # MediaPipe has no score for tongueOut, which stays zero.
    values = np.array([scores.get(name, 0.0) for name in BLENDSHAPE_NAMES], np.float32)
    left, _, right = np.linalg.svd(np.asarray(matrix)[:3, :3])
    return Face(coordinates, values, (left @ right).astype(np.float32))


@contextlib.contextmanager
def _hushed_start() -> Iterator[None]:
    """Drops what MediaPipe's C++ parts write to stderr while they start: it logs before any setting of it counts.

    Failures come as exceptions all the same.
    """
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _import_mediapipe() -> Any:
    try:
        import mediapipe
        from mediapipe.tasks import python as tasks
    except ModuleNotFoundError as error:
        raise JaxtalkError(
            f"{error.name} is not installed, which preparation needs: pip install 'jaxtalk[prepare]'"
        ) from error
    except (ImportError, OSError) as error:
        raise _library_error(error) from error
    return _Namespace(mediapipe.Image, mediapipe.ImageFormat, tasks)


@dataclasses.dataclass(frozen=True)
class _Namespace:
    Image: Any
    ImageFormat: Any
    tasks: Any


def _library_error(error: BaseException) -> JaxtalkError:
    return JaxtalkError(
        f"MediaPipe cannot load a system library ({error}); on Debian and Ubuntu: apt-get install libegl1 libgles2"
    )


@dataclasses.dataclass(frozen=True)
class FaceTrack:
    """One face followed through F frames; frames without it hold zeros and `found` False."""

    points: np.ndarray  # [F, 478, 3]
    blendshapes: np.ndarray  # [F, 52]
    rotation: np.ndarray  # [F, 3, 3]
    found: np.ndarray  # [F] bool
    num_faces: np.ndarray  # [F] faces seen in the frame


def follow(frames: Iterable[tuple[float, np.ndarray]], landmarker: Landmarker) -> FaceTrack:
    """Runs the landmarker over (time, image) pairs and follows the largest face of the first frames by its place."""
    found: list[Face | None] = []
    counts: list[int] = []
    last: Face | None = None
    for time, image in frames:
        faces = landmarker.faces(image, time)
        counts.append(len(faces))
        if last is None:
            face = faces[0] if faces else None
        else:
            face = _nearest(faces, last)
        found.append(face)
        last = face or last
    return _stack(found, counts)


def _nearest(faces: Sequence[Face], last: Face) -> Face | None:
    def distance(face: Face) -> float:
        return float(np.linalg.norm((face.box - last.box).reshape(2, 2).mean(axis=0)))

    return min(faces, key=distance, default=None)


def _stack(faces: Sequence[Face | None], counts: Sequence[int]) -> FaceTrack:
    count = len(faces)
    points = np.zeros((count, NUM_POINTS, 3), np.float32)
    blendshapes = np.zeros((count, len(BLENDSHAPE_NAMES)), np.float32)
    rotation = np.tile(np.eye(3, dtype=np.float32), (count, 1, 1))
    for i, face in enumerate(faces):
        if face is not None:
            points[i], blendshapes[i], rotation[i] = face.points, face.blendshapes, face.rotation
    found = np.array([face is not None for face in faces], bool)
    return FaceTrack(points, blendshapes, rotation, found, np.array(counts, np.int32))


def sparse_indices(count: int, most: int) -> Iterator[int]:
    """At most `most` evenly spaced indices below `count`."""
    return iter(np.unique(np.linspace(0, max(count - 1, 0), min(count, most)).round().astype(int)).tolist())
