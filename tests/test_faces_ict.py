"""ICT-FaceKit: our axes and units, the regions, the meaning of its expressions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jaxtalk.errors import JaxtalkError
from jaxtalk.faces import landmarks as marks
from jaxtalk.faces.ict import triangulate
from jaxtalk.faces.model import FaceModel, load_face_model


@pytest.fixture(scope="module")
def ict(real_data: Path) -> FaceModel:
    return load_face_model("ict", real_data / "morphable" / "ict_facekit_light.npz")


def move(model: FaceModel, name: str) -> np.ndarray:
    """Displacement [68, 3] of the landmarks by one expression."""
    return model.expression_basis[model.expression_names.index(name)][model.landmark_vertices]


def test_axes_and_units(ict: FaceModel) -> None:
    points = ict.template[ict.landmark_vertices]
    assert points[30, 2] == points[:, 2].max()  # the nose points at the camera: +z
    assert points[marks.LEFT_EYE, 0].min() > 0 > points[marks.RIGHT_EYE, 0].max()  # subject's left: image's right
    assert points[marks.BROWS, 1].min() > points[marks.MOUTH, 1].max() > points[8, 1]  # y up
    assert 0.08 < np.linalg.norm(points[45] - points[36]) < 0.11  # metres
    head = ict.template[ict.regions["head"]]
    np.testing.assert_allclose(head.min(axis=0) + head.max(axis=0), 0, atol=1e-6)
    assert (ict.num_identity, ict.num_expression, ict.expression_range) == (100, 57, (0.0, 1.0))


def test_expressions_move_what_they_name(ict: FaceModel) -> None:
    jaw = move(ict, "jawOpen")
    assert jaw[66, 1] < -0.01 and abs(jaw[62, 1]) < 0.003  # lower lip down, upper lip stays
    blink = move(ict, "eyeBlink_L")
    assert blink[[43, 44], 1].max() < -0.003 and np.abs(blink[[37, 38]]).max() < 1e-4
    smile = move(ict, "mouthSmile_R")
    assert smile[48, 1] > 0.003 > smile[54, 1]


def test_regions(ict: FaceModel) -> None:
    head, neck, face = (ict.regions[name] for name in ("head", "neck", "face"))
    assert not set(head) & set(neck) and set(face) <= set(head)
    assert set(ict.landmark_vertices) <= set(head)
    assert ict.template[neck, 1].max() < ict.template[ict.landmark_vertices[4], 1]
    assert ict.template[ict.regions["teeth"], 2].max() < ict.template[ict.landmark_vertices[51], 2]


def test_triangles_face_outwards(ict: FaceModel) -> None:
    triangles = ict.region_triangles("face")
    a, b, c = (ict.template[triangles[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    front = np.abs(normal[:, 2]) > 0.8 * np.linalg.norm(normal, axis=1)
    assert np.mean(normal[front, 2] > 0) > 0.9  # the insides of nostrils and lips look back


def test_quads_are_cut_and_triangles_kept() -> None:
    result = triangulate(np.array([[0, 1, 2, 3], [4, 5, 6, -1]]))
    np.testing.assert_array_equal(result, [[0, 1, 2], [4, 5, 6], [0, 2, 3]])


def test_missing_and_damaged_files_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXTALK_CACHE", str(tmp_path))
    with pytest.raises(JaxtalkError, match="jaxtalk weights get ict_facekit"):
        load_face_model("ict")
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(JaxtalkError, match=r"bad\.npz"):
        load_face_model("ict", tmp_path / "bad.npz")


def test_a_mesh_in_another_order_is_refused(real_data: Path, tmp_path: Path) -> None:
    with np.load(real_data / "morphable" / "ict_facekit_light.npz") as data:
        content = {name: data[name][:3] if name.endswith("deltas") else data[name] for name in data.files}
    content["expression_names"] = content["expression_names"][:3]
    np.savez(tmp_path / "same.npz", **content)
    assert load_face_model("ict", tmp_path / "same.npz").num_identity == 3
    np.savez(tmp_path / "rolled.npz", **(content | {"neutral": np.roll(content["neutral"], 5, axis=0)}))
    with pytest.raises(JaxtalkError, match="another order"):
        load_face_model("ict", tmp_path / "rolled.npz")
