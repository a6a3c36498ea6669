"""Head poses of a clip: a first estimate from landmarks, smoothing, filling of gaps, jitter."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation, Slerp

from jaxtalk.clip import Camera


def scaled_orthographic(head: np.ndarray, landmarks: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Poses from points [P, 3] of the head and their pictures [F, P, 2], as if all lay at one depth.

    The affine map head -> picture by least squares; its two rows, made orthonormal, are the rotation's, their length
    is focal over depth. Good to a few degrees: a start for the fit.

    Returns:
      rotation [F, 3, 3] and translation [F, 3], head to camera, metres.
    """
    middle, centre = head.mean(axis=0), landmarks.mean(axis=1)
    affine = np.einsum("pi,fpc->fci", np.linalg.pinv(head - middle).T, landmarks - centre[:, None])
    affine[:, 1] *= -1  # rows run down, y runs up
    left, singular, right = np.linalg.svd(affine, full_matrices=False)
    first_two = left @ right
    rotation = np.concatenate([first_two, np.cross(first_two[:, :1], first_two[:, 1:])], axis=1)
    depth = camera.focal / np.maximum(singular.mean(axis=1), 1e-6)
    offset = centre - np.array([camera.cx, camera.cy])
    place = np.stack([offset[:, 0] * depth, -offset[:, 1] * depth, -camera.focal * depth], axis=-1) / camera.focal
    return rotation, place - rotation @ middle


def fill_gaps(rotation: np.ndarray, translation: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poses of frames that are not valid, between their valid neighbours (the nearest one at the ends)."""
    known = np.flatnonzero(valid)
    if len(known) < 2:
        return rotation[known[[0] * len(valid)]], translation[known[[0] * len(valid)]]
    times = np.clip(np.arange(len(valid)), known[0], known[-1])
    turned = Slerp(known, Rotation.from_matrix(rotation[known]))(times).as_matrix()
    moved = np.stack([np.interp(times, known, translation[known, axis]) for axis in range(3)], axis=-1)
    return turned, moved


def smooth_poses(rotation: np.ndarray, translation: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian smoothing over time, `sigma` in frames; rotations by their chordal mean (projected to SO(3))."""
    if sigma <= 0 or len(rotation) < 2:
        return rotation, translation
    mean = gaussian_filter1d(rotation, sigma, axis=0, mode="nearest")
    left, _, right = np.linalg.svd(mean)
    left[:, :, 2] *= np.linalg.det(left @ right)[:, None]
    return left @ right, gaussian_filter1d(translation, sigma, axis=0, mode="nearest")


def rotation_jitter(rotation: np.ndarray) -> float:
    """Mean length in degrees of the second difference of rotation: 0 for a still or evenly turning head."""
    if len(rotation) < 3:
        return 0.0
    velocity = Rotation.from_matrix(rotation[1:] @ rotation[:-1].transpose(0, 2, 1)).as_rotvec()
    return float(np.degrees(np.linalg.norm(np.diff(velocity, axis=0), axis=-1)).mean())
