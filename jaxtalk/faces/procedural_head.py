"""The procedural head's neutral shape: an analytic surface on one grid of rows (crown to neck) and columns (azimuth).

A row is named by its height `t` on the face (below the chin it goes on along the neck's front), a column by its azimuth
`a` (0 in front, positive to +x). Cross sections are ellipses whose half axes depend on t; the face's relief is added in
front. The mouth and the eyes are slits: their vertices exist twice, as upper and as lower lip or lid, so that they open
without holes in the topology. All lengths are metres. The proportions are an average adult's; nothing is fitted.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.interpolate import PchipInterpolator

MOUTH_HEIGHT, MOUTH_HALF_WIDTH = -0.060, 0.0265
EYE_HEIGHT, EYE_X, EYE_HALF_WIDTH = 0.0125, 0.0315, 0.0155
EYE_CENTRE = np.array([EYE_X, EYE_HEIGHT - 0.0005, 0.0630])  # of the subject's left eyeball
EYE_RADIUS = 0.0125
LID_UPPER, LID_LOWER = 0.0052, 0.0044  # opening of the neutral eye above and below its slit
LID_REACH = 0.0085  # how far the skin around the eye takes part in the opening
LID_CLEARANCE = 0.0013
CHIN, NECK_START = -0.108, -0.118  # rows below NECK_START are neck

# t, height in front, at the side, behind; half width; z in front, behind
_LOFT = np.array(
    [
        [0.120, 0.1200, 0.1200, 0.1200, 0.0004, -0.0096, -0.0104],
        [0.117, 0.1170, 0.1165, 0.1165, 0.0240, 0.0160, -0.0350],
        [0.108, 0.1080, 0.1060, 0.1060, 0.0460, 0.0440, -0.0640],
        [0.090, 0.0900, 0.0870, 0.0870, 0.0630, 0.0680, -0.0880],
        [0.065, 0.0650, 0.0600, 0.0600, 0.0725, 0.0820, -0.1010],
        [0.035, 0.0350, 0.0320, 0.0300, 0.0755, 0.0880, -0.1040],
        [0.012, 0.0120, 0.0120, 0.0050, 0.0750, 0.0860, -0.1010],
        [-0.025, -0.0250, -0.0180, -0.0250, 0.0725, 0.0860, -0.0860],
        [-0.050, -0.0500, -0.0360, -0.0480, 0.0685, 0.0865, -0.0710],
        [-0.070, -0.0700, -0.0500, -0.0630, 0.0640, 0.0855, -0.0620],
        [-0.090, -0.0900, -0.0640, -0.0760, 0.0580, 0.0845, -0.0580],
        [-0.102, -0.1020, -0.0730, -0.0840, 0.0530, 0.0800, -0.0570],
        [-0.108, -0.1080, -0.0790, -0.0900, 0.0500, 0.0700, -0.0570],
        [-0.116, -0.1110, -0.0900, -0.1000, 0.0490, 0.0480, -0.0580],
        [-0.135, -0.1210, -0.1150, -0.1200, 0.0500, 0.0290, -0.0610],
        [-0.170, -0.1650, -0.1600, -0.1600, 0.0540, 0.0270, -0.0670],
        [-0.220, -0.2150, -0.2100, -0.2100, 0.0640, 0.0320, -0.0780],
    ]
)
_loft = PchipInterpolator(-_LOFT[:, 0], _LOFT[:, 1:])  # Pchip wants increasing keys
_AXIS_Z = -0.010  # where a cross section is widest
_nose_height = PchipInterpolator(
    [-0.039, -0.0345, -0.030, -0.025, -0.020, -0.010, 0.004, 0.018, 0.034],
    [0.0, 0.0030, 0.0150, 0.0235, 0.0225, 0.0170, 0.0105, 0.0050, 0.0],
)
_nose_width = PchipInterpolator([-0.039, -0.028, -0.018, 0.0, 0.034], [0.0125, 0.0110, 0.0095, 0.0075, 0.0100])


@dataclasses.dataclass(frozen=True)
class HeadGrid:
    """The skin's mesh in its neutral shape, with what the bases need to know of each vertex."""

    vertices: np.ndarray  # [V, 3]
    triangles: np.ndarray  # [T, 3] counter-clockwise outside
    uv: np.ndarray  # [V, 2] column and row of the grid, each in [0, 1]
    row: np.ndarray  # [V] t of the vertex's row
    azimuth: np.ndarray  # [V]
    closed: np.ndarray  # [V, 3] the same vertices with the eyes shut
    lip_side: np.ndarray  # [V] +1 on and above the upper lip's edge, -1 below the lower one's
    index: np.ndarray  # [2, R, C] vertex of the upper and of the lower copy of each grid point
    mouth_columns: tuple[int, int]  # corners
    eye_columns: dict[str, tuple[int, int]]  # 'left', 'right' (the subject's): corners in order of increasing x
    mouth_row: int
    eye_row: int
    rows: np.ndarray  # [R]
    columns: np.ndarray  # [C]


