"""CSIM: the alignment of faces, what is compared with what, and frames without a face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from jaxtalk.errors import JaxtalkError
from jaxtalk.metrics import identity
from jaxtalk.metrics.identity import TEMPLATE, aligned_faces, csim, embeddings, five_points, similarity
from jaxtalk.nn.pretrained.iresnet import IResNet
from jaxtalk.weights import WeightsAbsent
from jaxtalk.weights.convert import shapes_of
from jaxtalk.weights.converted import put
from tests.goldens.drawn import uniform


def _matrix(degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    cosine, sine = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[cosine, -sine, shift[0]], [sine, cosine, shift[1]]])


def _moved(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


@pytest.mark.parametrize(
    ("degrees", "scale", "shift"), [(0, 1, (0, 0)), (25, 2.3, (10, -4)), (-160, 0.4, (90, 300)), (90, 1, (5, 5))]
)
def test_a_known_similarity_is_recovered(degrees: float, scale: float, shift: tuple[float, float]) -> None:
    matrix = _matrix(degrees, scale, shift)
    found = similarity(TEMPLATE[None], _moved(matrix, TEMPLATE)[None])[0]
    np.testing.assert_allclose(found, matrix, atol=1e-9)


def test_the_similarity_is_umeyamas() -> None:
    """Against scikit-image's, for points that fit badly, mirrored ones among them: it never mirrors."""
    transform = pytest.importorskip("skimage.transform")
    points = np.random.default_rng(0).uniform(0, 100, (20, 5, 2))
    points[10:, :, 0] *= -1
    for found, target in zip(similarity(np.broadcast_to(TEMPLATE, points.shape), points), points, strict=True):
        expected = transform.SimilarityTransform.from_estimate(TEMPLATE, target).params[:2]
        np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


def _landmarks(five: np.ndarray) -> np.ndarray:
    """68 points, of which only the used ones mean anything."""
    points = np.random.default_rng(0).uniform(0, 100, (68, 2))
    around = np.array([[3, 0], [1, 2], [-1, 2], [-3, 0], [-1, -2], [1, -2]])
    points[36:42], points[42:48] = five[0] + around, five[1] + around
    points[30], points[48], points[54] = five[2:]
    return points


def test_five_points() -> None:
    np.testing.assert_allclose(five_points(_landmarks(TEMPLATE)[None])[0], TEMPLATE)


def _scene(matrix: np.ndarray, size: int = 320) -> np.ndarray:
    """A smooth picture, drawn as it looks after a similarity; pixel centres at + 0.5."""
    x, y = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    u, v = np.moveaxis(_moved(inverse, np.stack([x, y], -1)), -1, 0)
    waves = [np.sin(u / 9) * np.cos(v / 14), np.sin((u + v) / 17), np.cos(u / 11 - v / 23)]
    return np.rint(127 + 120 * np.stack(waves, -1)).astype(np.uint8)


def test_a_turned_and_scaled_picture_gives_the_same_face() -> None:
    still, moved = _matrix(0, 1, (0, 0)), _matrix(17, 1.4, (70, -30))
    points = TEMPLATE * 1.2 + 40
    faces = [
        aligned_faces(_scene(matrix)[None], _landmarks(_moved(matrix, points))[None])[0].astype(int)
        for matrix in (still, moved)
    ]
    assert np.abs(faces[0] - faces[1]).max() <= 4 and np.std(faces[0]) > 40


def test_alignment_of_the_template_itself_changes_nothing() -> None:
    """A crop whose points, in its own pixels, lie on the template: a pixel's centre is at + 0.5 here, at 0 there."""
    crop = np.random.default_rng(0).integers(0, 255, (1, 112, 112, 3), np.uint8)
    np.testing.assert_array_equal(aligned_faces(crop, _landmarks(TEMPLATE + 0.5)[None]), crop)
    shifted = aligned_faces(crop, _landmarks(TEMPLATE + 0.5 + [10, 0])[None])
    np.testing.assert_array_equal(shifted[:, :, :-10], crop[:, :, 10:])
    assert not shifted[:, :, -10:].any(), "black beyond the picture"


