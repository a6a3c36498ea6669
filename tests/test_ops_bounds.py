"""Mesh bounds: they hold the true surface at any pose, are thin on it, wide around it, and the clip's far from it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxtalk.ops.bounds import look_up, mesh_bounds
from jaxtalk.ops.cameras import pixel_rays

SIZE, RADIUS = (64, 48), 0.1
CAMERA = jnp.array([140.0, 24.0, 32.0])
RANGE = jnp.array([0.6, 1.0])
SETTINGS = {"size": SIZE, "grid": 64, "front": 0.015, "behind": 0.03, "reach": 0.05}


def _sphere(count: int = 1000) -> np.ndarray:
    """Points spread evenly over a sphere (a spiral)."""
    height = 1 - 2 * (np.arange(count) + 0.5) / count
    angle = np.pi * (1 + 5**0.5) * np.arange(count)
    ring = np.sqrt(1 - height**2)
    return RADIUS * np.stack([ring * np.cos(angle), ring * np.sin(angle), height], -1).astype(np.float32)


def _case(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Per pixel: bounds, whether its ray meets the sphere, at which depth, how far it passes; the centre's depth."""
    rng = np.random.default_rng(seed)
    rotation = jnp.asarray(Rotation.from_rotvec(rng.normal(size=3)).as_matrix(), jnp.float32)
    translation = jnp.asarray([*rng.uniform(-0.03, 0.03, 2), rng.uniform(-0.85, -0.75)], jnp.float32)
    bounds = mesh_bounds(jnp.asarray(_sphere()), rotation, translation, CAMERA, RANGE, **SETTINGS)
    pixels = np.stack(np.meshgrid(np.arange(SIZE[1]), np.arange(SIZE[0])), -1).reshape(-1, 2) + 0.5
    origin, directions = (np.asarray(a) for a in pixel_rays(jnp.asarray(pixels), rotation, translation, CAMERA))
    # |o + z d|^2 = r^2
    a, b, c = (directions**2).sum(-1), directions @ origin, origin @ origin
    root = b**2 - a * (c - RADIUS**2)
    depth = (-b - np.sqrt(np.maximum(root, 0))) / a
    miss = np.sqrt(np.maximum(c - b**2 / a, 0)) - RADIUS
    centre = -float(translation[2])
    return np.asarray(look_up(bounds, jnp.asarray(pixels), SIZE)), root > 0, depth, miss, centre


@pytest.mark.parametrize("seed", range(4))
def test_the_true_surface_is_inside_and_the_interval_thin(seed: int) -> None:
    bounds, hit, depth, _, _ = _case(seed)
    assert (bounds[hit, 0] <= depth[hit]).all() and (depth[hit] <= bounds[hit, 1]).all()
    width = bounds[:, 1] - bounds[:, 0]
    assert np.median(width[hit]) < 0.06  # of 0.4 that the clip's range has


def test_around_the_silhouette_the_interval_opens_with_the_distance() -> None:
    bounds, hit, _, miss, centre_depth = _case(0)
    width = bounds[:, 1] - bounds[:, 0]
    near_rim, far_rim = (~hit & (miss > low) & (miss < low + 0.01) for low in (0.01, 0.035))
    assert width[near_rim].mean() > np.median(width[hit]) + 0.004
    assert width[far_rim].mean() > width[near_rim].mean() + 0.02
    assert ((bounds[near_rim, 0] < centre_depth) & (centre_depth < bounds[near_rim, 1] + 0.005)).all()


def test_far_from_the_head_the_clip_s_range_is_sampled() -> None:
    bounds, _, _, miss, _ = _case(2)
    away = miss > 0.1
    assert away.sum() > 20
    np.testing.assert_allclose(bounds[away], np.broadcast_to(np.asarray(RANGE), bounds[away].shape))


def test_nothing_leaves_the_clip_s_range_even_without_a_head_in_view() -> None:
    aside = jnp.array([5.0, 0.0, -0.8])
    bounds = np.asarray(mesh_bounds(jnp.asarray(_sphere()), jnp.eye(3), aside, CAMERA, RANGE, **SETTINGS))
    assert bounds.shape == (64, 48, 2)
    np.testing.assert_allclose(bounds[..., 0], 0.6)
    np.testing.assert_allclose(bounds[..., 1], 1.0)


def test_frames_at_once_equal_frames_one_by_one() -> None:
    rotation = jnp.asarray(Rotation.from_euler("y", [[-0.3], [0.2]]).as_matrix(), jnp.float32)
    translation = jnp.array([[0.0, 0.01, -0.8], [0.02, 0.0, -0.75]])
    points = jnp.asarray(_sphere())

    def one(r: jax.Array, t: jax.Array) -> jax.Array:
        return mesh_bounds(points, r, t, CAMERA, RANGE, **SETTINGS)

    together = jax.vmap(one)(rotation, translation)
    for i in range(2):
        np.testing.assert_allclose(together[i], one(rotation[i], translation[i]), atol=1e-4)
