"""The textures of a synthetic person: one atlas that holds a patch for each part, painted from formulas."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from jaxtalk.faces import procedural_head as head
from jaxtalk.faces import procedural_parts as parts
from jaxtalk.faces.procedural_head import gauss, smoothstep
from jaxtalk.synthetic.look import Look

HAIR, TORSO = "hair", "torso"
_TEXELS_PER_CELL = 3  # of the skin's grid


@dataclasses.dataclass(frozen=True)
class Atlas:
    """All patches in one picture. `place` turns a patch's own [0, 1] coordinates into texel coordinates."""

    texels: np.ndarray  # [H, W, 3] float32
    patches: dict[int | str, tuple[int, int, int]]  # part -> first row, height, width

    def place(self, part: int | str, uv: np.ndarray) -> np.ndarray:
        """[N, 2] (column, row) of texel centres."""
        first, height, width = self.patches[part]
        return np.stack([uv[:, 0] * (width - 1), first + uv[:, 1] * (height - 1)], -1)


def paint(look: Look, grid: head.HeadGrid) -> Atlas:
    """Paints everything that a person wears and is."""
    rng = np.random.default_rng(look.texture_seed)
    patches: dict[int | str, np.ndarray] = {
        parts.SKIN: _skin(look, grid, rng),
        parts.EYE: _eye(look, rng),
        parts.EAR: _ear(look),
        parts.CAVITY: _cavity(look),
        parts.UPPER_TEETH: _teeth(),
        parts.LOWER_TEETH: _teeth(),
        parts.TONGUE: np.tile(np.array([0.72, 0.36, 0.36], np.float32), (4, 4, 1)),
        HAIR: _hair(look, rng),
        TORSO: _torso(look, rng),
    }
    width = max(patch.shape[1] for patch in patches.values())
    rows, first, table = [], 0, {}
    for part, patch in patches.items():
        table[part] = (first, patch.shape[0], patch.shape[1])
        padded = np.pad(patch, ((0, 1), (0, width - patch.shape[1]), (0, 0)), mode="edge")
        rows.append(padded)
        first += padded.shape[0]
    return Atlas(np.clip(np.concatenate(rows), 0, 1).astype(np.float32), table)


def _mix(base: np.ndarray, colour: tuple[float, float, float] | np.ndarray, share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 0, 1)[..., None]
    return base * (1 - share) + np.asarray(colour) * share


def _noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> np.ndarray:
    noise = gaussian_filter(rng.normal(size=shape), sigma, mode="wrap")
    return noise / noise.std()


def _skin(look: Look, grid: head.HeadGrid, rng: np.random.Generator) -> np.ndarray:
    """Painted on the face's own coordinates: x across, t the height before eyes and mouth open."""
    t = np.interp(np.arange((len(grid.rows) - 1) * _TEXELS_PER_CELL + 1) / _TEXELS_PER_CELL,
                  np.arange(len(grid.rows)), grid.rows)  # fmt: skip
    azimuth = np.interp(np.arange((len(grid.columns) - 1) * _TEXELS_PER_CELL + 1) / _TEXELS_PER_CELL,
                        np.arange(len(grid.columns)), grid.columns)  # fmt: skip
    azimuth, t = np.meshgrid(azimuth, t)
    x = head.surface(t, azimuth)[..., 0]
    side, front = np.abs(x), np.cos(azimuth) > 0.1
    skin = np.asarray(look.skin)
    colour = np.tile(skin, (*t.shape, 1))
    flush = skin * [1.0, 0.72, 0.70]
    shade = skin * [0.62, 0.52, 0.50]
    colour = _mix(colour, flush, 0.5 * gauss(side, 0.042, 0.020) * gauss(t, -0.022, 0.018) * front)
    colour = _mix(colour, flush, 0.4 * gauss(side, 0.0, 0.014) * gauss(t, -0.024, 0.010) * front)
    colour = _mix(
        colour, shade, 0.35 * gauss(side, head.EYE_X, 0.017) * gauss(t, 0.004, 0.006) * front
    )  # under the eye
    colour = _mix(colour, shade, 0.40 * gauss(side, head.EYE_X, 0.018) * gauss(t, 0.0225, 0.005) * front)  # lid crease
    colour = _mix(
        colour,
        shade,
        0.35
        * gauss(side - 0.020 - 0.35 * (-0.030 - t), 0.0, 0.0028)
        * smoothstep(t, -0.062, -0.050)
        * smoothstep(t, -0.024, -0.034)
        * front,
    )  # fold beside the nose
    colour = _mix(
        colour, shade * 0.5, 0.75 * gauss(side, 0.0065, 0.0042) * gauss(t, -0.0335, 0.0022) * front
    )  # nostrils
    colour = _mix(colour, shade, 0.35 * gauss(side, 0.0165, 0.0022) * gauss(t, -0.029, 0.006) * front)
    colour *= 1 + 0.018 * _noise(rng, t.shape, 4.0)[..., None] + 0.012 * _noise(rng, t.shape, 1.0)[..., None]
    spots = smoothstep(_noise(rng, t.shape, 1.4), 1.6, 2.2) * front * gauss(t, -0.012, 0.035)
    colour = _mix(colour, shade, 0.55 * look.freckles * spots)
    beard = smoothstep(t, -0.030, -0.044) * smoothstep(t, -0.125, -0.112) * smoothstep(np.cos(azimuth), 0.0, 0.3)
    grain = 0.75 + 0.25 * _noise(rng, t.shape, 0.7)
    colour = _mix(colour, np.asarray(look.hair) * 0.8, look.stubble * beard * grain)
    colour = _lips(look, colour, x, t, front)
    return _brows_and_lashes(look, colour, x, t, front, rng)


