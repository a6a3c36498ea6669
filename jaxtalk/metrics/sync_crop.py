"""The pictures that SyncNet looks at: a face followed through a video, cut out and resized (metrics card, 4.1).

The recipe is that of syncnet_python's run_pipeline.py, without its JPEG and XVID round trips.
"""

from __future__ import annotations

import numpy as np
import scipy.signal

from jaxtalk.errors import JaxtalkError
from jaxtalk.nn.pretrained.syncnet import CROP

_MEDIAN = 13  # frames
_MARGIN = 0.4  # of the face's side, on both sides and below
_PADDING = 110  # grey level outside the frame
_FOREHEAD = 0.25  # of the height from brows to chin


def face_boxes(landmarks: np.ndarray) -> np.ndarray:
    """Boxes as a face detector gives them, of 68 points [F, 68, 2]: (x0, y0, x1, y1) in pixels, [F, 4].

    The smallest box around the points, enlarged upwards by a quarter of its height: detectors are taught boxes that
    reach into the forehead. How far S3FD, which SyncNet's own pipeline uses, would reach is not measured. NaN where a
    frame has no face.
    """
    low, high = landmarks.min(axis=1), landmarks.max(axis=1)
    top = low[:, 1] - _FOREHEAD * (high[:, 1] - low[:, 1])
    return np.stack([low[:, 0], top, high[:, 0], high[:, 1]], axis=1)


def face_span(boxes: np.ndarray) -> tuple[int, int]:
    """First frame with a face and the one after the last, of boxes [F, 4] that are NaN in frames without one.

    Raises `JaxtalkError` for boxes that are empty, and where there is no face at all.
    """
    found = np.isfinite(boxes).all(axis=1)
    if not found.any():
        raise JaxtalkError("sync: no frame has a face; look at the video, and at what finds its faces")
    empty = found & ~((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    if empty.any():
        frame = int(np.argmax(empty))
        raise JaxtalkError(f"sync: the face box of frame {frame} is empty: {boxes[frame]}; give (x0, y0, x1, y1)")
    seen = np.flatnonzero(found)
    return int(seen[0]), int(seen[-1]) + 1


def face_crops(frames: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Faces [F, 224, 224, 3] uint8, out of frames [F, H, W, 3] uint8 of any size, at 25 a second.

    Half the longer side s and the centre (x, y) of the boxes are interpolated over frames without a face and filtered
    by a median of 13 frames; the crop has the rows y - s to y + 1.8 s and the columns x - 1.4 s to x + 1.4 s.

    Args:
        boxes: [F, 4] (x0, y0, x1, y1) in pixels; the first and the last are finite (`face_span`).
    """
    x, y, s = _followed(boxes)
    top, left = np.floor(y - s).astype(int), np.floor(x - (1 + _MARGIN) * s).astype(int)
    bottom = np.floor(y + (1 + 2 * _MARGIN) * s).astype(int)
    right = np.floor(x + (1 + _MARGIN) * s).astype(int)
    sides = zip(top, np.maximum(bottom, top + 1), left, np.maximum(right, left + 1), strict=True)
    return np.stack([_resized(_cut(frame, *edges)) for frame, edges in zip(frames, sides, strict=True)])


def _followed(boxes: np.ndarray) -> np.ndarray:
    """Centre x, centre y and half side [3, F], smooth over time.

    At the ends the filter sees zeros beyond the clip, as the recipe has it (the least of seven values remains); clips
    shorter than the filter have one value throughout.
    """
    boxes = np.asarray(boxes, np.float64)
    found, frames = np.flatnonzero(np.isfinite(boxes).all(axis=1)), np.arange(len(boxes))
    x0, y0, x1, y1 = (np.interp(frames, found, side[found]) for side in boxes.T)
    raw = np.stack([(x0 + x1) / 2, (y0 + y1) / 2, np.maximum(x1 - x0, y1 - y0) / 2])
    if len(boxes) < _MEDIAN:
        return np.broadcast_to(np.median(raw, axis=1, keepdims=True), raw.shape)
    return np.stack([scipy.signal.medfilt(row, _MEDIAN) for row in raw])


def _cut(frame: np.ndarray, top: int, bottom: int, left: int, right: int) -> np.ndarray:
    """Rows top .. bottom - 1 and columns left .. right - 1, grey outside the frame."""
    crop = np.full((bottom - top, right - left, 3), _PADDING, np.uint8)
    height, width = frame.shape[:2]
    y0, y1, x0, x1 = max(top, 0), min(bottom, height), max(left, 0), min(right, width)
    if y0 < y1 and x0 < x1:
        crop[y0 - top : y1 - top, x0 - left : x1 - left] = frame[y0:y1, x0:x1]
    return crop


def _resized(picture: np.ndarray) -> np.ndarray:
    """Bilinear, pixel centres at + 0.5, edges repeated, nothing smoothed before: OpenCV's resize by default."""
    values = picture.astype(np.float32)
    for axis in (0, 1):
        length = values.shape[axis]
        place = np.clip((np.arange(CROP) + 0.5) * length / CROP - 0.5, 0, length - 1)
        low = np.minimum(place.astype(int), max(length - 2, 0))
        share = (place - low).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        values = (
            np.take(values, low, axis) * (1 - share) + np.take(values, np.minimum(low + 1, length - 1), axis) * share
        )
    return np.rint(values).astype(np.uint8)
