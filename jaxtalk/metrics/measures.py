"""From material to values: what each metric takes of a row, and which of its functions it calls.

Every function here makes a `Measure`. What is derived of the truth or of the source is derived once (`Pictures.once`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from jaxtalk.errors import JaxtalkError
from jaxtalk.metrics import poses
from jaxtalk.metrics.cpbd import cpbd
from jaxtalk.metrics.fid import load_fid_features
from jaxtalk.metrics.identity import csim, embeddings
from jaxtalk.metrics.identity import load as load_arcface
from jaxtalk.metrics.landmarks import blinks, eye_aspect_ratio, lmd
from jaxtalk.metrics.lpips import load_lpips
from jaxtalk.metrics.material import Faces, Material, Pictures
from jaxtalk.metrics.sync import SyncScores, sync_scores
from jaxtalk.metrics.sync import load as load_syncnet
from jaxtalk.metrics.sync_crop import face_boxes

Measure = Callable[[Material], Mapping[str, np.ndarray]]  # {region: values}, see `Suite.measure`

_RIGID = np.array([27, 28, 29, 30, 36, 39, 42, 45])  # nose and eye corners: landmarks that speech hardly moves


def whole(value: Callable[[Material], np.ndarray | float]) -> Measure:
    """A metric of the whole frame."""
    return lambda material: {"frame": np.atleast_1d(np.asarray(value(material), np.float64))}


def sharpness() -> Measure:
    """CPBD of the rendered frames."""
    return whole(lambda material: material.image.once("cpbd", cpbd))


def landmark_distance(part: Literal["mouth", "all"], rescaled: bool = False) -> Measure:
    """M-LMD or F-LMD in pixels of the frame, or as of frames of 256 pixels."""

    def measured(material: Material) -> np.ndarray:
        side = float(min(material.image.frames.shape[1:3])) if rescaled else None
        return lmd(_truth(material).points, material.image.faces.points, part, side)

    return whole(measured)


def blink_rate(adaptive: bool) -> Measure:
    """Blinks a second."""
    return whole(lambda material: blinks(eye_aspect_ratio(material.image.faces.points), material.fps, adaptive)[1])


def rotation_error(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Measure:
    """D-Rot, between the poses that the landmarker sees in truth and render."""
    return whole(lambda material: function(_truth(material).rotation, material.image.faces.rotation))


def position_error() -> Measure:
    """D-Pos in the image: shift of nose and eye corners over the true face's width."""

    def measured(material: Material) -> np.ndarray:
        truth, image = _truth(material).points, material.image.faces.points
        return poses.dpos_pct(_centre(truth), _centre(image), _width(truth))

    return whole(measured)


def rotation_jitter() -> Measure:
    """RMS second difference of the head's rotation, degrees per frame squared."""
    return whole(lambda material: _jitter(material).rotation)


def position_jitter() -> Measure:
    """RMS second difference of the head's place in the image, percent of the face's width per frame squared."""
    return whole(lambda material: _jitter(material).position)


def _jitter(material: Material) -> poses.Jitter:
    faces = material.image.faces
    if not faces.found.any():
        return poses.Jitter(float("nan"), float("nan"))
    place = np.pad(_centre(faces.points) / np.nanmedian(_width(faces.points)), ((0, 0), (0, 1)))
    # `jitter` counts in thousandths of its unit: a tenth of the face's width makes that percent.
    return poses.jitter(faces.rotation, 0.1 * place, material.fps)


def _truth(material: Material) -> Faces:
    assert material.truth is not None
    return material.truth.faces


def _centre(points: np.ndarray) -> np.ndarray:
    return points[:, _RIGID].mean(axis=1)


def _width(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, 16] - points[:, 0], axis=-1)


def perceptual_distance(net: str) -> Measure:
    """LPIPS."""
    network = load_lpips(net)
    return whole(lambda material: network(_true_frames(material), material.image.frames))


def inception_features() -> Measure:
    """What FID compares of two sets: features of every frame."""
    network = load_fid_features()
    return lambda material: {"frame": material.image.once("inception", network)}


def identity(against: Literal["source", "truth"]) -> Measure:
    """CSIM with the pictures that the avatar was made of (the mean of their embeddings), or frame by frame."""
    network = _arcface()

    def embedded(pictures: Pictures) -> np.ndarray:
        return pictures.once("arcface", lambda frames: embeddings(frames, pictures.faces.points, network))

    def measured(material: Material) -> np.ndarray:
        other = material.source if against == "source" else material.truth
        assert other is not None
        theirs = embedded(other)
        if against == "source":
            unit = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
            if not np.isfinite(unit).any():
                raise JaxtalkError("no face was found in the pictures that the avatar was made of")
            theirs = np.nanmean(unit, axis=0)
        return csim(embedded(material.image), theirs)

    return whole(measured)


def lip_sync(value: Callable[[SyncScores], float]) -> Measure:
    """A number of SyncNet's, of the row's face and what is heard in its video."""
    network = _syncnet()

    def scores(material: Material) -> SyncScores:
        assert material.sound is not None
        sound, rate = material.sound
        boxes = face_boxes(material.image.faces.points)
        return sync_scores(material.image.frames, boxes, sound, rate, material.fps, network)

    return whole(lambda material: value(material.image.once("sync", lambda _: scores(material))))


_arcface = functools.cache(load_arcface)
_syncnet = functools.cache(load_syncnet)


def _true_frames(material: Material) -> np.ndarray:
    assert material.truth is not None
    return material.truth.frames
