"""One square crop for the whole clip, around the head with hair and shoulders."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation.decode import VideoInfo, pictures
from jaxtalk.preparation.landmarks import Face, Landmarker

SIDE_PER_FACE = 2.0  # side of the crop over the height of the face (brows' top to chin), as in talking-head data
FACE_CENTRE = 0.56  # height of the face's centre in the crop, from its top: hair above takes more room than the chin
KEEP_WHOLE = 1.25  # a picture at most this much larger than the crop is kept whole, and not resampled for nothing
MIN_FACE_PIXELS = 48


@dataclasses.dataclass(frozen=True)
class Crop:
    """A square region of the upright source picture and what the first pass over the video saw."""

    x: int
    y: int
    side: int
    face_pixels: float  # median height of the face in the source
    num_faces: int  # most faces seen in one picture

    def apply(self, image: np.ndarray, size: int) -> np.ndarray:
        """Cuts [H, W, 3] to the region and resizes it to [size, size, 3]; area filter when it shrinks."""
        import cv2

        cut = image[self.y : self.y + self.side, self.x : self.x + self.side]
        if self.side == size:
            return np.ascontiguousarray(cut)
        method = cv2.INTER_AREA if self.side > size else cv2.INTER_CUBIC
        return cv2.resize(cut, (size, size), interpolation=method)


def find_crop(path: Path, info: VideoInfo, landmarker: Landmarker, start: float, end: float, most: int = 24) -> Crop:
    """Looks at up to `most` pictures over [start, end] seconds and places the crop.

    Raises:
      JaxtalkError: there is no face, or it is smaller than `MIN_FACE_PIXELS`.
    """
    wanted = np.linspace(start, end, most, endpoint=False) if end > start else np.array([start])
    faces: list[Face] = []
    most_faces, looked, next_wanted = 0, 0, 0
    for picture in pictures(path):
        if next_wanted == len(wanted) or picture.time > end:
            break
        if picture.time < wanted[next_wanted]:
            continue
        while next_wanted < len(wanted) and wanted[next_wanted] <= picture.time:
            next_wanted += 1
        found = landmarker.faces(picture.rgb())
        looked += 1
        most_faces = max(most_faces, len(found))
        if found:
            faces.append(found[0])
    if not faces:
        raise JaxtalkError(f"{path}: no face in any of {looked} pictures over the video; give a video of a talking head"
                           " that faces the camera and is not small in the picture")  # fmt: skip
    boxes = np.stack([face.box for face in faces])
    height = float(np.median(boxes[:, 3] - boxes[:, 1]))
    if height < MIN_FACE_PIXELS:
        raise JaxtalkError(f"{path}: the face is too small ({height:.0f} pixels high, at least {MIN_FACE_PIXELS} are "
                           "needed); film closer or give footage of higher resolution")  # fmt: skip
    x, y, side = place(boxes, info.width, info.height)
    return Crop(x, y, side, height, most_faces)


def place(boxes: np.ndarray, width: int, height: int) -> tuple[int, int, int]:
    """Square (x, y, side) inside a picture of width x height for face boxes [N, 4] seen over the clip."""
    face = float(np.median(boxes[:, 3] - boxes[:, 1]))
    low, high = np.percentile(boxes[:, :2], 5, axis=0), np.percentile(boxes[:, 2:], 95, axis=0)
    extent = float(np.max(high - low))
    side = max(SIDE_PER_FACE * face, extent + (SIDE_PER_FACE - 1) * 0.8 * face)
    largest = min(width, height)
    side = largest if side * KEEP_WHOLE >= largest else round(side)
    centre = (low + high) / 2
    corner = np.round([centre[0] - side / 2, centre[1] - FACE_CENTRE * side]).astype(int)
    x, y = np.clip(corner, 0, [width - side, height - side])
    return int(x), int(y), int(side)


def as_numbers(crop: Crop) -> np.ndarray:
    """The crop as a float array, for a stage's store."""
    return np.array(dataclasses.astuple(crop), np.float64)


def from_numbers(numbers: np.ndarray) -> Crop:
    """The inverse of `as_numbers`."""
    x, y, side, face_pixels, num_faces = numbers.tolist()
    return Crop(int(x), int(y), int(side), face_pixels, int(num_faces))
