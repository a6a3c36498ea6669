"""The procedural head's eyeballs, ears, mouth cavity, teeth and tongue, and the whole mesh."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxtalk.faces import procedural_head as shape

SKIN, EYE, EAR, CAVITY, UPPER_TEETH, LOWER_TEETH, TONGUE = range(7)
PART_NAMES = ("skin", "eyes", "ears", "cavity", "upper_teeth", "lower_teeth", "tongue")
CAVITY_RINGS = 7


@dataclasses.dataclass(frozen=True)
class Body:
    """The whole neutral head. `uv` is each part's own texture coordinate in [0, 1]."""

    grid: shape.HeadGrid
    vertices: np.ndarray  # [V, 3]; the first len(grid.vertices) are the skin
    triangles: np.ndarray  # [T, 3]
    uv: np.ndarray  # [V, 2]
    part: np.ndarray  # [V] one of the constants above
    host: np.ndarray  # [V] the skin vertex that a cavity vertex hangs on; else -1
    host_share: np.ndarray  # [V] how much of its host's movement it takes


@dataclasses.dataclass(frozen=True)
class _Part:
    vertices: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray
    part: int
    host: np.ndarray | None = None
    host_share: np.ndarray | None = None


def strip_triangles(rows: int, columns: int) -> np.ndarray:
    """Triangles of a rows x columns sheet of vertices in row-major order; rows run down, columns to the right."""
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    first = np.stack([corner, corner + columns, corner + columns + 1], -1)
    second = np.stack([corner, corner + columns + 1, corner + 1], -1)
    return np.concatenate([first, second]).astype(np.int32)


def _sheet(points: np.ndarray, part: int) -> _Part:
    """A part from a [rows, columns, 3] sheet."""
    rows, columns = points.shape[:2]
    v, u = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    uv = np.stack([u.ravel(), v.ravel()], -1)
    return _Part(points.reshape(-1, 3), strip_triangles(rows, columns), uv, part)


def eyeball(side: int) -> _Part:
    """A sphere whose pole looks along +z: v in [0, 1] is the angle from the pole over 110 degrees. `side` +1: left."""
    angle = np.linspace(0.0, np.deg2rad(110), 12)[:, None]
    around = np.linspace(0.0, -2 * np.pi, 25)[None]
    unit = np.stack([np.sin(angle) * np.cos(around), np.sin(angle) * np.sin(around), np.cos(angle) + 0 * around], -1)
    return _sheet(shape.EYE_CENTRE * [side, 1, 1] + shape.EYE_RADIUS * unit, EYE)


def ear(side: int) -> _Part:
    """A bowl with a rolled rim, standing off the side of the head."""
    radius = np.linspace(0.0, 1.0, 7)[:, None]
    around = np.linspace(0.0, 2 * np.pi, 21)[None]
    up = 0.030 * radius * np.cos(around) * (1 + 0.15 * np.cos(around))
    back = 0.0165 * radius * np.sin(around) * (1 + 0.25 * np.cos(around))
    rim = 0.006 * np.sin(np.pi * radius**3) - 0.004 * (1 - radius) + 0 * around
    x = 0.0755 + 0.38 * (back + 0.008) + rim
    y = 0.000 + up + 0.15 * back
    z = -0.012 - 0.92 * back
    points = np.stack([side * x, y, z], -1)
    return _sheet(points if side < 0 else points[:, ::-1], EAR)


def teeth(upper: bool) -> _Part:
    """A strip along the dental arch: gum to cutting edge."""
    x = np.linspace(-0.0215, 0.0215, 19)[None]
    heights = np.array([-0.0500, -0.0540, -0.0590, -0.0624] if upper else [-0.0606, -0.0640, -0.0680, -0.0740])[:, None]
    front = 0.0838 if upper else 0.0820
    z = front - 0.0150 * (x / 0.0215) ** 2 + 0 * heights
    return _sheet(np.stack([x + 0 * heights, heights + 0 * x, z], -1), UPPER_TEETH if upper else LOWER_TEETH)


def tongue() -> _Part:
    across = np.linspace(-1.0, 1.0, 9)[None]
    along = np.linspace(0.0, 1.0, 7)[:, None]  # from the root to the tip and under it
    angle = np.pi * (0.35 + 0.75 * along)
    width = 0.016 * (1 - 0.35 * along**2)
    y = -0.0735 + 0.0065 * np.sqrt(np.clip(1 - 0.8 * across**2, 0, 1)) * np.sin(angle * 0.75)
    z = 0.058 - 0.022 * np.cos(angle) - 0.004 * across**2
    return _sheet(np.stack([width * across, y, z], -1), TONGUE)


def mouth_loop(grid: shape.HeadGrid) -> tuple[np.ndarray, np.ndarray]:
    """Skin vertices of the upper and of the lower lip's edge, corner to corner, in order of increasing x."""
    first, last = grid.mouth_columns
    upper = grid.index[0, grid.mouth_row, first : last + 1]
    return upper, grid.index[1, grid.mouth_row, first : last + 1]


def cavity(grid: shape.HeadGrid) -> _Part:
    """The mouth's inside: rings that hang on the lips' edges and go back into the dark."""
    upper, lower = mouth_loop(grid)
    host = np.concatenate([upper, lower[::-1]])
    lip = grid.vertices[host]
    up = np.concatenate([np.ones(len(upper)), -np.ones(len(lower))])
    open_share = np.clip(1 - (lip[:, 0] / shape.MOUTH_HALF_WIDTH) ** 2, 0, 1) ** 0.25
    rings, shares = [], []
    for back, lift, narrow, share in (
        (0.0, 0.0, 1.0, 1.0),
        (0.0045, 0.0050, 0.98, 0.97),
        (0.0085, 0.0100, 0.95, 0.93),
        (0.0140, 0.0140, 0.90, 0.88),
        (0.0350, 0.0150, 0.75, 0.70),
        (0.0450, 0.0020, 0.30, 0.40),
        (0.0470, 0.0000, 0.00, 0.00),
    ):
        ring = lip * [narrow, 1, 1]
        ring[:, 1] += up * lift * open_share
        ring[:, 2] -= back
        rings.append(ring)
        shares.append(np.full(len(host), share))
    part = _sheet(np.stack(rings), CAVITY)
    return dataclasses.replace(part, host=np.tile(host, CAVITY_RINGS), host_share=np.concatenate(shares))


def assemble() -> Body:
    """Puts skin and parts into one mesh; the skin comes first."""
    grid = shape.head_grid()
    parts = [
        _Part(grid.vertices, grid.triangles, grid.uv, SKIN),
        *(eyeball(side) for side in (1, -1)),
        *(ear(side) for side in (1, -1)),
        cavity(grid),
        teeth(True),
        teeth(False),
        tongue(),
    ]
    start = np.cumsum([0, *(len(part.vertices) for part in parts)])
    none = [np.full(len(part.vertices), -1) for part in parts]
    return Body(
        grid=grid,
        vertices=np.concatenate([part.vertices for part in parts]),
        triangles=np.concatenate([part.triangles + s for part, s in zip(parts, start, strict=False)]).astype(np.int32),
        uv=np.concatenate([part.uv for part in parts]),
        part=np.concatenate([np.full(len(part.vertices), part.part) for part in parts]),
        host=np.concatenate([n if p.host is None else p.host for p, n in zip(parts, none, strict=True)]),
        host_share=np.concatenate([0.0 * n if p.host_share is None else p.host_share
                                   for p, n in zip(parts, none, strict=True)]),
    )  # fmt: skip
