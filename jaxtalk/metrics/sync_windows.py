"""How far a sync network tells lips that go with the sound from lips that do not. NumPy only.

Embeddings are unit vectors [F, E] of windows that begin at each frame; rows without a window are NaN. Offset o sets the
lips of frame t against the sound of frame t + o.
"""

from __future__ import annotations

import numpy as np

REACH = 15  # frames to both sides: card s3d_nerf, section 6
LEAST_SHIFT = 5  # frames: sound shifted by fewer overlaps with the window's own


def offset_curve(lips: np.ndarray, speech: np.ndarray, reach: int = REACH) -> np.ndarray:
    """Mean cosine [2 reach + 1] at offsets -reach .. reach; NaN at those that no pair of windows has."""
    rows = [_at(lips, speech, offset, 1) for offset in range(-reach, reach + 1)]
    return np.array([row[np.isfinite(row)].mean() if np.isfinite(row).any() else np.nan for row in rows])


def peak_offset(curve: np.ndarray) -> float:
    """Where a curve over offsets -reach .. reach is greatest, in frames: a parabola's top through the three around it.

    At either end, or beside a NaN, the offset itself.
    """
    top = int(np.nanargmax(curve))
    offset = top - len(curve) // 2
    if not 0 < top < len(curve) - 1 or not np.isfinite(curve[top - 1 : top + 2]).all():
        return float(offset)
    before, at, after = curve[top - 1 : top + 2]
    bend = before - 2 * at + after
    return float(offset + (0.5 * (before - after) / bend if bend else 0.0))


def told_apart(
    lips: np.ndarray, speech: np.ndarray, frames: int = 1, least: int = LEAST_SHIFT, most: int = REACH
) -> np.ndarray:
    """For each run of `frames` windows, the share of shifts whose mean cosine is below that of its own sound, [F].

    Shifts are `least` to `most` frames both ways, as far as the clip reaches; equal cosines count one half. NaN where a
    run has no shift. 0.5 is chance.
    """
    own = _at(lips, speech, 0, frames)
    shifts = [offset for offset in range(-most, most + 1) if abs(offset) >= least]
    others = np.stack([_at(lips, speech, offset, frames) for offset in shifts])
    counted = np.isfinite(others) & np.isfinite(own)
    won = np.where(counted, (own > others) + 0.5 * (own == others), 0).sum(0)
    count = counted.sum(0)
    return np.where(count, won / np.maximum(count, 1), np.nan)


def mean_and_error(values: np.ndarray, block: int) -> tuple[float, float]:
    """Mean over the finite values [F], and its standard error from the means of blocks of neighbours.

    Neighbours are alike; blocks should be longer than what they share. The error is NaN with fewer than two blocks.
    """
    values = values[np.isfinite(values)]
    if not values.size:
        return float("nan"), float("nan")
    count = len(values) // block
    if count < 2:
        return float(values.mean()), float("nan")
    means = np.array([part.mean() for part in np.array_split(values, count)])
    return float(values.mean()), float(means.std(ddof=1) / np.sqrt(count))


def _at(lips: np.ndarray, speech: np.ndarray, offset: int, frames: int) -> np.ndarray:
    """Mean cosine [F] of the `frames` windows from each frame on at an offset; NaN where one of them is missing."""
    count = len(lips)
    cosines = np.full(count, np.nan)
    first, last = max(0, -offset), min(count, count - offset)
    if first < last:
        cosines[first:last] = (lips[first:last] * speech[first + offset : last + offset]).sum(-1)
    means = np.full(count, np.nan)
    if frames <= count:
        means[: count - frames + 1] = np.lib.stride_tricks.sliding_window_view(cosines, frames).mean(-1)
    return means
