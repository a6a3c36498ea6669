"""How a head that was fitted to the pictures lies in the space of a folder's cameras, and how long its unit is.

Both projections look alike whatever the unit, so lengths follow from the fitted head alone: its size is that of a human
head. AD-NeRF's tracker fits the Basel model, whose unit, after its division by ten, is the metre; other trackers may
have any.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxtalk.errors import JaxtalkError

PLAUSIBLE = 0.2  # a head within this share of its fitted size is taken to be measured in metres already
_NOISE = 0.005  # metres, of a fitted head's place
_OFFSET = 0.05  # metres by which centres of heads usually differ from model to model
_MOST_DEGREES = 45.0  # between the axes of head spaces that are both "x right, y up, z to the camera"


@dataclasses.dataclass(frozen=True)
class Similarity:
    """Points x of the fitted head lie at (turn x + shift) / metres in the folder's head space."""

    turn: np.ndarray  # [3, 3] rotation
    shift: np.ndarray  # [3] metres
    metres: float  # in a unit of the folder, by the fitted head's size
    degrees: float  # mean angle between the folder's poses and the fitted ones, after `turn`

    @property
    def unit(self) -> float:
        """Metres in a unit of the folder that its clip is given: 1 where that is plausible."""
        return 1.0 if abs(self.metres - 1) < PLAUSIBLE else self.metres

    def place(self, points: np.ndarray) -> np.ndarray:
        """Points [P, 3] of the fitted head in the clip's head space, metres."""
        return (points @ self.turn.T + self.shift) * (self.unit / self.metres)

    def poses(self, rotation: np.ndarray, translation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Poses [F, 3, 3] and [F, 3] of the fitted head, metres, that the folder's poses (in its unit) stand for."""
        return rotation @ self.turn, rotation @ self.shift + self.metres * translation


def similarity(
    fitted: tuple[np.ndarray, np.ndarray], folder: tuple[np.ndarray, np.ndarray], valid: np.ndarray
) -> Similarity:
    """Compares head-to-camera poses of the same F frames: rotations [F, 3, 3] and translations [F, 3].

    The turn is the mean one. Shift and unit solve R shift + metres t = t_fitted by least squares; a head that does not
    turn cannot tell one from the other, so large shifts are unlikely.

    Args: `fitted` in metres, `folder` in its own unit, `valid` [F] bool: frames to compare.

    Raises `JaxtalkError` where the axes of the head spaces differ, which no tracker of this family does.
    """
    own_turn, own_place, turn, place = (part[valid].astype(np.float64) for part in (*fitted, *folder))
    mean = _nearest_rotation(np.einsum("fji,fjk->ik", turn, own_turn))
    angle = _degrees(mean[None])[0]
    if angle > _MOST_DEGREES:
        raise JaxtalkError(
            f"the cameras see a head that looks {angle:.0f} degrees away from where the pictures show it looking, so "
            "their axes are not AD-NeRF's; choose --from for the system that made the folder"
        )
    rows = np.concatenate([turn, place[:, :, None]], axis=2).reshape(-1, 4) / _NOISE
    rows = np.concatenate([rows, np.eye(4)[:3] / _OFFSET])
    values = np.concatenate([own_place.reshape(-1) / _NOISE, np.zeros(3)])
    *shift, metres = np.linalg.lstsq(rows, values, rcond=None)[0]
    left = turn @ mean @ own_turn.transpose(0, 2, 1)
    return Similarity(mean, np.array(shift), float(metres), float(_degrees(left).mean()))


def _nearest_rotation(matrix: np.ndarray) -> np.ndarray:
    left, _, right = np.linalg.svd(matrix)
    return left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right


def _degrees(rotation: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip((np.trace(rotation, axis1=1, axis2=2) - 1) / 2, -1, 1)))
