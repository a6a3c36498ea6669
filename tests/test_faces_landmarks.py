"""The landmark sets and what is measured from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxtalk.errors import JaxtalkError
from jaxtalk.faces import landmarks as marks
from jaxtalk.faces.ict import LANDMARK_VERTICES
from tests.drawn_face import drawn_face

MIRROR = np.concatenate([  # the point on the other side of the face
    np.arange(16, -1, -1), np.arange(26, 16, -1), np.arange(27, 31), np.arange(35, 30, -1),
    [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40],
    [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55], [64, 63, 62, 61, 60, 67, 66, 65],
])  # fmt: skip


def picture(jaw: np.ndarray, blink: np.ndarray, scale: float = 1500.0) -> np.ndarray:
    """Landmarks [F, 68, 2] in pixels (y down) of the drawn face, orthographic."""
    model = drawn_face()
    expression = np.zeros((len(jaw), 6))
    expression[:, 0], expression[:, 3], expression[:, 4] = jaw, blink, blink
    head = model.vertices(np.zeros(4), expression)
    return np.array([256.0, 256.0]) + scale * head[..., :2] * np.array([1, -1])


def test_sets_cover_each_point_once() -> None:
    sets = [marks.JAW, marks.BROWS, marks.NOSE, marks.EYES, marks.OUTER_MOUTH, marks.INNER_MOUTH]
    np.testing.assert_array_equal(np.sort(np.concatenate(sets)), np.arange(68))
    np.testing.assert_array_equal(np.concatenate([marks.RIGHT_EYE, marks.LEFT_EYE]), marks.EYES)


def test_mediapipe_points_are_where_ict_marks_them(real_data: Path) -> None:
    """On MediaPipe's canonical face, laid over the scanned one: nearest its own iBUG point, or nearly, and mirrored."""
    lines = (real_data / "morphable" / "mediapipe_canonical_face_model.obj").read_text().splitlines()
    canonical = np.array([line.split()[1:4] for line in lines if line.startswith("v ")], np.float64)
    points = marks.from_mediapipe(canonical)
    np.testing.assert_allclose(points[MIRROR] * [-1, 1, 1], points, atol=0.06)
    with np.load(real_data / "morphable" / "ict_facekit_light.npz") as data:
        scanned = data["neutral"][LANDMARK_VERTICES].astype(np.float64)
    a, b = points - points.mean(axis=0), scanned - scanned.mean(axis=0)
    rotation, _ = Rotation.align_vectors(b, a)
    turned = rotation.apply(a)
    error = np.linalg.norm(turned * np.sum(turned * b) / np.sum(turned**2) - b, axis=1)
    assert error[marks.INNER].mean() < 0.5 and error[marks.INNER].max() < 1.2  # cm; two faces that differ


def test_mediapipe_blendshapes_lose_neutral_and_gain_the_tongue() -> None:
    assert len(set(marks.BLENDSHAPE_NAMES)) == 52
    scores = np.arange(52.0)[None] / 52
    result = marks.blendshapes_from_mediapipe(scores)
    assert result[0, marks.BLENDSHAPE_NAMES.index("jawOpen")] == 25 / 52  # MediaPipe's category 25
    assert result[0, marks.BLENDSHAPE_NAMES.index("tongueOut")] == 0
    with pytest.raises(JaxtalkError, match="51"):
        marks.blendshapes_from_mediapipe(scores[:, 1:])


def test_lip_gap_follows_the_jaw_and_ignores_size_and_tilt() -> None:
    jaw = np.linspace(0, 1, 9)
    points = picture(jaw, np.zeros(9))
    gap = marks.lip_gap(points)
    width = 0.092  # between the drawn face's outer eye corners, metres
    np.testing.assert_allclose(gap - gap[0], 0.025 * jaw / width, rtol=1e-4, atol=1e-6)
    assert gap[0] > 0
    angle = np.radians(40)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(marks.lip_gap(0.3 * points @ turn.T + 7), gap, rtol=1e-6)


def test_overlapping_lips_are_negative() -> None:
    points = picture(np.zeros(1), np.zeros(1))
    points[:, marks.LIP_PAIRS[:, 0], 1] += 10
    assert marks.lip_gap(points)[0] < 0


def test_eye_openness_is_zero_in_blinks_and_one_between() -> None:
    blink = np.zeros(50)
    blink[[10, 11, 30]] = [1, 1, 0.5]
    openness = marks.eye_openness(picture(np.zeros(50), blink))
    assert openness.shape == (50, 2)
    np.testing.assert_array_equal(openness[[10, 11]], 0)
    assert np.all((openness[30] > 0.1) & (openness[30] < 0.8))
    np.testing.assert_allclose(np.delete(openness, [10, 11, 30], axis=0), 1)


def test_left_eye_comes_first() -> None:
    points = picture(np.zeros(20), np.zeros(20))
    points[5, [43, 44]] = points[5, [47, 46]]  # the subject's left eye, on the image's right, is shut
    openness = marks.eye_openness(points)
    assert openness[5, 0] == 0 and openness[5, 1] == 1


def moving_picture() -> np.ndarray:
    time = np.arange(60) / 25
    points = picture(0.5 + 0.5 * np.sin(9 * time), np.zeros(60))
    return points + 15 * np.stack([np.sin(2 * time), np.cos(time)], axis=-1)[:, None]


def test_mouth_box_keeps_its_size_and_holds_the_mouth() -> None:
    points = moving_picture()
    boxes = marks.mouth_box(points)
    np.testing.assert_allclose(np.ptp(boxes[:, 2:] - boxes[:, :2], axis=0), 0, atol=1e-3)
    mouth = points[:, marks.MOUTH]
    inside = (mouth >= boxes[:, None, :2]) & (mouth <= boxes[:, None, 2:])
    assert inside.all()
    assert np.mean(points[:, 8, 1] <= boxes[:, 3]) > 0.9  # the chin, open or shut
    assert np.all(points[:, 36:48, 1].max(axis=1) < boxes[:, 1])  # and no eyes


def test_mouth_box_is_moved_inside_the_picture() -> None:
    points = moving_picture() + np.array([0.0, 180.0])
    boxes = marks.mouth_box(points, (512, 512))
    assert boxes.min() >= 0 and boxes.max() <= 512
    np.testing.assert_allclose(np.ptp(boxes[:, 2:] - boxes[:, :2], axis=0), 0, atol=1e-3)


def test_face_box_holds_face_and_forehead_and_moves_smoothly() -> None:
    points = moving_picture()
    boxes = marks.face_box(points)
    assert np.all(points.min(axis=1) > boxes[:, :2]) and np.all(points.max(axis=1) < boxes[:, 2:])
    brows, chin = points[:, marks.BROWS, 1].mean(axis=1), points[:, 8, 1]
    assert np.all(brows - boxes[:, 1] > 0.6 * (chin - brows))
    noisy = points + np.random.default_rng(0).normal(scale=3, size=points.shape)
    rough = noisy.min(axis=1)
    assert np.abs(np.diff(marks.face_box(noisy)[:, :2], n=2, axis=0)).mean() < 0.3 * np.abs(
        np.diff(rough, n=2, axis=0)
    ).mean()  # fmt: skip


def test_face_box_is_cut_at_the_picture() -> None:
    boxes = marks.face_box(moving_picture() + 200, (300, 400))
    assert boxes[:, 2].max() <= 400 and boxes[:, 3].max() <= 300