def test_alignment_equals_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    frame, points = _scene(_matrix(0, 1, (0, 0))), _moved(_matrix(-20, 1.7, (60, 80)), TEMPLATE)
    matrix = similarity(points[None] - 0.5, TEMPLATE[None])[0]
    expected = cv2.warpAffine(frame, matrix, (112, 112)).astype(int)
    assert np.abs(aligned_faces(frame[None], _landmarks(points)[None])[0] - expected).max() <= 3


def test_points_in_one_place_are_refused() -> None:
    points = np.stack([TEMPLATE, np.ones((5, 2))])
    with pytest.raises(JaxtalkError, match="face 1 all lie in one place"):
        similarity(points, points)


def test_csim_goldens() -> None:
    first = np.array([[3.0, 4.0], [1.0, 0.0], [1.0, 1.0], [np.nan, 0.0], [2.0, 1.0]])
    second = np.array([[6.0, 8.0], [0.0, 2.0], [-2.0, -2.0], [1.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(csim(first, second), [1, 0, -1, np.nan, np.nan], atol=1e-12)
    np.testing.assert_allclose(csim(first[:3], np.array([4.0, 3.0])), [24 / 25, 0.8, 7 / (5 * 2**0.5)])
    with pytest.raises(JaxtalkError, match=r"embeddings \(5, 2\) and \(4, 2\)"):
        csim(first, second[:4])


@pytest.fixture(scope="module")
def network() -> IResNet:
    small = nnx.eval_shape(lambda: IResNet((1, 1, 1, 1), divisor=16, rngs=nnx.Rngs(0)))
    shapes = shapes_of(small)
    low = {path: 0.1 if path.endswith("var") else -0.3 for path in shapes}
    put(small, {path: uniform(path, shape, low[path], 0.5) for path, shape in shapes.items()}, "test")
    return small


def test_embeddings_are_the_networks_of_aligned_faces(network: IResNet) -> None:
    """19 faces in two batches; those that are not there are NaN; RGB in [-1, 1]."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (21, 120, 120, 3), np.uint8)
    landmarks = np.stack([_landmarks(TEMPLATE + rng.uniform(0, 8, (5, 2))) for _ in range(21)])
    landmarks[4], landmarks[17, 0, 0] = np.nan, np.inf
    values = embeddings(frames, landmarks, network)
    assert values.shape == (21, 32)
    np.testing.assert_array_equal(np.isnan(values).any(1), np.isin(np.arange(21), [4, 17]))
    call = nnx.jit(lambda network, faces: network(faces))
    for frame in (0, 3, 16, 20):
        face = aligned_faces(frames[[frame]], landmarks[[frame]]).astype(np.float32) / 127.5 - 1
        np.testing.assert_allclose(values[frame], call(network, face)[0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(csim(values, values)[[0, 20]], 1)
    assert np.isnan(csim(values, values)[4])


def test_embeddings_of_no_face_at_all(network: IResNet) -> None:
    frames = np.zeros((3, 64, 64, 3), np.uint8)
    assert np.isnan(embeddings(frames, np.full((3, 68, 2), np.nan), network)).all()
    with pytest.raises(JaxtalkError, match=r"landmarks \(2, 68, 2\)"):
        embeddings(frames, np.zeros((2, 68, 2)), network)


@pytest.mark.parametrize("variant", ["r50", "r100"])
def test_absent_weights_are_an_error(variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXTALK_CACHE", str(tmp_path))
    with pytest.raises(WeightsAbsent, match=f"iresnet{variant[1:]}"):
        identity.load(variant)
    with pytest.raises(JaxtalkError, match="'r34' is unknown"):
        identity.load("r34")
