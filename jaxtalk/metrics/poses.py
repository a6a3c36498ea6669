"""How well and how calmly the head moves: pose differences and jitter (metrics card, section 3).

Rotations [F, 3, 3] map head to camera; F frames of truth and render belong together. A frame whose pose is unknown
holds NaN, and gives NaN. Values are per frame; their mean over frames (NaN left out) is the clip's number.

DFA-NeRF prints D-Rot and D-Pos as percentages, after MakeItTalk, but neither states a formula: what stands here is
our choice, and not comparable to print.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxtalk.errors import JaxtalkError

_COMMON_FPS = 25.0


def drot_deg(truth: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Angle in degrees between two head rotations, [F, 3, 3] each -> [F] (variant `drot/geodesic`)."""
    return np.degrees(_angle(*_same_frames("drot_deg", truth, rotation)))


def drot_pct(truth: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """|Difference| of yaw, pitch and roll, each over its range in the truth, mean of the three, percent: -> [F].

    `drot/range`. An axis on which the truth does not move (less than 0.01 degrees) is left out.
    """
    truth, rotation = _same_frames("drot_pct", truth, rotation)
    angles, other = _euler_degrees(truth), _euler_degrees(rotation)
    difference = (other - angles + 180) % 360 - 180
    return _over_range(difference, angles, 0.01)


def dpos_pct(truth: np.ndarray, position: np.ndarray, jaw_width: float | np.ndarray) -> np.ndarray:
    """Distance of two head positions over the true face's width, percent: [F, D] each -> [F] (`dpos/jaw`).

    Args:
        truth, position: translations in metres (D = 3), or a point of the face in pixels (D = 2).
        jaw_width: distance of landmarks 0 and 16 in the same unit: one number, or one a frame [F]; see `jaw_metres`.
    """
    truth, position = _same_frames("dpos_pct", truth, position)
    return 100 * np.linalg.norm(position - truth, axis=-1) / np.asarray(jaw_width, np.float64)


def dpos_range_pct(truth: np.ndarray, position: np.ndarray) -> np.ndarray:
    """|Difference| of each coordinate over its range in the truth, mean of the coordinates, percent: -> [F].

    `dpos/range`, as DFA-NeRF's numbers are read by its card. A coordinate that does not move is left out.
    """
    truth, position = _same_frames("dpos_range_pct", truth, position)
    return _over_range(position - truth, truth, 1e-6)


def jaw_metres(landmarks: np.ndarray, rotation: np.ndarray, translation: np.ndarray, focal: float) -> float:
    """The face's width in metres (landmarks 0 to 16), median over the frames.

    The width in pixels [F, 68, 2] is taken to the head's distance, and the foreshortening of a turned head undone:
    both points lie on a line along the head's x axis.
    """
    pixels = np.linalg.norm(landmarks[:, 16] - landmarks[:, 0], axis=-1)
    foreshortening = np.linalg.norm(rotation[:, :2, 0], axis=-1)
    widths = pixels * np.abs(translation[:, 2]) / focal / np.maximum(foreshortening, 1e-6)
    widths = widths[np.isfinite(widths)]
    return float(np.median(widths)) if len(widths) else float("nan")


class Jitter(NamedTuple):
    """RMS second difference of a head's pose: degrees and millimetres per frame squared, frames of 1/25 s."""

    rotation: float
    position: float


def jitter(rotation: np.ndarray, translation: np.ndarray, fps: float) -> Jitter:
    """How much the head's pose trembles: [F, 3, 3] and [F, 3] in metres, consecutive frames at `fps` (`jitter/rms2`).

    The second difference vanishes at constant velocity and grows with the square of a movement's frequency, so that
    what it measures of a real head is mostly noise from frame to frame; the root of the mean square lets single jumps
    count, which eyes notice. For rotations it is the angle between successive steps, R[t+2] R[t+1]^T against
    R[t+1] R[t]^T, which no rotation of the camera or of the head's own axes changes. Times (fps / 25)^2, so that a
    smooth movement has one value at all rates. Noise that alternates between +a and -a gives 4a at 25 fps. Compare
    with the truth's own jitter.

    Triples of frames with an unknown pose (NaN) are left out; NaN where none is left.
    """
    rotation, translation = np.asarray(rotation, np.float64), np.asarray(translation, np.float64)
    if rotation.shape[1:] != (3, 3) or translation.shape != (len(rotation), 3):
        raise JaxtalkError(f"jitter: rotations {rotation.shape} and translations {translation.shape} of a head; "
                           "[F, 3, 3] and [F, 3] are needed")  # fmt: skip
    scale = (fps / _COMMON_FPS) ** 2
    step = rotation[1:] @ np.swapaxes(rotation[:-1], -1, -2)
    angles = np.degrees(_angle(step[:-1], step[1:]))
    moves = 1000 * np.linalg.norm(np.diff(translation, n=2, axis=0), axis=-1)
    return Jitter(scale * _rms(angles), scale * _rms(moves))


def _rms(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(values**2))) if len(values) else float("nan")


def _angle(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angle in radians between rotations [..., 3, 3]; exact also where it is small, and NaN where one is unknown."""
    chord = np.linalg.norm(first - second, axis=(-2, -1)) / np.sqrt(8)
    return 2 * np.arcsin(np.clip(chord, 0, 1))


def _euler_degrees(rotation: np.ndarray) -> np.ndarray:
    """Yaw, pitch, roll [F, 3] of R = Ry(yaw) Rx(pitch) Rz(roll)."""
    pitch = np.arcsin(np.clip(-rotation[:, 1, 2], -1, 1))
    yaw = np.arctan2(rotation[:, 0, 2], rotation[:, 2, 2])
    roll = np.arctan2(rotation[:, 1, 0], rotation[:, 1, 1])
    return np.degrees(np.stack([yaw, pitch, roll], axis=-1))


def _over_range(difference: np.ndarray, truth: np.ndarray, least: float) -> np.ndarray:
    """Mean over the axes of |difference| [F, A] over the truth's range, percent: [F]; NaN where nothing moves."""
    known = truth[np.isfinite(truth).all(axis=1)]
    extent = np.ptp(known, axis=0) if len(known) else np.zeros(truth.shape[1])
    moving = extent > least
    if not moving.any():
        return np.full(len(truth), np.nan)
    return 100 * (np.abs(difference[:, moving]) / extent[moving]).mean(axis=1)


def _same_frames(name: str, truth: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    truth, other = np.asarray(truth, np.float64), np.asarray(other, np.float64)
    if truth.shape != other.shape:
        raise JaxtalkError(f"{name}: poses of truth {truth.shape} and of render {other.shape}; give the same frames")
    return truth, other
