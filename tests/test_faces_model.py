"""The face model: the linear blend against loops, subsets, regions, and what is refused."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxtalk.errors import JaxtalkError
from jaxtalk.faces.model import load_face_model
from tests.drawn_face import drawn_face


def test_vertices_are_the_sum_of_the_bases() -> None:
    model, rng = drawn_face(), np.random.default_rng(0)
    identity, expression = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 6))
    expected = np.empty((2, 3, 68, 3))
    for i in range(2):
        for j in range(3):
            vertices = model.template.astype(np.float64)
            for k in range(4):
                vertices = vertices + identity[i, j, k] * model.identity_basis[k]
            for k in range(6):
                vertices = vertices + expression[i, j, k] * model.expression_basis[k]
            expected[i, j] = vertices
    result = model.vertices(identity, expression)
    assert isinstance(result, np.ndarray)
    np.testing.assert_allclose(result, expected, atol=1e-9)
    traced = model.vertices(jnp.asarray(identity), jnp.asarray(expression))
    assert isinstance(traced, jnp.ndarray)
    np.testing.assert_allclose(traced, expected, atol=1e-6)


def test_one_identity_serves_many_expressions() -> None:
    model = drawn_face()
    expression = np.eye(6)
    together = model.vertices(np.ones(4), expression)
    np.testing.assert_allclose(together[2], model.vertices(np.ones(4), expression[2]))


def test_subset_keeps_landmarks_triangles_and_regions() -> None:
    model = drawn_face()
    order = np.random.default_rng(1).permutation(68)
    part = model.subset(order)
    np.testing.assert_array_equal(part.template[part.landmark_vertices], model.template[model.landmark_vertices])
    corners = {tuple(sorted(map(tuple, model.template[t].tolist()))) for t in model.triangles}
    assert {tuple(sorted(map(tuple, part.template[t].tolist()))) for t in part.triangles} == corners
    np.testing.assert_array_equal(np.sort(order[part.regions["face"]]), model.regions["face"])


def test_subset_without_a_landmark_is_refused() -> None:
    with pytest.raises(JaxtalkError, match="landmark 30"):
        drawn_face().subset(np.delete(np.arange(68), 30))


def test_region_triangles_lie_inside() -> None:
    model = dataclasses.replace(
        drawn_face(), regions={"head": np.arange(5), "face": np.array([57]), "neck": np.arange(0)}
    )
    assert len(model.region_triangles("head")) == 0
    np.testing.assert_array_equal(model.region_triangles("head", "face"), [[i, i + 1, 57] for i in range(4)])


def test_wrong_shapes_and_missing_regions_are_refused() -> None:
    model = drawn_face()
    with pytest.raises(JaxtalkError, match="expression_basis"):
        dataclasses.replace(model, expression_names=("jawOpen",))
    with pytest.raises(JaxtalkError, match="landmark_vertices"):
        dataclasses.replace(model, landmark_vertices=np.arange(51))
    with pytest.raises(JaxtalkError, match="'neck'"):
        dataclasses.replace(model, regions={"head": np.arange(3), "face": np.arange(3)})


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(JaxtalkError, match="ict, procedural"):
        load_face_model("candide")
