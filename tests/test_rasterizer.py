"""The rasterizer against a ray through every pixel, tested with every triangle."""

from __future__ import annotations

import numpy as np
import pytest

from jaxtalk.clip import Camera
from jaxtalk.faces.rasterizer import interpolate, rasterize, vertex_normals


def _ray_reference(
    vertices: np.ndarray, triangles: np.ndarray, camera: Camera, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nearest hit of the ray through each pixel's centre: depth, triangle, barycentric coordinates of the 3D point."""
    depth, index = np.full(size, np.inf), np.full(size, -1)
    weights = np.zeros((*size, 3))
    for row in range(size[0]):
        for column in range(size[1]):
            ray = np.array([(column + 0.5 - camera.cx) / camera.focal, -(row + 0.5 - camera.cy) / camera.focal, -1.0])
            for t, corners in enumerate(vertices[triangles]):
                system = np.stack([corners[0], corners[1], corners[2]], 1)
                if abs(np.linalg.det(system)) < 1e-15:
                    continue
                scaled = np.linalg.solve(system, ray)  # corners @ scaled = ray; the hit is ray / sum(scaled)
                if scaled.sum() > 0 and (scaled >= 0).all() and 1 / scaled.sum() < depth[row, column]:
                    depth[row, column], index[row, column] = 1 / scaled.sum(), t
                    weights[row, column] = scaled / scaled.sum()
    return depth, index, weights


def _triangle_soup(seed: int) -> tuple[np.ndarray, np.ndarray, Camera]:
    rng = np.random.default_rng(seed)
    vertices = np.stack([rng.uniform(-0.6, 0.6, 30), rng.uniform(-0.6, 0.6, 30), rng.uniform(-2.0, -0.5, 30)], 1)
    return vertices, rng.permutation(30).reshape(10, 3), Camera(26.0, 13.3, 9.1)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_pixel_sees_what_its_ray_hits_first(seed: int) -> None:
    vertices, triangles, camera = _triangle_soup(seed)
    size = (20, 26)
    raster = rasterize(vertices, triangles, camera, size)
    depth, index, weights = _ray_reference(vertices, triangles, camera, size)
    assert 0.3 < raster.covered.mean() < 1
    np.testing.assert_array_equal(raster.triangle, index)
    np.testing.assert_allclose(raster.depth, depth, rtol=1e-5)
    np.testing.assert_allclose(raster.barycentric, weights, atol=1e-5)


def test_interpolated_positions_reproject_onto_their_pixels() -> None:
    """Perspective-correct: a linear attribute of space, here position itself, is exact on the surface."""
    vertices, triangles, camera = _triangle_soup(3)
    raster = rasterize(vertices, triangles, camera, (40, 52))
    points = interpolate(raster, triangles, vertices)
    rows, columns = np.nonzero(raster.covered)
    x, y, z = points[rows, columns].T
    np.testing.assert_allclose(camera.cx - camera.focal * x / z, columns + 0.5, atol=2e-3)
    np.testing.assert_allclose(camera.cy + camera.focal * y / z, rows + 0.5, atol=2e-3)
    np.testing.assert_allclose(-z, raster.depth[rows, columns], rtol=1e-5)
    assert (points[~raster.covered] == 0).all()


def test_a_closed_surface_has_no_cracks() -> None:
    """Neighbouring triangles leave no pixel between them, also where an edge passes through pixel centres."""
    grid = np.linspace(-1.0, 1.0, 9)
    x, y = np.meshgrid(grid, grid)
    vertices = np.stack([x.ravel(), y.ravel(), np.full(81, -2.0)], 1)
    corner = (np.arange(8)[:, None] * 9 + np.arange(8)).ravel()
    triangles = np.concatenate(
        [np.stack([corner, corner + 1, corner + 10], 1), np.stack([corner, corner + 10, corner + 9], 1)]
    )
    assert rasterize(vertices, triangles, Camera(31.0, 16.0, 16.0), (32, 32)).covered[1:-1, 1:-1].all()


def test_what_lies_behind_the_camera_is_not_drawn() -> None:
    vertices = np.array([[-1.0, -1.0, 1.0], [1.0, -1.0, 1.0], [0.0, 1.0, 1.0]])
    triangles = np.array([[0, 1, 2]])
    camera = Camera(10.0, 5.0, 5.0)
    assert not rasterize(vertices, triangles, camera, (10, 10)).covered.any()
    assert rasterize(vertices - [0, 0, 3], triangles, camera, (10, 10)).covered.any()


def test_indices_outside_the_vertices_are_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        rasterize(np.zeros((2, 3)), np.array([[0, 1, 2]]), Camera(1, 1, 1), (2, 2))


def test_normals_of_a_sphere_point_outwards() -> None:
    from scipy.spatial import ConvexHull

    points = np.random.default_rng(0).normal(size=(600, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    triangles = ConvexHull(points).simplices
    a, b, c = np.moveaxis(points[triangles], 1, 0)
    inwards = np.einsum("ij,ij->i", np.cross(b - a, c - a), a) < 0
    triangles[inwards] = triangles[inwards][:, ::-1]
    normals = vertex_normals(points, triangles)
    assert (np.einsum("ij,ij->i", normals, points) > 0.95).all()
