"""Faces in rendered frames, by the landmarker of preparation: the truth's and ours are found in the same way."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from jaxtalk import weights
from jaxtalk.errors import JaxtalkError
from jaxtalk.faces.landmarks import from_mediapipe
from jaxtalk.metrics.material import Faces, FindFaces

if TYPE_CHECKING:
    from jaxtalk.preparation.landmarks import Landmarker

_SMALLEST = 256  # pixels: smaller frames are enlarged before a face is looked for


@contextlib.contextmanager
def face_finder() -> Iterator[tuple[FindFaces | None, str]]:
    """What finds faces on this machine, as long as the context lasts; or None, and why not."""
    from jaxtalk.preparation.landmarks import Landmarker

    try:
        landmarker = Landmarker(weights.find("face_landmarker"))
    except JaxtalkError as error:
        yield None, str(error)
        return
    with landmarker:
        yield functools.partial(_find, landmarker), ""


def _find(landmarker: Landmarker, frames: np.ndarray) -> Faces:
    """The largest face of each frame, found frame by frame: nothing is smoothed over time, so that jitter shows."""
    factor = max(1, -(-_SMALLEST // min(frames.shape[1:3])))
    points = np.full((len(frames), 68, 2), np.nan)
    rotation = np.full((len(frames), 3, 3), np.nan)
    for i, frame in enumerate(frames):
        found = landmarker.faces(_enlarged(frame, factor))
        if found:
            points[i] = from_mediapipe(found[0].points)[..., :2] / factor
            rotation[i] = found[0].rotation
    return Faces(points, rotation)


def _enlarged(frame: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return frame
    size = (frame.shape[1] * factor, frame.shape[0] * factor)
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
