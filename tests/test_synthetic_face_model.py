"""The procedural face model: its topology, its landmarks, and that each coefficient does what its name says."""

from __future__ import annotations

import numpy as np
import pytest

from jaxtalk.faces.landmarks import BLENDSHAPE_NAMES, JAW, LIP_PAIRS
from jaxtalk.faces.model import FaceModel, load_face_model
from jaxtalk.faces.rasterizer import vertex_normals


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return load_face_model("procedural")


def _posed(model: FaceModel, **coefficients: float) -> np.ndarray:
    expression = np.zeros(model.num_expression, np.float32)
    for name, value in coefficients.items():
        sides = [name] if name in model.expression_names else [f"{name}Left", f"{name}Right"]
        for side in sides:
            expression[model.expression_names.index(side)] = value
    return model.vertices(np.zeros(model.num_identity, np.float32), expression)


def _lip_gap(model: FaceModel, vertices: np.ndarray) -> float:
    lips = 60 + LIP_PAIRS - LIP_PAIRS.min()
    points = vertices[model.landmark_vertices]
    return float((points[lips[:, 0], 1] - points[lips[:, 1], 1]).mean())


def _eye_gap(model: FaceModel, vertices: np.ndarray, first: int) -> float:
    points = vertices[model.landmark_vertices]
    return float(points[first + 1 : first + 3, 1].mean() - points[first + 4 : first + 6, 1].mean())


def test_proportions_are_those_of_a_head(model: FaceModel) -> None:
    points = model.template[model.landmark_vertices]
    head = model.template[model.regions["head"]]
    assert 0.20 < np.ptp(head[:, 1]) < 0.25 and 0.14 < np.ptp(head[:, 0]) < 0.19
    assert np.abs((head.min(axis=0) + head.max(axis=0)) / 2).max() < 0.02, "the origin is the head's centre"
    assert 0.055 < points[42:48, 0].mean() - points[36:42, 0].mean() < 0.070, "distance of the pupils"
    assert head[:, 2].max() == pytest.approx(points[30, 2], abs=0.003), "the nose's tip is in front of all"


def test_landmarks_follow_ibug_order(model: FaceModel) -> None:
    points = model.template[model.landmark_vertices]
    mirror = [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46,
              39, 38, 37, 36, 41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66,
              65]  # fmt: skip
    np.testing.assert_allclose(points[mirror] * [-1, 1, 1], points, atol=0.0025)
    assert (np.diff(points[JAW, 0]) > 0).all(), "the jaw line runs from the image's left to its right"
    assert points[JAW, 1].argmin() == 8
    heights = [points[index, 1].mean() for index in (range(17, 27), range(36, 48), [30], [33], [51], [62], [57], [8])]
    assert (np.diff(heights) < 0).all(), "brows, eyes, nose tip, nose base, lips, chin"


def test_only_mouth_eyes_crown_and_neck_are_open(model: FaceModel) -> None:
    """Every other edge of the skin has two triangles: no cracks, consistent topology. (The seam behind is doubled.)"""
    skin = model.triangles[(model.triangles < model.regions["left_eye"].min()).all(axis=1)]
    edges = np.sort(np.concatenate([skin[:, [0, 1]], skin[:, [1, 2]], skin[:, [2, 0]]]), axis=1)
    unique, count = np.unique(edges, axis=0, return_counts=True)
    assert count.max() == 2
    border = model.template[np.unique(unique[count == 1])]
    near_eye = np.hypot(np.abs(border[:, 0]) - 0.0315, border[:, 1] - 0.0125) < 0.02
    near_mouth = (np.abs(border[:, 0]) < 0.03) & (np.abs(border[:, 1] + 0.06) < 0.003)
    front = border[:, 2] > 0.03
    assert (near_eye | near_mouth | ~front | (border[:, 1] < -0.2)).all()
    assert near_eye[front].sum() > 40 and near_mouth[front].sum() > 40


