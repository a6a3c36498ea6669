"""The background plate: the scene without the person."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def background_plate(
    frame: Callable[[int], np.ndarray],
    background: Callable[[int], np.ndarray],
    indices: Sequence[int],
    size: tuple[int, int],
    least: int = 3,
) -> tuple[np.ndarray, np.ndarray]:
    """Median over time of what each pixel shows while no person covers it; the rest is filled in smoothly.

    Args:
      frame: index -> [H, W, 3] uint8.
      background: index -> [H, W] bool, True where surely no person is.
      indices: frames to use; 40 evenly spaced ones are plenty.
      size: (H, W).
      least: a pixel seen free fewer times than this counts as never seen.

    Returns:
      The plate [H, W, 3] uint8 and where it was seen [H, W] bool.
    """
    stack = np.stack([frame(i) for i in indices])
    free = np.stack([background(i) for i in indices])
    plate = np.zeros((*size, 3), np.uint8)
    for row in range(0, size[0], 64):  # a masked median of everything at once would need gigabytes
        rows = slice(row, row + 64)
        values = np.where(free[:, rows, :, None], stack[:, rows].astype(np.float32), np.nan)
        empty = ~free[:, rows].any(axis=0)
        values[:, empty] = 0
        plate[rows] = np.nanmedian(values, axis=0).round().astype(np.uint8)
    seen = free.sum(axis=0) >= min(least, len(stack))
    return fill(plate, seen), seen


def fill(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fills unknown pixels by push and pull: averages of ever coarser pyramids of the known ones. No seam, no ghost.

    Args: `image` [H, W, 3] uint8, `known` [H, W] bool. Returns [H, W, 3] uint8, known pixels unchanged.
    """
    import cv2

    if known.all():
        return image
    if not known.any():
        return np.full_like(image, 128)
    levels: list[tuple[np.ndarray, np.ndarray]] = [
        (image.astype(np.float32) * known[..., None], known.astype(np.float32))
    ]
    while min(levels[-1][1].shape) > 1:
        colour, weight = levels[-1]
        half = (max(1, weight.shape[1] // 2), max(1, weight.shape[0] // 2))
        levels.append((cv2.resize(colour, half, interpolation=cv2.INTER_AREA),
                       cv2.resize(weight, half, interpolation=cv2.INTER_AREA)))  # fmt: skip
    filled: np.ndarray = levels[-1][0] / max(float(levels[-1][1].mean()), 1e-6)
    filled = np.asarray(filled, np.float32).reshape(*levels[-1][1].shape, 3)
    for colour, weight in reversed(levels[:-1]):
        coarse = cv2.resize(filled, weight.shape[::-1], interpolation=cv2.INTER_LINEAR)
        if coarse.ndim == 2:
            coarse = coarse[..., None]
        filled = colour + (1 - weight[..., None]) * coarse
    return np.where(known[..., None], image, np.clip(filled, 0, 255).round().astype(np.uint8))
