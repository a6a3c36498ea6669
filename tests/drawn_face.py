"""A face model for tests: 68 points on an ellipsoid and a few obvious ways to move them."""

from __future__ import annotations

import numpy as np

from jaxtalk.faces.model import FaceModel


def _layout() -> np.ndarray:
    """[68, 2] centimetres: a frontal face seen from the camera, x to the image's right, y up."""

    def arc(count: int, start: float, end: float, width: float, height: float, x: float, y: float) -> np.ndarray:
        angle = np.radians(np.linspace(start, end, count))
        return np.stack([x + width * np.cos(angle), y + height * np.sin(angle)], axis=-1)

    def eye(x: float) -> np.ndarray:
        return np.array([[x - 1.4, 3], [x - 0.5, 3.4], [x + 0.5, 3.4], [x + 1.4, 3], [x + 0.5, 2.6], [x - 0.5, 2.6]])

    outer = np.concatenate([arc(7, 180, 0, 2.5, 1.0, 0, -3.5), arc(7, 0, -180, 2.5, 1.2, 0, -3.5)[1:-1]])
    inner = np.concatenate([arc(5, 180, 0, 2.0, 0.1, 0, -3.5), arc(5, 0, -180, 2.0, 0.1, 0, -3.5)[1:-1]])
    return np.concatenate([
        arc(17, 180, 360, 7.2, 10.0, 0, 2.0),
        arc(5, 150, 60, 2.2, 0.8, -3.4, 5.0),
        arc(5, 120, 30, 2.2, 0.8, 3.4, 5.0),
        np.stack([np.zeros(4), np.linspace(3.5, 0.5, 4)], axis=-1),
        np.stack([np.linspace(-1.3, 1.3, 5), np.full(5, -1.0)], axis=-1),
        eye(-3.2),
        eye(3.2),
        outer,
        inner,
    ])  # fmt: skip


def drawn_face(expression_range: tuple[float, float] | None = (0.0, 1.0)) -> FaceModel:
    """Identity: width, chin, eye distance, nose. Expression: jaw, smile, brows, left and right lid, a hidden one."""
    flat = _layout()
    depth = 9.0 * np.sqrt(np.maximum(0, 1 - (flat[:, 0] / 9) ** 2 - (flat[:, 1] / 14) ** 2))
    points = np.concatenate([flat, depth[:, None]], axis=1)
    points[27:36, 2] += np.array([0.3, 1.0, 1.8, 2.6, 0.8, 1.2, 1.4, 1.2, 0.8])

    def moves(**shifts: tuple[list[int], tuple[float, float, float]]) -> np.ndarray:
        basis = np.zeros((len(shifts), 68, 3))
        for row, (index, shift) in zip(basis, shifts.values(), strict=True):
            row[index] = shift
        return basis

    lower_lip = [55, 56, 57, 58, 59, 65, 66, 67]
    expression = moves(
        jawOpen=([*lower_lip, *range(5, 12)], (0, -2.5, -0.5)),
        smile=([48, 54, 60, 64], (0, 0.8, -0.3)),
        browUp=(list(range(17, 27)), (0, 1.0, 0)),
        eyeBlink_L=([43, 44], (0, -0.75, 0)),
        eyeBlink_R=([37, 38], (0, -0.75, 0)),
        eyeLook=([], (0, 0, 0)),
    )
    identity = moves(
        wide=(list(range(68)), (0, 0, 0)),
        chin=(list(range(4, 13)), (0, -0.5, 0)),
        eyes=(list(range(42, 48)), (0.25, 0, 0)),
        nose=([28, 29, 30], (0, 0, 0.5)),
    )
    identity[0, :, 0] = 0.05 * points[:, 0]
    identity[2, 36:42, 0] = -0.25
    triangles = np.array([[i, i + 1, 57] for i in range(16)], np.int32)
    return FaceModel(
        name="drawn",
        template=(0.01 * points).astype(np.float32),
        identity_basis=(0.01 * identity).astype(np.float32),
        expression_basis=(0.01 * expression).astype(np.float32),
        triangles=triangles,
        landmark_vertices=np.arange(68),
        expression_names=("jawOpen", "smile", "browUp", "eyeBlink_L", "eyeBlink_R", "eyeLook"),
        regions={"head": np.arange(68), "face": np.arange(17, 68), "neck": np.arange(0)},
        expression_range=expression_range,
    )
