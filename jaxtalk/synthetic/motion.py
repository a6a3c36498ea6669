"""Everything that moves beside the mouth: head, torso, gaze, blinks, brows. Only the brows know of speech."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.ndimage import gaussian_filter1d

from jaxtalk.clip import Camera
from jaxtalk.synthetic.render import Pose

_RATE = 100.0  # Hz; drawn at this rate whatever the video's, so that fps changes nothing else
DISTANCE = 0.80  # metres from camera to head
YAW, PITCH, ROLL = np.deg2rad([20.0, 10.0, 6.0])  # limits of the head's turning
_HEIGHT = 0.016  # of the head's centre over the optical axis


def portrait_camera(size: int) -> Camera:
    """A head fills about two thirds of the picture; the camera is the same for everybody."""
    return Camera(focal=2.35 * size, cx=size / 2, cy=size / 2)


@dataclasses.dataclass(frozen=True)
class Motion:
    """Per frame. Rotations map head or torso space to camera space."""

    head: list[Pose]
    torso: list[Pose]
    gaze: np.ndarray  # [F, 2] radians in the head
    blink: np.ndarray  # [F] 0 open, 1 shut
    brow: np.ndarray  # [F] -1 frowning, 1 raised


def _smooth(rng: np.random.Generator, count: int, seconds: float) -> np.ndarray:
    """Gaussian noise of unit variance with features of the given length."""
    reach = int(4 * seconds * _RATE)
    noise = gaussian_filter1d(rng.normal(size=count + 2 * reach), seconds * _RATE, mode="constant")
    return noise[reach : reach + count] * np.sqrt(2 * np.sqrt(np.pi) * seconds * _RATE)


def _limited(values: np.ndarray, limit: float) -> np.ndarray:
    return limit * np.tanh(values / limit)


def rotation_matrix(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Turn to the image's right, then up, then tilt counter-clockwise in the picture: R = roll yaw pitch."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return tilt @ turn @ nod


def _head_angles(rng: np.random.Generator, count: int) -> np.ndarray:
    """[N, 3] yaw, pitch, roll: slow turns and small quick nods."""
    slow = np.stack([_smooth(rng, count, 0.75) for _ in range(3)], -1) * np.deg2rad([10.0, 4.5, 2.8])
    quick = np.stack([_smooth(rng, count, 0.18) for _ in range(3)], -1) * np.deg2rad([1.2, 1.3, 0.6])
    rest = rng.normal(size=3) * np.deg2rad([4.0, 2.0, 1.0])
    return np.stack([_limited((rest + slow + quick)[:, k], limit) for k, limit in enumerate((YAW, PITCH, ROLL))], -1)


def _blinks(rng: np.random.Generator, times: np.ndarray, seconds: float) -> np.ndarray:
    """0.2 to 0.5 blinks a second at random times; a lid falls in 80 ms and rises in 150 ms."""
    rate, closing, hold, opening = rng.uniform(0.2, 0.5), 0.08, 0.05, 0.15
    out, start = np.zeros(len(times)), rng.exponential(1 / rate)
    while start < seconds:
        since = times - start
        fall = np.clip(since / closing, 0, 1)
        rise = np.clip((since - closing - hold) / opening, 0, 1)
        shut = np.where(since < 0, 0.0, fall - rise)
        out = np.maximum(out, shut * shut * (3 - 2 * shut))
        start += 0.45 + rng.exponential(1 / rate - 0.45)
    return out


def _saccades(rng: np.random.Generator, times: np.ndarray, seconds: float) -> np.ndarray:
    """[N, 2] fixations of half a second to two and a half, joined by 40 ms jumps."""
    changes, targets = [0.0], [rng.normal(size=2) * np.deg2rad([5.0, 2.5])]
    while changes[-1] < seconds:
        changes.append(changes[-1] + rng.uniform(0.5, 2.5))
        targets.append(rng.normal(size=2) * np.deg2rad([7.0, 3.5]))
    index = np.searchsorted(changes, times, side="right") - 1
    return gaussian_filter1d(np.array(targets)[index], 0.015 * _RATE, axis=0, mode="nearest")


def sample_motion(identity: int, utterance: int, times: np.ndarray, seconds: float, timeline: np.ndarray) -> Motion:
    """Motion at `times` [F]. Only the brows look at the phonemes: they rise with stress."""
    rng = np.random.default_rng([identity, utterance, 401])
    grid = np.arange(int(np.ceil(seconds * _RATE)) + 2) / _RATE

    def at(values: np.ndarray) -> np.ndarray:
        columns = values.reshape(len(grid), -1)
        return np.stack([np.interp(times, grid, column) for column in columns.T], -1)

    angles = _head_angles(rng, len(grid))
    shift = np.stack([_smooth(rng, len(grid), 0.9) for _ in range(3)], -1) * [0.006, 0.004, 0.008]
    sway = np.stack([_smooth(rng, len(grid), 1.1) for _ in range(3)], -1) * np.deg2rad([2.5, 0.8, 0.9])
    drift = np.stack([_smooth(rng, len(grid), 1.3) for _ in range(3)], -1) * [0.004, 0.0015, 0.003]
    contact = rng.uniform(0.5, 0.9)  # how much the eyes stay on the viewer while the head turns
    gaze = _saccades(rng, grid, seconds) - contact * angles[:, :2]
    blink = _blinks(rng, grid, seconds)
    segment = np.clip(np.searchsorted(timeline["end"], grid, side="right"), 0, len(timeline) - 1)
    stress = gaussian_filter1d(timeline["stress"][segment].astype(np.float64), 0.08 * _RATE, mode="nearest")
    brow = 0.55 * stress + 0.30 * _smooth(rng, len(grid), 0.5)
    head_angles, sway, shift, drift = at(angles), at(sway), at(shift), at(drift)
    base = np.array([0.0, _HEIGHT, -DISTANCE])
    torso = [Pose(rotation_matrix(*a), base + d) for a, d in zip(sway, drift, strict=True)]
    moved = _about_neck(head_angles, base + _limited(shift, 0.015))
    return Motion(moved, torso, np.clip(at(gaze), -0.45, 0.45), at(blink)[:, 0], np.clip(at(brow)[:, 0], -1, 1))


def _about_neck(angles: np.ndarray, translation: np.ndarray) -> list[Pose]:
    """Poses that turn the head about the neck's top, where a real one turns."""
    pivot = np.array([0.0, -0.085, -0.025])
    poses = []
    for angle, shift in zip(angles, translation, strict=True):
        rotation = rotation_matrix(*angle)
        poses.append(Pose(rotation, shift + pivot - rotation @ pivot))
    return poses
