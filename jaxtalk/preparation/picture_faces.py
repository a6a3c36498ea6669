"""Whom a picture shows: the one face in it, also one that is small in a large picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation import crop
from jaxtalk.preparation.landmarks import Landmarker

MOST_FACES = 8  # that are counted
_SAME_FACE = 0.5  # part of the smaller box inside the larger one from which both are one face
_CLOSE_UP = 2.5  # side of the square in which a find is looked at again, over the face's height
# MediaPipe overlooks faces below a tenth of the picture's longer side (measured: found at 0.09 to 0.11, not below), so
# squares of a half and of a quarter of that side are looked at where the whole picture shows nobody.
_PARTS = (2, 4)
_LEAST_SIDE = 3 * crop.MIN_FACE_PIXELS  # a face that is large enough is found in squares that are no smaller


def find_face(landmarker: Landmarker, image: np.ndarray, picture: Path) -> np.ndarray:
    """The box [4] of the only face of `image` [H, W, 3] uint8; `picture` names it in errors.

    Raises:
      JaxtalkError: there is no face, more than one, or it is smaller than `crop.MIN_FACE_PIXELS`.
    """
    boxes = _all_faces(landmarker, image)
    if not boxes:
        raise JaxtalkError(f"{picture}: no face in this picture; give one of a head that faces the camera and is not "
                           "small in it")  # fmt: skip
    if len(boxes) > 1:
        count = f"{len(boxes)} or more" if len(boxes) >= MOST_FACES else str(len(boxes))
        centres = sorted(tuple(box.reshape(2, 2).mean(axis=0).tolist()) for box in boxes)
        places = ", ".join(f"({x:.0f}, {y:.0f})" for x, y in centres)
        raise JaxtalkError(f"{picture}: {count} faces, around the pixels {places}, and it has to show one; cut the "
                           "picture to the person who is to speak")  # fmt: skip
    height = float(boxes[0][3] - boxes[0][1])
    if height < crop.MIN_FACE_PIXELS:
        raise JaxtalkError(f"{picture}: the face is too small ({height:.0f} pixels high, at least "
                           f"{crop.MIN_FACE_PIXELS} are needed); give a picture of higher resolution")  # fmt: skip
    return boxes[0]


def _all_faces(landmarker: Landmarker, image: np.ndarray) -> list[np.ndarray]:
    found = [face.box for face in landmarker.faces(image)]
    longer = max(image.shape[:2])
    for part in _PARTS:
        side = longer // part
        if found or side < _LEAST_SIDE:
            break
        finds = [box for x, y in _corners(image, side) for box in _in_square(landmarker, image, x, y, side)]
        # A face at a square's edge is seen in part: where each find is in the middle of a square tells what it is.
        found = [box for find in _distinct(finds) for box in _close_up(landmarker, image, find)]
    return _distinct(found)


def _corners(image: np.ndarray, side: int) -> Iterator[tuple[int, int]]:
    """Of squares that cover the picture and overlap by half."""
    rows, columns = (
        np.unique(np.linspace(0, max(extent - side, 0), max(1, -(-2 * extent // side) - 1)).round().astype(int))
        for extent in image.shape[:2]
    )
    yield from ((int(x), int(y)) for y in rows for x in columns)


def _in_square(landmarker: Landmarker, image: np.ndarray, x: int, y: int, side: int) -> list[np.ndarray]:
    cut = image[y : y + side, x : x + side]
    return [face.box + np.array([x, y, x, y]) for face in landmarker.faces(cut)]


def _close_up(landmarker: Landmarker, image: np.ndarray, box: np.ndarray) -> list[np.ndarray]:
    """The face of `box`, seen in a square around it; none where that shows none."""
    side = round(_CLOSE_UP * float((box[2:] - box[:2]).max()))
    x, y = (max(0, round(float(middle) - side / 2)) for middle in (box[:2] + box[2:]) / 2)
    return [again for again in _in_square(landmarker, image, x, y, side) if _same(again, box)]


def _distinct(boxes: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The boxes, the largest first, without those that show the same face again."""
    kept: list[np.ndarray] = []
    for box in sorted(boxes, key=lambda box: -float((box[2:] - box[:2]).prod())):
        if not any(_same(box, other) for other in kept):
            kept.append(box)
    return kept


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    inside = np.maximum(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0).prod()
    smaller = min((one[2:] - one[:2]).prod(), (other[2:] - other[:2]).prod())
    return bool(inside > _SAME_FACE * smaller)