def _lips(look: Look, colour: np.ndarray, x: np.ndarray, t: np.ndarray, front: np.ndarray) -> np.ndarray:
    over = t - head.MOUTH_HEIGHT
    inside = np.minimum(head.lip_contour(x, True) - over, over - head.lip_contour(x, False))
    share = smoothstep(inside, -0.0006, 0.0010) * front * (np.abs(x) < head.MOUTH_HALF_WIDTH + 0.0008)
    vermilion = np.asarray(look.lips) * (1 - 0.10 * gauss(over, 0.005, 0.004)[..., None])
    colour = _mix(colour, vermilion, 0.92 * share)
    line = gauss(over, 0.0, 0.0009) * front * smoothstep(np.abs(x), head.MOUTH_HALF_WIDTH + 0.002, 0.020)
    return _mix(colour, np.asarray(look.lips) * 0.35, 0.75 * line)


def _brows_and_lashes(
    look: Look, colour: np.ndarray, x: np.ndarray, t: np.ndarray, front: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    side = np.abs(x)
    along = np.clip((side - 0.011) / 0.041, 0, 1)
    middle = 0.0325 + 0.0052 * np.sin(np.pi * (0.05 + 0.72 * along)) + 0.0012 * along**2
    thickness = look.brow_thickness * (1 - 0.65 * along**2)
    ends = smoothstep(side, 0.009, 0.014) * smoothstep(side, 0.053, 0.047)
    hairs = 0.85 + 0.15 * _noise(rng, t.shape, 0.8)
    brow = ends * np.exp(-(((t - middle) / thickness) ** 4)) * hairs * front
    dark = np.asarray(look.hair) * 0.75 if look.hair_style != "bald" else np.asarray(look.hair) * 0.6
    colour = _mix(colour, dark, look.brow_strength * brow)
    eye = smoothstep(np.abs(side - head.EYE_X), head.EYE_HALF_WIDTH + 0.0005, head.EYE_HALF_WIDTH - 0.003) * front
    over = t - head.EYE_HEIGHT
    lashes = np.where(over >= -1e-9, np.exp(-np.abs(over) / 0.0011), 0.45 * np.exp(-np.abs(over) / 0.0008))
    return _mix(colour, np.array([0.06, 0.04, 0.035]), 0.92 * eye * lashes)


def _eye(look: Look, rng: np.random.Generator) -> np.ndarray:
    angle = np.linspace(0, 110, 222)[:, None] + np.zeros((1, 96))
    white = np.array([0.90, 0.885, 0.87])
    colour = _mix(np.tile(white, (*angle.shape, 1)), (0.80, 0.58, 0.54), smoothstep(angle, 45, 75))
    fibres = 1 + 0.16 * _noise(rng, (1, 96), 1.0)[..., None] * smoothstep(angle, 8, 14)[..., None]
    iris = np.asarray(look.iris) * fibres * (0.75 + 0.5 * smoothstep(angle, 26, 12)[..., None])
    inside = smoothstep(angle, 30.5, 28.5)[..., None]
    colour = colour * (1 - inside) + iris * inside
    colour = _mix(colour, np.asarray(look.iris) * 0.25, 0.8 * gauss(angle, 28.5, 2.2))
    return _mix(colour, (0.015, 0.015, 0.02), smoothstep(angle, 12.5, 10.5))


def _ear(look: Look) -> np.ndarray:
    radius = np.linspace(0, 1, 24)[:, None] + np.zeros((1, 8))
    skin = np.asarray(look.skin)
    return _mix(np.tile(skin * [1.0, 0.92, 0.90], (*radius.shape, 1)), skin * [0.55, 0.42, 0.40],
                0.7 * smoothstep(radius, 0.75, 0.35))  # fmt: skip


def _cavity(look: Look) -> np.ndarray:
    depth = np.linspace(0, 1, 30)[:, None] + np.zeros((1, 8))
    wet = np.asarray(look.lips) * [0.85, 0.62, 0.62]
    colour = _mix(np.tile(wet, (*depth.shape, 1)), (0.28, 0.07, 0.07), smoothstep(depth, 0.05, 0.30))
    return _mix(colour, (0.05, 0.012, 0.015), smoothstep(depth, 0.25, 0.65))


def _teeth() -> np.ndarray:
    along = np.linspace(0, 1, 161)[None] + np.zeros((24, 1))
    down = np.linspace(0, 1, 24)[:, None] + np.zeros((1, 161))
    colour = np.tile(np.array([0.90, 0.88, 0.80]), (24, 161, 1))
    gaps = np.abs((along * 10 + 0.5) % 1 - 0.5) < 0.06
    colour = _mix(colour, (0.55, 0.47, 0.40), 0.5 * gaps * np.ones_like(down))
    return _mix(colour, (0.45, 0.20, 0.20), smoothstep(np.abs(along - 0.5), 0.38, 0.5))


def _hair(look: Look, rng: np.random.Generator) -> np.ndarray:
    """Strands run down the patch: noise that varies fast across and slowly along."""
    fine = gaussian_filter(rng.normal(size=(96, 384)), (14, 0.8), mode="wrap")
    coarse = zoom(rng.normal(size=(6, 48)), (16, 8), order=1)
    strands = 0.20 * fine / fine.std() + 0.13 * coarse
    if look.hair_style in ("buzz", "volume"):
        strands = 0.16 * _noise(rng, (96, 384), 1.6)
    return np.asarray(look.hair) * np.clip(1 + strands, 0.35, 1.8)[..., None]


def _torso(look: Look, rng: np.random.Generator) -> np.ndarray:
    """Columns go around from the back over the right side, front, left side; rows from the collar down."""
    v, u = np.meshgrid(np.linspace(0, 1, 128), np.linspace(-1, 1, 257), indexing="ij")
    shirt, accent = np.asarray(look.shirt), np.asarray(look.shirt_accent)
    colour = np.tile(shirt, (*v.shape, 1)) * (1 + 0.05 * _noise(rng, v.shape, 3.0)[..., None])
    front = np.abs(u)  # 0 in front
    if look.shirt_style == "stripes":
        colour = _mix(colour, accent, 0.85 * (np.sin(2 * np.pi * 9 * v) > 0.2))
    if look.shirt_style == "suit":
        opening = 0.02 + 0.30 * np.clip(0.75 - v, 0, 1)
        colour = _mix(colour, (0.93, 0.93, 0.94), smoothstep(front, opening + 0.01, opening))
        colour = _mix(colour, shirt * 0.55, 0.8 * gauss(front - opening, 0.012, 0.012))
        colour = _mix(colour, accent, smoothstep(front, 0.052 + 0.03 * v, 0.042 + 0.03 * v) * (v > 0.06))
    if look.shirt_style == "collar":
        colour = _mix(colour, shirt * 0.5, gauss(front, 0.0, 0.010) * (v > 0.1))
        colour = _mix(colour, shirt * 0.6, gauss(v - 0.28 + 0.9 * front, 0.0, 0.025) * (front < 0.22))
    if look.shirt_style == "plain":
        colour = _mix(colour, accent * 0.6 + 0.4 * shirt, smoothstep(v, 0.12, 0.09))
    return _mix(colour, shirt * 0.4, 0.6 * smoothstep(v, 0.05, 0.0))
