"""Which pixels of a frame are trained on: mostly face and mouth (card gdrf A.1)."""

from __future__ import annotations

import numpy as np

Rectangle = tuple[int, int, int, int]  # first column, first row, end column, end row (exclusive)


def rectangle(box: np.ndarray, size: tuple[int, int], order: str = "xy_fixed") -> Rectangle:
    """The pixels whose centres lie in `box` (x0, y0, x1, y1), cut to the picture.

    `legacy` swaps the axes, as the reference does: it compares rows with x and columns with y.
    """
    x0, y0, x1, y1 = (int(np.ceil(value - 0.5)) for value in box)
    if order == "legacy":
        x0, y0, x1, y1 = y0, x0, y1, x1
    height, width = size
    left, top = min(max(x0, 0), width), min(max(y0, 0), height)
    return left, top, min(max(x1, left), width), min(max(y1, top), height)


def choose_pixels(
    rng: np.random.Generator,
    size: tuple[int, int],
    mouth: Rectangle,
    face: Rectangle,
    counts: tuple[int, int, int],
) -> np.ndarray:
    """Pixels [N, 2] (column, row): so many in the mouth, in the face, and outside the face, none twice in one part.

    A part that is empty, or smaller than its count, is drawn from the whole picture (the rectangle may cover it all).
    """
    height, width = size
    parts = []
    for region, count in zip((mouth, face), counts, strict=False):
        left, top, right, bottom = region
        index = _draw(rng, (right - left) * (bottom - top), count)
        if index is None:
            parts.append(_anywhere(rng, size, count))
        else:
            row, column = np.divmod(index, max(right - left, 1))
            parts.append(np.stack([column + left, row + top], -1))
    left, top, right, bottom = face
    index = _draw(rng, height * width - (right - left) * (bottom - top), counts[2])
    parts.append(_anywhere(rng, size, counts[2]) if index is None else _outside(index, face, width))
    return np.concatenate(parts)


def share_counts(rays: int, mouth_share: float, face_share: float) -> tuple[int, int, int]:
    """How many of `rays` go to the mouth, the face, and elsewhere; shares are rounded down as in the reference."""
    mouth, face = int(rays * mouth_share), int(rays * face_share)
    return mouth, face, rays - mouth - face


def _draw(rng: np.random.Generator, population: int, count: int) -> np.ndarray | None:
    """`count` different numbers below `population`; None when there are not so many."""
    if population < count:
        return None
    return rng.choice(population, count, replace=False, shuffle=False)


def _anywhere(rng: np.random.Generator, size: tuple[int, int], count: int) -> np.ndarray:
    row, column = np.divmod(rng.integers(size[0] * size[1], size=count), size[1])
    return np.stack([column, row], -1)


def _outside(index: np.ndarray, region: Rectangle, width: int) -> np.ndarray:
    """The index-th pixel outside `region`, counted row by row."""
    left, top, right, bottom = region
    beside = width - (right - left)  # pixels outside in each row that the region crosses
    above, middle = top * width, beside * (bottom - top)
    row, column = np.divmod(index, width)
    within = index - above
    crossing = (within >= 0) & (within < middle)
    cross_row, cross_column = np.divmod(within, max(beside, 1))
    cross_column = cross_column + (cross_column >= left) * (right - left)
    below_row, below_column = np.divmod(within - middle, width)
    row = np.where(within < 0, row, np.where(crossing, cross_row + top, below_row + bottom))
    column = np.where(within < 0, column, np.where(crossing, cross_column, below_column))
    return np.stack([column, row], -1)
