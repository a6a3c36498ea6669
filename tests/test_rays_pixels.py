"""Which pixels are trained on: rectangles in both conventions, shares, and the fallback."""

from __future__ import annotations

import numpy as np
import pytest

from jaxtalk.rays.pixels import _outside, choose_pixels, rectangle, share_counts

SIZE = (12, 20)  # height, width
BOX = np.array([3.0, 1.0, 9.0, 6.0])


def _inside(pixels: np.ndarray, box: np.ndarray) -> np.ndarray:
    centre = pixels + 0.5
    return (centre >= box[:2]).all(-1) & (centre <= box[2:]).all(-1)


def test_fixed_order_takes_x_for_columns_and_legacy_for_rows() -> None:
    assert rectangle(BOX, SIZE) == (3, 1, 9, 6)
    assert rectangle(BOX, SIZE, "legacy") == (1, 3, 6, 9)


def test_rectangles_are_cut_to_the_picture() -> None:
    assert rectangle(np.array([-5.0, -1.0, 50.0, 30.0]), SIZE) == (0, 0, 20, 12)
    left, top, right, bottom = rectangle(np.array([30.0, 2.0, 40.0, 4.0]), SIZE)
    assert right == left and bottom >= top


@pytest.mark.parametrize("order", ["xy_fixed", "legacy"])
def test_95_percent_of_the_rays_lie_in_the_face_and_the_rest_outside(order: str) -> None:
    counts = share_counts(20, 0.0, 0.95)
    assert counts == (0, 19, 1)
    box = BOX if order == "xy_fixed" else BOX[[1, 0, 3, 2]]
    for seed in range(20):
        pixels = choose_pixels(np.random.default_rng(seed), SIZE, (0, 0, 0, 0), rectangle(BOX, SIZE, order), counts)
        assert _inside(pixels, box).sum() == 19
        assert len({tuple(p) for p in pixels}) == 20  # none twice
        assert ((pixels >= 0) & (pixels < (20, 12))).all()


def test_the_mouth_gets_its_share() -> None:
    mouth = np.array([4.0, 4.0, 8.0, 6.0])
    pixels = choose_pixels(
        np.random.default_rng(0), SIZE, rectangle(mouth, SIZE), rectangle(BOX, SIZE), share_counts(20, 0.4, 0.5)
    )
    assert _inside(pixels[:8], mouth).all() and _inside(pixels[8:18], BOX).all()
    assert not _inside(pixels[18:], BOX).any()


def test_a_rectangle_that_covers_the_picture_falls_back_to_uniform() -> None:
    """Card trap 1: there is nothing outside to draw from."""
    pixels = choose_pixels(np.random.default_rng(0), SIZE, (0, 0, 0, 0), (0, 0, 20, 12), (0, 5, 400))
    assert pixels.shape == (405, 2)
    histogram = np.bincount(pixels[5:, 0] // 10, minlength=2)
    assert histogram.min() > 150


def test_outside_counts_the_complement_row_by_row() -> None:
    width = SIZE[1]
    for region in [(3, 1, 9, 6), (0, 0, 20, 4), (5, 0, 20, 12), (0, 3, 7, 12), (2, 2, 2, 9)]:
        left, top, right, bottom = region
        mask = np.ones(SIZE, bool)
        mask[top:bottom, left:right] = False
        rows, columns = np.nonzero(mask)
        found = _outside(np.arange(mask.sum()), region, width)
        np.testing.assert_array_equal(found, np.stack([columns, rows], -1))
