"""Which moment of the video a row of foreign coefficients belongs to.

Such files often lack a few frames at one end of the video, and nothing in them says at which: five of StyleTalk's six
samples lack the first two. The head tells: of the places at which the rows fit, the one is taken where their rotations
turn most like those of our own fit.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from jaxtalk.errors import JaxtalkError

MOST_SPARE = 3  # rows by which a file may differ in length from its video
_MOVING = 1.5  # degrees from its mean by which a head must turn to tell one video from another
_LEAST_EXPLAINED = (
    0.3  # of the rotation's variance: 0.81 to 0.92 on StyleTalk's samples, below 0.1 if files are swapped
)


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where the rows lie in the video, and how well their rotations agree with ours there."""

    lead: int  # row i belongs to (i + lead) / fps seconds after the video's first picture
    degrees: float  # mean angle between the rotations, up to a constant one
    explained: float  # share of the head's turning, as a variance, that the rows account for
    motion: float  # mean angle in degrees between our rotations and their mean


def spare_rows(count: int, fps: float, seconds: float, file: Path, video: Path) -> int:
    """How many more rows the video would have than the file's `count` (fewer: negative).

    Raises `JaxtalkError` where that is more than `MOST_SPARE`: other footage, or another rate.
    """
    if not seconds:
        raise JaxtalkError(f"{video}: its length is not known, so coefficients cannot be placed; re-encode it to mp4")
    spare = round(seconds * fps) - count
    if abs(spare) > MOST_SPARE:
        raise JaxtalkError(
            f"{file}: {count} rows are {count / fps:.2f} s at {fps:g} a second, but {video.name} lasts {seconds:.2f} s;"
            " give their rate with --coefficients-fps, or the file of this video"
        )
    return spare


def place(rows: np.ndarray, fps: float, spare: int, rotation: np.ndarray, time: np.ndarray) -> Placement:
    """Finds the place of rows among the whole numbers between 0 and `spare`.

    Args:
      rows: [N, 3, 3] their rotations, `fps` a second.
      spare: of `spare_rows`.
      rotation: [F, 3, 3] our rotations.
      time: [F] their seconds after the video's first picture.
    """
    ours = Rotation.from_matrix(rotation)
    turned = (ours.mean().inv() * ours).magnitude()
    between = Slerp(np.arange(len(rows)), Rotation.from_matrix(rows))

    def apart(lead: int) -> np.ndarray:
        """[F] angles between the rotations after the constant one that brings them together."""
        relative = between(_positions(time, fps, lead, len(rows))).inv() * ours
        return (relative.mean().inv() * relative).magnitude()

    angles = {lead: apart(lead) for lead in range(min(spare, 0), max(spare, 0) + 1)}
    lead = min(angles, key=lambda key: float(np.square(angles[key]).sum()))
    total = float(np.square(turned).sum())
    explained = 1 - float(np.square(angles[lead]).sum()) / total if total else 0.0
    degrees = float(np.degrees(angles[lead].mean()))
    return Placement(lead, degrees, explained, motion=float(np.degrees(turned.mean())))


def check(placement: Placement, file: Path, video: Path) -> None:
    """Raises `JaxtalkError` where the head turns, and the rows do not turn with it."""
    if placement.motion > _MOVING and placement.explained < _LEAST_EXPLAINED:
        raise JaxtalkError(
            f"{file}: its head turns otherwise than the one in {video.name} ({placement.degrees:.1f} degrees apart "
            f"where it moves by {placement.motion:.1f}); give the file of this video"
        )


def at_times(rows: np.ndarray, fps: float, lead: int, time: np.ndarray) -> np.ndarray:
    """Rows [N, D] at `time` [F] seconds after the video's first picture: [F, D]; linear between, held at the ends."""
    position = _positions(time, fps, lead, len(rows))
    first = np.minimum(position.astype(int), len(rows) - 2)
    share = (position - first)[:, None]
    return ((1 - share) * rows[first] + share * rows[first + 1]).astype(np.float32)


def _positions(time: np.ndarray, fps: float, lead: int, count: int) -> np.ndarray:
    return np.clip(np.asarray(time) * fps - lead, 0, count - 1)
