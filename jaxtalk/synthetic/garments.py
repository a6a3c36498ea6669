"""Hair and clothed torso: meshes grown around one identity's head, in its head space."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.interpolate import PchipInterpolator

from jaxtalk.faces.procedural_head import HeadGrid, smoothstep
from jaxtalk.faces.procedural_parts import strip_triangles
from jaxtalk.faces.rasterizer import vertex_normals
from jaxtalk.synthetic.look import Look


@dataclasses.dataclass(frozen=True)
class Mesh:
    vertices: np.ndarray  # [V, 3]
    triangles: np.ndarray  # [T, 3]
    uv: np.ndarray  # [V, 2]


def _hairline(look: Look, azimuth: np.ndarray) -> np.ndarray:
    """Lowest row that carries hair, at each azimuth: forehead, temple, sideburn, around the ear, nape."""
    a = np.abs(azimuth)
    nape = -0.030 if look.hair_style == "buzz" else -0.050
    sideburn = {"buzz": 0.020, "volume": 0.000}.get(look.hair_style, 0.004)
    fringe = -0.028 if look.hair_style == "fringe" else 0.0
    line = PchipInterpolator(
        [0.0, 0.35, 0.70, 0.95, 1.15, 1.40, 1.62, 1.95, 2.3, np.pi],
        [0.078 + fringe, 0.076 + fringe, 0.070 + 0.6 * fringe, 0.052, 0.030, sideburn, 0.026, -0.015, nape, nape],
    )
    return line(np.clip(a, 0, np.pi)) + look.hairline * smoothstep(a, 1.2, 0.8)


def hair_cover(look: Look, grid: HeadGrid) -> np.ndarray:
    """[V of the skin] metres above the hairline; negative is bare skin. All negative on a bald head."""
    if look.hair_style == "bald":
        return np.full(len(grid.row), -1.0)
    return grid.row - _hairline(look, grid.azimuth)


def grow_hair(look: Look, grid: HeadGrid, skin: np.ndarray) -> Mesh | None:
    """A shell over the scalp, and for long hair a curtain that hangs from it. `skin`: [V, 3] this identity's."""
    if look.hair_style == "bald":
        return None
    cover = hair_cover(look, grid)
    rng = np.random.default_rng([look.texture_seed, 1])
    normals = vertex_normals(skin, grid.triangles)
    seam = grid.index[0][:, [0, -1]]
    normals[seam[:, 0]] = normals[seam[:, 1]] = (normals[seam[:, 0]] + normals[seam[:, 1]]) / 2
    waves = sum(rng.normal() * np.sin(k * grid.azimuth + rng.uniform(0, 6)) for k in range(2, 9)) / 3
    lumps = 0.10 if look.hair_style == "volume" else 0.06
    height = smoothstep(grid.row, 0.0, 0.09)
    thickness = look.hair_thickness * (0.55 + 0.45 * height) * (1 + lumps * waves)
    offset = np.where(cover < 0, -0.004, thickness * smoothstep(cover, -0.001, 0.022) - 0.0006)
    shell = skin + normals * offset[:, None]
    keep = grid.triangles[(cover[grid.triangles] > -0.012).all(axis=1) & (cover[grid.triangles] > 0).any(axis=1)]
    uv = np.stack([grid.uv[:, 0], np.clip((0.12 - grid.row) / 0.17, 0, 1)], -1)
    mesh = Mesh(shell, keep, uv)
    return _with_curtain(look, grid, mesh, rng) if look.hair_style == "long" else mesh


def _with_curtain(look: Look, grid: HeadGrid, shell: Mesh, rng: np.random.Generator) -> Mesh:
    """Long hair: from inside the shell at the temples it falls over ears and neck to the shoulders."""
    columns = np.flatnonzero(np.abs(grid.columns) > 1.05)
    order = np.concatenate([columns[grid.columns[columns] > 0], columns[grid.columns[columns] < 0][1:]])
    start = int(np.argmin(np.abs(grid.rows - 0.055)))
    top = shell.vertices[grid.index[0, start, order]] * [0.995, 1.0, 1.0]
    fall = np.linspace(0, 1, 24)[:, None]
    bottom = -0.150 - 0.05 * rng.uniform()
    azimuth = grid.columns[order]
    spread = 1 + 0.19 * smoothstep(fall, 0.0, 0.45) - 0.05 * fall
    spread = spread + 0.02 * np.sin(5 * fall * np.pi + rng.uniform(0, 6)) * fall
    strands = 0.012 * np.sin(9 * azimuth + rng.uniform(0, 6)) * fall
    x = top[:, 0] * (spread + strands)
    z = (top[:, 2] + 0.01) * (1 + 0.05 * fall) - 0.012 * fall * (np.abs(azimuth) < 1.5) - 0.01
    y = top[:, 1] * (1 - fall) + (bottom + 0.012 * np.sin(4 * azimuth)) * fall
    points = np.stack([x + 0 * fall, y, z + 0 * fall], -1)
    v, u = np.meshgrid(np.linspace(0, 1, 24), np.linspace(0, 1, len(order)), indexing="ij")
    return Mesh(
        np.concatenate([shell.vertices, points.reshape(-1, 3)]),
        np.concatenate([shell.triangles, strip_triangles(24, len(order)) + len(shell.vertices)]),
        np.concatenate([shell.uv, np.stack([u.ravel(), v.ravel()], -1)]),
    )


def torso(look: Look, neck_width: float) -> Mesh:
    """Collar, shoulders and chest around the neutral head's neck; `neck_width`: metres, half."""
    table = np.array(
        [  # y, half width, front z, back z
            [-0.142, neck_width + 0.006, 0.038, -0.074],
            [-0.152, neck_width + 0.012, 0.044, -0.080],
            [-0.163, neck_width + 0.024, 0.050, -0.088],
            [-0.176, 0.115, 0.056, -0.095],
            [-0.190, 0.155, 0.062, -0.100],
            [-0.210, 0.187, 0.072, -0.104],
            [-0.245, 0.205, 0.088, -0.106],
            [-0.300, 0.210, 0.105, -0.106],
            [-0.420, 0.205, 0.110, -0.106],
        ]
    )
    if look.shirt_style in ("collar", "suit"):
        table[0] = [-0.128, neck_width + 0.007, 0.036, -0.076]
    s = np.linspace(0, 1, 40)[:, None]
    y, width, front, back = np.moveaxis(PchipInterpolator(np.linspace(0, 1, len(table)), table)(s), -1, 0)
    azimuth = np.linspace(-np.pi, np.pi, 65)[None]
    cosine = np.cos(azimuth)
    middle = -0.018
    x = width * np.sin(azimuth)
    z = middle + np.where(cosine > 0, (front - middle) * cosine, (middle - back) * cosine)
    dip = 0.016 * np.clip(cosine, 0, 1) ** 2 * (1 - smoothstep(s, 0.0, 0.5))
    points = np.stack([x, y - dip, z], -1)
    v, u = np.meshgrid(s[:, 0], np.linspace(0, 1, 65), indexing="ij")
    return Mesh(points.reshape(-1, 3), strip_triangles(40, 65), np.stack([u.ravel(), v.ravel()], -1))