def gauss(x: np.ndarray, centre: float, width: float) -> np.ndarray:
    return np.exp(-(((x - centre) / width) ** 2))


def smoothstep(x: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    """0 at `low`, 1 at `high` (which may be the smaller one), smooth between."""
    s = np.clip((x - low) / (high - low), 0, 1)
    return s * s * (3 - 2 * s)


def relief(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Height of nose, brows, sockets, cheeks, lips and chin over the ellipse, at front coordinates (x, y)."""
    side = np.abs(x)
    nose = _nose_height(np.clip(y, -0.039, 0.034)) * np.exp(-((side / _nose_width(np.clip(y, -0.039, 0.034))) ** 2.4))
    wings = 0.0085 * gauss(side, 0.0130, 0.0052) * gauss(y, -0.0275, 0.0060)
    sockets = -0.0058 * gauss(side, EYE_X - 0.003, 0.0170) * gauss(y, EYE_HEIGHT + 0.001, 0.0115)
    brows = 0.0035 * gauss(side, 0.027, 0.020) * gauss(y, 0.033, 0.0065)
    cheeks = 0.0045 * gauss(side, 0.046, 0.018) * gauss(y, -0.008, 0.018) - 0.003 * gauss(side, 0.046, 0.014) * gauss(
        y, -0.052, 0.016
    )
    muzzle = 0.0050 * gauss(side, 0.0, 0.036) * gauss(y, -0.054, 0.030)
    within = np.clip(1 - (side / (MOUTH_HALF_WIDTH + 0.002)) ** 2, 0, 1)
    lips = within**0.8 * (0.0045 * gauss(y, -0.0545, 0.0050) + 0.0058 * gauss(y, -0.0670, 0.0058))
    fold = -0.0035 * gauss(side, 0.0, 0.020) * gauss(y, -0.0785, 0.0055)
    chin = 0.0080 * gauss(side, 0.0, 0.019) * gauss(y, -0.0955, 0.0120)
    philtrum = -0.0012 * gauss(side, 0.0, 0.0035) * gauss(y, -0.0435, 0.0060)
    return nose + wings + sockets + brows + cheeks + muzzle + lips + fold + chin + philtrum


def lip_contour(x: np.ndarray, upper: bool) -> np.ndarray:
    """Height of the lips' outer contour over the mouth's line; the upper one has Cupid's bow."""
    u = np.clip(np.abs(x) / (MOUTH_HALF_WIDTH + 0.0008), 0, 1)
    if upper:
        return 0.0098 * (1 - u**1.6) ** 0.85 - 0.0012 * gauss(np.abs(x), 0.0, 0.0035)
    return -0.0118 * (1 - u**2.2) ** 0.75


def surface(t: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    """Points [..., 3] of the head with closed lips and no eyes."""
    front, side, back, width, z_front, z_back = np.moveaxis(_loft(-t), -1, 0)
    sine, cosine = np.sin(azimuth), np.cos(azimuth)
    ahead = np.clip(cosine, 0, None) ** 2
    behind = np.clip(-cosine, 0, None) ** 2
    y = front * ahead + side * sine**2 + back * behind
    x = width * sine
    depth = np.where(cosine > 0, z_front - _AXIS_Z, _AXIS_Z - z_back)
    z = _AXIS_Z + depth * cosine
    facing = smoothstep(cosine, 0.15, 0.55) * smoothstep(t, -0.125, -0.100)
    return np.stack([x, y, z + facing * relief(x, np.clip(t, -0.2, 0.12))], -1)


def lid_height(x: np.ndarray, upper: bool) -> np.ndarray:
    """Half opening of the neutral eye at horizontal distance x from its centre (positive: towards the temple)."""
    u = np.clip(x / EYE_HALF_WIDTH, -1, 1)
    shape = np.clip(1 - u**2, 0, 1) ** 0.75
    return (LID_UPPER * shape * (1 - 0.10 * u)) if upper else (LID_LOWER * shape * (1 + 0.15 * u))


def over_eyeball(points: np.ndarray) -> np.ndarray:
    """Moves points in front of an eyeball out to where a lid lies over it."""
    centre, radius = EYE_CENTRE, EYE_RADIUS + LID_CLEARANCE
    distance = np.hypot(np.abs(points[..., 0]) - centre[0], points[..., 1] - centre[1])
    lid = centre[2] + np.sqrt(np.clip(radius**2 - distance**2, 0, None))
    near = smoothstep(distance, radius * 1.25, radius * 0.85) * (points[..., 2] > 0)
    moved = points.copy()
    target = np.maximum(points[..., 2], lid)
    moved[..., 2] = points[..., 2] + near * (target - points[..., 2])
    return moved


def _steps(*pieces: tuple[float, float, float]) -> np.ndarray:
    """Rows or columns: (start, stop, step) pieces, each with its start and without its stop."""
    parts = [np.linspace(a, b, max(1, round(abs(b - a) / step)), endpoint=False) for a, b, step in pieces]
    return np.concatenate([*parts, [pieces[-1][1]]])


def grid_rows() -> np.ndarray:
    above = _steps((0.120, 0.105, 0.003), (0.105, 0.046, 0.005), (0.046, EYE_HEIGHT, 0.0014))
    middle = _steps((EYE_HEIGHT, -0.004, 0.0014), (-0.004, -0.036, 0.0024), (-0.036, MOUTH_HEIGHT, 0.0011))
    below = _steps((MOUTH_HEIGHT, -0.080, 0.0012), (-0.080, -0.120, 0.003), (-0.120, -0.220, 0.007))
    return np.concatenate([above[:-1], middle[:-1], below])


def grid_columns() -> np.ndarray:
    side = _steps((0.0, 0.76, 0.030), (0.76, 1.2, 0.06), (1.2, np.pi, 0.16))
    return np.concatenate([-side[:0:-1], side])


def _opened(t: np.ndarray, azimuth: np.ndarray, upper: np.ndarray, amount: float) -> np.ndarray:
    """Points with the lids `amount` open (1: the neutral eye; 0: shut, along a line a little below the slit)."""
    x = np.abs(surface(t, azimuth)[..., 0]) - EYE_X
    inside = (np.abs(x) < EYE_HALF_WIDTH) & (np.cos(azimuth) > 0)
    fade = np.exp(-np.abs(t - EYE_HEIGHT) / LID_REACH) * inside
    up, down = lid_height(x, True), lid_height(x, False)
    shut = -0.45 * down  # where the lids meet
    shift = np.where(upper, amount * up + (1 - amount) * shut, -amount * down + (1 - amount) * shut)
    return over_eyeball(surface(t + fade * shift, azimuth))


def head_grid() -> HeadGrid:
    """Builds the mesh. Grid points on the mouth's and the eyes' slits are two vertices, all others one."""
    rows, columns = grid_rows(), grid_columns()
    mouth_row, eye_row = (int(np.argmin(np.abs(rows - h))) for h in (MOUTH_HEIGHT, EYE_HEIGHT))
    azimuth, t = np.meshgrid(columns, rows)
    x_mouth = surface(t[mouth_row], columns)[:, 0]
    x_eye = surface(t[eye_row], columns)[:, 0]
    front = np.cos(columns) > 0

    def nearest(xs: np.ndarray, x: float) -> int:
        return int(np.argmin(np.where(front, np.abs(xs - x), np.inf)))

    mouth = (nearest(x_mouth, -MOUTH_HALF_WIDTH), nearest(x_mouth, MOUTH_HALF_WIDTH))
    left = (nearest(x_eye, EYE_X - EYE_HALF_WIDTH), nearest(x_eye, EYE_X + EYE_HALF_WIDTH))
    right = (nearest(x_eye, -EYE_X - EYE_HALF_WIDTH), nearest(x_eye, -EYE_X + EYE_HALF_WIDTH))

    count = rows.size * columns.size
    index = np.repeat(np.arange(count).reshape(1, rows.size, columns.size), 2, 0)
    lower_of: list[tuple[int, int]] = []
    for row, (first, last) in ((mouth_row, mouth), (eye_row, left), (eye_row, right)):
        for column in range(first + 1, last):
            index[1, row, column] = count + len(lower_of)
            lower_of.append((row, column))
    pick = tuple(np.array(lower_of).T)
    all_t = np.concatenate([t.ravel(), t[pick]])
    all_azimuth = np.concatenate([azimuth.ravel(), azimuth[pick]])
    is_copy = np.arange(len(all_t)) >= count
    upper = (all_t >= EYE_HEIGHT - 1e-9) & ~is_copy
    grid_row, grid_column = np.divmod(np.arange(count), columns.size)
    uv = np.stack([grid_column / (columns.size - 1), grid_row / (rows.size - 1)], -1)
    lip_side = np.where((all_t >= MOUTH_HEIGHT - 1e-9) & ~(is_copy & (all_t < 0)), 1, -1)
    return HeadGrid(
        vertices=_opened(all_t, all_azimuth, upper, 1.0),
        triangles=_grid_triangles(index),
        uv=np.concatenate([uv, uv[index[0][pick]]]),
        row=all_t,
        azimuth=all_azimuth,
        closed=_opened(all_t, all_azimuth, upper, 0.0),
        lip_side=lip_side,
        index=index,
        mouth_columns=mouth,
        eye_columns={"left": left, "right": right},
        mouth_row=mouth_row,
        eye_row=eye_row,
        rows=rows,
        columns=columns,
    )


def _grid_triangles(index: np.ndarray) -> np.ndarray:
    """Two triangles a cell; its top corners are lower copies of their grid points, its bottom corners upper ones."""
    top_left, top_right = index[1, :-1, :-1].ravel(), index[1, :-1, 1:].ravel()
    bottom_left, bottom_right = index[0, 1:, :-1].ravel(), index[0, 1:, 1:].ravel()
    return np.concatenate(
        [
            np.stack([top_left, bottom_left, bottom_right], -1),
            np.stack([top_left, bottom_right, top_right], -1),
        ]
    ).astype(np.int32)
