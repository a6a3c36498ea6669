"""The procedural face model: a head from formulas, so that it needs no file and carries no licence but ours.

It drives the synthetic speakers and can be fitted to real video (`--face-model procedural`).
"""

from __future__ import annotations

import functools

import numpy as np

from jaxtalk.faces import procedural_bases as bases
from jaxtalk.faces import procedural_head as shape
from jaxtalk.faces import procedural_parts as parts
from jaxtalk.faces.model import FaceModel

VERSION = "1"  # changes when the mesh or a basis changes: coefficients of clips made before mean another face then


@functools.cache
def procedural_body() -> parts.Body:
    """The neutral mesh with its parts; shared, so read only."""
    return parts.assemble()


@functools.cache
def procedural_face_model() -> FaceModel:
    """The model; built once a process (about 0.1 s). Shared, so read only."""
    body = procedural_body()
    _, identity = bases.identity_basis(body)
    names, expression = bases.expression_basis(body)
    return FaceModel(
        name="procedural",
        template=body.vertices.astype(np.float32),
        identity_basis=identity.astype(np.float32),
        expression_basis=expression.astype(np.float32),
        triangles=body.triangles,
        landmark_vertices=_landmark_vertices(body),
        expression_names=names,
        regions=_regions(body),
        expression_range=(0.0, 1.0),
    )


def identity_names() -> tuple[str, ...]:
    """What each identity coefficient changes."""
    return bases.identity_basis(procedural_body())[0]


def _regions(body: parts.Body) -> dict[str, np.ndarray]:
    row = np.full(len(body.vertices), 0.0)
    row[: len(body.grid.row)] = body.grid.row
    skin = body.part == parts.SKIN
    neck = skin & (row < shape.NECK_START)
    ears = body.part == parts.EAR
    front = np.zeros_like(skin)
    front[: len(body.grid.row)] = np.cos(body.grid.azimuth) > 0.35
    regions = {
        "head": (skin & ~neck) | ears,
        "face": skin & ~neck & front & (row < 0.075),
        "neck": neck,
        "ears": ears,
        "scalp": skin & (row > 0.0) & ~(front & (row < 0.075)),
        "left_eye": (body.part == parts.EYE) & (body.vertices[:, 0] > 0),
        "right_eye": (body.part == parts.EYE) & (body.vertices[:, 0] < 0),
        "mouth_inside": np.isin(body.part, (parts.CAVITY, parts.UPPER_TEETH, parts.LOWER_TEETH, parts.TONGUE)),
    }
    return {name: np.flatnonzero(inside) for name, inside in regions.items()}


def _landmark_vertices(body: parts.Body) -> np.ndarray:
    """[68] iBUG order. Lids and lips are edges of the mesh; the others are the vertices nearest to their places."""
    grid = body.grid
    skin = grid.vertices
    candidates = np.flatnonzero((np.cos(grid.azimuth) > -0.3) & (grid.row > shape.NECK_START))

    def nearest(x: float, y: float, depth: float = 0.0) -> int:
        seen = candidates[skin[candidates, 2] > depth]
        return int(seen[np.argmin((skin[seen, 0] - x) ** 2 + (skin[seen, 1] - y) ** 2)])

    brow = [(-0.0550, 0.0305), (-0.0480, 0.0360), (-0.0380, 0.0385), (-0.0240, 0.0380), (-0.0135, 0.0350)]
    nose = [(0.0, y) for y in (0.0155, 0.0030, -0.0085, -0.0215)]
    nostrils = [(x, -0.0345) for x in (-0.0120, -0.0060, 0.0, 0.0060, 0.0120)]
    points = [*_jaw_line(grid)]
    points += [nearest(x, y) for x, y in brow] + [nearest(-x, y) for x, y in reversed(brow)]
    points += [nearest(x, y, 0.05) for x, y in nose + nostrils]
    points += _eye(grid, "right") + _eye(grid, "left") + _mouth(grid)
    return np.array(points)


def _jaw_line(grid: shape.HeadGrid) -> list[int]:
    """Ear to chin to ear along the rows' side heights."""
    heights = np.array([0.010, -0.014, -0.038, -0.066, -0.083, -0.094, -0.100, -0.104, -0.107])
    azimuths = np.array([1.52, 1.48, 1.42, 1.32, 1.16, 0.92, 0.62, 0.30, 0.0])
    rows = [int(np.argmin(np.abs(grid.rows - height))) for height in heights]

    def column(azimuth: float) -> int:
        return int(np.argmin(np.abs(grid.columns - azimuth)))

    right = [int(grid.index[0, row, column(-a)]) for row, a in zip(rows, azimuths, strict=True)]
    left = [int(grid.index[0, row, column(a)]) for row, a in zip(rows, azimuths, strict=True)]
    return right + left[-2::-1]


def _eye(grid: shape.HeadGrid, side: str) -> list[int]:
    """Corner at the image's left, two upper, the other corner, two lower from there back."""
    first, last = grid.eye_columns[side]
    third = (last - first) / 3
    a, b = round(first + third), round(last - third)
    row = grid.eye_row
    upper, lower = grid.index[0, row], grid.index[1, row]
    return [int(i) for i in (upper[first], upper[a], upper[b], upper[last], lower[b], lower[a])]


def _mouth(grid: shape.HeadGrid) -> list[int]:
    """Twelve around the lips' outer contour from the image's left over the top, eight around their inner edge."""
    first, last = grid.mouth_columns
    row = grid.mouth_row

    def column(fraction: float) -> int:
        return round(first + fraction * (last - first))

    def at(height: float, fraction: float) -> int:
        return int(grid.index[0, int(np.argmin(np.abs(grid.rows - height))), column(fraction)])

    def outer(fraction: float, upper: bool) -> int:
        x = grid.vertices[grid.index[0, row, column(fraction)], 0]
        return at(shape.MOUTH_HEIGHT + float(shape.lip_contour(np.array(x), upper)), fraction)

    up, low = grid.index[0, row], grid.index[1, row]
    corners = int(up[first]), int(up[last])
    top = [outer(f, True) for f in (0.18, 0.38, 0.5, 0.62, 0.82)]
    bottom = [outer(f, False) for f in (0.82, 0.65, 0.5, 0.35, 0.18)]
    inner_top = [int(up[column(f)]) for f in (0.27, 0.5, 0.73)]
    inner_bottom = [int(low[column(f)]) for f in (0.73, 0.5, 0.27)]
    inner_corners = int(up[first + 1]), int(up[last - 1])
    return [corners[0], *top, corners[1], *bottom, inner_corners[0], *inner_top, inner_corners[1], *inner_bottom]
