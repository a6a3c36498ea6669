"""Tri-planes: which coordinates each plane reads, and that the source's pixels lie where they should (card 2.2, 5)."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxtalk.ops.cameras import pixel_rays
from jaxtalk.ops.triplane import View, plane_coordinates, sample_planes, sample_zero_padded

SIZE = (8, 8)


def _view() -> View:
    rotation = Rotation.from_euler("yx", [20, -10], degrees=True).as_matrix()
    arrays = (rotation, [0.01, -0.02, -0.7], [14.0, 4.3, 3.8])
    return View(*(jnp.asarray(a, jnp.float32) for a in arrays))


def _coordinate_planes(side: int = 64) -> np.ndarray:
    """Planes whose two channels are the coordinates (column, row) of each cell, -1 .. 1."""
    centres = (np.arange(side) + 0.5) * 2 / side - 1
    return np.stack(np.meshgrid(centres, centres), -1)


def test_the_planes_read_xy_yz_and_xz() -> None:
    """Card 5.1: a point (1, 2, 3) is asked at (1, 2), (2, 3) and (1, 3); EG3D's own axes never use y with z."""
    point = jnp.array([[0.1, 0.2, 0.3]])
    grid = _coordinate_planes()
    for plane, expected in enumerate([(0.1, 0.2), (0.2, 0.3), (0.1, 0.3)]):
        planes = np.zeros((3, *grid.shape), np.float32)
        planes[plane] = grid
        np.testing.assert_allclose(3 * sample_planes(jnp.asarray(planes), point)[0], expected, atol=1e-6)
    alone = sample_planes(jnp.asarray(grid[None], jnp.float32), point)[0]  # the first plane, without the others
    np.testing.assert_allclose(alone, (0.1, 0.2), atol=1e-6)


def test_outside_is_zero_and_borders_lie_on_the_outer_cells_edges() -> None:
    """grid_sample with align_corners=False and zero padding, against its definition written out."""
    random = np.random.default_rng(0)
    maps, places = random.normal(size=(3, 5, 2)).astype(np.float32), random.uniform(-1.6, 1.6, (50, 2))

    def cell(row: int, column: int) -> np.ndarray:
        return maps[row, column] if 0 <= row < 3 and 0 <= column < 5 else np.zeros(2)

    expected = []
    for x, y in places:
        column, row = (x + 1) * 5 / 2 - 0.5, (y + 1) * 3 / 2 - 0.5
        c, r = int(np.floor(column)), int(np.floor(row))
        u, v = column - c, row - r
        expected.append((cell(r, c) * (1 - u) + cell(r, c + 1) * u) * (1 - v)
                        + (cell(r + 1, c) * (1 - u) + cell(r + 1, c + 1) * u) * v)  # fmt: skip
    found = sample_zero_padded(jnp.asarray(maps), jnp.asarray(places, jnp.float32))
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-5)


def test_a_source_ray_reads_its_own_pixel() -> None:
    """Card 5.7: in perspective, wherever on the ray; a picture that is a gradient tells mirrored axes."""
    view = _view()
    pixels = jnp.array([[0.5, 0.5], [7.5, 0.5], [2.25, 6.5]])
    origin, directions = pixel_rays(pixels, *view)
    for depth in (0.6, 0.7, 0.85):
        places = plane_coordinates(origin + depth * directions, view, SIZE, 0.3, "perspective")
        np.testing.assert_allclose((places[:, :2] + 1) * 4, pixels, atol=1e-3)
        np.testing.assert_allclose(places[:, 2], (depth - 0.7) / 0.15, atol=1e-4)
    gradient = jnp.asarray(_coordinate_planes(8), jnp.float32)
    read = sample_zero_padded(gradient, places[1:, :2])
    np.testing.assert_allclose((read + 1) * 4, pixels[1:], atol=0.5)  # half a cell


def test_the_orthographic_projection_agrees_at_the_depth_of_the_centre_alone() -> None:
    view = _view()
    origin, directions = pixel_rays(jnp.array([[6.0, 1.0]]), *view)
    at, behind = (origin + depth * directions for depth in (0.7, 0.8))
    exact, scaled = (
        plane_coordinates(jnp.concatenate([at, behind]), view, SIZE, 0.3, kind)
        for kind in ("perspective", "orthographic")
    )
    np.testing.assert_allclose(scaled[0], exact[0], atol=1e-5)
    middle = (view.camera[1:] / 4) - 1
    np.testing.assert_allclose(scaled[1, :2] - middle, (exact[1, :2] - middle) * 8 / 7, atol=1e-4)
    with pytest.raises(ValueError, match="projection"):
        plane_coordinates(at, view, SIZE, 0.3, "fisheye")


def test_turning_world_and_pose_together_changes_nothing() -> None:
    """Card 5.9: coordinates are those of the source camera."""
    view, turn = _view(), Rotation.from_euler("zyx", [30, 40, 50], degrees=True).as_matrix()
    points = np.random.default_rng(0).normal(size=(5, 3)) * 0.1
    turned = view._replace(rotation=view.rotation @ jnp.asarray(turn.T, jnp.float32))
    places = [
        plane_coordinates(jnp.asarray(p, jnp.float32), v, SIZE, 0.3, "perspective")
        for p, v in ((points, view), (points @ turn.T, turned))
    ]
    np.testing.assert_allclose(*places, atol=1e-4)
