"""Static backgrounds: a wall in a gradient, bookshelves, a window, or soft spots of light."""

from __future__ import annotations

import colorsys

import numpy as np
from scipy.ndimage import gaussian_filter


def paint_background(seed: int, size: int) -> np.ndarray:
    """[size, size, 3] float32 in [0, 1]. The same seed gives the same scene at every size."""
    rng = np.random.default_rng([seed, 7])
    y, x = np.meshgrid((np.arange(size) + 0.5) / size, (np.arange(size) + 0.5) / size, indexing="ij")
    scene = [_wall, _shelves, _window, _lights][int(rng.integers(4))]
    return np.clip(scene(rng, x, y), 0.02, 0.98).astype(np.float32)


def _colour(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> np.ndarray:
    return np.array(colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(*saturation), rng.uniform(*value)))


def _gradient(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    base = _colour(rng, (0.08, 0.4), (0.35, 0.85))
    slope = 0.35 * rng.uniform(-1, 1, 2)
    return base * (1 + slope[0] * (x - 0.5) + slope[1] * (y - 0.5))[..., None]


def _wall(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    image = _gradient(rng, x, y)
    panel = np.abs((x * rng.integers(3, 6) + rng.uniform()) % 1 - 0.5) > 0.49
    return image * np.where(panel, 0.85, 1.0)[..., None]


def _shelves(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Books of many colours on boards, a little out of focus."""
    image = _gradient(rng, x, y) * 0.35
    shelves = int(rng.integers(4, 6))
    for shelf in range(shelves):
        top, bottom = shelf / shelves, (shelf + 0.9) / shelves
        left = 0.0
        while left < 1.0:
            width = rng.uniform(0.02, 0.06)
            height = rng.uniform(0.55, 0.95) * (bottom - top)
            book = (x >= left) & (x < left + width * 0.93) & (y > bottom - height) & (y < bottom)
            colour = _colour(rng, (0.2, 0.7), (0.2, 0.7))
            if rng.uniform() < 0.88:
                image[book] = colour
            left += width
        image[(y >= bottom) & (y < (shelf + 1) / shelves)] = [0.36, 0.25, 0.16]
    blur = 0.006 * len(x)
    return np.stack([gaussian_filter(image[..., c], blur) for c in range(3)], -1)


def _window(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    image = _gradient(rng, x, y) * 0.8
    left, width = rng.uniform(-0.1, 0.7), rng.uniform(0.3, 0.45)
    u, v = (x - left) / width, (y - 0.05) / 0.55
    pane = (u > 0) & (u < 1) & (v > 0) & (v < 1)
    frame = pane & ((np.abs(u - 0.5) < 0.03) | (np.abs(v - 0.5) < 0.03) | (np.minimum(u, 1 - u) < 0.04))
    sky = np.array([0.62, 0.76, 0.92]) * (1.05 - 0.3 * np.clip(v, 0, 1))[..., None]
    image[pane] = sky[pane]
    image[frame] = [0.80, 0.79, 0.77]
    return np.stack([gaussian_filter(image[..., c], 0.004 * len(x)) for c in range(3)], -1)


def _lights(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    image = _gradient(rng, x, y) * 0.35
    for _ in range(14):
        cx, cy, radius = rng.uniform(), rng.uniform(0, 0.9), rng.uniform(0.03, 0.10)
        disc = 1 / (1 + np.exp((np.hypot(x - cx, y - cy) - radius) / 0.006))
        image = image + disc[..., None] * 0.4 * _colour(rng, (0.2, 0.6), (0.5, 0.9))
    return image
