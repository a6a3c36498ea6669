"""Where the eyes look, from the irises."""

from __future__ import annotations

import numpy as np

# MediaPipe: (outer corner, inner corner, iris centre) of the subject's right and left eye
_EYES = ((33, 133, 468), (263, 362, 473))
_RADIUS = 0.4  # of the eyeball, over the distance of the eye's corners (12 mm of 30 mm)
# The pupil of an eye that looks straight ahead lies above the line of its corners. Measured: medians of 7 to 12 degrees
# over clips whose speakers look into the camera.
_REST_PITCH = 0.16


def gaze_angles(points: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Gaze [F, 2] in the head, radians: yaw to the image's right, pitch up; the mean of both eyes.

    Args:
      points: [F, 478, 3] pixels, x right, y down, z away from the camera.
      rotation: [F, 3, 3] head to camera, of the detector's own mesh.
    """
    upright = points * np.array([1, -1, -1], points.dtype)
    directions = []
    for outer, inner, iris in _EYES:
        width = np.linalg.norm(upright[:, outer] - upright[:, inner], axis=-1)
        offset = upright[:, iris] - (upright[:, outer] + upright[:, inner]) / 2
        head = np.einsum("fij,fi->fj", rotation, offset)  # R^T offset
        directions.append(head[:, :2] / np.maximum(_RADIUS * width, 1e-6)[:, None])
    angles = np.arcsin(np.clip(np.mean(directions, axis=0), -0.95, 0.95))
    return (angles - np.array([0, _REST_PITCH])).astype(np.float32)