def test_triangles_face_outwards(model: FaceModel) -> None:
    normals = vertex_normals(model.template, model.triangles)
    face = model.regions["face"]
    lips_and_lids = np.isin(face, model.landmark_vertices)
    assert (normals[face][~lips_and_lids][:, 2] > 0).mean() > 0.93
    assert (np.einsum("ij,ij->i", normals[model.regions["scalp"]], model.template[model.regions["scalp"]]) > 0).all()


def test_lips_are_shut_at_rest_and_open_with_the_jaw(model: FaceModel) -> None:
    assert _lip_gap(model, model.template) == pytest.approx(0, abs=1e-6)
    gaps = [_lip_gap(model, _posed(model, jawOpen=value)) for value in (0.25, 0.5, 1.0)]
    assert gaps[0] > 0.003 and gaps[2] > 0.012
    np.testing.assert_allclose(gaps, np.array([0.25, 0.5, 1.0]) * gaps[2], rtol=1e-4)
    assert _lip_gap(model, _posed(model, mouthPress=1.0)) == pytest.approx(0, abs=3e-4)


def test_blinks_shut_one_eye_each(model: FaceModel) -> None:
    open_left, open_right = (_eye_gap(model, model.template, first) for first in (42, 36))
    assert open_left == pytest.approx(open_right, rel=0.02) and open_left > 0.006
    shut = _posed(model, eyeBlinkLeft=1.0)
    assert _eye_gap(model, shut, 42) == pytest.approx(0, abs=1e-5)
    assert _eye_gap(model, shut, 36) == pytest.approx(open_right, abs=1e-6)


@pytest.mark.parametrize("blink", [0.0, 0.5, 1.0])
def test_lids_never_cut_into_the_eyeball(model: FaceModel, blink: float) -> None:
    vertices = _posed(model, eyeBlink=blink)
    eye = vertices[model.regions["left_eye"]]
    centre = np.array([*(eye[:, :2].min(axis=0) + eye[:, :2].max(axis=0)) / 2, eye[:, 2].max() - np.ptp(eye[:, 0]) / 2])
    lids = vertices[model.landmark_vertices[[43, 44, 46, 47]]]
    assert (np.linalg.norm(lids - centre, axis=1) > np.ptp(eye[:, 0]) / 2).all()


def test_mouth_shapes_change_its_width_as_they_should(model: FaceModel) -> None:
    def width(vertices: np.ndarray) -> float:
        points = vertices[model.landmark_vertices]
        return float(points[54, 0] - points[48, 0])

    rest = width(model.template)
    assert width(_posed(model, mouthPucker=1.0)) < 0.75 * rest
    assert width(_posed(model, mouthFunnel=1.0)) < 0.90 * rest
    assert width(_posed(model, mouthStretch=1.0)) > 1.15 * rest
    smile = _posed(model, mouthSmile=1.0)[model.landmark_vertices]
    assert (smile[[48, 54], 1] > model.template[model.landmark_vertices][[48, 54], 1] + 0.004).all()


def test_expressions_are_local(model: FaceModel) -> None:
    """Blinks leave the mouth alone and the mouth leaves the eyes alone; nothing moves scalp or neck's end."""
    points = model.landmark_vertices
    for name, basis in zip(model.expression_names, model.expression_basis, strict=True):
        move = np.linalg.norm(basis, axis=-1)
        if name.startswith(("eyeBlink", "brow")):
            assert move[points[48:68]].max() < 1e-4, name
        if name.startswith(("mouth", "jaw", "tongue")):
            assert move[points[36:48]].max() < 1e-3, name
        assert move[model.regions["scalp"]].max() < 2e-3, name
        assert move.max() > 1e-3, f"{name} does nothing"


def test_every_identity_coefficient_changes_the_face_differently(model: FaceModel) -> None:
    flat = model.identity_basis[:, model.regions["face"]].reshape(model.num_identity, -1)
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    overlap = np.abs(unit @ unit.T) - np.eye(len(unit))
    assert overlap.max() < 0.95
    assert np.linalg.norm(model.identity_basis, axis=-1).max(axis=1).min() > 7e-4


def test_names_are_arkit_names(model: FaceModel) -> None:
    assert set(model.expression_names) - set(BLENDSHAPE_NAMES) == {"tongueUp"}
    assert model.expression_range == (0.0, 1.0)
