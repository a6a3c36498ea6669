"""A z-buffered triangle rasterizer with perspective-correct barycentric coordinates.

Used by synthetic speakers (pictures with exact ground truth) and by preparation (masks, depth of the fitted mesh).
Conventions are those of `jaxtalk.clip`: OpenGL camera axes, pixel centres at +0.5.
"""

from __future__ import annotations

import dataclasses

import numba
import numpy as np

from jaxtalk.clip import Camera

NEAR = 1e-4  # metres; a triangle that reaches closer to the camera plane than this is not drawn
EDGE = 1e-10  # rounding may put a centre on an edge outside both triangles; this much keeps it inside


@dataclasses.dataclass(frozen=True)
class Raster:
    """What each pixel's centre sees."""

    depth: np.ndarray  # [H, W] float32, distance along -z in metres; inf where nothing is
    triangle: np.ndarray  # [H, W] int32, index of the triangle; -1 where nothing is
    barycentric: np.ndarray  # [H, W, 3] float32, weights of the triangle's vertices on the surface; 0 where nothing is

    @property
    def covered(self) -> np.ndarray:
        """[H, W] bool."""
        return np.asarray(self.triangle >= 0)


def rasterize(vertices_cam: np.ndarray, triangles: np.ndarray, camera: Camera, size: tuple[int, int]) -> Raster:
    """Draws a mesh; the nearest surface wins, on both of its sides.

    Args:
      vertices_cam: [V, 3] metres, in camera space (x right, y up, looking along -z).
      triangles: [T, 3] int.
      camera: focal length and principal point in pixels of `size`.
      size: (H, W).

    Raises:
      ValueError: for an index outside the vertices.
    """
    triangles = np.ascontiguousarray(triangles, np.int32)
    if triangles.size and not 0 <= triangles.min() <= triangles.max() < len(vertices_cam):
        raise ValueError(f"triangles refer to vertices outside 0..{len(vertices_cam) - 1}")
    height, width = size
    depth = np.full((height, width), np.inf, np.float32)
    index = np.full((height, width), -1, np.int32)
    barycentric = np.zeros((height, width, 3), np.float32)
    vertices = np.ascontiguousarray(vertices_cam, np.float64)
    _fill(vertices, triangles, camera.focal, camera.cx, camera.cy, depth, index, barycentric)
    return Raster(depth, index, barycentric)


def interpolate(raster: Raster, triangles: np.ndarray, attributes: np.ndarray) -> np.ndarray:
    """Vertex attributes [V, C] at every pixel: [H, W, C] float32, 0 where nothing is drawn."""
    attributes = np.ascontiguousarray(attributes, np.float32)
    triangles = np.ascontiguousarray(triangles, np.int32)
    out = np.zeros((*raster.triangle.shape, attributes.shape[1]), np.float32)
    _interpolate(raster.triangle, raster.barycentric, triangles, attributes, out)
    return out


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals [V, 3] float32: the mean of the adjoining faces, weighted by area; counter-clockwise is outside."""
    normals = np.zeros((len(vertices), 3), np.float64)
    _add_normals(np.ascontiguousarray(vertices, np.float64), np.ascontiguousarray(triangles, np.int32), normals)
    return normals.astype(np.float32)


@numba.njit(cache=True, nogil=True)
def _fill(vertices, triangles, focal, cx, cy, depth, index, barycentric):  # type: ignore[no-untyped-def]
    height, width = depth.shape
    count = len(vertices)
    u, v, inverse = np.empty(count), np.empty(count), np.empty(count)
    for i in range(count):
        distance = -vertices[i, 2]
        if distance > NEAR:
            inverse[i] = 1.0 / distance
            u[i] = cx + focal * vertices[i, 0] * inverse[i]
            v[i] = cy - focal * vertices[i, 1] * inverse[i]
        else:
            inverse[i] = 0.0
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        if inverse[a] == 0.0 or inverse[b] == 0.0 or inverse[c] == 0.0:
            continue
        area = (u[b] - u[a]) * (v[c] - v[a]) - (u[c] - u[a]) * (v[b] - v[a])
        if area == 0.0:
            continue
        first_column = max(0, int(np.ceil(min(u[a], u[b], u[c]) - 0.5)))
        last_column = min(width - 1, int(np.floor(max(u[a], u[b], u[c]) - 0.5)))
        first_row = max(0, int(np.ceil(min(v[a], v[b], v[c]) - 0.5)))
        last_row = min(height - 1, int(np.floor(max(v[a], v[b], v[c]) - 0.5)))
        for row in range(first_row, last_row + 1):
            y = row + 0.5
            for column in range(first_column, last_column + 1):
                x = column + 0.5
                wa = ((u[b] - x) * (v[c] - y) - (u[c] - x) * (v[b] - y)) / area
                wb = ((u[c] - x) * (v[a] - y) - (u[a] - x) * (v[c] - y)) / area
                wc = 1.0 - wa - wb
                if wa < -EDGE or wb < -EDGE or wc < -EDGE:
                    continue
                # 1/z is linear on the screen; so is attribute/z, which gives the weights on the surface.
                wa, wb, wc = wa * inverse[a], wb * inverse[b], wc * inverse[c]
                distance = 1.0 / (wa + wb + wc)
                if distance < depth[row, column]:
                    depth[row, column] = distance
                    index[row, column] = t
                    barycentric[row, column, 0] = wa * distance
                    barycentric[row, column, 1] = wb * distance
                    barycentric[row, column, 2] = wc * distance


@numba.njit(cache=True, nogil=True)
def _interpolate(index, barycentric, triangles, attributes, out):  # type: ignore[no-untyped-def]
    height, width, channels = out.shape
    for row in range(height):
        for column in range(width):
            t = index[row, column]
            if t < 0:
                continue
            for corner in range(3):
                weight = barycentric[row, column, corner]
                vertex = triangles[t, corner]
                for channel in range(channels):
                    out[row, column, channel] += weight * attributes[vertex, channel]


@numba.njit(cache=True, nogil=True)
def _add_normals(vertices, triangles, normals):  # type: ignore[no-untyped-def]
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        e0, e1, e2 = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        f0, f1, f2 = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        n0, n1, n2 = e1 * f2 - e2 * f1, e2 * f0 - e0 * f2, e0 * f1 - e1 * f0
        for vertex in (a, b, c):
            normals[vertex, 0] += n0
            normals[vertex, 1] += n1
            normals[vertex, 2] += n2
    for i in range(len(normals)):
        length = np.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2)
        if length > 0.0:
            normals[i] /= length
