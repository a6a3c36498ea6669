"""CPBD against its definition walked pixel by pixel, pictures whose edges are known, and what it must notice."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.feature import canny

from jaxtalk.errors import JaxtalkError
from jaxtalk.metrics.cpbd import cpbd, edge_widths, sobel_edges


def _picture(size: tuple[int, int] = (140, 200), seed: int = 0) -> np.ndarray:
    """Discs of many greys before a shaded ground, with a little grain: sharp and soft edges of every direction."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    image = 60.0 + 0.3 * x + 0.2 * y
    for _ in range(25):
        cx, cy, radius, level = rng.uniform((0, 0, 4, 0), (size[1], size[0], 30, 255))
        image[np.hypot(x - cx, y - cy) < radius] = level
    image = gaussian_filter(image, 0.6) + rng.normal(scale=1.5, size=size)
    return np.repeat(np.clip(image, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def _slow_strength(image: np.ndarray) -> np.ndarray:
    rows, columns = image.shape
    strength = np.zeros(image.shape)
    for r in range(rows):
        for c in range(columns):
            total = 0.0
            for dr, weight in ((-1, 1), (0, 2), (1, 1)):
                row = min(max(r + dr, 0), rows - 1)
                total += weight * (image[row, min(c + 1, columns - 1)] - image[row, max(c - 1, 0)])
            strength[r, c] = (total / 8) ** 2
    return strength


def _slow_edges(image: np.ndarray) -> np.ndarray:
    strength = _slow_strength(image)
    threshold = 2 * math.sqrt(strength.mean())
    kept = np.where(strength > threshold, strength, 0.0)
    rows, columns = image.shape

    def at(r: int, c: int) -> float:
        return float(kept[r, c]) if 0 <= r < rows and 0 <= c < columns else 0.0

    edges = np.zeros(image.shape, bool)
    for r in range(rows):
        for c in range(columns):
            here = at(r, c)
            across = here > at(r, c - 1) and here > at(r, c + 1)
            edges[r, c] = across or (here > at(r - 1, c) and here > at(r + 1, c))
    return edges


def _slow_widths(image: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Each edge walked to its local extrema, one pixel at a time."""
    rows, columns = image.shape
    down, right = np.gradient(image)
    angles = np.zeros(image.shape)
    for r in range(rows):
        for c in range(columns):
            if right[r, c] != 0:
                angles[r, c] = math.degrees(math.atan2(down[r, c], right[r, c]))
    widths = np.zeros(image.shape, int)
    if not angles.any():
        return widths
    for r in range(1, rows - 1):
        for c in range(1, columns - 1):
            nearest = 45 * round(angles[r, c] / 45)
            if not edges[r, c] or nearest not in (0, 180, -180):
                continue
            rising = nearest == 0
            for side in (-1, 1):
                position, length = c + side, 1
                while length < 101 and 0 <= position + side < columns:
                    change = image[r, position + side] - image[r, position]
                    if change == 0 or (change > 0) != (rising == (side > 0)):
                        break
                    position, length = position + side, length + 1
                widths[r, c] += length
    return widths


def _slow_cpbd(image: np.ndarray) -> float:
    marked, widths = canny(image), _slow_widths(image, _slow_edges(image))
    histogram = np.zeros(101)
    for top in range(0, image.shape[0] - 63, 64):
        for left in range(0, image.shape[1] - 63, 64):
            block = (slice(top, top + 64), slice(left, left + 64))
            if np.count_nonzero(marked[block]) <= 0.002 * 64 * 64:
                continue
            just_noticeable = 5 if image[block].max() - image[block].min() <= 50 else 3
            for width in widths[block][widths[block] > 0]:
                histogram[round(100 * (1 - math.exp(-((width / just_noticeable) ** 3.6))))] += 1
    return float(histogram[:64].sum() / max(histogram.sum(), 1))


@pytest.mark.parametrize("blur", [0.0, 1.2])
def test_it_agrees_with_the_definition(blur: float) -> None:
    frame = _picture()
    frame = np.asarray(gaussian_filter(frame.astype(float), (blur, blur, 0))).astype(np.uint8)
    image = np.asarray(Image.fromarray(frame).convert("L")).astype(float)
    edges = sobel_edges(image)
    np.testing.assert_array_equal(edges, _slow_edges(image))
    widths = edge_widths(image, edges)
    np.testing.assert_array_equal(widths, _slow_widths(image, edges))
    assert np.count_nonzero(widths) > 100
    assert cpbd(frame[None])[0] == pytest.approx(_slow_cpbd(image), abs=1e-12)


def _bars(profile: list[int], size: int = 64) -> np.ndarray:
    """Bars that repeat a profile of grey levels along the row; the lower half is shifted by a pixel, so that some
    gradients are slant."""
    row = np.resize(np.array(profile, np.uint8), size)
    image = np.tile(row, (size, 1))
    image[size // 2 :] = np.roll(row, 1)
    return np.repeat(image[..., None], 3, axis=-1)


def test_widths_of_known_edges() -> None:
    """A ramp of n steps is n pixels wide, rising or falling, wherever within it the edge was found."""
    for steps in (2, 4, 7):
        ramp = np.linspace(40, 200, steps + 1).round().astype(int).tolist()
        image = _bars([40] * 6 + ramp + [200] * 6 + ramp[::-1] + [40] * 3)[..., 0].astype(float)
        rising, falling = 6 + np.arange(1, steps), 13 + steps + np.arange(1, steps)
        edges = np.zeros(image.shape, bool)
        edges[10, rising] = edges[10, falling] = True
        widths = edge_widths(image, edges)
        assert (widths[10, rising] == steps).all() and (widths[10, falling] == steps).all()
        assert np.count_nonzero(widths) == 2 * (steps - 1)


@pytest.mark.parametrize(("low", "high", "expected"), [(40, 200, 0.0), (90, 130, 1.0)])
def test_a_block_of_low_contrast_forgives_wider_edges(low: int, high: int, expected: float) -> None:
    """Edges of 4 pixels, steepest in the middle: wider than 3, which a contrast above 50 allows, narrower than 5."""
    ramp = [low, low + 5, (low + high) // 2, high - 5, high]
    frame = _bars([low] * 5 + ramp + [high] * 5 + ramp[::-1], 80)[:, :64]
    image = frame[..., 0].astype(float)
    assert set(np.unique(edge_widths(image, sobel_edges(image)))) == {0, 4}
    assert cpbd(frame[None])[0] == expected


def test_blurring_lowers_it_and_frames_are_measured_one_by_one() -> None:
    sharp = _picture((128, 128), seed=3)
    blurred = [gaussian_filter(sharp.astype(float), (sigma, sigma, 0)).astype(np.uint8) for sigma in (0.7, 1.2)]
    frames = np.stack([sharp, *blurred])
    values = cpbd(frames)
    assert values.shape == (3,) and values.dtype == np.float64
    assert np.all(np.diff(values) < 0) and values[0] > 0.2 and values[-1] < 0.05
    np.testing.assert_array_equal(cpbd(frames[::-1]), values[::-1])


def test_nothing_to_measure_is_zero() -> None:
    assert cpbd(np.full((2, 64, 64, 3), 130, np.uint8)).tolist() == [0.0, 0.0]


def test_only_rising_steps_give_zero_as_in_the_package() -> None:
    """All angles are exactly 0 then. One falling step elsewhere, and the rising ones count."""
    row = np.concatenate([np.full(20, 10), [80], np.full(20, 150), [190], np.full(22, 230)])
    rising = np.repeat(np.tile(row, (64, 1))[..., None], 3, axis=-1).astype(np.uint8)
    falling = rising.copy()
    falling[:, 60:] = 100
    assert cpbd(rising[None])[0] == 0.0
    assert cpbd(falling[None])[0] == 1.0


def test_what_does_not_fill_a_block_is_dropped() -> None:
    """Sharp bars beside a block of soft ones: they would count, if they filled a block."""
    soft = _bars([40] * 4 + [45, 80, 120, 160, 195] + [200] * 4 + [195, 160, 120, 80, 45])
    sharp = _bars([40] * 5 + [120] + [200] * 5 + [120])
    beside = np.concatenate([soft, sharp[:, :63]], axis=1)
    assert cpbd(beside[None])[0] == 0.0
    assert cpbd(np.concatenate([soft, sharp], axis=1)[None])[0] > 0.2


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((1, 63, 128, 3), np.uint8), "smaller than a block of 64"),
        (np.zeros((1, 64, 64, 3), np.float32), "must be uint8"),
        (np.zeros((64, 64, 3), np.uint8), "must be uint8"),
    ],
)
def test_what_cannot_be_measured_is_told(frames: np.ndarray, message: str) -> None:
    with pytest.raises(JaxtalkError, match=message):
        cpbd(frames)
