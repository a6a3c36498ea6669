"""What 68 landmarks (iBUG order) tell: distances of lips and face, blinks, how wide the mouth opens (card, section 3).

All functions take landmarks [F, 68, 2] in pixels and give NaN for a frame without a face: one whose points are not
all finite, or all lie in one place. Points of different detectors are not interchangeable: find those of truth and
render by the same one.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from jaxtalk.errors import JaxtalkError
from jaxtalk.faces.landmarks import LEFT_EYE, MOUTH, RIGHT_EYE, eye_distance, lip_gap

_COMMON_SIZE = 256  # pixels, to which distances are rescaled where frames of several sizes are compared
_SHUT = 0.2  # eye aspect ratio below which an eye counts as shut
_SHUT_SHARE = 0.7  # of the clip's median ratio, in the adaptive variant
_LEAST_SHUT = 2  # frames of a blink
_BRIDGED = 1  # frame between two shut ones that does not end a blink


def lmd(
    truth: np.ndarray, points: np.ndarray, part: Literal["mouth", "all"] = "mouth", rescale: float | None = None
) -> np.ndarray:
    """Landmark distance in pixels, [F, 68, 2] each -> [F]; lower is better.

    ER-NeRF's rule: the part's centroid is subtracted in each frame, then the Euclidean distances of the points are
    averaged. Neither scale nor tilt is aligned, so values grow with the frames' size. ATVGnet's values are sums over
    the 20 points of the mouth: 20 times these.

    Args:
        part: 'mouth' for points 48-67 (M-LMD), 'all' for the 68 (F-LMD).
        rescale: the frames' side in pixels; distances are given as of frames of 256 pixels then.

    Raises:
        JaxtalkError: another part, or shapes that differ.
    """
    if part not in ("mouth", "all"):
        raise JaxtalkError(f"lmd: part {part!r} is unknown; use 'mouth' or 'all'")
    truth, points = _with_gaps(truth), _with_gaps(points)
    if truth.shape != points.shape:
        raise JaxtalkError(f"lmd: landmarks of truth {truth.shape} and of render {points.shape}; give the same frames")
    if part == "mouth":
        truth, points = truth[:, MOUTH], points[:, MOUTH]
    centred = (points - points.mean(axis=1, keepdims=True)) - (truth - truth.mean(axis=1, keepdims=True))
    distance = np.linalg.norm(centred, axis=-1).mean(axis=1)
    return distance if rescale is None else distance * _COMMON_SIZE / rescale


def eye_aspect_ratio(points: np.ndarray) -> np.ndarray:
    """(|p2 - p6| + |p3 - p5|) / (2 |p1 - p4|) of an eye's six points, mean of both eyes: [F, 68, 2] -> [F]."""
    points = _with_gaps(points)
    ratios = []
    for eye in (RIGHT_EYE, LEFT_EYE):
        first, second, third, fourth, fifth, sixth = np.moveaxis(points[:, eye], 1, 0)
        heights = np.linalg.norm(second - sixth, axis=-1) + np.linalg.norm(third - fifth, axis=-1)
        ratios.append(heights / (2 * np.maximum(np.linalg.norm(first - fourth, axis=-1), 1e-6)))
    return np.mean(ratios, axis=0)


def blinks(ear: np.ndarray, fps: float, adaptive: bool = False) -> tuple[int, float]:
    """(Blinks, blinks a second) in eye aspect ratios [F] of consecutive frames; to be compared with the truth's.

    A blink is a run of at least 2 frames with a ratio below 0.2 (`adaptive`: below 0.7 of the clip's median, for
    eyes or detectors to which 0.2 does not fit). One open frame, or one without a face, does not end a run. Seconds
    are those of frames with a face; without any, the rate is NaN.
    """
    ear = np.asarray(ear, np.float64)
    seen = np.isfinite(ear)
    if not seen.any():
        return 0, float("nan")
    threshold = _SHUT_SHARE * float(np.median(ear[seen])) if adaptive else _SHUT
    shut = np.flatnonzero(np.where(seen, ear, np.inf) < threshold)
    runs = np.split(shut, np.flatnonzero(np.diff(shut) > 1 + _BRIDGED) + 1)
    count = sum(len(run) >= _LEAST_SHUT for run in runs)
    return count, count * fps / int(seen.sum())


def lip_opening(points: np.ndarray, unit: Literal["eyes", "pixels"] = "eyes") -> np.ndarray:
    """How far the inner lips are apart, for plots over time: [F, 68, 2] -> [F].

    Measured along the face's own down direction; in distances of the outer eye corners, or in pixels. Negative where
    the lips' points overlap.
    """
    points = _with_gaps(points)
    opening = lip_gap(points)
    return opening * eye_distance(points) if unit == "pixels" else opening


def _with_gaps(points: np.ndarray) -> np.ndarray:
    """The points as float64, frames without a face NaN throughout."""
    points = np.array(points, np.float64)
    if points.ndim != 3 or points.shape[1:] != (68, 2):
        raise JaxtalkError(f"landmarks have the shape {points.shape}; 68 points of a frame, [F, 68, 2], are needed")
    points[~np.isfinite(points).all(axis=(1, 2)) | (points == points[:, :1]).all(axis=(1, 2))] = np.nan
    return points
